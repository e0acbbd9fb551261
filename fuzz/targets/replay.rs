//! Copies of a streamed body are polled, copied and dropped in any order, and compared with a
//! vector. Each sends the stream from its first byte, and sends no other bytes.
#![no_main]

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use libfuzzer_sys::fuzz_target;
use tower_outbound::retry::{ReplayBody, ReplayableBody};

/// What a stream yields, step by step, and what it has yielded.
struct Script {
    steps: Vec<u8>,
    next: usize,
    sent: Vec<u8>,
    has_trailers: bool,
    has_failed: bool,
    has_ended: bool,
}

/// The length of what one step yields, and `None` for a step that yields no data.
fn length(step: u8) -> Option<usize> {
    (step < 0xe0).then(|| [0, 1, 3, 40, 1023, 1024, 9_000][usize::from(step) % 7])
}

impl Script {
    /// Whether it has no trailers and no error, so that its length is known.
    fn is_plain(&self) -> bool {
        self.steps.iter().all(|step| *step < 0xfe)
    }

    fn total(&self) -> usize {
        self.steps.iter().filter_map(|step| length(*step)).sum()
    }
}

#[derive(Clone)]
struct Stream(Rc<RefCell<Script>>, bool);

impl Body for Stream {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let script = &mut *self.0.borrow_mut();
        assert!(!script.has_failed && !script.has_ended, "polled after its end");
        let Some(step) = script.steps.get(script.next).copied() else {
            script.has_ended = true;
            return Poll::Ready(None);
        };
        script.next += 1;
        if let Some(length) = length(step) {
            let at = script.sent.len();
            let data: Bytes = (at..at + length).map(|at| (at % 251) as u8).collect();
            script.sent.extend_from_slice(&data);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match step {
            0xff => {
                script.has_failed = true;
                Poll::Ready(Some(Err("the stream fails")))
            }
            // Trailers are the last frame.
            0xfe => {
                script.has_trailers = true;
                script.next = script.steps.len();
                let trailers = HeaderMap::from_iter([("x-sum", "1")].map(|(name, value)| {
                    (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
                }));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            _ => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let script = self.0.borrow();
        let left = (script.total() - script.sent.len()) as u64;
        if self.1 && script.is_plain() { SizeHint::with_exact(left) } else { SizeHint::new() }
    }
}

/// One copy, and what it has sent.
struct Sent {
    body: ReplayBody<Stream>,
    bytes: Vec<u8>,
    has_trailers: bool,
    has_begun: bool,
    end: Option<Result<(), String>>,
}

impl Sent {
    fn new(body: ReplayBody<Stream>) -> Self {
        Self { body, bytes: Vec::new(), has_trailers: false, has_begun: false, end: None }
    }

    /// Whether the poll was ready.
    fn poll(&mut self, script: &RefCell<Script>) -> bool {
        let hint = self.body.size_hint();
        let is_end = self.body.is_end_stream();
        self.has_begun = true;
        let polled = Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(frame) = polled else {
            assert!(!is_end, "it said that it had ended");
            return false;
        };
        if self.end.is_some() {
            assert!(frame.is_none(), "more after its end");
            return true;
        }
        match frame {
            None => self.end = Some(Ok(())),
            Some(Err(error)) => self.end = Some(Err(error.to_string())),
            Some(Ok(frame)) => {
                assert!(!is_end, "it said that it had ended");
                assert!(!self.has_trailers, "a frame after the trailers");
                match frame.into_data() {
                    Ok(data) => {
                        assert!(hint.upper().is_none_or(|upper| data.len() as u64 <= upper));
                        self.bytes.extend_from_slice(&data);
                    }
                    Err(_) => self.has_trailers = true,
                }
            }
        }
        let script = script.borrow();
        assert!(script.sent.starts_with(&self.bytes), "not what the stream has sent");
        assert!(!self.has_trailers || script.has_trailers, "trailers of its own");
        if self.end == Some(Ok(())) {
            assert!(script.has_ended, "an end of its own");
            assert_eq!(self.bytes.len(), script.sent.len(), "cut short");
            assert_eq!(self.has_trailers, script.has_trailers, "without the trailers");
        }
        true
    }
}

fuzz_target!(|input: &[u8]| {
    let [cap, steps, input @ ..] = input else { return };
    let cap = [0, 1, 50, 1_100, 10_000, 64 * 1024][usize::from(*cap) % 6];
    let (steps, script) = input.split_at(input.len().min(usize::from(*steps) % 24));
    let has_hint = steps.first().is_some_and(|step| step % 2 == 0);
    let steps = Rc::new(RefCell::new(Script {
        steps: steps.to_vec(),
        next: 0,
        sent: Vec::new(),
        has_trailers: false,
        has_failed: false,
        has_ended: false,
    }));
    let is_exact = has_hint && steps.borrow().is_plain();
    let mut copies = vec![Sent::new(ReplayBody::new(Stream(Rc::clone(&steps), has_hint), cap))];
    // Whether bytes were sent while there was only one copy, so that they were not kept.
    let mut let_go = false;
    for op in script.iter().take(200) {
        let at = usize::from(op >> 2) % copies.len();
        match op & 3 {
            0 | 1 => {
                let before = steps.borrow().next;
                copies[at].poll(&steps);
                let_go |= copies.len() == 1 && steps.borrow().next > before;
            }
            2 if copies.len() < 8 => {
                let can = copies[at].body.can_replay();
                let copy = copies[at].body.try_replay();
                assert_eq!(can, copy.is_some());
                let script = steps.borrow();
                // Nothing is kept of a body whose length shows that it will not fit. Trailers take
                // six bytes.
                let fits = if is_exact { script.total() <= cap } else { true };
                let is_kept = fits && script.sent.len() + 6 <= cap && !let_go && !script.has_failed;
                assert!(can || !is_kept, "a copy is refused without a reason");
                copies.extend(copy.map(Sent::new));
            }
            _ if copies.len() > 1 => {
                copies.remove(at);
            }
            _ => {}
        }
    }
    // Whatever has happened, the next attempt sends the whole body.
    let Some(body) = copies.iter().find_map(|copy| copy.body.try_replay()) else { return };
    let mut last = Sent::new(body);
    let mut polls = 0;
    while last.end.is_none() {
        last.poll(&steps);
        polls += 1;
        assert!(polls < 1_000, "no end");
    }
    match last.end {
        Some(Err(error)) => assert_eq!(error, "the stream fails"),
        _ => assert!(last.has_begun),
    }
    for copy in copies.iter_mut().filter(|copy| copy.has_begun && copy.end.is_none()) {
        copy.poll(&steps);
        assert!(matches!(copy.end, Some(Err(_))), "two attempts at once");
    }
});
