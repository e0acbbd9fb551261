//! Makes the `Cookie` header of a jar: chooses which cookies fit, joins their pairs, and keeps the
//! header for the next request.

use std::cmp::Reverse;

use bytes::{Buf, Bytes};
use http::HeaderValue;

use super::slot::rank;
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Data, SEPARATOR},
};

/// Joins the pairs of some cookies to a header. `length` is the length of the pairs, each with a
/// separator before it.
pub(super) fn line<'a>(
    cookies: impl Iterator<Item = &'a Data>,
    length: usize,
) -> Option<HeaderValue> {
    let mut line = Vec::with_capacity(length);
    cookies.for_each(|data| line.extend_from_slice(data.separated_pair()));
    // Each text in the jar begins with its separator, so that a pair is copied in one piece. The
    // first separator is cut off without a copy.
    let mut line = Bytes::from(line);
    line.advance(SEPARATOR.len().min(line.len()));
    let mut value = HeaderValue::from_maybe_shared(line).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Chooses among more cookies than a header may carry: `Secure` first, then the most recently used.
/// Removes the others from the list, and makes the header in its usual order.
///
/// Use alone is not enough: a cookie that is sent once would be sent again, so http could keep out
/// what https has set.
pub(in crate::cookie) fn choose(
    cookies: &mut Vec<Cookie>,
    most: usize,
    room: usize,
) -> Option<HeaderValue> {
    let (mut length, room) = (0, room.saturating_add(SEPARATOR.len()));
    cookies.sort_by_key(|Cookie { data, times, order }| {
        Reverse((data.flags.secure, times.sent.max(times.updated), *order))
    });
    // The count first, so that a cookie beyond it takes no room from another one.
    cookies.truncate(most);
    // A pair that is too long is left out, and a shorter one may take its place. A server would
    // read a cut pair as another value.
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

/// The header of an earlier request, for the next one with the same cookies.
pub(super) struct Line {
    value: HeaderValue,
    /// The places of its cookies. Each change of the bucket drops the line, so a place always means
    /// the same cookie.
    places: Places,
}

/// A header with fewer cookies is not kept: joining two pairs costs less than the memory of a line.
const WORTH_KEEPING: usize = 3;

impl Line {
    pub(super) const fn new(value: HeaderValue, places: Places) -> Self {
        Self { value, places }
    }

    pub(super) const fn is_worth_keeping(count: usize) -> bool {
        count >= WORTH_KEEPING
    }

    /// The header, if it is that of the cookies at these places.
    pub(super) fn of(&self, places: Places) -> Option<&HeaderValue> {
        (self.places == places).then_some(&self.value)
    }

    pub(super) fn len(&self) -> usize {
        self.value.len()
    }
}

/// Some cookies of a bucket: one bit per place. If all bits are set it means all cookies, however
/// many there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Places(u64);

impl Places {
    pub(super) const ALL: Self = Self(u64::MAX);

    /// `bits` are those of `count` cookies among `all`. `None` if there are too few bits: such a
    /// header is not kept.
    pub(super) const fn of(bits: u64, count: usize, all: usize) -> Option<Self> {
        // 64 bits are too few for a site of 100 cookies, but mostly all of them are sent.
        if count == all {
            return Some(Self::ALL);
        }
        if all <= 64 { Some(Self(bits)) } else { None }
    }

    /// The bit of one place. Places from 64 on share bits. [`of`](Self::of) returns `None` for
    /// them.
    pub(super) const fn bit(place: usize) -> u64 {
        1 << (place % 64)
    }

    pub(super) const fn has(self, place: usize) -> bool {
        self.0 & Self::bit(place) != 0
    }
}
