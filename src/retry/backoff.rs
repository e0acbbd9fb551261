//! How long to wait before the next attempt. The random number is handed in.

#[cfg(feature = "serde")]
mod serde;

use std::time::Duration;

/// The delays between the attempts of a request: how they grow, and how they are spread at random.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{Backoff, Jitter, RetryPolicy};
///
/// // 50 ms, 100 ms, 200 ms ... up to 2 s, and each at random between its half and the whole.
/// let backoff = Backoff::exponential(Duration::from_millis(50))
///     .max(Duration::from_secs(2))
///     .jitter(Jitter::Equal);
/// let policy = RetryPolicy::new().backoff(backoff);
/// ```
///
/// With the feature `serde` it is a table. One key, `constant`, `exponential` or `urllib3`, has a
/// duration. The keys `max` and `jitter` may follow; each has the default of that kind of backoff.
///
/// ```toml
/// backoff = { exponential = "50ms", max = "2s", jitter = "equal" }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(::serde::Deserialize, ::serde::Serialize),
    serde(try_from = "serde::Fields", into = "serde::Fields")
)]
pub struct Backoff {
    shape: Shape,
    unit: Duration,
    max: Duration,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Constant,
    /// The unit, then twice that, then four times.
    Exponential,
    /// Nothing, then twice the unit, then four times.
    Urllib3,
}

/// How a delay is spread at random, so that clients that failed together do not retry together.
///
/// Every jitter except [`None`](Self::None) also lengthens a server's `Retry-After` by at most a
/// tenth, and at most 10 s. The sum never exceeds
/// [`retry_after_max`](super::RetryPolicy::retry_after_max).
///
/// Default: [`Full`](Self::Full) for [`Backoff::exponential`], [`None`](Self::None) for
/// [`Backoff::constant`] and [`Backoff::urllib3`].
///
/// With the feature `serde`: `"none"`, `"full"`, `"equal"`, `"decorrelated"` or `{ added = "5s" }`.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{Backoff, Jitter};
///
/// // From 1 s to 1.5 s.
/// let half_a_second = Jitter::Added(Duration::from_millis(500));
/// let backoff = Backoff::constant(Duration::from_secs(1)).jitter(half_a_second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(::serde::Deserialize, ::serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Jitter {
    /// The delay itself.
    None,
    /// From zero to the delay.
    Full,
    /// From half of the delay to the delay.
    Equal,
    /// From the delay to the delay plus this duration. The maximum of the backoff bounds the sum.
    ///
    /// urllib3: `backoff_jitter`.
    Added(#[cfg_attr(feature = "serde", serde(with = "super::duration"))] Duration),
    /// From the duration that the backoff was made with to three times the last delay, up to the
    /// maximum of the backoff. A server's `Retry-After` does not count as the last delay.
    Decorrelated,
}

impl Backoff {
    /// Retries at once, unless the server asks to wait. No timer is used.
    ///
    /// ```
    /// # use tower_outbound::retry::{Backoff, RetryPolicy};
    /// let at_once = RetryPolicy::new().backoff(Backoff::none()).respect_retry_after(false);
    /// ```
    #[must_use]
    pub const fn none() -> Self {
        Self::constant(Duration::ZERO)
    }

    /// Waits for the same delay before each retry. No maximum, no jitter.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::Backoff;
    /// let backoff = Backoff::constant(Duration::from_secs(1));
    /// assert_eq!(backoff.delay(7, Duration::ZERO, 0.5), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { shape: Shape::Constant, unit: delay, max: Duration::MAX, jitter: Jitter::None }
    }

    /// Waits for `first`, then twice as long, then four times as long, up to 20 s.
    ///
    /// The jitter is [`Full`](Jitter::Full): each delay is at random from zero to that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::Backoff;
    /// let backoff = Backoff::exponential(Duration::from_millis(100));
    /// // The third retry waits for up to 400 ms; the random number 0.5 picks the middle.
    /// assert_eq!(backoff.delay(3, Duration::ZERO, 0.5), Duration::from_millis(200));
    /// ```
    #[must_use]
    pub const fn exponential(first: Duration) -> Self {
        Self {
            shape: Shape::Exponential,
            unit: first,
            max: Duration::from_secs(20),
            jitter: Jitter::Full,
        }
    }

    /// Makes the first retry at once, then waits for `factor` times 2, 4, 8 ..., up to 120 s. No
    /// jitter.
    ///
    /// If a jitter is set, the first retry is still at once.
    ///
    /// urllib3: `backoff_factor`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::Backoff;
    /// let backoff = Backoff::urllib3(Duration::from_millis(100));
    /// let delays = [1, 2, 3].map(|retry| backoff.delay(retry, Duration::ZERO, 0.0).as_millis());
    /// assert_eq!(delays, [0, 200, 400]);
    /// ```
    #[must_use]
    pub const fn urllib3(factor: Duration) -> Self {
        Self {
            shape: Shape::Urllib3,
            unit: factor,
            max: Duration::from_secs(120),
            jitter: Jitter::None,
        }
    }

    /// Longest delay, with its jitter. Zero means no delay.
    ///
    /// It does not bound a server's `Retry-After`; see
    /// [`retry_after_max`](super::RetryPolicy::retry_after_max).
    ///
    /// Default: 20 s for [`exponential`](Self::exponential), 120 s for [`urllib3`](Self::urllib3),
    /// no maximum for [`constant`](Self::constant).
    ///
    /// urllib3: `backoff_max`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::Backoff;
    /// let backoff = Backoff::urllib3(Duration::from_secs(1)).max(Duration::from_secs(5));
    /// assert_eq!(backoff.delay(10, Duration::ZERO, 0.0), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// How each delay is spread at random, so that clients that failed together do not retry
    /// together.
    ///
    /// Default: [`Jitter::Full`] for [`exponential`](Self::exponential), [`Jitter::None`] for
    /// [`urllib3`](Self::urllib3) and [`constant`](Self::constant).
    ///
    /// urllib3: `backoff_jitter`, which is [`Jitter::Added`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::{Backoff, Jitter};
    /// // From 5 s to 10 s.
    /// let backoff = Backoff::constant(Duration::from_secs(10)).jitter(Jitter::Equal);
    /// assert_eq!(backoff.delay(1, Duration::ZERO, 0.0), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The delay before a retry, for a [`Policy`](super::Policy) of your own.
    ///
    /// `retry` is the number of the retry, counted from 1. `last` is the delay before the retry
    /// before it, or zero; only [`Jitter::Decorrelated`] uses it. `random` is in [0, 1), such as
    /// [`Attempt::random`](super::Attempt::random).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::{Attempt, Backoff, Decision};
    /// fn again(backoff: Backoff, attempt: &Attempt<'_>) -> Decision {
    ///     Decision::Retry { after: backoff.delay(attempt.number, Duration::ZERO, attempt.random) }
    /// }
    /// ```
    #[must_use]
    pub fn delay(&self, retry: u32, last: Duration, random: f64) -> Duration {
        let doubled = |times: u32| self.unit.saturating_mul(2_u32.saturating_pow(times.min(31)));
        let base = match self.shape {
            Shape::Constant => self.unit,
            Shape::Exponential => doubled(retry.saturating_sub(1)),
            Shape::Urllib3 if retry <= 1 => return Duration::ZERO,
            Shape::Urllib3 => doubled(retry - 1),
        };
        let base = base.min(self.max);
        let spread = match self.jitter {
            Jitter::None => base,
            Jitter::Full => part(base, random),
            Jitter::Equal => (base / 2).saturating_add(part(base / 2, random)),
            Jitter::Added(most) => base.saturating_add(part(most, random)),
            Jitter::Decorrelated => {
                let least = self.unit.min(self.max);
                let most = last.max(least).saturating_mul(3);
                least.saturating_add(part(most.saturating_sub(least), random))
            }
        };
        spread.min(self.max)
    }

    /// A server's `Retry-After` plus a little jitter, since every refused client got the same one.
    pub(super) fn spread(&self, asked: Duration, random: f64) -> Duration {
        if self.jitter == Jitter::None {
            return asked;
        }
        asked.saturating_add(part((asked / 10).min(Duration::from_secs(10)), random))
    }
}

/// `whole` times `random`. A random number out of range counts as the nearest bound.
fn part(whole: Duration, random: f64) -> Duration {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.0 };
    Duration::try_from_secs_f64(whole.as_secs_f64() * random).map_or(whole, |part| part.min(whole))
}
