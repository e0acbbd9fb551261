//! Finds out whether "never sent" is true of the whole call, and not of its last exchange alone.
//!
//! A service below may make several exchanges in one call: it follows a redirect, or it retries.
//! The error of a later exchange says nothing about the first one, which the server may have
//! processed. So a request that must not be processed twice has a [`Witness`] in its extensions. A
//! client drops the head of a request once it has written it, and each further exchange needs
//! another head. The witness counts how many heads are gone, and when.

use std::{
    error::Error,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use http::{Extensions, Request};

use super::{
    classify::{self, Failure, UNPROCESSED},
    decision::Outcome,
    history::RetryError,
    policy::Policy,
};

/// The request extension. Each head of an attempt has one, and so has each copy of the head.
#[derive(Clone)]
pub(super) struct Witness(Option<Arc<Seen>>);

/// What happened to the heads of one attempt.
///
/// Relaxed is enough: an error reaches this layer by a channel or on the same thread, and what
/// happened to a head before the error was made is visible with the error.
#[derive(Default)]
struct Seen {
    /// Heads that the call dropped itself, within its own `call` or `poll`.
    gone_inside: AtomicU32,
    /// Heads that another task dropped. The task of the connection does once it has written the
    /// request.
    gone_outside: AtomicU32,
    answered: AtomicBool,
    /// Whether a [`OneExchangeLayer`](super::OneExchangeLayer) below has the head.
    declared: AtomicBool,
    /// The thread that is inside the call at the moment.
    thread: AtomicUsize,
    has_waited: AtomicBool,
    waited_without_inside: AtomicBool,
    waited_without_outside: AtomicBool,
    /// The counts of a retry layer outside. What happens to these heads happens to its heads.
    outer: Option<Arc<Seen>>,
}

/// The retry layer's access to the counts of one attempt.
///
/// It is a single pointer, so that the futures without one stay small.
pub(super) struct Watch(Arc<Seen>);

/// What is known of one attempt at the time of its error.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// Heads that the call dropped itself.
    inside: u32,
    /// Heads that another task dropped.
    outside: u32,
    /// Whether the call returned `Pending` after it had dropped a head itself.
    waited_without_inside: bool,
    /// Whether the call returned `Pending` after another task had dropped a head. The first
    /// `Pending` does not count.
    waited_without_outside: bool,
    /// Whether a [`OneExchangeLayer`](super::OneExchangeLayer) below has seen a response.
    answered: bool,
}

impl Evidence {
    /// Whether only the exchange that failed can have been sent.
    fn allows(self, is_http2: bool) -> bool {
        // A response is proof of an exchange before the one that failed. If the call drops a head
        // and then waits, it has made another request from it, whose fate is unknown. A client that
        // converts requests does so, a redirect to another origin, and a retry.
        if self.answered || self.waited_without_inside {
            return false;
        }
        if is_http2 {
            // HTTP/2 refuses a request after it was written, so the head of the failed exchange is
            // gone. A second head belonged to another exchange.
            return self.outside <= 1;
        }
        // Any other request that was never sent is dropped when it fails, and not before. The call
        // may drop copies with it that it no longer needs. If another task drops the head, as the
        // task of tonic's channel does, the error comes right after. A second head then belonged to
        // another exchange.
        !self.waited_without_outside
            && (self.outside == 0 || self.outside.saturating_add(self.inside) == 1)
    }
}

impl Evidence {
    /// Whether the response is that of the only exchange. As with HTTP/2's refusals the request was
    /// written, so one head may be gone. `answered` proves nothing here: it is this response.
    const fn allows_response(self) -> bool {
        !self.waited_without_inside && self.outside <= 1
    }
}

impl Watch {
    /// Watches a request that is about to be sent, if it must not be processed twice.
    pub(super) fn of<B>(request: &mut Request<B>, policy: &impl Policy) -> Option<Self> {
        // A request with a safe method (RFC 9110 section 9.2.1) does no harm twice. Most requests
        // have one, so the rest is a function of its own: they pay 20 instructions for this module.
        if request.method().is_safe() { None } else { Self::of_unsafe(request, policy) }
    }

    #[cold]
    fn of_unsafe<B>(request: &mut Request<B>, policy: &impl Policy) -> Option<Self> {
        if policy.may_repeat(request.method(), request.headers()) {
            return None;
        }
        Some(Self::put(request.extensions_mut()))
    }

    fn put(extensions: &mut Extensions) -> Self {
        // This replaces the witness of an outer layer, which must not count that as a lost head.
        let outer = extensions.remove::<Witness>().and_then(|mut outer| outer.0.take());
        // The call comes next, so this thread is inside it.
        let thread = AtomicUsize::new(this_thread());
        let seen = Arc::new(Seen { thread, outer, ..Seen::default() });
        extensions.insert(Witness(Some(Arc::clone(&seen))));
        Self(seen)
    }

    /// Takes note that the call has returned `Pending`: this thread has left it.
    pub(super) fn waits(&self) {
        leave(Some(self));
        let Seen { has_waited, waited_without_inside, waited_without_outside, .. } = &*self.0;
        // Heads do not come back: what was true of one wait is true of the waits after it.
        if self.0.gone_inside.load(Relaxed) > 0 {
            waited_without_inside.store(true, Relaxed);
        }
        // A worker to which the call has handed the request can fail it before this layer has
        // polled once. Then the error is here at the next poll.
        if has_waited.swap(true, Relaxed) && self.0.gone_outside.load(Relaxed) > 0 {
            waited_without_outside.store(true, Relaxed);
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            inside: self.0.gone_inside.load(Relaxed),
            outside: self.0.gone_outside.load(Relaxed),
            waited_without_inside: self.0.waited_without_inside.load(Relaxed),
            waited_without_outside: self.0.waited_without_outside.load(Relaxed),
            answered: self.0.answered.load(Relaxed),
        }
    }

    /// Whether an outcome that says "not processed" is true of the whole call.
    pub(super) fn believes(&self, outcome: Outcome<'_>) -> bool {
        match outcome {
            Ok(_) => self.evidence().allows_response(),
            Err(error) => {
                self.evidence().allows(classify::is_http2(error))
                    && !has_sent_attempt(error)
                    // Code around reqwest that keeps the head while it sends shows nothing of the
                    // redirects that reqwest follows.
                    && (self.0.declared.load(Relaxed) || !classify::is_of_reqwest(error))
            }
        }
    }
}

/// This thread is inside the call from now on, until it [leaves](leave) or the attempt has ended.
pub(super) fn enter(watch: Option<&Watch>) {
    if let Some(Watch(seen)) = watch {
        seen.thread.store(this_thread(), Relaxed);
    }
}

/// No thread is inside the call any more.
pub(super) fn leave(watch: Option<&Watch>) {
    if let Some(Watch(seen)) = watch {
        seen.thread.store(NO_THREAD, Relaxed);
    }
}

/// The class of an attempt: `told`, or [`Failure::Read`] if `told` claims that the request was not
/// processed and that is not believed.
///
/// The request may then have been processed, as after a broken connection, so its method decides. A
/// response can make the claim too: by a 421 or 425, or by the caller's own `classify`.
pub(super) fn settle(
    told: Option<Failure>,
    outcome: Outcome<'_>,
    believes: impl Fn(Outcome<'_>) -> bool,
) -> Option<Failure> {
    let is_claim = match told {
        Some(Failure::Connect | Failure::Unsent) => true,
        Some(Failure::Status(status)) => UNPROCESSED.contains(&status),
        _ => false,
    };
    if is_claim && !believes(outcome) { Some(Failure::Read) } else { told }
}

/// Whether a retry layer below reports an attempt that the server may have processed.
pub(super) fn has_sent_attempt(error: &(dyn Error + 'static)) -> bool {
    classify::causes(error)
        .filter_map(<dyn Error>::downcast_ref::<RetryError>)
        .flat_map(|error| error.history().attempts())
        .any(|attempt| !matches!(attempt.failure, Some(Failure::Connect | Failure::Unsent)))
}

impl Witness {
    /// Takes the witness out of a request.
    pub(super) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// Takes note that the client below makes one exchange.
    pub(super) fn declare(&self) {
        self.each(|seen| seen.declared.store(true, Relaxed));
    }

    /// Takes note of a response: whatever fails from now on is another exchange.
    pub(super) fn answered(&self) {
        self.each(|seen| seen.answered.store(true, Relaxed));
    }

    fn each(&self, then: impl Fn(&Seen)) {
        let mut next = self.0.as_deref();
        while let Some(seen) = next {
            then(seen);
            next = seen.outer.as_deref();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let here = this_thread();
        self.each(|seen| {
            let is_inside = seen.thread.load(Relaxed) == here;
            let gone = if is_inside { &seen.gone_inside } else { &seen.gone_outside };
            gone.fetch_add(1, Relaxed);
        });
    }
}

const NO_THREAD: usize = 0;

/// A number of this thread: an address that no two threads share. `ThreadId` has no stable number
/// to keep in an atomic.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| ptr::from_ref(here).addr())
}

#[cfg(test)]
mod tests {
    use std::{io, thread, time::Duration};

    use http::{Response, StatusCode};

    use super::{
        super::{
            decision::StopReason,
            history::{AttemptRecord, Attempts, RetryHistory},
        },
        *,
    };

    /// Heads that the call dropped, heads that another task dropped, and whether the call waited
    /// after it; whether HTTP/2 refused; whether "never sent" is believed.
    #[test]
    fn never_sent_is_believed_of_one_exchange() {
        let rows = [
            ("connect, hyper-util", (0, false), (0, false), false, true),
            ("connect, dropped with the future", (1, false), (0, false), false, true),
            ("connect, a redirect's copy dropped as well", (2, false), (0, false), false, true),
            ("connect, tonic's channel", (0, false), (1, false), false, true),
            (
                "connect, it was answered and the next hop failed at once",
                (1, false),
                (1, false),
                false,
                false,
            ),
            ("connect, it was written and the call waited", (0, false), (1, true), false, false),
            ("connect, a redirect to another origin", (2, true), (1, true), false, false),
            ("connect, a client that converts", (1, true), (0, false), false, false),
            ("connect, two heads with other tasks", (0, false), (2, false), false, false),
            ("refused by HTTP/2", (0, false), (1, true), true, true),
            ("refused by HTTP/2, the future dropped as well", (3, false), (1, true), true, true),
            ("refused by HTTP/2, a later hop", (0, false), (2, true), true, false),
            ("refused by HTTP/2, a hop to another origin", (2, true), (1, true), true, false),
            ("refused by HTTP/2, a client that converts", (1, true), (0, false), true, false),
        ];
        let mut wrong = Vec::new();
        for (what, inside, outside, is_http2, wanted) in rows {
            let evidence = Evidence {
                inside: inside.0,
                outside: outside.0,
                waited_without_inside: inside.1,
                waited_without_outside: outside.1,
                answered: false,
            };
            if evidence.allows(is_http2) != wanted {
                wrong.push(what);
            }
            if (Evidence { answered: true, ..evidence }).allows(is_http2) {
                wrong.push("answered");
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Heads that another task dropped, and whether the call dropped one and waited.
    #[test]
    fn not_processed_is_believed_of_the_only_response() {
        let rows = [
            ("it was written", 1, false, true),
            ("a service that drops it at once", 0, false, true),
            ("a later hop, or a retry", 2, false, false),
            ("a redirect that waits between its hops", 1, true, false),
        ];
        let mut wrong = Vec::new();
        for (what, outside, waited_without_inside, wanted) in rows {
            for answered in [false, true] {
                let evidence =
                    Evidence { outside, waited_without_inside, answered, ..Evidence::default() };
                if evidence.allows_response() != wanted {
                    wrong.push(what);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn heads_are_counted_where_they_are_dropped_and_for_each_layer_outside() {
        let mut extensions = Extensions::new();
        let outer = Watch::put(&mut extensions);
        let inner = Watch::put(&mut extensions);
        let counts = |watch: &Watch| (watch.evidence().inside, watch.evidence().outside);
        assert_eq!((counts(&outer), counts(&inner)), ((0, 0), (0, 0)));
        let [first, second, third] = [(); 3].map(|()| extensions.clone());
        leave(Some(&inner));
        drop(first);
        enter(Some(&inner));
        drop(second);
        thread::spawn(move || drop(third)).join().unwrap();
        leave(Some(&inner));
        leave(Some(&outer));
        drop(extensions);
        assert_eq!((counts(&outer), counts(&inner)), ((2, 2), (1, 3)));
    }

    #[test]
    fn a_worker_may_drop_the_request_before_the_first_poll_has_waited() {
        let mut extensions = Extensions::new();
        let watch = Watch::put(&mut extensions);
        thread::spawn(move || drop(extensions)).join().unwrap();
        for believed in [true, false] {
            watch.waits();
            assert_eq!(watch.evidence().allows(false), believed);
        }
    }

    #[test]
    fn an_answer_below_refutes_for_each_layer_outside() {
        let mut extensions = Extensions::new();
        let watches = [Watch::put(&mut extensions), Watch::put(&mut extensions)];
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(watches.iter().all(|watch| watch.believes(Err(&error))));
        Witness::take(&mut extensions).unwrap().answered();
        assert!(!watches.iter().any(|watch| watch.believes(Err(&error))));
    }

    #[test]
    fn only_a_claim_that_nothing_was_processed_is_settled() {
        let (head, ()) = Response::new(()).into_parts();
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failures = [
            (Failure::Connect, Failure::Read),
            (Failure::Unsent, Failure::Read),
            (Failure::Read, Failure::Read),
            (Failure::Timeout, Failure::Timeout),
            (Failure::Other, Failure::Other),
            (Failure::Never, Failure::Never),
            (Failure::Status(StatusCode::TOO_EARLY), Failure::Read),
            (Failure::Status(StatusCode::MISDIRECTED_REQUEST), Failure::Read),
            (
                Failure::Status(StatusCode::SERVICE_UNAVAILABLE),
                Failure::Status(StatusCode::SERVICE_UNAVAILABLE),
            ),
        ];
        let mut wrong = Vec::new();
        for (told, refuted) in failures {
            for (outcome, believed, wanted) in [
                (Err(&error as &(dyn Error + 'static)), true, told),
                (Err(&error), false, refuted),
                (Ok(&head), true, told),
                (Ok(&head), false, refuted),
            ] {
                let got = settle(Some(told), outcome, |_| believed);
                if got != Some(wanted) {
                    wrong.push((told, outcome.is_ok(), believed, got));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(settle(None, Err(&error), |_| false), None);
    }

    #[test]
    fn a_history_below_tells_of_attempts_that_may_have_been_processed() {
        let rows = [
            (&[Failure::Connect, Failure::Unsent][..], false),
            (&[Failure::Read, Failure::Connect], true),
            (&[Failure::Connect, Failure::Timeout], true),
        ];
        let mut wrong = Vec::new();
        for (failures, wanted) in rows {
            let mut attempts = Attempts::new();
            for failure in failures {
                attempts.push(AttemptRecord {
                    number: 1,
                    failure: Some(*failure),
                    status: None,
                    elapsed: Duration::ZERO,
                    asked: None,
                    delay: None,
                });
            }
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            let history = RetryHistory::new(attempts, StopReason::Total);
            let error = io::Error::other(RetryError::new(history, Some(refused.into())));
            if has_sent_attempt(&error) != wanted {
                wrong.push(failures);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
