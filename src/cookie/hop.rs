//! What the cookie service tells redirect policies and the log about redirects.

#[cfg(feature = "follow-redirect")]
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

#[cfg(any(feature = "follow-redirect", feature = "tracing"))]
use http::{HeaderMap, StatusCode, header::LOCATION};

#[cfg(feature = "tracing")]
use crate::authority;

/// Whether redirect layers follow a response with this status and a `Location`.
#[cfg(any(feature = "follow-redirect", feature = "tracing"))]
const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where the cookie service notes whether a redirect's `Location` is empty: a request extension of
/// a redirect policy.
///
/// tower-http tells a policy only the resolved URI. An empty reference resolves to the request's
/// own URI, and so does a `Location` that names this URI.
#[cfg(feature = "follow-redirect")]
#[derive(Clone, Debug, Default)]
pub(crate) struct LocationNote(Arc<AtomicU8>);

/// What is known of the `Location` of the last response.
#[cfg(feature = "follow-redirect")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// No cookie service has seen it.
    Nothing,
    Empty,
    NotEmpty,
}

#[cfg(feature = "follow-redirect")]
impl LocationNote {
    pub(crate) fn get(&self) -> Noted {
        match self.0.load(Relaxed) {
            1 => Noted::Empty,
            2 => Noted::NotEmpty,
            _ => Noted::Nothing,
        }
    }

    /// Before each hop: a note about one response does not apply to the next.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn set(&self, status: StatusCode, headers: &HeaderMap) {
        let location = headers.get(LOCATION).filter(|_| is_redirect(status));
        self.0.store(
            match location {
                None => 0,
                // URL parsers strip spaces.
                Some(value) if value.as_bytes().trim_ascii().is_empty() => 1,
                Some(_) => 2,
            },
            Relaxed,
        );
    }
}

/// The other origin that a redirect leads to. `None` for any other response.
///
/// A redirect layer without our policy drops a request's restrictions at such a hop, so a doubtful
/// redirect counts as one that leaves. `from` is the URI that the client connected to, also if a
/// `Host` header decides which cookies match.
#[cfg(feature = "tracing")]
pub(super) fn leads_away(
    from: &http::Uri,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<String> {
    if !is_redirect(status) {
        return None;
    }
    let scheme = from.scheme_str()?;
    let here = origin(scheme, from.authority()?.as_str());
    // A client follows one of several `Location` headers, and it is not known which.
    headers.get_all(LOCATION).iter().find_map(|location| {
        let to = match target(location.as_bytes()) {
            Target::Here => return None,
            Target::There { scheme: to, authority } => {
                origin(to.as_deref().unwrap_or(scheme), &authority)
            }
            Target::Unreadable => None,
        };
        let leaves = to.is_none() || to != here;
        leaves.then(|| to.unwrap_or_else(|| "an address that cannot be read".to_owned()))
    })
}

/// What a `Location` refers to.
#[cfg(feature = "tracing")]
enum Target {
    /// A path, a query or a fragment: the origin stays.
    Here,
    /// An authority. Without a scheme, the scheme of the request stays.
    There { scheme: Option<String>, authority: String },
    /// Clients may disagree on where it leads.
    Unreadable,
}

/// Reads a `Location` as URL parsers do (`url`, which tower-http uses): tabs are dropped, `\`
/// counts as `/`, and extra slashes are allowed. Anything else that these parsers repair is
/// unreadable here.
#[cfg(feature = "tracing")]
fn target(location: &[u8]) -> Target {
    let text = location.iter().copied().filter(|&byte| byte != b'\t').collect::<Vec<_>>();
    let text = text.trim_ascii();
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let is_in_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let scheme = match text.iter().position(|byte| !is_in_scheme(byte)) {
        Some(end) if text[end] == b':' && text[0].is_ascii_alphabetic() => Some(end),
        _ => None,
    };
    let rest = scheme.map_or(text, |end| &text[end + 1..]);
    let start = rest.iter().take_while(|byte| is_slash(byte)).count();
    if start < 2 {
        return if scheme.is_none() { Target::Here } else { Target::Unreadable };
    }
    let rest = &rest[start..];
    let end = rest.iter().position(|byte| is_slash(byte) || b"?#".contains(byte));
    let (authority, after) = rest.split_at(end.unwrap_or(rest.len()));
    // Some parsers read `\` as part of the userinfo. To them the host comes after it.
    if after.first() == Some(&b'\\') {
        return Target::Unreadable;
    }
    let read = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Target::There { scheme: scheme.map(|end| read(&text[..end])), authority: read(authority) }
}

/// An origin in one spelling. `None` if no URI can have it.
///
/// Never with a path or query, which may contain an authorization code.
#[cfg(feature = "tracing")]
fn origin(scheme: &str, authority: &str) -> Option<String> {
    let (host, port) = authority::split(authority);
    // As it is spelt: to redirect layers `a.example.` and `a.example` are two hosts.
    authority::canonical(host)?;
    let (scheme, host) = (authority::lower(scheme), authority::lower(host));
    let default = if matches!(&*scheme, "https" | "wss") { 443 } else { 80 };
    let port = match port {
        None | Some("") => default,
        Some(port) => port.parse::<u16>().ok()?,
    };
    Some(format!("{scheme}://{host}:{port}"))
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_away_if_scheme_host_or_port_are_others_or_cannot_be_read() {
        let unreadable = Some("an address that cannot be read");
        let rows: &[(u16, &[u8], Option<&str>)] = &[
            (302, b"/next", None),
            (302, b"next?code=secret", None),
            (302, b"https://A.example:443/next?code=secret", None),
            (302, b"https://u:secret@b.example/next?code=secret", Some("https://b.example:443")),
            (301, b"http://a.example/", Some("http://a.example:80")),
            (307, b"https://a.example:8443/", Some("https://a.example:8443")),
            (308, b"//b.example/", Some("https://b.example:443")),
            (302, b"//a.example:443", None),
            (200, b"https://b.example/", None),
            // Nothing that names an origin.
            (302, b"", None),
            (302, b"  ", None),
            (302, b"#top", None),
            (302, b"#//b.example", None),
            (302, b"?to=https://b.example/", None),
            (302, b"/to:https://b.example/", None),
            (302, b"./https://b.example/", None),
            // Userinfo, and what looks like it.
            (302, b"https://u:secret@a.example/", None),
            (302, b"https://a.example@b.example/", Some("https://b.example:443")),
            (302, b"https://a.example:443@b.example/", Some("https://b.example:443")),
            (302, b"https://b.example@a.example/", None),
            // Bytes beyond ASCII: in a path they change no origin.
            (302, b"https://b.example/\xc3\xa9", Some("https://b.example:443")),
            (302, b"https://a.example/\xc3\xa9\xff", None),
            (302, b"/\xff", None),
            (302, b"https://b\xc3\xa9.example/", unreadable),
            (302, b"https://\xff.example/", unreadable),
            (302, b"\xc3\xa9", None),
            // Backslashes, tabs and slashes that parsers mend. No header value has a newline.
            (303, b"/\\b.example/", Some("https://b.example:443")),
            (303, b"\\\\b.example", Some("https://b.example:443")),
            (303, b"https:\\\\b.example/", Some("https://b.example:443")),
            (303, b"https://a.example\\@b.example/", unreadable),
            (303, b"\\next", None),
            (302, b"/\t/b.example/", Some("https://b.example:443")),
            (302, b"ht\ttps://b.exa\tmple/", Some("https://b.example:443")),
            (302, b" //b.example/", Some("https://b.example:443")),
            (302, b"///b.example/", Some("https://b.example:443")),
            (302, b"https:b.example", unreadable),
            (302, b"https:/b.example", unreadable),
            (302, b"https:///b.example", Some("https://b.example:443")),
            (302, b"//", unreadable),
            (302, b"https://", unreadable),
            (302, b"https://b.example:port/", unreadable),
            (302, b"https://a.example:99999/", unreadable),
            (302, b"https://a.example./", Some("https://a.example.:443")),
            (302, b"https://[::1]/", Some("https://[::1]:443")),
            (302, b"https://[::1", unreadable),
            // Other schemes.
            (302, b"HTTPS://a.example/", None),
            (302, b"HTTP://a.example/", Some("http://a.example:80")),
            (302, b"ftp://a.example/", Some("ftp://a.example:80")),
            (302, b"mailto:secret@b.example", unreadable),
            (302, b"javascript:secret", unreadable),
        ];
        let from = "https://a.example/".parse().unwrap();
        let wrong: Vec<_> = rows
            .iter()
            .map(|(status, location, want)| {
                let location = http::HeaderValue::from_bytes(location).unwrap();
                let headers = [(LOCATION, location.clone())].into_iter().collect();
                let status = StatusCode::from_u16(*status).unwrap();
                (leads_away(&from, status, &headers), location, want)
            })
            .filter(|(got, _, want)| got.as_deref() != **want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn of_several_locations_one_that_leads_away_is_enough() {
        let from = "https://a.example/".parse().unwrap();
        let locations = ["/next", "https://b.example/"];
        let headers = locations.map(|to| (LOCATION, to.parse().unwrap())).into_iter().collect();
        let to = leads_away(&from, StatusCode::FOUND, &headers);
        assert_eq!(to.as_deref(), Some("https://b.example:443"));
    }

    /// `url` is what tower-http's redirects and reqwest's resolve a `Location` with. Each reference
    /// of up to four of these pieces.
    #[test]
    fn no_reference_leads_url_to_another_origin_unseen() {
        const PIECES: [&str; 18] = [
            "",
            "/",
            "//",
            "\\",
            "\t",
            " ",
            ":",
            "https:",
            "HTTP:",
            "x:",
            "a.example",
            "b.example",
            ".",
            "@",
            "?",
            "#",
            "443",
            "\u{e9}",
        ];
        let from = "https://a.example/dir/".parse().unwrap();
        let base = url::Url::parse("https://a.example/dir/").unwrap();
        let unseen: Vec<_> = (0..PIECES.len().pow(4))
            .map(|nth| {
                let piece = |place: u32| PIECES[nth / PIECES.len().pow(place) % PIECES.len()];
                [0, 1, 2, 3].map(piece).concat()
            })
            .filter(|location| {
                let leads_away = base.join(location).is_ok_and(|to| to.origin() != base.origin());
                let location = http::HeaderValue::from_bytes(location.as_bytes()).unwrap();
                let headers = [(LOCATION, location)].into_iter().collect();
                leads_away && super::leads_away(&from, StatusCode::FOUND, &headers).is_none()
            })
            .collect();
        assert!(unseen.is_empty(), "{unseen:?}");
    }
}
