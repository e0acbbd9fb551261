//! A jar that shares its cookies with others: what it tells them, and what it takes from them.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use hashbrown::hash_table::Entry;
use http::Uri;

use super::{
    CookieJar, Shared,
    bucket::{Bucket, Tally},
    change::{Change, Stamp, to_stamp},
    limits::CookieLimits,
    log::{Log, Reader},
    replay::replay,
    settings::Settings,
    slot::{Incoming, Keep, Slot},
    store::Store,
};
use crate::cookie::model::{
    cookie::Cookie, id::CookieId, origin::Origin, rules, suffix::PublicSuffixes,
};

impl CookieJar {
    /// Takes the changes since the last call, in the order in which the jar made them. Each cookie
    /// has at most one: its latest. Empty for a jar [without a
    /// log](crate::cookie::CookieJarBuilder::log_changes).
    ///
    /// A cookie that a response or a caller deletes is a change, even if this jar never had it. A
    /// cookie that expires or is evicted is not a change: others may still have it.
    ///
    /// ```
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let jar = CookieJar::builder().log_changes().build();
    /// let uri = "https://example.com/".parse()?;
    /// jar.set(&uri, "id=1")?;
    /// jar.set(&uri, "id=2")?;
    /// jar.set(&uri, "other=; Max-Age=0")?;
    ///
    /// let changes = jar.take_changes();
    /// assert_eq!(changes.len(), 2);
    /// assert_eq!(changes[0].cookie().expect("it was set").value(), "2");
    /// assert!(changes[1].cookie().is_none());
    /// assert!(jar.take_changes().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the log does not hold them any more"]
    pub fn take_changes(&self) -> Vec<Change> {
        self.shared.store.log().map(|log| log.take(Reader::Own)).unwrap_or_default()
    }

    /// Makes every later change of this jar have a time after `at`, whatever the clock says. Call
    /// it with times that came from another jar. Does nothing in a jar without a log.
    pub fn seen(&self, at: SystemTime) {
        self.seen_stamp(to_stamp(at));
    }

    pub(in crate::cookie) fn seen_stamp(&self, at: Stamp) {
        if let Some(log) = self.shared.store.log() {
            log.seen(at);
        }
    }

    /// The site of a URI: the registrable domain of its host, or the host if it has none. `None` if
    /// the URI has no host.
    ///
    /// A request sends only cookies of its own site, and its response sets only those.
    ///
    /// ```
    /// let jar = tower_outbound::cookie::CookieJar::new();
    /// let site = jar.site_of(&"https://www.example.co.uk/login".parse()?);
    /// assert_eq!(site.as_deref(), Some("example.co.uk"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn site_of(&self, uri: &Uri) -> Option<String> {
        let origin = Origin::of(uri)?;
        Some(self.shared.settings.suffixes.site(&origin.host).key.to_owned())
    }

    /// Replaces the cookies of one site by those of a store that several jars share. Every request
    /// sees all of the change or nothing. The log does not record it.
    ///
    /// `contents` is everything that the store has of the site. A cookie that the store lacks or
    /// has deleted is removed, unless the log has a change that applies. Cookies of other sites,
    /// expired cookies and those that the rules reject are left out.
    ///
    /// If [this jar's log](Self::take_changes) has a change of the same cookie, the later of the
    /// two applies, and the jar's at equal times. A jar's change that applies stays in the log.
    /// Otherwise it is dropped from the log.
    ///
    /// A change [by an origin that is not secure](Change::from_secure) yields to a `Secure` cookie
    /// on either side. If it is in the log, it is dropped. If it is in the store, it is left out. A
    /// store may have two changes of one cookie, one of each kind of origin.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_outbound::cookie::{Change, Cookie, CookieJar};
    ///
    /// let jar = CookieJar::builder().log_changes().build();
    /// let uri = "https://example.com/".parse()?;
    /// let cookie = Cookie::builder("id", "1").domain("example.com").host_only(true).build()?;
    /// jar.load_site("example.com", [Change::set(cookie, SystemTime::now())]);
    /// assert_eq!(jar.header(&uri).expect("it was loaded"), "id=1");
    ///
    /// jar.set(&uri, "new=2")?;
    /// jar.load_site("example.com", []); // nothing is left in the store, and `new` is newer
    /// assert_eq!(jar.header(&uri).expect("one is spared"), "new=2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_site(&self, site: &str, contents: impl IntoIterator<Item = Change>) {
        let settings = &self.shared.settings;
        let fits = |change: &Change| {
            change.cookie().is_none_or(|cookie| {
                settings.suffixes.site(cookie.domain()).key == site && self.allows(cookie)
            })
        };
        let contents: Vec<_> = contents.into_iter().filter(fits).collect();
        self.update_site(site, |slots| {
            let ours = self.shared.store.log().map(|log| log.own_of(site)).unwrap_or_default();
            let has = |id: &CookieId| {
                let held = slots.iter().find(|slot| slot.data().has_identity(&id.identity()));
                held.is_some_and(|slot| slot.data().flags.secure)
            };
            let outcome = replay(&contents, &ours, has, &settings.suffixes);
            let mut plan = Plan::default();
            let mut stays = HashSet::new();
            for change in &ours {
                let last = outcome.last.get(change.id()).filter(|last| last.is_ours);
                let last = last.map(|last| last.change);
                if last.is_some_and(|last| last.stamp() == change.stamp()) {
                    stays.insert(change.id());
                    continue;
                }
                // It was refused, or it is older: what it replaced applies, or nothing of ours.
                plan.comes.extend(last.and_then(Change::cookie).cloned());
                if let Some(log) = self.shared.store.log() {
                    log.correct_own(change, last.cloned());
                }
            }
            // In the order of the store, which is the order of creation within a millisecond.
            let holds = |change: &&Change| {
                outcome.last.get(change.id()).is_some_and(|last| std::ptr::eq(last.change, *change))
            };
            let theirs = contents.iter().filter(holds);
            plan.comes.extend(theirs.filter_map(Change::cookie).cloned());
            let ids = slots.iter().map(|slot| CookieId::of(&slot.data().identity()));
            plan.goes.extend(ids.filter(|id| !stays.contains(id)));
            plan
        });
    }

    /// Puts changes of a file into the jar. Its own listener is not told of them. Other listeners
    /// are told, with the time at which the change was made. A cookie that the jar changed after
    /// the time next to a change is spared.
    pub(in crate::cookie) fn take_in(&self, listener: &Listener, changes: &[(Change, Stamp)]) {
        let suffixes = self.suffixes();
        // In the order of the file, over all sites. It is the order of creation.
        for changes in changes.chunk_by(|(one, _), (next, _)| {
            suffixes.site(one.id().domain()).key == suffixes.site(next.id().domain()).key
        }) {
            let site = suffixes.site(changes[0].0.id().domain()).key;
            self.update_site(site, |slots| {
                let mut plan = Plan::default();
                for (change, at) in changes {
                    let (id, at) = (change.id(), *at);
                    let log = listener.log();
                    let is_spared = log.is_some_and(|log| log.has_later(listener.reader, id, at));
                    // A state that the jar already has is no change.
                    let held = slots.iter().find(|slot| slot.data().has_identity(&id.identity()));
                    let is_known = match (held, change.cookie()) {
                        (Some(held), Some(cookie)) => held.cookie().is_same_state(cookie),
                        (held, cookie) => held.is_none() && cookie.is_none(),
                    };
                    if is_spared || is_known {
                        continue;
                    }
                    if let Some(log) = log {
                        log.tell_others(listener.reader, change);
                    }
                    match change.cookie() {
                        Some(cookie) => plan.comes.push(cookie.clone()),
                        None => _ = plan.goes.insert(id.clone()),
                    }
                }
                plan
            });
        }
    }

    /// Changes the cookies of a site as one step, without the log. `plan` runs under the site's
    /// lock.
    fn update_site(&self, site: &str, plan: impl FnOnce(&[Slot]) -> Plan) {
        let Settings { suffixes, limits, .. } = &self.shared.settings;
        let now = self.now();
        self.shared.store.update_site(
            site,
            plan,
            |cookie| {
                cookie.times.expires = rules::capped(cookie.times.expires, now);
                Incoming::from_caller(suffixes.site(cookie.domain()), cookie, Keep::Given, now)
            },
            limits,
        );
        // None of these is newer than the others, so none is spared as the newest.
        self.shared.store.evict_total(u64::MAX, now, limits);
    }

    pub(in crate::cookie) fn suffixes(&self) -> &PublicSuffixes {
        &self.shared.settings.suffixes
    }

    pub(in crate::cookie) fn limits(&self) -> &CookieLimits {
        &self.shared.settings.limits
    }

    /// The log, which is created if there is none.
    pub(super) fn log(&self) -> &Log {
        let Shared { store, settings } = &*self.shared;
        let suffixes = || Arc::clone(&settings.suffixes);
        store.log_or(|| Log::new(settings.clock, settings.limits, suffixes()))
    }

    /// Every change from now on, for a file.
    pub(in crate::cookie) fn listen(&self) -> Listener {
        Listener { reader: self.log().add_file(), shared: Arc::clone(&self.shared) }
    }
}

/// The changes of a jar that a file has not taken yet.
pub(in crate::cookie) struct Listener {
    shared: Arc<Shared>,
    reader: Reader,
}

impl Listener {
    fn log(&self) -> Option<&Log> {
        self.shared.store.log()
    }

    pub(in crate::cookie) fn take(&self) -> Vec<Change> {
        self.log().map(|log| log.take(self.reader)).unwrap_or_default()
    }

    /// Gives back changes that could not be saved.
    pub(in crate::cookie) fn put_back(&self, changes: Vec<Change>) {
        if let Some(log) = self.log() {
            log.put_back(self.reader, changes);
        }
    }

    pub(in crate::cookie) fn is_pending(&self) -> bool {
        self.log().is_some_and(|log| log.is_pending(self.reader))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(log) = self.log() {
            log.end(self.reader);
        }
    }
}

/// What to add to the cookies of a site, and what to remove.
#[derive(Default)]
struct Plan {
    goes: HashSet<CookieId>,
    comes: Vec<Cookie>,
}

impl Store {
    fn update_site(
        &self,
        site: &str,
        plan: impl FnOnce(&[Slot]) -> Plan,
        incoming: impl for<'a> Fn(&'a mut Cookie) -> Incoming<'a>,
        limits: &CookieLimits,
    ) {
        let (key, mut tally) = (site.as_bytes(), Tally::default());
        let hash = self.hash(key);
        let mut table = self.shard(hash).write();
        let found = table.find_entry(hash, |bucket| bucket.key() == key).ok();
        let slots = found.as_ref().map_or(&[][..], |entry| entry.get().slots());
        let Plan { goes, mut comes } = plan(slots);
        // When each cookie was last sent: a store does not know it, and eviction needs it.
        for cookie in &mut comes {
            let held = slots.iter().find(|slot| slot.data().same_identity(&cookie.data));
            let sent = held.map_or(0, |held| held.cookie().times.sent);
            cookie.times.sent = cookie.times.sent.max(sent);
        }
        if let Some(mut entry) = found
            && !goes.is_empty()
        {
            entry
                .get_mut()
                .retain(&mut tally, |slot| !goes.contains(&CookieId::of(&slot.data().identity())));
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        for mut cookie in comes {
            let new = incoming(&mut cookie);
            let has_room =
                limits.per_domain > 0 && limits.total > 0 && new.text_len() <= limits.bytes;
            if !has_room {
                continue;
            }
            let entry =
                table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
            match entry {
                Entry::Occupied(mut entry) => {
                    // A cookie that the site has no room for is left out, like one that is evicted
                    // later.
                    let _ =
                        entry.get_mut().store(&new, limits.per_domain, &self.numbers, &mut tally);
                    if entry.get().is_empty() {
                        entry.remove();
                    }
                }
                Entry::Vacant(entry) if new.lives() => {
                    entry.insert(Bucket::new(new.site(), self.numbers.slot(&new), &mut tally));
                }
                Entry::Vacant(_) => {}
            }
        }
        self.settle(tally);
    }
}
