//! What a response knows of its session, for the request that must not see less.

use std::fmt;

use super::Version;

/// Which state of its session a response has seen or made: a response extension.
///
/// Given back as an extension of a later request, on any replica, it means: at least this. The
/// replica asks the store unless it has this very state. A caller reads its own writes that way,
/// though replicas trust their [cache](super::Consistency::Cached).
///
/// It belongs to the site of the last hop. Given to a request of another site or session, or
/// damaged, it costs one question to the store and does no harm. It holds no cookie and no key, but
/// a store may count in it: send it to those who may see that.
///
/// ```
/// use tower_outbound::session::SessionVersion;
///
/// # let response = http::Response::builder().extension(SessionVersion::from_bytes(b"\x011:af")).body(())?;
/// // In front of the replicas: what the answer says goes into the caller's next request.
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

    /// The version of these bytes, from [`as_bytes`](Self::as_bytes). Other bytes make one that no
    /// replica has, so that each asks the store.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(match bytes.first() {
            Some(&SEEN) => Inner::Seen(bytes.into()),
            _ => Inner::Ask,
        })
    }

    /// As bytes, to send it to another process.
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
