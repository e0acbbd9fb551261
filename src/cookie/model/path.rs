//! The path of a cookie: which requests it covers, and its default.

/// The path of a cookie without `Path`: the request's path up to its last slash (RFC 6265bis
/// section 5.1.4).
pub(super) fn default_path(path: &str) -> &str {
    match path.bytes().rposition(|byte| byte == b'/') {
        // The last slash itself is left out, so that `/a/b` and `/a/` have the same default.
        Some(end) if end > 0 && path.starts_with('/') => &path[..end],
        _ => "/",
    }
}

/// Whether a cookie's path covers a request's path (RFC 6265bis section 5.1.4).
///
/// The bytes are compared as they are sent: `/a%62` is not `/ab`, since a server may distinguish
/// them.
pub(in crate::cookie) fn path_match(request: &[u8], cookie: &[u8]) -> bool {
    // The path of nearly every cookie. It saves the search for a prefix.
    if cookie == b"/" {
        return request.starts_with(b"/");
    }
    match request.strip_prefix(cookie) {
        // Only whole segments: `/admin` does not cover `/administrator`.
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
