//! The budget: how many retries a client may add to its requests.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Limits retries to a share of the requests, so that retries cannot multiply an overload.
///
/// Each request deposits, and each retry withdraws. The retries of the last
/// [`window`](Self::window) may be at most [`percent`](Self::new) of its requests, plus a floor:
/// the [`min_retries`](Self::min_retries), which are allowed however few requests there are. If the
/// budget refuses a retry, the caller gets the last response, or a
/// [`RetryError`](super::RetryError).
///
/// One retry of each request withdraws nothing: its first one after
/// [`Failure::Connect`](super::Failure::Connect) or [`Failure::Unsent`](super::Failure::Unsent),
/// even if it had retries after other failures before.
///
/// Clones share what was deposited and withdrawn. A setter on a clone makes a separate budget. A
/// deposit takes no lock; a withdrawal does. Neither takes longer after an idle time.
///
/// Default: 20 percent and a floor of one retry a second, over 10 seconds.
///
/// # A fleet
///
/// Each process has its own budget, so a fleet has the sum of their floors. At 1,000 requests a
/// second in all that all fail, with 20 percent and three retries, the fleet makes this many
/// attempts per request:
///
/// | processes | floor 1 a second | floor 10 a second | no floor |
/// |---|---|---|---|
/// | 1 | 1.20 | 1.21 | 1.20 |
/// | 10 | 1.21 | 1.32 | 1.20 |
/// | 100 | 1.32 | 2.37 | 1.20 |
/// | 1,000 | 2.35 | 4.00 | 1.20 |
///
/// Give a large fleet a floor below one a second: `min_retries(1, Duration::from_secs(30))`.
#[derive(Clone)]
pub struct Budget {
    percent: u32,
    min_retries: (u32, Duration),
    window: Duration,
    ledger: Arc<Ledger>,
    began: Instant,
}

impl Budget {
    /// Allows `percent` retries per 100 requests, with the default floor and window.
    ///
    /// Every whole percent is exact. 0 allows the floor alone. Over 100 allows more retries than
    /// requests.
    ///
    /// ```
    /// # use tower_outbound::retry::{Budget, RetryPolicy};
    /// let budget = Budget::new(10);
    /// let reads = RetryPolicy::new().budget(budget.clone());
    /// let writes = RetryPolicy::new().budget(budget).total(1).any_method();
    /// ```
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self::of(percent, MIN_RETRIES, WINDOW)
    }

    /// Sets the floor: `count` retries in each `per` are allowed, however few requests there are.
    ///
    /// After a pause, the retries of one window are allowed at once (by default ten), and never
    /// fewer than `count`. With a `count` of 0 there is no floor. In a [fleet](Self#a-fleet) each
    /// process has its own.
    ///
    /// Default: `min_retries(1, Duration::from_secs(1))`.
    ///
    /// # Panics
    ///
    /// If `per` is zero or longer than a day.
    ///
    /// ```
    /// # use {std::time::Duration, tower_outbound::retry::Budget};
    /// let one_of_many_processes = Budget::new(20).min_retries(1, Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn min_retries(self, count: u32, per: Duration) -> Self {
        Self::checked(self.percent, (count, per), self.window)
            .unwrap_or_else(|bound| panic!("{bound}, not {per:?}"))
    }

    /// Sets how long each request counts towards the budget.
    ///
    /// Default: 10 seconds. The time is measured in tenths of the window.
    ///
    /// # Panics
    ///
    /// If the window is shorter than a second or longer than an hour.
    ///
    /// ```
    /// # use {std::time::Duration, tower_outbound::retry::Budget};
    /// let for_rare_requests = Budget::new(20).window(Duration::from_secs(10 * 60));
    /// ```
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        Self::checked(self.percent, self.min_retries, window)
            .unwrap_or_else(|bound| panic!("{bound}, not {window:?}"))
    }

    /// The setters panic, since their values are written in code. Values of a configuration are
    /// checked here, by the same bounds.
    pub(super) fn checked(
        percent: u32,
        min_retries: (u32, Duration),
        window: Duration,
    ) -> Result<Self, Bound> {
        let (_, per) = min_retries;
        if per.is_zero() || per > DAY {
            return Err(Bound::Per);
        }
        if !(Duration::from_secs(1)..=HOUR).contains(&window) {
            return Err(Bound::Window);
        }
        Ok(Self::of(percent, min_retries, window))
    }

    fn of(percent: u32, min_retries: (u32, Duration), window: Duration) -> Self {
        let ledger = Arc::new(Ledger::new(percent, min_retries, window));
        Self { percent, min_retries, window, ledger, began: Instant::now() }
    }

    /// Nanoseconds since the budget was made; more than 500 years of them fit.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(PERCENT)
    }
}

impl tower::retry::budget::Budget for Budget {
    fn deposit(&self) {
        self.ledger.deposit(self.now());
    }

    fn withdraw(&self) -> bool {
        self.ledger.withdraw(self.now())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("percent", &self.percent)
            .field("min_retries", &self.min_retries)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// A handle to a budget of any kind. Two handles are equal if they draw on the same budget.
#[derive(Clone)]
pub(super) struct SharedBudget(Arc<dyn tower::retry::budget::Budget + Send + Sync>);

impl SharedBudget {
    pub(super) fn new(budget: impl tower::retry::budget::Budget + Send + Sync + 'static) -> Self {
        Self(Arc::new(budget))
    }

    /// One request was made.
    pub(super) fn deposit(&self) {
        self.0.deposit();
    }

    /// Takes one retry, if there is one left.
    pub(super) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

/// Each call makes a new budget: two policies that were made separately share nothing.
impl Default for SharedBudget {
    fn default() -> Self {
        Self::new(Budget::default())
    }
}

impl PartialEq for SharedBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

// The defaults: what `Budget::default()` has, and what a configuration leaves out.
pub(super) const PERCENT: u32 = 20;
pub(super) const MIN_RETRIES: (u32, Duration) = (1, Duration::from_secs(1));
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The time of a budget that is out of bounds. `Display` names the setter and the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The time of the floor: its ledger counts nanoseconds, and a day of them is ample.
    Per,
    /// The window: a slot lasts 100 ms at least, so that a slot's number fits 32 bits.
    Window,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Per => "`per` of `min_retries` must be longer than 0 s and at most 24 h",
            Self::Window => "`window` of a budget must be from 1 s to 1 h",
        })
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Parts of the window. A request counts for nine to ten of them.
const SLOTS: usize = 10;

/// What was deposited and withdrawn; time is handed in, in nanoseconds since the beginning.
struct Ledger {
    percent: u32,
    /// Length of a slot.
    slot: u64,
    /// Time in which the floor regains one retry; `None` for no floor.
    regain: Option<u64>,
    /// The retries that are allowed at once, times `regain`.
    ahead: u64,
    /// Number of the slot and requests in it, 32 bits each, so that both change in one step.
    deposits: [AtomicU64; SLOTS],
    // A withdrawal compares before it changes. It is rare, so a lock is simpler than a loop.
    spent: Mutex<Spent>,
}

struct Spent {
    /// Number of the slot and withdrawals in it.
    slots: [(u32, u64); SLOTS],
    /// When the floor is whole again.
    whole_at: u64,
}

impl Ledger {
    fn new(percent: u32, (count, per): (u32, Duration), window: Duration) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Rounded up, so that no more than the floor is allowed.
        let regain = (count > 0).then(|| nanos(per).div_ceil(count.into()).max(1));
        // Not by `regain`, whose rounding would allow 29 for 3 a second over 10 seconds.
        let in_window = window.as_nanos() * u128::from(count) / per.as_nanos();
        let at_once = u64::try_from(in_window).unwrap_or(u64::MAX).max(count.into());
        Self {
            percent,
            slot: nanos(window) / SLOTS as u64,
            regain,
            ahead: at_once.saturating_mul(regain.unwrap_or_default()),
            deposits: Default::default(),
            spent: Mutex::new(Spent { slots: [(0, 0); SLOTS], whole_at: 0 }),
        }
    }

    /// The slot of a moment. The shortest is 100 ms, so 32 bits last 13 years.
    const fn slot_at(&self, now: u64) -> u32 {
        (now / self.slot) as u32
    }

    fn deposit(&self, now: u64) {
        if self.percent == 0 {
            return;
        }
        let slot = self.slot_at(now);
        let place = &self.deposits[slot as usize % SLOTS];
        let add = |packed: u64| {
            let (of, count) = unpack(packed);
            // Another thread may be in the next slot already. A late request counts there.
            let is_over = slot.wrapping_sub(of).cast_signed() > 0;
            Some(if is_over { pack(slot, 1) } else { pack(of, count.saturating_add(1)) })
        };
        let _ = place.fetch_update(Relaxed, Relaxed, add);
    }

    fn withdraw(&self, now: u64) -> bool {
        let slot = self.slot_at(now);
        let counts = |of: u32| (slot.wrapping_sub(of) as usize) < SLOTS;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let deposited = self.deposits.iter().map(|place| unpack(place.load(Relaxed)));
        let deposited: u64 =
            deposited.filter(|(of, _)| counts(*of)).map(|(_, n)| u64::from(n)).sum();
        let withdrawn: u64 = spent.slots.iter().filter(|(of, _)| counts(*of)).map(|(_, n)| n).sum();

        // A withdrawal counts at least as long as the requests that paid for it, so none of them
        // pays twice.
        if (withdrawn + 1).saturating_mul(100) <= deposited.saturating_mul(self.percent.into()) {
            let place = &mut spent.slots[slot as usize % SLOTS];
            *place = (slot, if place.0 == slot { place.1 + 1 } else { 1 });
            return true;
        }
        let Some(regain) = self.regain else { return false };
        let whole_at = spent.whole_at.max(now).saturating_add(regain);
        let allowed = whole_at - now <= self.ahead;
        if allowed {
            spent.whole_at = whole_at;
        }
        allowed
    }
}

const fn pack(slot: u32, count: u32) -> u64 {
    (slot as u64) << 32 | count as u64
}

const fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ledger(percent: u32, floor: (u32, u64), window: u64) -> Ledger {
        Ledger::new(percent, (floor.0, Duration::from_secs(floor.1)), Duration::from_secs(window))
    }

    fn allowed(ledger: &Ledger, now: u64) -> usize {
        (0..100_000).take_while(|_| ledger.withdraw(now)).count()
    }

    #[test]
    fn times_out_of_bounds_are_refused_by_name() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        let (hour, day) = (3_600 * second, 86_400 * second);
        // per, window, refused
        let rows = [
            (nano, second, None),
            (day, hour, None),
            (Duration::ZERO, second, Some(Bound::Per)),
            (day + nano, second, Some(Bound::Per)),
            (second, second - nano, Some(Bound::Window)),
            (second, hour + nano, Some(Bound::Window)),
        ];
        let wrong: Vec<_> = rows
            .into_iter()
            .map(|(per, window, want)| (per, window, Budget::checked(20, (1, per), window), want))
            .filter(|(_, _, got, want)| got.as_ref().err() != want.as_ref())
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    #[should_panic(expected = "`window` of a budget must be from 1 s to 1 h, not 999ms")]
    fn a_setter_panics_with_the_bound_and_the_value() {
        let _ = Budget::default().window(Duration::from_millis(999));
    }

    #[test]
    fn a_budget_shows_its_settings_and_not_what_is_left() {
        let budget = Budget::new(10).min_retries(3, Duration::from_secs(30));
        let shown = "Budget { percent: 10, min_retries: (3, 30s), window: 10s, .. }";
        assert_eq!(format!("{budget:?}"), shown);
    }

    #[test]
    fn every_whole_percent_is_exact() {
        let mut wrong = Vec::new();
        for percent in 0..=250 {
            for requests in [1, 3, 100, 1000] {
                let ledger = ledger(percent, (0, 1), 10);
                (0..requests).for_each(|_| ledger.deposit(5 * SECOND));
                let got = allowed(&ledger, 5 * SECOND);
                if got != requests * percent as usize / 100 {
                    wrong.push(format!("{percent} % of {requests}: {got}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_floor_is_a_rate_with_what_comes_in_a_window_at_once() {
        // floor, window, at once, and one more after
        let rows: &[((u32, u64), u64, usize, u64)] = &[
            ((1, 1), 10, 10, SECOND),
            ((10, 1), 10, 100, SECOND / 10),
            ((1, 30), 10, 1, 30 * SECOND),
            ((5, 30), 10, 5, 6 * SECOND),
            ((1, 86_400), 3600, 1, 86_400 * SECOND),
            ((3, 1), 1, 3, SECOND / 3 + 1),
            ((3, 1), 10, 30, SECOND / 3 + 1),
            ((7, 1), 3600, 25_200, SECOND / 7 + 1),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter_map(|&(floor, window, at_once, after)| {
                let ledger = ledger(0, floor, window);
                let start = 7 * SECOND;
                let got = (
                    allowed(&ledger, start),
                    allowed(&ledger, start + after - 2),
                    allowed(&ledger, start + after),
                    allowed(&ledger, start + 1000 * 86_400 * SECOND),
                );
                let want = (at_once, 0, 1, at_once);
                (got != want).then(|| format!("{floor:?} over {window} s: {got:?}, not {want:?}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_request_counts_for_nine_to_ten_tenths_of_the_window() {
        // deposited at, asked at, in tenths of the window
        let rows = [(0, 0, 1), (0, 9, 1), (0, 10, 0), (5, 14, 1), (5, 15, 0), (5, 5_000_005, 0)];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|&&(deposited, asked, want)| {
                let ledger = ledger(100, (0, 1), 10);
                ledger.deposit(deposited * SECOND);
                allowed(&ledger, asked * SECOND) != want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Whatever the order of requests and retries, no stretch of requests pays for more than its
    /// share.
    #[test]
    fn over_many_orders_retries_stay_within_the_percentage() {
        let mut wrong = Vec::new();
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let percent = random.u32(10..150);
            let ledger = ledger(percent, (0, 1), 1 + random.u64(..20));
            let (mut now, mut requests, mut retries) = (0, 0_u64, 0_u64);
            for _ in 0..2_000 {
                now += random.u64(..SECOND / 4) * u64::from(random.u8(..4) == 0);
                if random.bool() {
                    ledger.deposit(now);
                    requests += 1;
                } else {
                    retries += u64::from(ledger.withdraw(now));
                }
            }
            if retries * 100 > requests * u64::from(percent) || retries == 0 {
                wrong.push(format!("seed {seed}: {retries} of {requests} at {percent} %"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn deposits_of_many_threads_are_all_counted() {
        let ledger = ledger(100, (0, 1), 10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| ledger.deposit(SECOND)));
            }
        });
        assert_eq!(allowed(&ledger, SECOND), 4000);
    }

    /// Sends per request of a fleet over a minute in which every request fails: 1,000 requests a
    /// second, spread over this many processes, each with its own budget and three retries.
    fn fleet(processes: u64, percent: u32, floor: u32) -> f64 {
        let requests = 60_000;
        let ledgers: Vec<_> = (0..processes).map(|_| ledger(percent, (floor, 1), 10)).collect();
        // When, whose, and which attempt.
        let mut events: std::collections::BinaryHeap<_> = (0..requests)
            .map(|n| std::cmp::Reverse((n * SECOND / 1000, n % processes, 0)))
            .collect();
        let mut sends = 0;
        while let Some(std::cmp::Reverse((now, process, attempt))) = events.pop() {
            let ledger = &ledgers[process as usize];
            sends += 1;
            if attempt == 0 {
                ledger.deposit(now);
            }
            if attempt < 3 && ledger.withdraw(now) {
                let delay = (SECOND / 10) << attempt;
                events.push(std::cmp::Reverse((now + delay, process, attempt + 1)));
            }
        }
        f64::from(sends) / requests as f64
    }

    /// The table in the docs of `Budget`.
    #[test]
    fn a_fleet_has_the_floor_of_each_of_its_processes() {
        // processes, sends per request with a floor of 1/s (the default), 10/s and none
        let rows = [
            (1, [1.20, 1.21, 1.20]),
            (10, [1.21, 1.32, 1.20]),
            (100, [1.32, 2.37, 1.20]),
            (1000, [2.35, 4.00, 1.20]),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(processes, want)| {
                let got = [1, 10, 0].map(|floor| fleet(processes, 20, floor));
                (processes, got, want)
            })
            .filter(|(_, got, want)| {
                got.iter().zip(want).any(|(got, want)| (got - want).abs() > 0.005)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
