//! Whose session it is, and what of it a store keeps together.

use std::{fmt, sync::Arc};

/// Whose session a request belongs to: a request extension. A request without one sends and stores
/// no cookies.
///
/// It is an extension, so redirect layers drop it when a hop leaves the origin: a login over
/// another origin and back loses its session. [`RedirectPolicy`](crate::RedirectPolicy) keeps it.
///
/// Any bytes: a tenant's id, a user's, one of a crawler's identities. Two keys are the same session
/// if their bytes are the same.
///
/// `Debug` shows nothing of it, since people put tokens into keys.
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
    /// The session of that name.
    #[must_use]
    pub fn new(name: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::from(name.into()))
    }

    /// The name, for a store.
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

/// What a store keeps and changes together: the cookies of one site in one session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreKey {
    tenant: SessionKey,
    site: Arc<str>,
}

impl StoreKey {
    /// The cookies of this site in this session. A pool makes it; the tests of a store may.
    #[must_use]
    pub fn new(tenant: SessionKey, site: impl Into<Arc<str>>) -> Self {
        Self { tenant, site: site.into() }
    }

    /// Whose session it is.
    #[must_use]
    pub const fn tenant(&self) -> &SessionKey {
        &self.tenant
    }

    /// The site: a registrable domain, or a host that has none.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }
}

/// Shows the site alone.
impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey").field("site", &self.site).finish_non_exhaustive()
    }
}
