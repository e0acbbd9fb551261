//! Jars as the bytes of a file, and back.

use tower_outbound::cookie::{CookieJar, Format, ReadError};

/// Every format that the features allow.
pub(crate) fn formats() -> Vec<Format> {
    vec![
        Format::Netscape,
        #[cfg(feature = "json")]
        Format::Json,
        #[cfg(feature = "json")]
        Format::Browser,
        #[cfg(feature = "cookie_store")]
        Format::CookieStore,
    ]
}

pub(crate) fn read(text: impl AsRef<[u8]>, format: Format) -> Result<CookieJar, ReadError> {
    let jar = CookieJar::new();
    jar.read_from(text.as_ref(), format).map(|_| jar)
}

pub(crate) fn written(jar: &CookieJar, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    jar.write_to(&mut bytes, format).unwrap();
    bytes
}
