//! Converts changes of a jar to records of a store, and back. Uses no clock and no socket.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Record, Seal, StoreKey};
use crate::cookie::{Change, Cookie, CookieId};

/// Microseconds since 1970 by the store's clock.
pub(super) type Stamp = u64;

/// Stamps are below this: see [`Record::stamp`].
pub(super) const STAMP_LIMIT: Stamp = 1 << 53;

/// How far the store's clock is ahead of this process's, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset(pub(super) i64);

impl Offset {
    pub(super) fn to_store(self, local: SystemTime) -> Stamp {
        let micros = local.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let micros = Stamp::try_from(micros).unwrap_or(Stamp::MAX);
        micros.saturating_add_signed(self.0).min(STAMP_LIMIT - 1)
    }

    pub(super) fn to_local(self, stamp: Stamp) -> SystemTime {
        let micros = stamp.saturating_add_signed(self.0.saturating_neg());
        // Only a platform whose time ends before ours can fail here.
        UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
    }
}

/// What a store has, or should have, of one cookie: that it was set, or deleted.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: CookieId,
    /// Whether a secure origin or the caller made the change.
    pub(super) from_secure: bool,
    pub(super) stamp: Stamp,
    /// `None` for a deletion.
    pub(super) cookie: Option<Cookie>,
}

/// The first byte of a field for a change by an origin that is not secure.
///
/// Such a change is a record of its own, next to the one for the same cookie by a secure origin. A
/// replica that does not know of a `Secure` cookie may let such an origin change it, and the store
/// keeps the later change. With one record for both, the `Secure` cookie would be lost. With two,
/// the jar chooses by its rules.
const INSECURE: u8 = b'!';

impl Entry {
    pub(super) fn of(change: &Change, offset: Offset) -> Self {
        Self {
            id: change.id().clone(),
            from_secure: change.from_secure(),
            stamp: offset.to_store(change.at()),
            cookie: change.cookie().cloned(),
        }
    }

    pub(super) fn to_change(&self, offset: Offset) -> Change {
        let at = offset.to_local(self.stamp);
        let change = match &self.cookie {
            Some(cookie) => Change::set(cookie.clone(), at),
            None => Change::deleted(self.id.clone(), at),
        };
        if self.from_secure { change } else { change.insecure() }
    }

    /// Its deletion, right after it.
    pub(super) fn deleted(&self) -> Self {
        Self { cookie: None, stamp: self.stamp + 1, id: self.id.clone(), ..*self }
    }

    /// The field under which a store keeps it.
    pub(super) fn field(&self) -> Field {
        let id = self.id.as_bytes();
        if self.from_secure { id.into() } else { [&[INSECURE], id].concat().into() }
    }

    pub(super) fn to_record(&self, key: &StoreKey, seal: Option<&dyn Seal>) -> Record {
        let field = self.field();
        let body = self.cookie.as_ref().map(|cookie| {
            let plain = cookie.to_bytes();
            let sealed = match seal {
                Some(seal) => seal.seal(&aad(key, &field, self.stamp), plain),
                None => plain,
            };
            sealed.into()
        });
        Record { field, stamp: self.stamp, body }
    }
}

pub(super) type Field = Box<[u8]>;

/// A record that does not belong to its place, or cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Opens all records of a key. If one cannot be opened, all are refused: without its cookie the
/// rest would be sent as if the tenant had logged out.
pub(super) fn read(
    records: &[Record],
    key: &StoreKey,
    seal: Option<&dyn Seal>,
) -> Result<Vec<Entry>, Unreadable> {
    let mut fields = HashSet::new();
    let entry = |record: &Record| {
        let Record { field, stamp, body } = record;
        if *stamp >= STAMP_LIMIT || !fields.insert(field.clone()) {
            return Err(Unreadable);
        }
        let (from_secure, id) = match field.split_first() {
            Some((&INSECURE, id)) => (false, id),
            _ => (true, &**field),
        };
        let id = CookieId::from_bytes(id).ok_or(Unreadable)?;
        let cookie = body.as_ref().map(|body| open(body, field, *stamp, key, seal)).transpose()?;
        let is_named_so = cookie.as_ref().is_none_or(|cookie| cookie.id() == id);
        let entry = Entry { id, from_secure, stamp: *stamp, cookie };
        is_named_so.then_some(entry).ok_or(Unreadable)
    };
    records.iter().map(entry).collect()
}

fn open(
    body: &[u8],
    field: &[u8],
    stamp: Stamp,
    key: &StoreKey,
    seal: Option<&dyn Seal>,
) -> Result<Cookie, Unreadable> {
    let cookie = match seal {
        Some(seal) => {
            let plain = seal.open(&aad(key, field, stamp), body).ok_or(Unreadable)?;
            Cookie::from_bytes(&plain)
        }
        None => Cookie::from_bytes(body),
    };
    cookie.map_err(|_| Unreadable)
}

/// The data to which a body is bound: session, site, field and stamp, so that an old body cannot
/// pass for a new one. Each part has its length before it, so that no two lists of names have the
/// same bytes.
pub(super) fn aad(key: &StoreKey, field: &[u8], stamp: Stamp) -> Vec<u8> {
    let mut aad = b"tower-outbound session 1".to_vec();
    for part in [key.tenant().as_bytes(), key.site().as_bytes(), field] {
        aad.extend((part.len() as u64).to_le_bytes());
        aad.extend(part);
    }
    aad.extend(stamp.to_le_bytes());
    aad
}
