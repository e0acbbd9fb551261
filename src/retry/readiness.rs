//! The wait for the inner service before the first attempt, bounded by the deadline.
//!
//! `poll_ready` does not say for which request it is called. For example, `LoadShed` outside calls
//! it once for each request, and drops the request if the service is not ready. Such an abandoned
//! wait must not end the next request. So a task counts as waiting only if it answers the wakes of
//! the wait: it polls soon after it was woken. The task is woken shortly before the deadline and
//! again at the deadline, and the wait ends with the second answer. The first answer alone could
//! come from another request by chance.
//!
//! | what happens | then |
//! |---|---|
//! | the answer to the first wake comes late | the wait starts over, but only once |
//! | the answer to the second wake comes late | the task is woken again; the wait does not start over |
//! | another waker polls, and no one was woken | another task: the wait starts over |
//! | another waker polls after a wake | a combinator with a waker of its own: the wait goes on |
//!
//! One case looks the same as a wait: one task makes request after request, the same `LoadShed`
//! drops them, and they are so frequent that each wake has its poll.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// The time between the first wake and the end of the wait.
///
/// Tokio's timer rounds up to a millisecond, so a shorter step could be zero.
const STEP: Duration = Duration::from_millis(2);

/// A poll that comes later than this after the wake is not an answer to it. A busy machine runs a
/// task late, but rarely that late.
const PROMPT: Duration = Duration::from_millis(50);

/// The result of `poll_ready` since the last call.
#[derive(Default)]
pub(super) enum Readiness {
    /// There was no wait since the last call.
    #[default]
    New,
    /// Boxed, since most requests wait for nothing.
    Waiting(Box<Wait>),
    /// The inner service is ready after a wait, since that moment.
    Ready { waited: Duration, at: Instant },
    /// The inner service is not ready, and the time is up, since that moment.
    Late { waited: Duration, at: Instant },
}

/// What the next call finds.
pub(super) enum Turn {
    /// The inner service is ready.
    Ready { waited: Duration },
    /// The time was up before the inner service was ready.
    Late { waited: Duration },
}

/// A wait, and the task that waits.
pub(super) struct Wait {
    deadline: Duration,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    // It started over, since the answer to the timer came late.
    is_second: bool,
    // The first wake was answered, and the next answer ends the wait.
    is_asked: bool,
    bell: Arc<Bell>,
    // The bell's own waker: the timer and the inner service ring it.
    waker: Waker,
}

/// Wakes a task, and remembers when the task was first woken.
struct Bell(Mutex<Rung>);

struct Rung {
    task: Waker,
    at: Option<Instant>,
}

impl Readiness {
    /// Ready if a call may follow. `poll_ready` is the inner service's. `deadline` is called once
    /// for each wait; without a deadline there is no timer.
    pub(super) fn poll<E>(
        &mut self,
        mut poll_ready: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
        deadline: impl FnOnce() -> Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        if !matches!(self, Self::Waiting(_)) {
            self.forget();
            let Poll::Ready(ready) = poll_ready(cx) else {
                // Ready once is ready until the call.
                if matches!(self, Self::Late { .. }) {
                    return Poll::Ready(Ok(()));
                }
                let Some(deadline) = deadline() else { return Poll::Pending };
                *self = Self::Waiting(Box::new(Wait::new(deadline, Instant::now(), cx.waker())));
                return self.wait(poll_ready, cx);
            };
            if matches!(self, Self::Late { .. }) {
                *self = Self::New;
            }
            return Poll::Ready(ready);
        }
        self.wait(poll_ready, cx)
    }

    fn wait<E>(
        &mut self,
        mut poll_ready: impl FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        let Self::Waiting(wait) = self else { return Poll::Pending };
        let now = Instant::now();
        let woken = wait.answer(now, cx.waker());
        let (ready, over) = match poll_ready(&mut Context::from_waker(&wait.waker)) {
            Poll::Ready(Ok(())) => {
                let waited = now.saturating_duration_since(wait.began);
                // A service that is ready without a wake may have been ready for long. Past the
                // deadline the caller may have gone, unless it has answered the first wake.
                let answers = woken.is_some_and(|woken| is_prompt(woken, now));
                let goes_on = answers && (waited < wait.deadline || wait.is_asked);
                let waited = if goes_on { waited } else { Duration::ZERO };
                (Ok(()), Self::Ready { waited, at: now })
            }
            Poll::Ready(Err(error)) => (Err(error), Self::New),
            Poll::Pending if wait.is_over(now) => {
                let waited = now.saturating_duration_since(wait.began);
                (Ok(()), Self::Late { waited, at: now })
            }
            Poll::Pending => return Poll::Pending,
        };
        *self = over;
        Poll::Ready(ready)
    }

    /// Forgets a wait that ended long ago without a call: its caller has gone. The next request is
    /// not charged for it.
    fn forget(&mut self) {
        if let Self::Ready { at, .. } | Self::Late { at, .. } = self
            && !is_prompt(*at, Instant::now())
        {
            *self = Self::New;
        }
    }

    /// Whether the time is up and the inner service is not ready.
    pub(super) const fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }

    /// Takes the state for a call. The next wait starts over.
    pub(super) fn take(&mut self) -> Turn {
        match mem::take(self) {
            Self::New | Self::Waiting(_) => Turn::Ready { waited: Duration::ZERO },
            // Without a poll in between the call may be another request's.
            Self::Ready { at, .. } if !is_prompt(at, Instant::now()) => {
                Turn::Ready { waited: Duration::ZERO }
            }
            Self::Ready { waited, .. } => Turn::Ready { waited },
            // However long ago: the inner service is not ready, so nothing can be sent.
            Self::Late { waited, .. } => Turn::Late { waited },
        }
    }
}

/// A clone of a service has a wait of its own.
impl Clone for Readiness {
    fn clone(&self) -> Self {
        Self::New
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "New",
            Self::Waiting(_) => "Waiting",
            Self::Ready { .. } => "Ready",
            Self::Late { .. } => "Late",
        })
    }
}

impl Wait {
    fn new(deadline: Duration, now: Instant, task: &Waker) -> Self {
        let bell = Arc::new(Bell(Mutex::new(Rung { task: task.clone(), at: None })));
        let waker = Waker::from(Arc::clone(&bell));
        let timer = Box::pin(sleep(deadline.saturating_sub(STEP)));
        Self { deadline, began: now, timer, is_second: false, is_asked: false, bell, waker }
    }

    /// Takes note that this task polls. Returns when it was woken for that.
    fn answer(&mut self, now: Instant, task: &Waker) -> Option<Instant> {
        let mut rung = self.bell.rung();
        let woken = rung.at.take();
        if !rung.task.will_wake(task) {
            let old = mem::replace(&mut rung.task, task.clone());
            // Not under the lock: to drop its last waker may drop a task.
            drop(rung);
            drop(old);
            if woken.is_none() {
                *self = Self::new(self.deadline, now, task);
            }
        }
        woken
    }

    /// Whether the time is up, and the task that began to wait still waits.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.poll_timer().is_pending() {
            return false;
        }
        let answers = is_prompt(self.timer.deadline(), now);
        if self.is_asked && answers {
            return true;
        }
        let next = if self.is_asked {
            Duration::ZERO
        } else if answers || self.is_second {
            self.is_asked = true;
            self.deadline.saturating_sub(now - self.began)
        } else {
            // The wait was given up, and this poll is another request's.
            (self.began, self.is_second) = (now, true);
            self.deadline.saturating_sub(STEP)
        };
        self.timer.set(sleep(next));
        if self.poll_timer().is_ready() {
            self.waker.wake_by_ref();
        }
        false
    }

    fn poll_timer(&mut self) -> Poll<()> {
        self.timer.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

/// Whether a poll at `now` answers a wake at `woken`.
fn is_prompt(woken: Instant, now: Instant) -> bool {
    now.saturating_duration_since(woken) <= PROMPT
}

impl Bell {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let now = Instant::now();
        let mut rung = self.rung();
        rung.at.get_or_insert(now);
        let task = rung.task.clone();
        // Not under the lock: a waker may run the task at once.
        drop(rung);
        task.wake();
    }
}
