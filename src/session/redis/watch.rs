//! What is known of the server: whether it is connected, which server it is, and what it has
//! reported.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use redis::{PushKind, Value};
use tokio::sync::Notify;

use super::name;
use crate::session::Event;

/// Most events that wait for a listener. Above it the listener is told that any key may have
/// changed.
const MOST: usize = 10_000;

/// Clock offsets that differ by less count as equal: a busy machine measures no better.
const SAME_CLOCK: u64 = 50_000;

/// Shared by all connections of a store.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    /// Notified when a connection was lost and another must be made.
    pub(super) lost: Notify,
}

#[derive(Default)]
struct State {
    /// How many times a connection was lost. What an older connection reports no longer counts.
    epoch: u64,
    /// How far the server's clock is ahead, in microseconds. `None` while there is no connection.
    offset: Option<i64>,
    /// The servers to which there was a connection.
    known: Vec<String>,
    /// Whether there is a new server that the listener does not know of.
    replaced: bool,
    listening: bool,
    /// How many have listened. The last one is the listener.
    listeners: u64,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// Most servers that are remembered: each promotion adds one.
const MOST_KNOWN: usize = 64;

impl State {
    fn tell(&mut self, event: Event) {
        if !self.listening {
            return;
        }
        if self.events.len() >= MOST {
            self.events.retain(|event| !matches!(event, Event::Changed(_) | Event::AllChanged));
            self.events.push_back(Event::AllChanged);
        }
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn tell_back(&mut self, offset: i64) {
        if self.listening {
            let same_server = !std::mem::take(&mut self.replaced);
            self.tell(Event::Back { same_server, offset });
        }
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when a connection is lost, which ends all others.
    pub(super) fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Notes that a connection of this epoch is made. False if another was lost meanwhile: the
    /// connection then does not count.
    pub(super) fn connected(&self, epoch: u64, server: &str, offset: i64) -> bool {
        let mut state = self.state();
        if state.epoch != epoch {
            return false;
        }
        let known = state.known.iter().any(|known| known == server);
        // Before the first loss it is another node of the same cluster.
        let is_new = !known && epoch > 0 && !state.known.is_empty();
        if !known {
            if state.known.len() >= MOST_KNOWN {
                state.known.remove(0);
            }
            state.known.push(server.to_owned());
        }
        state.replaced |= is_new;
        if state.offset.is_none() || is_new {
            state.offset = Some(offset);
            state.tell_back(offset);
        }
        true
    }

    pub(super) fn lost(&self, epoch: u64) {
        let mut state = self.state();
        if state.epoch != epoch {
            return;
        }
        state.epoch += 1;
        if state.offset.take().is_some() {
            state.tell(Event::Lost);
        }
        drop(state);
        self.lost.notify_one();
    }

    /// The clocks were compared again. If one of them was set, the listener must know.
    pub(super) fn compared(&self, epoch: u64, offset: i64) {
        let mut state = self.state();
        let was = state.offset.filter(|_| state.epoch == epoch);
        if was.is_some_and(|was| was.abs_diff(offset) > SAME_CLOCK) {
            state.offset = Some(offset);
            state.tell_back(offset);
        }
    }

    /// The server said this without being asked.
    pub(super) fn pushed(&self, epoch: u64, kind: &PushKind, data: &[Value]) {
        match kind {
            PushKind::Disconnection => self.lost(epoch),
            PushKind::Invalidate => match data {
                [Value::Array(names)] => {
                    let mut state = self.state();
                    for name in names {
                        if let Value::BulkString(name) = name
                            && let Some(key) = name::read(name)
                        {
                            state.tell(Event::Changed(key));
                        }
                    }
                }
                // All keys are gone, or the server could not remember which we have.
                _ => self.state().tell(Event::AllChanged),
            },
            _ => {}
        }
    }

    /// Keeps events from now on, for a new listener with the returned number.
    pub(super) fn listen(&self) -> u64 {
        let mut state = self.state();
        state.events.clear();
        state.listening = true;
        state.listeners += 1;
        if let Some(offset) = state.offset {
            state.tell_back(offset);
        }
        state.listeners
    }

    pub(super) fn stop_listening(&self, listener: u64) {
        let mut state = self.state();
        // Another listener may begin before this one ends.
        if state.listeners != listener {
            return;
        }
        state.listening = false;
        state.events.clear();
        state.waker = None;
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.state();
        match state.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{SessionKey, StoreKey};

    fn told(watch: &Watch) -> Vec<Event> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        while let Poll::Ready(event) = watch.poll(&mut cx) {
            events.push(event);
        }
        events
    }

    fn back(same_server: bool, offset: i64) -> Event {
        Event::Back { same_server, offset }
    }

    fn invalidate(watch: &Watch, epoch: u64, name: &str) {
        let name = Value::BulkString(name.as_bytes().to_vec());
        watch.pushed(epoch, &PushKind::Invalidate, &[Value::Array(vec![name])]);
    }

    #[test]
    fn another_server_is_told_once_also_to_one_who_listens_later() {
        let watch = Watch::default();
        assert!(watch.connected(0, "a", 1));
        watch.listen();
        assert_eq!(told(&watch), [back(true, 1)]);
        watch.lost(0);
        watch.lost(0);
        assert!(watch.connected(1, "a", 2));
        assert_eq!(told(&watch), [Event::Lost, back(true, 2)]);
        watch.stop_listening(1);
        watch.lost(1);
        assert!(watch.connected(2, "b", 3));
        watch.lost(2);
        assert!(watch.connected(3, "b", 4));
        watch.listen();
        watch.stop_listening(1);
        assert_eq!(told(&watch), [back(false, 4)]);
        watch.listen();
        assert_eq!(told(&watch), [back(true, 4)]);
    }

    #[test]
    fn another_node_is_no_news_before_a_loss_and_another_server_after_it() {
        let watch = Watch::default();
        watch.listen();
        watch.connected(0, "a", 1);
        watch.connected(0, "b", 1);
        assert_eq!(told(&watch), [back(true, 1)]);
        watch.lost(0);
        watch.connected(1, "a", 1);
        watch.connected(1, "promoted", 1);
        assert_eq!(told(&watch), [Event::Lost, back(true, 1), back(false, 1)]);
    }

    #[test]
    fn what_an_older_connection_tells_counts_no_more() {
        let watch = Watch::default();
        watch.listen();
        watch.lost(0);
        assert!(!watch.connected(0, "a", 1));
        assert!(watch.connected(1, "a", 1));
        watch.pushed(0, &PushKind::Disconnection, &[]);
        watch.compared(0, 9_000_000);
        assert_eq!(told(&watch), [back(true, 1)]);
    }

    #[test]
    fn a_clock_that_was_set_is_told() {
        let watch = Watch::default();
        watch.listen();
        watch.connected(0, "a", 1);
        watch.compared(0, 10_000);
        watch.compared(0, -3_000_000);
        assert_eq!(told(&watch), [back(true, 1), back(true, -3_000_000)]);
    }

    #[test]
    fn too_many_changes_become_one_event_and_the_others_stay() {
        let watch = Watch::default();
        watch.listen();
        watch.connected(0, "a", 1);
        for _ in 0..=MOST {
            invalidate(&watch, 0, "to1:{a}:example.com");
        }
        watch.lost(0);
        let key = StoreKey::new(SessionKey::new(*b"a"), "example.com");
        let told = told(&watch);
        let rest =
            [Event::AllChanged, Event::Changed(key.clone()), Event::Changed(key), Event::Lost];
        assert_eq!((&told[0], &told[1..]), (&back(true, 1), &rest[..]));
    }

    #[test]
    fn an_invalidation_names_a_key_or_all_of_them() {
        let watch = Watch::default();
        watch.listen();
        invalidate(&watch, 0, "to1:{a%7d}:example.com");
        invalidate(&watch, 0, "to1:{a%7d}");
        invalidate(&watch, 0, "other");
        watch.pushed(0, &PushKind::Invalidate, &[Value::Nil]);
        let key = StoreKey::new(SessionKey::new(*b"a}"), "example.com");
        assert_eq!(told(&watch), [Event::Changed(key), Event::AllChanged]);
    }
}
