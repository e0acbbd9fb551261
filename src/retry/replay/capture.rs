//! The frames that a streamed body has yielded so far, up to a cap. No stream, no lock.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// Data shorter than this is copied into a block. A piece of its own would cost more than its
/// bytes, and could keep a far larger buffer alive.
const SMALL: usize = 1024;

/// Length of a block.
const BLOCK: usize = 8 * 1024;

/// The frames of a body from the first on, or nothing after they became too long.
pub(super) struct Capture {
    frames: Vec<Captured>,
    block: BytesMut,
    bytes_left: usize,
    whole: bool,
}

enum Captured {
    Data(Bytes),
    // Rare, and larger than the other.
    Trailers(Box<HeaderMap>),
}

impl Capture {
    /// `known` is the lower bound of the body's size. If that is above the cap, nothing is kept.
    pub(super) fn new(max_bytes: usize, known: u64) -> Self {
        let fits = usize::try_from(known).is_ok_and(|known| known <= max_bytes);
        let bytes_left = if fits { max_bytes } else { 0 };
        Self { frames: Vec::new(), block: BytesMut::new(), bytes_left, whole: true }
    }

    /// Whether a body could begin again from its first frame.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn push_data(&mut self, data: &Bytes) {
        if data.is_empty() || !self.take(data.len()) {
            return;
        }
        if data.len() >= SMALL {
            self.seal();
            self.frames.push(Captured::Data(data.clone()));
            return;
        }
        if self.block.capacity() - self.block.len() < data.len() {
            self.seal();
            self.block.reserve(BLOCK.min(data.len().saturating_add(self.bytes_left)));
        }
        self.block.extend_from_slice(data);
    }

    pub(super) fn push_trailers(&mut self, trailers: &HeaderMap) {
        let length = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if self.take(length) {
            self.seal();
            self.frames.push(Captured::Trailers(Box::new(trailers.clone())));
        }
    }

    /// Closes the block that is being filled, so that it can be read.
    pub(super) fn seal(&mut self) {
        if !self.block.is_empty() {
            self.frames.push(Captured::Data(std::mem::take(&mut self.block).freeze()));
        }
    }

    /// The frame at a cursor, to be sent again. `None` past the last one, and for data that is not
    /// sealed yet.
    pub(super) fn frame(&self, cursor: usize) -> Option<Frame<Bytes>> {
        Some(match self.frames.get(cursor)? {
            Captured::Data(data) => Frame::data(data.clone()),
            Captured::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        })
    }

    /// The cursor after the last frame.
    pub(super) const fn end(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.block.is_empty()
    }

    /// Drops all frames, and keeps none from now on.
    pub(super) fn let_go(&mut self) {
        *self = Self { frames: Vec::new(), block: BytesMut::new(), bytes_left: 0, whole: false };
    }

    /// Takes room for `length` bytes. If there is not enough, drops all frames and returns false.
    fn take(&mut self, length: usize) -> bool {
        match self.bytes_left.checked_sub(length) {
            Some(left) if self.whole => self.bytes_left = left,
            _ => self.let_go(),
        }
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(capture: &mut Capture) -> Vec<u8> {
        capture.seal();
        let frames = (0..capture.end()).map(|cursor| capture.frame(cursor).unwrap());
        frames.flat_map(|frame| frame.into_data().unwrap_or_default().to_vec()).collect()
    }

    #[test]
    fn what_fits_is_kept_byte_for_byte_whatever_its_pieces() {
        let mut wrong = Vec::new();
        for piece in [1, 7, 1023, 1024, 1025, 8191, 8192, 8193, 20_000] {
            let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
            let mut capture = Capture::new(bytes.len(), 0);
            bytes.chunks(piece).for_each(|part| capture.push_data(&Bytes::copy_from_slice(part)));
            if !capture.is_whole() || played(&mut capture) != bytes {
                wrong.push(format!("pieces of {piece}"));
            }
            capture.push_data(&Bytes::from_static(b"x"));
            if capture.is_whole() || !played(&mut capture).is_empty() {
                wrong.push(format!("pieces of {piece}: a byte past the cap"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn nothing_is_kept_of_what_is_known_not_to_fit() {
        let mut capture = Capture::new(10, 11);
        assert!(capture.is_whole(), "it can begin as long as nothing was sent");
        capture.push_data(&Bytes::from_static(b"x"));
        assert!(!capture.is_whole() && capture.is_empty());
        assert!(!Capture::new(10, u64::MAX).take(1));
        assert!(Capture::new(usize::MAX, 11).take(11));
    }

    #[test]
    fn small_pieces_cost_little_more_than_their_bytes() {
        let mut capture = Capture::new(64 * 1024, 0);
        (0..64 * 1024).for_each(|_| capture.push_data(&Bytes::from_static(b"x")));
        capture.seal();
        assert!(capture.is_whole() && capture.end() <= 9, "{} frames", capture.end());
    }

    #[test]
    fn trailers_come_after_the_data_before_them_and_count() {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "abc".parse().unwrap())]);
        let mut capture = Capture::new(9, 0);
        capture.push_data(&Bytes::from_static(b"x"));
        capture.push_trailers(&trailers);
        assert_eq!(capture.frame(0).unwrap().into_data().unwrap(), "x");
        assert_eq!(capture.frame(1).unwrap().into_trailers().unwrap(), trailers);
        capture.push_trailers(&trailers);
        assert!(!capture.is_whole());
    }
}
