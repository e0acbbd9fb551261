//! Helpers that use a jar with text.

use http::Uri;
use tower_outbound::cookie::{CookieJar, Rejection, StoreAction};

pub(crate) fn uri(text: impl AsRef<str>) -> Uri {
    text.as_ref().parse().unwrap()
}

/// Stores this `Set-Cookie` as if a response from that URI had it.
pub(crate) fn set(
    jar: &CookieJar,
    from: &str,
    line: impl AsRef<[u8]>,
) -> Result<StoreAction, Rejection> {
    jar.set(&uri(from), line)
}

/// The `Cookie` header of a request to that URI, or an empty text if there is none.
pub(crate) fn header(jar: &CookieJar, to: &str) -> String {
    jar.header(&uri(to))
        .map_or(String::new(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
