//! `SessionVersion`: which state of its session a response knows, for later requests.

use std::fmt;

use super::Version;

/// Identifies the state of a session that a response has seen or made: a response extension.
///
/// Add it to a later request as an extension, on any replica. That request then sees at least this
/// state: a replica in any other state asks the store. So a caller sees its own changes, although
/// replicas trust their [cache](super::Consistency::Cached).
///
/// It belongs to the site of the last hop. In a request to another site or session, or if it is
/// damaged, it costs one question to the store and does no harm. It holds no cookie and no key. A
/// store may count changes in it, so send it only to those who may know their number.
///
/// ```
/// use tower_outbound::session::SessionVersion;
///
/// # let version = SessionVersion::from_bytes(b"\x011:af");
/// # let response = http::Response::builder().extension(version).body(())?;
/// // A proxy in front of the replicas copies it from the response into the caller's next request.
/// let version = response.extensions().get::<SessionVersion>().expect("it had a session");
/// let bytes = version.as_bytes().to_vec();
///
/// let request = http::Request::get("https://example.com/")
///     .extension(SessionVersion::from_bytes(&bytes))
///     .body(())?;
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionVersion(Inner);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Inner {
    Seen(Bytes),
    Ask,
}

/// A version with a byte before it.
type Bytes = std::sync::Arc<[u8]>;

/// The first byte of a version that is known.
const SEEN: u8 = 1;
/// The bytes of a version that is not.
const ASK: &[u8] = &[0];

impl SessionVersion {
    /// That state of the store.
    pub(super) fn seen(version: &Version) -> Self {
        Self(Inner::Seen([&[SEEN], version.as_bytes()].concat().into()))
    }

    /// A state that no version names yet, since the change is not known to be stored.
    pub(super) const fn ask() -> Self {
        Self(Inner::Ask)
    }

    /// Reads the version from the bytes of [`as_bytes`](Self::as_bytes). Other bytes make a version
    /// that no replica has, so each replica asks the store.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(match bytes.first() {
            Some(&SEEN) => Inner::Seen(bytes.into()),
            _ => Inner::Ask,
        })
    }

    /// The bytes of the version, to send it to another process.
    ///
    /// They may be any bytes, about 20 with `RedisStore`, so encode them for a header or a cookie.
    /// Keep one version for each upstream site. The guide's page
    /// [`replicas`](crate::guide::replicas#behind-a-load-balancer) has an example.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::Seen(bytes) => bytes,
            Inner::Ask => ASK,
        }
    }

    /// Whether it is this state of the store.
    pub(super) fn is(&self, version: &Version) -> bool {
        matches!(&self.0, Inner::Seen(bytes) if bytes[1..] == *version.as_bytes())
    }
}

impl fmt::Debug for SessionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionVersion(\"{}\")", self.as_bytes().escape_ascii())
    }
}
