//! What one request or one layer does differently from the rest.

/// Request extension: whether this request sends and stores the jar's cookies.
///
/// Default: both. With `store: false` the response still says which cookies it set, in
/// [`ResponseCookies`](super::ResponseCookies).
///
/// Redirect layers drop this extension when a redirect leaves the origin, unless [told to keep
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
// Not non_exhaustive: it is written as a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieControl {
    /// Whether the jar's cookies are sent. A `Cookie` header of the caller's own is sent either
    /// way. Default: true.
    pub send: bool,
    /// Whether the response's cookies are stored. Default: true.
    pub store: bool,
}

impl Default for CookieControl {
    fn default() -> Self {
        Self { send: true, store: true }
    }
}

/// What is done with a `Cookie` header that the caller set. The response's cookies are stored
/// either way.
///
/// Default: [`Merge`](Self::Merge), as requests does for `cookies={...}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerCookies {
    /// One header is sent: the caller's pairs first, then the jar's pairs whose names the caller
    /// did not give.
    #[default]
    Merge,
    /// Only the caller's header is sent. The jar's cookies are not.
    Replace,
}
