//! The crate's own seal: XChaCha20-Poly1305, with the number of its key in front.

use std::fmt;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Payload},
};

use super::Seal;

/// Encrypts cookies with XChaCha20-Poly1305, and lets keys be rotated: it seals with the first key,
/// and opens with any.
///
/// Each seal key has a number, which is written in front of the sealed cookie. Rotate keys as
/// follows. Every replica can read at every step.
///
/// 1. Give every replica the new key as one that [opens](Self::also_open).
/// 2. Make it the first key on every replica, and let the old key open.
/// 3. Drop the old key when no session is older. Until then, whoever has the old key can read and
///    forge.
///
/// A key is 32 random bytes, the same on all replicas. A text that people chose is not a key:
/// derive one from it, with HKDF or Argon2. Keys are erased when the seal is dropped. `Debug` shows
/// only their numbers.
///
/// The nonce is 24 random bytes, so replicas need not agree on one. A sealed cookie is 45 bytes
/// longer.
///
/// ```
/// use tower_outbound::session::{MemoryStore, SessionPool, SessionSeal};
///
/// # let (new, old) = ([7; 32], [3; 32]);
/// let seal = SessionSeal::new(2, &new).also_open(1, &old);
/// let (pool, driver) = SessionPool::builder(MemoryStore::new()).seal(seal).build();
/// # let _ = (pool, driver);
/// ```
///
/// # Panics
///
/// [`seal`](Seal::seal) panics if the operating system has no random numbers.
pub struct SessionSeal {
    /// Seals; opens too.
    first: Key,
    others: Vec<Key>,
}

struct Key {
    number: u32,
    cipher: XChaCha20Poly1305,
}

/// The first byte of what is sealed. Another one would be another way to seal.
const LAYOUT: u8 = 1;
/// The layout and the key's number.
const HEAD: usize = 5;
/// The head and the nonce.
const FRONT: usize = HEAD + 24;

impl Key {
    fn new(number: u32, key: &[u8; 32]) -> Self {
        Self { number, cipher: XChaCha20Poly1305::new(key.into()) }
    }
}

impl SessionSeal {
    /// Seals and opens with this key.
    #[must_use]
    pub fn new(number: u32, key: &[u8; 32]) -> Self {
        Self { first: Key::new(number, key), others: Vec::new() }
    }

    /// Also opens with this key. If two keys have one number, both are tried.
    ///
    /// ```
    /// use tower_outbound::session::SessionSeal;
    ///
    /// # let (new, old) = ([7; 32], [3; 32]);
    /// let seal = SessionSeal::new(2, &new).also_open(1, &old);
    /// # let _ = seal;
    /// ```
    #[must_use]
    pub fn also_open(mut self, number: u32, key: &[u8; 32]) -> Self {
        self.others.push(Key::new(number, key));
        self
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Seal for SessionSeal {
    #[expect(clippy::expect_used, reason = "only an input of many gigabytes cannot be sealed")]
    fn seal(&self, aad: &[u8], plain: Vec<u8>) -> Vec<u8> {
        let [a, b, c, d] = self.first.number.to_le_bytes();
        let (head, nonce) = ([LAYOUT, a, b, c, d], XNonce::generate());
        // The head is bound too. Otherwise a byte of it could be changed, and the rest would still
        // open.
        let aad = [&head, aad].concat();
        let payload = Payload { msg: &plain, aad: &aad };
        let sealed = self.first.cipher.encrypt(&nonce, payload).expect("a cookie is short");
        [&head, &nonce[..], &sealed].concat()
    }

    fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (front, text) = sealed.split_first_chunk::<FRONT>()?;
        let (head, nonce) = front.split_at(HEAD);
        let [LAYOUT, number @ ..] = head else { return None };
        let number = u32::from_le_bytes(number.try_into().ok()?);
        let nonce = XNonce::try_from(nonce).ok()?;
        let aad = [head, aad].concat();
        let mut keys = self.keys().filter(|key| key.number == number);
        keys.find_map(|key| key.cipher.decrypt(&nonce, Payload { msg: text, aad: &aad }).ok())
    }
}

impl fmt::Debug for SessionSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.keys().map(|key| key.number).collect();
        f.debug_struct("SessionSeal").field("keys", &numbers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_its_name_alone() {
        let (one, two) = ([1; 32], [2; 32]);
        let old = SessionSeal::new(1, &one);
        let both = SessionSeal::new(2, &two).also_open(1, &one);
        let sealed = old.seal(b"ann", b"plain".to_vec());
        let newer = both.seal(b"ann", b"plain".to_vec());
        let changed = |at: usize| {
            let mut sealed = sealed.clone();
            sealed[at] ^= 1;
            sealed
        };
        let rows: &[(&str, &SessionSeal, &[u8], &[u8], bool)] = &[
            ("its own", &old, b"ann", &sealed, true),
            ("a new first key", &both, b"ann", &sealed, true),
            ("what the new one sealed", &both, b"ann", &newer, true),
            ("a key that is not known", &old, b"ann", &newer, false),
            ("another name", &old, b"bob", &sealed, false),
            ("another key of that number", &SessionSeal::new(1, &two), b"ann", &sealed, false),
            (
                "the second of two",
                &SessionSeal::new(1, &two).also_open(1, &one),
                b"ann",
                &sealed,
                true,
            ),
            ("nothing", &old, b"ann", b"", false),
            ("a head", &old, b"ann", &sealed[..FRONT], false),
            ("cut", &old, b"ann", &sealed[..sealed.len() - 1], false),
            ("another layout", &old, b"ann", &changed(0), false),
            ("another number", &old, b"ann", &changed(1), false),
            ("another nonce", &old, b"ann", &changed(HEAD), false),
            ("another text", &old, b"ann", &changed(FRONT), false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(name, seal, aad, sealed, opens)| (name, seal.open(aad, sealed), opens))
            .filter(|(_, got, opens)| got.as_deref() != opens.then_some(b"plain"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(sealed.len(), b"plain".len() + 45);
        assert_eq!(format!("{both:?}"), "SessionSeal { keys: [2, 1], .. }");
    }
}
