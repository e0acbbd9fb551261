//! The attempts of one request so far, and what the body and the deadline leave of the policy's
//! decision on the last one. No clock, no future: [`RetryLayer`](super::RetryLayer)'s future and
//! tower's runner both use it.
//!
//! The budget is not part of it. [`RetryPolicy`](super::RetryPolicy) withdraws when it decides,
//! after it has applied the same rules of body and deadline. So no retry is paid for and then not
//! made.

use std::{
    mem,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, Uri};

use super::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome, ServerDelay, StopReason},
    history::{AttemptRecord, Attempts, RetryHistory},
    replay::Replay,
};

/// The attempts of one request so far. All times are since the request began.
#[derive(Clone, Debug)]
pub(super) struct Round {
    attempts: Attempts,
    /// The number of the attempt that runs or comes next. It has its own count, since not all
    /// attempts are remembered.
    number: u32,
    /// When that attempt began.
    began: Duration,
}

/// What was sent, and what can be sent again.
pub(super) struct Sent<'a, B, R> {
    pub(super) method: &'a Method,
    /// `None` if nothing was kept of the request.
    pub(super) uri: Option<&'a Uri>,
    pub(super) headers: &'a HeaderMap,
    /// The body to copy, or why there will be no copy.
    pub(super) body: Result<&'a B, StopReason>,
    pub(super) replay: &'a R,
}

impl<B, R: Replay<B>> Sent<'_, B, R> {
    /// Whether a copy of the body is possible and useful.
    fn is_replayable(&self, outcome: Outcome<'_>) -> bool {
        self.body.is_ok_and(|body| {
            // The attempt timed out while the body's own source had nothing to send. The next
            // attempt would wait for the same source.
            let starved = outcome.is_err_and(classify::is_elapsed) && self.replay.is_starved(body);
            !starved && self.replay.can_replay(body)
        })
    }
}

/// The clocks and the random number, read when an attempt has ended.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// Since the request began.
    pub(super) elapsed: Duration,
    /// The time of day.
    pub(super) now: SystemTime,
    /// In [0, 1).
    pub(super) random: f64,
}

impl Round {
    /// The first attempt begins with the request.
    pub(super) const fn new() -> Self {
        Self { attempts: Attempts::new(), number: 1, began: Duration::ZERO }
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn began(&self) -> Duration {
        self.began
    }

    /// Whether the attempt that runs is the first.
    pub(super) const fn is_first(&self) -> bool {
        self.number == 1
    }

    /// How many of `total` retries are left after a decision on the attempt that runs.
    pub(super) fn retries_left(&self, decision: Decision, total: Option<u32>) -> Option<u32> {
        let chosen = match decision {
            Decision::Retry { .. } => self.number,
            Decision::Return(_) => self.number - 1,
        };
        total.map(|total| total.saturating_sub(chosen))
    }

    /// Records the end of the attempt that runs. `asked` is what the server asked for, by the
    /// policy.
    pub(super) fn record(
        &mut self,
        outcome: Outcome<'_>,
        failure: Option<Failure>,
        asked: Option<ServerDelay>,
        elapsed: Duration,
    ) -> &AttemptRecord {
        self.attempts.push(AttemptRecord {
            number: self.number,
            failure,
            status: outcome.ok().map(|head| head.status),
            elapsed: elapsed.saturating_sub(self.began),
            delay: None,
            asked: match asked {
                Some(ServerDelay::After(asked)) => Some(asked),
                Some(ServerDelay::Never) | None => None,
            },
        })
    }

    /// The failed attempt, as it is given to a policy.
    pub(super) fn attempt<'a, B, R: Replay<B>>(
        &self,
        sent: &Sent<'a, B, R>,
        outcome: Outcome<'a>,
        failure: Failure,
        moment: Moment,
    ) -> Attempt<'a> {
        Attempt {
            number: self.number,
            uri: sent.uri,
            replayable: sent.is_replayable(outcome),
            elapsed: moment.elapsed,
            now: moment.now,
            random: moment.random,
            ..Attempt::new(sent.method, sent.headers, outcome, failure)
        }
    }

    /// The last attempt that has ended.
    pub(super) fn last(&self) -> Option<&AttemptRecord> {
        self.attempts.last()
    }

    /// Records that another attempt follows after `delay`.
    pub(super) fn retry(&mut self, delay: Duration) {
        self.attempts.set_last_delay(Some(delay));
        self.number = self.number.saturating_add(1);
    }

    /// Records that the next attempt begins.
    pub(super) const fn begin(&mut self, elapsed: Duration) {
        self.began = elapsed;
    }

    /// Ends the request without another attempt, even if one was waited for.
    pub(super) fn end(&mut self, reason: StopReason) -> RetryHistory {
        self.attempts.set_last_delay(None);
        RetryHistory::new(mem::take(&mut self.attempts), reason)
    }
}

impl Default for Round {
    fn default() -> Self {
        Self::new()
    }
}

/// The delay before the next attempt, or why there is none: the policy's decision, unless body or
/// deadline forbid it. `no_body` says why the body cannot be copied, if it cannot.
pub(super) fn settle(
    word: Decision,
    no_body: Option<StopReason>,
    elapsed: Duration,
    deadline: Option<Duration>,
) -> Result<Duration, StopReason> {
    match (word, no_body) {
        // If the policy ruled out retries, the body was not kept for that reason. It says more than
        // that there is no body.
        (Decision::Retry { .. } | Decision::Return(StopReason::Body), Some(reason)) => Err(reason),
        (Decision::Retry { after }, None) if is_too_late(elapsed, after, deadline) => {
            Err(StopReason::Deadline)
        }
        (Decision::Retry { after }, None) => Ok(after),
        // It has cut the attempt, and no limit that is used up as well says as much.
        (Decision::Return(reason), _)
            if reason.is_exhaustion() && is_too_late(elapsed, Duration::ZERO, deadline) =>
        {
            Err(StopReason::Deadline)
        }
        (Decision::Return(reason), _) => Err(reason),
    }
}

/// How late a delay may end: tokio's timer rounds up to a millisecond, and is woken in whole
/// milliseconds.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Whether an attempt that begins after `delay` would begin past the deadline. A delay of zero uses
/// no timer.
pub(super) fn is_too_late(elapsed: Duration, delay: Duration, deadline: Option<Duration>) -> bool {
    let step = if delay.is_zero() { Duration::ZERO } else { TIMER_STEP };
    deadline.is_some_and(|deadline| elapsed.saturating_add(delay).saturating_add(step) >= deadline)
}

/// The time left for the attempt that runs. If none runs, the time left for the request. `None`
/// without a limit.
pub(super) fn time_left(
    attempt_timeout: Option<Duration>,
    deadline: Option<Duration>,
    attempt_began: Option<Duration>,
    elapsed: Duration,
) -> Option<Duration> {
    let attempt = attempt_timeout.zip(attempt_began).map(|(timeout, began)| {
        let taken = elapsed.saturating_sub(began);
        timeout.saturating_sub(taken)
    });
    let request = deadline.map(|deadline| deadline.saturating_sub(elapsed));
    attempt.into_iter().chain(request).min()
}

#[cfg(test)]
mod tests {
    use tower::timeout::error::Elapsed;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const AGAIN: Decision = Decision::Retry { after: Duration::ZERO };

    fn check<T: PartialEq + std::fmt::Debug>(rows: Vec<(&str, T, T)>) {
        let wrong: Vec<_> = rows.into_iter().filter(|(_, got, want)| got != want).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_policys_word_is_settled_against_body_and_deadline() {
        use StopReason::{Body, Budget, Deadline, Disabled, Method, Total};
        let later = |millis| Decision::Retry { after: millis * MS };
        let give_up = Decision::Return;
        let rows = [
            ("a retry", later(5), None, 0, None, Ok(5 * MS)),
            ("its own reason", give_up(Method), None, 0, None, Err(Method)),
            ("its own reason, no body", give_up(Method), Some(Disabled), 0, None, Err(Method)),
            ("no copy of the body", AGAIN, Some(Body), 0, None, Err(Body)),
            ("nothing kept by its own limits", AGAIN, Some(Disabled), 0, None, Err(Disabled)),
            ("that is why there is no body", give_up(Body), Some(Disabled), 0, None, Err(Disabled)),
            ("a body, but none to its use", give_up(Body), None, 0, None, Err(Body)),
            ("in time", later(5), None, 10, Some(18), Ok(5 * MS)),
            ("too late by the timer's step", later(5), None, 10, Some(17), Err(Deadline)),
            ("no delay, no timer", AGAIN, None, 10, Some(11), Ok(Duration::ZERO)),
            ("no delay at the deadline", AGAIN, None, 10, Some(10), Err(Deadline)),
            ("no body, too late", later(5), Some(Body), 10, Some(10), Err(Body)),
            ("its own reason, in time", give_up(Budget), None, 10, Some(11), Err(Budget)),
            ("a limit, too late", give_up(Total), None, 10, Some(10), Err(Deadline)),
            ("the budget, too late", give_up(Budget), None, 10, Some(10), Err(Deadline)),
            ("must not be repeated, too late", give_up(Method), None, 10, Some(10), Err(Method)),
        ];
        check(
            rows.into_iter()
                .map(|(what, word, no_body, elapsed, deadline, want)| {
                    let deadline = deadline.map(|millis| millis * MS);
                    (what, settle(word, no_body, elapsed * MS, deadline), want)
                })
                .collect(),
        );
        let longest = settle(Decision::Retry { after: Duration::MAX }, None, MS, Some(MS * 2));
        assert_eq!(longest, Err(Deadline), "no sum overflows");
    }

    #[test]
    fn the_time_left_is_the_shorter_of_two() {
        let ms = |millis: Option<u32>| millis.map(|millis| millis * MS);
        let rows = [
            ("no limit", None, None, Some(0), None),
            ("the attempt's", Some(10), None, Some(5), Some(5)),
            ("the request's", None, Some(30), Some(5), Some(20)),
            ("the attempt's is shorter", Some(10), Some(30), Some(5), Some(5)),
            ("the request's is shorter", Some(90), Some(30), Some(5), Some(20)),
            ("no attempt runs", Some(1), Some(30), None, Some(20)),
            ("no attempt runs, no deadline", Some(1), None, None, None),
            ("both are over", Some(1), Some(1), Some(0), Some(0)),
        ];
        check(
            rows.into_iter()
                .map(|(what, timeout, deadline, began, want)| {
                    (what, time_left(ms(timeout), ms(deadline), ms(began), 10 * MS), ms(want))
                })
                .collect(),
        );
    }

    /// A body is (whether it can be copied, whether it is starved).
    #[derive(Clone)]
    struct AsSaid;

    impl Replay<(bool, bool)> for AsSaid {
        fn replay(&self, body: &(bool, bool)) -> Option<(bool, bool)> {
            body.0.then_some(*body)
        }

        fn can_replay(&self, body: &(bool, bool)) -> bool {
            body.0
        }

        fn is_starved(&self, body: &(bool, bool)) -> bool {
            body.1
        }
    }

    #[test]
    fn a_body_is_replayable_if_there_is_a_copy_and_a_use_for_it() {
        let (elapsed, other) = (Elapsed::new(), std::io::Error::other("reset"));
        let rows = [
            ("a copy", Ok((true, false)), false, true),
            ("no copy any more", Ok((false, false)), false, false),
            ("nothing kept", Err(StopReason::Disabled), false, false),
            ("a copy, out of time", Ok((true, false)), true, true),
            ("the body is what was waited for", Ok((true, true)), true, false),
            ("it was, but the error is another", Ok((true, true)), false, true),
        ];
        let headers = HeaderMap::new();
        check(
            rows.iter()
                .map(|(what, body, is_late, want)| {
                    let body = body.as_ref().map_err(|reason| *reason);
                    let sent = Sent {
                        method: &Method::GET,
                        uri: None,
                        headers: &headers,
                        body,
                        replay: &AsSaid,
                    };
                    let outcome: Outcome<'_> = if *is_late { Err(&elapsed) } else { Err(&other) };
                    (*what, sent.is_replayable(outcome), *want)
                })
                .collect(),
        );
    }

    #[test]
    fn a_policy_is_shown_the_moment_and_what_was_sent() {
        let (error, headers) = (std::io::Error::other("reset"), HeaderMap::new());
        let (uri, now) = (Uri::from_static("https://h/"), SystemTime::UNIX_EPOCH + 7 * MS);
        let mut round = Round::new();
        round.retry(Duration::ZERO);
        let sent = Sent {
            method: &Method::PUT,
            uri: Some(&uri),
            headers: &headers,
            body: Ok(&(false, false)),
            replay: &AsSaid,
        };
        let moment = Moment { elapsed: 5 * MS, now, random: 0.5 };
        let attempt = round.attempt(&sent, Err(&error), Failure::Read, moment);

        assert_eq!((attempt.number, attempt.failure), (2, Failure::Read));
        assert_eq!((attempt.method, attempt.uri), (&Method::PUT, Some(&uri)));
        assert_eq!((attempt.elapsed, attempt.now, attempt.random), (5 * MS, now, 0.5));
        assert!(!attempt.replayable);
    }

    #[test]
    fn attempts_are_numbered_and_timed_from_their_own_beginning() {
        let error = std::io::Error::other("reset");
        let mut round = Round::new();
        assert!(round.is_first());
        round.record(Err(&error), Some(Failure::Read), None, 10 * MS);
        round.retry(5 * MS);
        round.begin(17 * MS);
        round.record(Err(&error), Some(Failure::Other), None, 20 * MS);
        assert_eq!((round.number(), round.is_first()), (2, false));
        // Chosen, and given up while it was waited for.
        round.retry(Duration::ZERO);
        let history = round.end(StopReason::Deadline);

        let seen: Vec<_> = history
            .attempts()
            .iter()
            .map(|attempt| (attempt.number, attempt.failure, attempt.elapsed, attempt.delay))
            .collect();
        let want = [
            (1, Some(Failure::Read), 10 * MS, Some(5 * MS)),
            (2, Some(Failure::Other), 3 * MS, None),
        ];
        assert_eq!(seen, want);
        assert_eq!(history.stop_reason(), StopReason::Deadline);
    }

    #[test]
    fn the_log_counts_down_what_is_left_of_the_total() {
        let mut round = Round::new();
        let stop = Decision::Return(StopReason::Method);
        let first = (round.retries_left(AGAIN, Some(3)), round.retries_left(stop, Some(3)));
        round.retry(Duration::ZERO);
        let second = (round.retries_left(AGAIN, Some(3)), round.retries_left(stop, Some(3)));
        check(vec![
            ("after the first attempt", first, (Some(2), Some(3))),
            ("after the second", second, (Some(1), Some(2))),
            ("more than there are", (round.retries_left(AGAIN, Some(1)), None), (Some(0), None)),
            ("unknown", (round.retries_left(AGAIN, None), None), (None, None)),
        ]);
    }

    #[test]
    fn a_long_history_keeps_its_first_and_its_last_512_attempts() {
        let error = std::io::Error::other("reset");
        let mut round = Round::new();
        for _ in 0..2_000 {
            round.record(Err(&error), Some(Failure::Read), None, MS);
            round.retry(Duration::ZERO);
        }
        let history = round.end(StopReason::Total);
        let numbers: Vec<_> = history.attempts().iter().map(|attempt| attempt.number).collect();
        let want: Vec<_> = (1..=512).chain(1_489..=2_000).collect();
        assert_eq!(numbers, want);
    }
}
