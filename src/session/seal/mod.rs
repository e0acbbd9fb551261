//! Seals, which keep the owner of a store from reading, changing or mixing up sessions.

#[cfg(feature = "seal")]
mod aead;

#[cfg(feature = "seal")]
pub use self::aead::SessionSeal;

/// Seals (encrypts) the cookies that a pool writes, and opens those that it reads.
///
/// The crate has an implementation, [`SessionSeal`](super::SessionSeal) (feature `seal`). Implement
/// the trait for a key that a key service holds.
///
/// `aad` names the session, the site, the cookie and its stamp. A seal must bind it: what was
/// sealed with one `aad` must not open with another. Otherwise the owner of the store could give
/// one tenant the cookies of another.
///
/// The methods are synchronous. `open` is called once for each cookie of a session that is loaded.
pub trait Seal: Send + Sync + 'static {
    /// Seals a cookie.
    fn seal(&self, aad: &[u8], plain: Vec<u8>) -> Vec<u8>;

    /// Opens what [`seal`](Self::seal) returned. `None` if it was sealed with another `aad`, or
    /// with an unknown key.
    fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}
