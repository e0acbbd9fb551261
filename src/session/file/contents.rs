//! The contents of a session's file, as bytes and as records. Pure: touches no file.

use std::collections::BTreeMap;

use crate::session::{Contents, Record, SessionKey, StoreKey, Version};

const MAGIC: &[u8] = b"tower-outbound session 1\n";

/// The length of what comes before the keys and records: magic and version.
pub(super) const HEAD: usize = MAGIC.len() + 24;

/// Everything of one key. The default is a key that was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) head: Head,
    records: BTreeMap<Box<[u8]>, Record>,
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// How many times the key was changed. 0: it was never written.
    count: u64,
    /// Distinguishes this change from another with the same count, such as one on a restored disk.
    nonce: u64,
    /// When the whole file expires, in microseconds since 1970.
    expires: u64,
}

impl Head {
    /// `None` if these are not the first bytes of a session's file.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes.strip_prefix(MAGIC)?);
        let head = Self { count: rest.number()?, nonce: rest.number()?, expires: rest.number()? };
        (head.count > 0).then_some(head)
    }

    /// The version at a time. Once the file has expired, it is that of a key that was never
    /// written.
    pub(super) fn version(self, now: u64) -> Version {
        if self.count == 0 || self.expires <= now {
            return Version::default();
        }
        Version::from_bytes(format!("{}:{:016x}", self.count, self.nonce).as_bytes())
    }

    pub(super) const fn has_expired(self, now: u64) -> bool {
        self.expires <= now
    }
}

impl Stored {
    /// `None` if the bytes are damaged, or belong to another key.
    pub(super) fn read(bytes: &[u8], key: &StoreKey) -> Option<Self> {
        let head = Head::read(bytes)?;
        let mut rest = Reader(bytes.get(HEAD..)?);
        if rest.bytes()? != key.tenant().as_bytes() || rest.bytes()? != key.site().as_bytes() {
            return None;
        }
        let mut records = BTreeMap::new();
        for _ in 0..rest.length()? {
            let field: Box<[u8]> = rest.bytes()?.into();
            let stamp = rest.number()?;
            let body = match rest.take(1)? {
                b"+" => Some(rest.bytes()?.into()),
                b"-" => None,
                _ => return None,
            };
            let record = Record { field: field.clone(), stamp, body };
            if records.insert(field, record).is_some() {
                return None;
            }
        }
        rest.0.is_empty().then_some(Self { head, records })
    }

    /// The session to which the file belongs.
    pub(super) fn tenant(bytes: &[u8]) -> Option<SessionKey> {
        Reader(bytes.get(HEAD..)?).bytes().map(SessionKey::new)
    }

    pub(super) fn write(&self, key: &StoreKey) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.head.count, self.head.nonce, self.head.expires] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        put(&mut bytes, key.tenant().as_bytes());
        put(&mut bytes, key.site().as_bytes());
        put_length(&mut bytes, self.records.len());
        for record in self.records.values() {
            put(&mut bytes, &record.field);
            bytes.extend_from_slice(&record.stamp.to_le_bytes());
            match &record.body {
                Some(body) => {
                    bytes.push(b'+');
                    put(&mut bytes, body);
                }
                None => bytes.push(b'-'),
            }
        }
        bytes
    }

    /// Stores each record whose stamp is greater, and removes tombstones older than `horizon`. The
    /// version changes if a record was stored.
    pub(super) fn apply(&mut self, records: &[Record], nonce: u64, expires: u64, horizon: u64) {
        // Never shorter: a caller that has not loaded the key does not know its longest-lived
        // cookie.
        self.head.expires = self.head.expires.max(expires);
        let mut stored = false;
        for record in records {
            let newer = self.records.get(&record.field).is_none_or(|old| old.stamp < record.stamp);
            if newer {
                self.records.insert(record.field.clone(), record.clone());
                stored = true;
            }
        }
        if stored {
            self.records.retain(|_, record| record.body.is_some() || record.stamp >= horizon);
            self.head.count = self.head.count.saturating_add(1);
            self.head.nonce = nonce;
        }
    }

    /// Whether the key was ever written.
    pub(super) const fn is_written(&self) -> bool {
        self.head.count > 0
    }

    pub(super) fn contents(self, now: u64) -> Contents {
        let version = self.head.version(now);
        Contents { version, records: self.records.into_values().collect() }
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    put_length(bytes, part.len());
    bytes.extend_from_slice(part);
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
}

/// The bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StoreKey {
        StoreKey::new(SessionKey::new(*b"tenant"), "example.com")
    }

    fn record(field: &str, stamp: u64, body: Option<&str>) -> Record {
        let body = body.map(|body| body.as_bytes().into());
        Record { field: field.as_bytes().into(), stamp, body }
    }

    fn stored() -> Stored {
        let mut stored = Stored::default();
        let records =
            [record("a", 5, Some("one")), record("b", u64::MAX, None), record("", 0, Some(""))];
        stored.apply(&records, 7, 100, 0);
        stored
    }

    #[test]
    fn a_later_write_with_a_shorter_ttl_does_not_shorten_that_of_the_key() {
        let mut stored = stored();
        for (expires, want) in [(50, 100), (200, 200)] {
            stored.apply(&[], 8, expires, 0);
            assert_eq!(stored.head.expires, want);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Stored::read(&stored().write(&key()), &key()), Some(stored()));
    }

    #[test]
    fn a_file_that_is_cut_or_has_more_is_damaged() {
        let bytes = stored().write(&key());
        let read = (0..bytes.len()).filter(|cut| Stored::read(&bytes[..*cut], &key()).is_some());
        assert_eq!(read.collect::<Vec<_>>(), Vec::<usize>::new());
        let more = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Stored::read(&more, &key()), None);
    }

    #[test]
    fn the_file_of_another_key_is_refused() {
        let bytes = stored().write(&key());
        let others =
            [("tenan", "example.com"), ("tenant", "example.org"), ("tenante", "xample.com")];
        for (tenant, site) in others {
            let other = StoreKey::new(SessionKey::new(tenant.as_bytes()), site);
            assert_eq!(Stored::read(&bytes, &other), None, "{tenant} {site}");
        }
    }

    #[test]
    fn an_expired_file_has_the_version_of_one_never_written() {
        let head = stored().head;
        assert_eq!(head.version(99).as_bytes(), b"1:0000000000000007");
        assert_eq!(head.version(100), Version::default());
    }
}
