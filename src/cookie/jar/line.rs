//! The `Cookie` header that a jar makes: which cookies fit, their pairs joined, and the header that
//! is kept for the next request.

use std::cmp::Reverse;

use bytes::{Buf, Bytes};
use http::HeaderValue;

use super::slot::rank;
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Data, SEPARATOR},
};

/// Joins pairs, `length` bytes with their separators.
pub(super) fn line<'a>(
    cookies: impl Iterator<Item = &'a Data>,
    length: usize,
) -> Option<HeaderValue> {
    let mut line = Vec::with_capacity(length);
    cookies.for_each(|data| line.extend_from_slice(data.separated_pair()));
    let mut line = Bytes::from(line);
    line.advance(SEPARATOR.len().min(line.len()));
    let mut value = HeaderValue::from_maybe_shared(line).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Of more than a header may carry the `Secure` ones and then those used last, still in the order
/// of a header; the others are taken out. By use alone what goes along once would go along again,
/// so that http could keep out what https has set.
pub(in crate::cookie) fn choose(
    cookies: &mut Vec<Cookie>,
    most: usize,
    room: usize,
) -> Option<HeaderValue> {
    let (mut length, room) = (0, room.saturating_add(SEPARATOR.len()));
    cookies.sort_by_key(|Cookie { data, times, order }| {
        Reverse((data.flags.secure, times.sent.max(times.updated), *order))
    });
    cookies.truncate(most);
    cookies.retain(|cookie| {
        let longer = length + cookie.data.separated_pair().len();
        let fits = longer <= room;
        if fits {
            length = longer;
        }
        fits
    });
    if cookies.is_empty() {
        return None;
    }
    cookies.sort_by_key(|cookie| rank(&cookie.data, cookie.order));
    line(cookies.iter().map(|cookie| &cookie.data), length)
}

/// The header of a request.
pub(super) struct Line {
    pub(super) value: HeaderValue,
    /// Of the cookies that went into it.
    pub(super) places: Places,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }
}

/// Fewer cookies than these are joined faster than their header is worth in memory.
pub(super) const WORTH_KEEPING: usize = 3;

/// Some cookies of a bucket: a bit for each by its place, and every bit where it is all of them,
/// however many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Places(pub(super) u64);

impl Places {
    pub(super) const ALL: Self = Self(u64::MAX);

    pub(super) const fn has(self, place: usize) -> bool {
        self.0 >> (place % 64) & 1 == 1
    }
}
