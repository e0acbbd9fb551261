//! What one request, or one layer, does otherwise than the rest.

/// Request extension: whether this one request sends and stores the jar's cookies.
///
/// Default: both. With `store: false` the response still says which cookies it set, in
/// [`ResponseCookies`](super::ResponseCookies).
///
/// Redirect layers drop it where they leave an origin, unless [told to keep
/// it](super#for-its-redirects-too).
///
/// A browser's `credentials: "omit"` is `send: false, store: false`.
///
/// ```
/// use tower_outbound::cookie::CookieControl;
///
/// let request = http::Request::get("https://example.com/")
///     .extension(CookieControl { send: false, store: true })
///     .body(())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieControl {
    /// Whether the jar's cookies are sent. A `Cookie` header of the caller's own goes out as it is
    /// either way. Default: true.
    pub send: bool,
    /// Whether the response's cookies are stored. Default: true.
    pub store: bool,
}

impl Default for CookieControl {
    fn default() -> Self {
        Self { send: true, store: true }
    }
}

/// What becomes of a `Cookie` header that the caller set. The response's cookies are stored either
/// way.
///
/// Default: [`Merge`](Self::Merge), as requests has it for `cookies={...}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerCookies {
    /// One header: the caller's pairs first, then the jar's whose names the caller did not give.
    #[default]
    Merge,
    /// The caller's header alone; the jar's cookies stay at home.
    Replace,
}
