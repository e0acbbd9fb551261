//! What keeps the owner of a store from reading, changing or mixing up what is in it.

#[cfg(feature = "seal")]
mod aead;

#[cfg(feature = "seal")]
pub use self::aead::SessionSeal;

/// Seals what a pool writes, and opens what it reads.
///
/// The crate ships one, [`SessionSeal`](super::SessionSeal) (feature `seal`). Write your own for a
/// key that a key service holds.
///
/// `aad` names the session, the site, the cookie and its stamp. A seal must bind it: what was
/// sealed with one `aad` must not open with another. Else the owner of the store could give one
/// tenant the cookies of another.
///
/// Calls are synchronous. `open` is called once for each cookie of a session that is loaded.
pub trait Seal: Send + Sync + 'static {
    /// Seals a cookie.
    fn seal(&self, aad: &[u8], plain: Vec<u8>) -> Vec<u8>;

    /// Opens what [`seal`](Self::seal) made. `None` if it did not make it with this `aad`, or with
    /// a key that is not known.
    fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}
