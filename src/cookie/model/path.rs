//! The path of a cookie: which requests it covers, and what it is by default.

/// RFC 6265bis section 5.1.4: up to, but without, the last slash.
pub(super) fn default_path(path: &str) -> &str {
    match path.bytes().rposition(|byte| byte == b'/') {
        Some(end) if end > 0 && path.starts_with('/') => &path[..end],
        _ => "/",
    }
}

/// RFC 6265bis section 5.1.4, on the raw bytes.
pub(in crate::cookie) fn path_match(request: &[u8], cookie: &[u8]) -> bool {
    if cookie == b"/" {
        return request.starts_with(b"/");
    }
    match request.strip_prefix(cookie) {
        Some(rest) => rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_on_segments_and_default_to_the_folder() {
        let rows = [
            ("/", "/", true),
            ("/a", "/", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/a", "/a/", false),
            ("/ab", "/a", false),
            ("/A", "/a", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(path, cookie, want)| path_match(path.as_bytes(), cookie.as_bytes()) != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        let rows = [
            ("/", "/"),
            ("/a", "/"),
            ("/a/", "/a"),
            ("/a/b?q=/c/d", "/a"),
            ("?q", "/"),
            ("//a", "/"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(path, want)| {
                let uri: http::Uri = format!("http://h{path}").parse().unwrap();
                default_path(uri.path()) != *want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
