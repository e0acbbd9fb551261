//! How long to wait before the next attempt. Takes a random number, makes none.

#[cfg(feature = "serde")]
mod serde;

use std::time::Duration;

/// How the delays between attempts grow, and how they are spread.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{Backoff, Jitter};
///
/// // urllib3's: none before the first retry, then 0.2 s, 0.4 s, 0.8 s ...
/// let _ = Backoff::urllib3(Duration::from_millis(100));
/// // 50 ms, 100 ms, 200 ms ... up to 2 s, each drawn from the upper half.
/// let _ = Backoff::exponential(Duration::from_millis(50)).max(Duration::from_secs(2)).jitter(Jitter::Equal);
/// ```
///
/// With the feature `serde` it is a table: a duration for one of `constant`, `exponential` and
/// `urllib3`, and, where it is not as that one has it, `max` and `jitter`.
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

/// How a delay is spread at random, so that many clients that failed together do not come back
/// together.
///
/// Any jitter but [`None`](Self::None) also adds up to a tenth (at most 10 s) to a server's
/// `Retry-After`.
///
/// With the feature `serde`: `"none"`, `"full"`, `"equal"`, `"decorrelated"` or `{ added = "5s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(::serde::Deserialize, ::serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Jitter {
    /// The delay as it is.
    None,
    /// Anything from nothing to the delay.
    Full,
    /// Half of the delay, and anything up to the other half.
    Equal,
    /// The delay, and anything up to this; the maximum holds for the sum.
    ///
    /// urllib3: `backoff_jitter`.
    Added(#[cfg_attr(feature = "serde", serde(with = "super::duration"))] Duration),
    /// Anything from the first delay to three times the last one. A server's `Retry-After` does not
    /// count as the last one.
    Decorrelated,
}

impl Backoff {
    /// No delay at all. No timer is touched.
    #[must_use]
    pub const fn none() -> Self {
        Self::constant(Duration::ZERO)
    }

    /// The same delay each time. Jitter: none.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { shape: Shape::Constant, unit: delay, max: Duration::MAX, jitter: Jitter::None }
    }

    /// `first`, then twice that, then four times, up to 20 s. Jitter: [`Full`](Jitter::Full).
    #[must_use]
    pub const fn exponential(first: Duration) -> Self {
        Self {
            shape: Shape::Exponential,
            unit: first,
            max: Duration::from_secs(20),
            jitter: Jitter::Full,
        }
    }

    /// Nothing before the first retry, then `factor` times 2, 4, 8 ..., up to 120 s. Jitter: none.
    ///
    /// urllib3: `backoff_factor`.
    #[must_use]
    pub const fn urllib3(factor: Duration) -> Self {
        Self {
            shape: Shape::Urllib3,
            unit: factor,
            max: Duration::from_secs(120),
            jitter: Jitter::None,
        }
    }

    /// Longest delay, jitter included. Zero is no delay at all. Does not bound a server's
    /// `Retry-After`; see [`retry_after_max`](super::RetryPolicy::retry_after_max).
    ///
    /// Default: 20 s for [`exponential`](Self::exponential), 120 s for [`urllib3`](Self::urllib3),
    /// none for [`constant`](Self::constant).
    ///
    /// urllib3: `backoff_max`.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// How the delay is spread, so that clients that failed together do not come back together.
    ///
    /// Default: [`Jitter::Full`] for [`exponential`](Self::exponential), [`Jitter::None`] for
    /// [`urllib3`](Self::urllib3) and [`constant`](Self::constant).
    ///
    /// urllib3: `backoff_jitter`, which is [`Jitter::Added`].
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The delay before the `retry`-th retry (from 1), when the last delay of this backoff was
    /// `last`. `random` lies in [0, 1).
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

    /// A server's `Retry-After` with a little on top, since every client that was refused got the
    /// same one.
    pub(super) fn spread(&self, asked: Duration, random: f64) -> Duration {
        if self.jitter == Jitter::None {
            return asked;
        }
        asked.saturating_add(part((asked / 10).min(Duration::from_secs(10)), random))
    }
}

/// `random` of `whole`; a random number out of range counts as the nearest end.
fn part(whole: Duration, random: f64) -> Duration {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.0 };
    Duration::try_from_secs_f64(whole.as_secs_f64() * random).map_or(whole, |part| part.min(whole))
}
