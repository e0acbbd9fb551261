//! A jar as one of several that share their cookies: what it tells the others, and what it takes
//! from them.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use hashbrown::hash_table::Entry;
use http::Uri;

use super::{
    CookieJar, Shared,
    bucket::{Bucket, Tally},
    limits::CookieLimits,
    log::{Change, Log, Reader, Stamp, to_stamp},
    slot::{Incoming, Keep, Slot},
    store::Store,
};
use crate::cookie::{
    model::data::Millis, model::id::CookieId, model::origin::Origin, model::rules,
    model::suffix::PublicSuffixes,
};

impl CookieJar {
    /// The changes since this was last called, in the order in which the jar made them, and at most
    /// one for each cookie: its latest. Empty for a jar [without a
    /// log](crate::cookie::CookieJarBuilder::log_changes).
    ///
    /// A cookie that a response or a caller deletes is a change, even if this jar never had it. A
    /// cookie that expires or that a limit evicts is not: others may still have it.
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

    /// Makes each change from now on later than `at`, whatever the clock says: what was seen of
    /// another jar came before it. Does nothing in a jar without a log.
    pub fn seen(&self, at: SystemTime) {
        self.seen_stamp(to_stamp(at));
    }

    pub(in crate::cookie) fn seen_stamp(&self, at: Stamp) {
        if let Some(log) = self.shared.store.log() {
            log.seen(at);
        }
    }

    /// The site that the cookies of a URI's host belong to: the registrable domain, or the host if
    /// it has none. `None` if the URI has no host.
    ///
    /// A request is sent cookies of its own site alone, and a response sets no others.
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

    /// Makes the cookies of a site those of a store that several jars share, at one moment for
    /// every request. The log does not hold this.
    ///
    /// `contents` is all that the store has of the site. A cookie that the store lacks or has
    /// deleted is removed. A cookie whose change in [this jar's log](Self::take_changes) is not
    /// earlier than the store's is spared: it is as this jar has it, and the change is still to
    /// be taken. If the store's is later, the change is dropped from the log. Cookies of other
    /// sites, expired ones and ones that the rules refuse are left out.
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
        let (settings, now) = (&self.shared.settings, self.now());
        let fits = |change: &Change| {
            change.cookie().is_none_or(|cookie| {
                settings.suffixes.site(cookie.domain()).key == site && self.allows(cookie)
            })
        };
        let contents: Vec<_> = contents.into_iter().filter(fits).collect();
        self.shared.store.load(site, contents, &settings.suffixes, &settings.limits, now);
    }

    /// The log, which is switched on if it is not.
    pub(super) fn log(&self) -> &Log {
        let Shared { store, settings } = &*self.shared;
        store.log_or(|| Log::new(settings.clock, settings.limits))
    }

    /// Every change from now on, for a file.
    pub(in crate::cookie) fn listen(&self) -> Listener {
        Listener { reader: self.log().add_file(), shared: Arc::clone(&self.shared) }
    }
}

/// What a file has yet to take of a jar's changes.
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

impl Store {
    /// See [`CookieJar::load_site`].
    fn load(
        &self,
        site: &str,
        contents: Vec<Change>,
        suffixes: &PublicSuffixes,
        limits: &CookieLimits,
        now: Millis,
    ) {
        let is_newer = |id: &CookieId, at| self.log().is_some_and(|log| log.is_newer(id, at));
        let times: HashMap<_, _> =
            contents.iter().map(|change| (change.id().clone(), change.stamp())).collect();
        let (key, mut tally) = (site.as_bytes(), Tally::default());
        let hash = self.hash(key);
        let mut table = self.shard(hash).write();
        // When each was last sent, which a store does not know and eviction goes by.
        let mut sent = HashMap::new();
        if let Ok(mut entry) = table.find_entry(hash, |bucket| bucket.key() == key) {
            let slots = entry.get().slots().iter().map(Slot::cookie);
            sent.extend(slots.map(|cookie| (cookie.id(), cookie.times.sent)));
            entry.get_mut().retain(&mut tally, |slot| {
                let id = CookieId::of(&slot.data().identity());
                is_newer(&id, times.get(&id).copied())
            });
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        let loaded =
            contents.into_iter().filter(|change| !is_newer(change.id(), Some(change.stamp())));
        for mut cookie in loaded.filter_map(Change::into_cookie) {
            cookie.times.expires = rules::capped(cookie.times.expires, now);
            cookie.times.sent = sent.get(&cookie.id()).copied().unwrap_or(cookie.times.sent);
            let new =
                Incoming::from_caller(suffixes.site(cookie.domain()), &cookie, Keep::Given, now);
            let has_room = limits.per_domain > 0 && new.text_len() <= limits.bytes;
            if !new.lives() || !has_room {
                continue;
            }
            let entry =
                table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
            match entry {
                Entry::Occupied(mut entry) => {
                    // What the site has no room for is left out, as what it evicts later.
                    let _ =
                        entry.get_mut().store(&new, limits.per_domain, &self.numbers, &mut tally);
                }
                Entry::Vacant(entry) => {
                    entry.insert(Bucket::new(site, self.numbers.slot(&new), &mut tally));
                }
            }
        }
        self.settle(tally);
        drop(table);
        // None of these is newer than the others, so that none is spared as the newest.
        self.evict_total(u64::MAX, now, limits);
    }
}
