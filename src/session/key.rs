//! `SessionKey`, the session of a request, and `StoreKey`, what a store keeps together.

use std::{fmt, sync::Arc};

/// Names the session of a request: a request extension that needs a
/// [`RedirectPolicy`](crate::cookie#redirects).
///
/// The key may be any bytes, such as the id of a tenant or user. Equal bytes mean the same session.
/// A request without a key sends and stores no cookies.
///
/// A redirect layer with another policy drops the extension when a hop leaves the origin. A login
/// by way of another origin then loses its session.
///
/// `Debug` does not show the key, since people put tokens into it.
///
/// ```
/// use tower_outbound::session::SessionKey;
///
/// let request = http::Request::get("https://example.com/")
///     .extension(SessionKey::new("tenant-7".as_bytes()))
///     .body(())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey(Arc<[u8]>);

impl SessionKey {
    /// Creates a key from bytes.
    #[must_use]
    pub fn new(name: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::from(name.into()))
    }

    /// The bytes of the key, for a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// The unit that a store keeps and changes in one step: the cookies of one site in one session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreKey {
    tenant: SessionKey,
    site: Arc<str>,
}

impl StoreKey {
    /// Creates the key of one site in one session. Pools create it, and so do tests of a store.
    #[must_use]
    pub fn new(tenant: SessionKey, site: impl Into<Arc<str>>) -> Self {
        Self { tenant, site: site.into() }
    }

    /// The session.
    #[must_use]
    pub const fn tenant(&self) -> &SessionKey {
        &self.tenant
    }

    /// The site: a registrable domain, or a host without one.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }
}

/// Shows only the site.
impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey").field("site", &self.site).finish_non_exhaustive()
    }
}
