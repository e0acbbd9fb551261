//! What a pool knows of one key: whether it is up to date, and what must still be written. Uses no
//! lock and no store; the time is a parameter.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    bound::Bound,
    queue::{Overlaid, Queue, Queued},
    settings::{Consistency, MOST_LAST_KNOWN, OnOutage},
};
use crate::session::{
    SessionVersion, Version,
    record::{Entry, Field, Offset},
};

/// The commands of a key run one at a time, and are numbered as they begin. The answer of a command
/// may lack a change that the store reports after the command has begun. So an answer is up to date
/// only if its command began after the last report.
#[derive(Default)]
pub(super) struct State {
    version: Version,
    is_loaded: bool,
    /// The last command that began.
    begun: u64,
    /// The last command whose answer the contents include.
    confirmed: u64,
    /// The last command that had begun when a change was reported.
    outdated: u64,
    /// When the contents were last known to equal the store's.
    good_at: Option<Instant>,
    /// When the store last failed.
    failed_at: Option<Instant>,
    /// When changes were last written.
    written_at: Option<Instant>,
    /// The clock by which stamps are read and made.
    pub(super) offset: Offset,
    pub(super) queue: Queue,
    /// The fields that the store has, as far as this replica knows.
    fields: HashSet<Field>,
    /// What the next write deletes.
    surplus: Vec<Entry>,
    /// When the driver should write. Also its place in the schedule.
    pub(super) due: Option<Instant>,
    /// Whether the session was forgotten: nothing of it is written any more.
    pub(super) is_forgotten: bool,
}

/// What a request must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// The first command whose answer is sufficient.
    number: u64,
    /// Whether the contents are known to be outdated, not only unconfirmed.
    pub(super) is_old: bool,
}

/// Whether events can be trusted, and what the request requires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) consistency: Consistency,
    /// Whether the store reports changes now.
    pub(super) is_listening: bool,
    pub(super) at_least: Option<&'a SessionVersion>,
}

/// What to write, and the version against which to write it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) known: Version,
    /// The changes.
    pub(super) entries: Vec<Entry>,
    /// Deletions of what the store has too much of.
    pub(super) surplus: Vec<Entry>,
}

/// How long after a failure of the store requests are served at once from memory.
const NOT_AGAIN: Duration = Duration::from_secs(1);

impl State {
    /// What a request must wait for. `None` if the contents are sufficient as they are.
    pub(super) fn need(&self, terms: Terms<'_>) -> Option<Need> {
        let is_current = self.is_loaded && self.confirmed > self.outdated;
        let is_told = terms.consistency == Consistency::Cached && terms.is_listening;
        // Another replica is ahead, or this one is and the caller does not know.
        let is_behind = terms.at_least.is_some_and(|version| !version.is(&self.version));
        if is_behind || !is_told {
            // A command that is running may have read before the state that the caller has seen.
            return Some(Need { number: self.begun + 1, is_old: is_behind || !is_current });
        }
        (!is_current).then_some(Need { number: self.outdated + 1, is_old: true })
    }

    pub(super) const fn has(&self, need: Need) -> bool {
        self.is_loaded && self.confirmed >= need.number
    }

    /// Whether a request may be served from memory after the store has failed.
    pub(super) fn may_serve(&self, on_outage: OnOutage, now: Instant) -> bool {
        let OnOutage::LastKnown(longest) = on_outage else { return false };
        let age = self.good_at.map(|at| now.saturating_duration_since(at));
        self.is_loaded && age.is_some_and(|age| age <= longest.min(MOST_LAST_KNOWN))
    }

    /// Whether the store has failed so recently that waiting for it is useless.
    pub(super) fn has_just_failed(&self, now: Instant) -> bool {
        self.failed_at.is_some_and(|at| now.saturating_duration_since(at) < NOT_AGAIN)
    }

    pub(super) const fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    pub(super) const fn known(&self) -> Option<&Version> {
        if self.is_loaded { Some(&self.version) } else { None }
    }

    /// The answer to that command shows that the contents equal the store's.
    pub(super) const fn confirm(&mut self, number: u64, now: Instant) {
        self.confirmed = number;
        self.good_at = Some(now);
        self.failed_at = None;
    }

    pub(super) const fn fail(&mut self, now: Instant) {
        self.failed_at = Some(now);
    }

    /// The stored contents cannot be read, so there is nothing to serve.
    pub(super) fn unload(&mut self) {
        self.is_loaded = false;
        self.version = Version::default();
    }

    /// Others have changed the key, or may have.
    pub(super) fn invalidate(&mut self, now: Instant) {
        if self.confirmed > self.outdated {
            // It was right until now.
            self.good_at = Some(now);
        }
        self.outdated = self.begun;
    }

    /// Applies the store's contents, from the answer to that command. Returns what the jar must
    /// hold.
    pub(super) fn put_away(
        &mut self,
        number: u64,
        version: Version,
        contents: Vec<Entry>,
        times: (Instant, SystemTime),
        bound: Bound,
    ) -> Overlaid {
        self.fields = contents.iter().map(Entry::field).collect();
        self.surplus = bound.surplus(&contents, times.1);
        self.version = version;
        self.is_loaded = true;
        self.confirm(number, times.0);
        self.queue.over(contents)
    }

    /// When the changes are to be written: now, or later if only expiries have moved.
    pub(super) fn write_at(&self, now: Instant, refresh: Duration) -> Option<Instant> {
        if self.queue.is_empty() {
            return None;
        }
        let next = self.written_at.and_then(|at| at.checked_add(refresh));
        Some(next.filter(|_| !self.queue.is_urgent()).map_or(now, |next| next.max(now)))
    }

    /// What must be known before changes are written: that a cookie whose expiry has moved still
    /// exists.
    pub(super) fn need_to_write(&self, is_listening: bool) -> Option<Need> {
        let is_current = self.confirmed > self.outdated;
        let is_sure = is_current && is_listening;
        let must_look = self.is_loaded && !is_sure && self.queue.moves_expiries();
        must_look.then_some(Need { number: self.begun + 1, is_old: !is_current })
    }

    /// Begins a write. `None` if there is nothing to write. Also returns how many changes the store
    /// has no room for.
    pub(super) fn batch(&mut self, bound: Bound) -> (Option<Batch>, usize) {
        let queued: Vec<_> = self.queue.entries().cloned().collect();
        let (entries, left) = bound.fitting(&self.fields, queued.into_iter());
        self.queue.written(&left);
        // A change without room can only be written after the store is tidied.
        if entries.is_empty() && (left.is_empty() || self.surplus.is_empty()) {
            return (None, left.len());
        }
        let replaces =
            |entry: &Entry| !entry.from_secure && self.fields.contains(entry.id.as_bytes());
        let must_see = self.fields.len() > bound.cookies || entries.iter().any(replaces);
        // The contents must be seen to be tidied. No store makes this version, so the answer has
        // all of them.
        let known = if must_see { Version::from_bytes(b"?") } else { self.version.clone() };
        let queued: HashSet<_> = entries.iter().map(Entry::field).collect();
        let is_free = |gone: &&Entry| !queued.contains(&gone.field());
        let surplus = self.surplus.iter().filter(is_free).cloned().collect();
        (Some(Batch { number: self.begin(), known, entries, surplus }), left.len())
    }

    /// The store has a batch.
    pub(super) fn written(&mut self, now: Instant) {
        self.written_at = Some(now);
        self.surplus.clear();
    }

    /// The store has a batch, and nothing that this replica does not know.
    pub(super) fn written_alone(&mut self, batch: &Batch, version: Version, now: Instant) {
        self.fields.extend(batch.entries.iter().map(Entry::field));
        self.version = version;
        // A key that was never loaded stays so: its jar is empty.
        if self.is_loaded {
            self.confirm(batch.number, now);
        }
    }

    /// The version for a response: this one if it includes all that the response changed.
    pub(super) fn seen(&self) -> SessionVersion {
        if self.is_loaded && !self.queue.is_urgent() {
            SessionVersion::seen(&self.version)
        } else {
            SessionVersion::ask()
        }
    }

    pub(super) fn forget(&mut self) {
        self.is_forgotten = true;
        self.queue.clear();
        self.surplus.clear();
    }

    pub(super) fn push(&mut self, queued: Queued, bound: Bound) -> Option<Queued> {
        if self.is_forgotten { None } else { self.queue.push(queued, bound.all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a key, in order. `Begin` and `Answer` are those of a load.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin,
        Answer,
        Changed,
    }

    use Step::{Answer, Begin, Changed};

    fn after(steps: &[Step]) -> State {
        let (mut state, mut begun) = (State::default(), 0);
        let bound = Bound { cookies: 9, all: 9 };
        for step in steps {
            match step {
                Begin => begun = state.begin(),
                Answer => {
                    let times = (Instant::now(), SystemTime::now());
                    let version = Version::from_bytes(b"v");
                    state.put_away(begun, version, Vec::new(), times, bound);
                }
                Changed => state.invalidate(Instant::now()),
            }
        }
        state
    }

    #[test]
    fn a_session_is_looked_at_again_if_a_change_was_told_since_its_load_began() {
        let (load, check) = (Some(true), Some(false));
        let here = SessionVersion::seen(&Version::from_bytes(b"v"));
        let elsewhere = SessionVersion::seen(&Version::from_bytes(b"w"));
        let (cached, validated) = (Consistency::Cached, Consistency::Validated);
        // What happened, the terms, and whether to load, to check the version, or neither.
        let rows: &[(&[Step], Consistency, bool, Option<&SessionVersion>, Option<bool>)] = &[
            (&[], cached, true, None, load),
            (&[Begin], cached, true, None, load),
            (&[Begin, Answer], cached, true, None, None),
            (&[Changed, Begin, Answer], cached, true, None, None),
            // It may lack the change: it was told before the answer was read.
            (&[Begin, Changed, Answer], cached, true, None, load),
            (&[Begin, Answer, Changed], cached, true, None, load),
            (&[Begin, Answer, Changed, Begin, Answer], cached, true, None, None),
            (&[Begin, Answer, Changed, Begin, Changed, Answer], cached, true, None, load),
            // Nobody tells of changes, or nobody is trusted to.
            (&[Begin, Answer], cached, false, None, check),
            (&[Begin, Answer], validated, true, None, check),
            (&[Begin, Answer, Changed], validated, true, None, load),
            (&[Begin, Answer], cached, true, Some(&here), None),
            (&[Begin, Answer], cached, true, Some(&elsewhere), load),
            (&[Begin, Answer], cached, true, Some(&SessionVersion::ask()), load),
            (&[Begin, Answer], validated, true, Some(&here), check),
        ];
        for (steps, consistency, is_listening, at_least, want) in rows {
            let (consistency, is_listening) = (*consistency, *is_listening);
            let terms = Terms { consistency, is_listening, at_least: *at_least };
            let got = after(steps).need(terms).map(|need| need.is_old);
            assert_eq!(got, *want, "{steps:?} {terms:?}");
        }
    }

    #[test]
    fn an_answer_is_good_for_those_who_asked_before_its_command_began() {
        let terms =
            Terms { consistency: Consistency::Validated, is_listening: true, at_least: None };
        let mut state = after(&[Begin, Answer]);
        let early = state.need(terms).unwrap();
        let number = state.begin();
        let late = state.need(terms).unwrap();
        state.confirm(number, Instant::now());
        assert!(state.has(early) && !state.has(late));
    }
}
