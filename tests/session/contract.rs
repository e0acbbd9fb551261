//! The rules for every store, in one suite for all stores.

pub(crate) mod model;
mod stores;

use std::{collections::HashMap, time::Duration};

use futures_util::future::{join, join_all};
use tower_outbound::session::{
    Applied, Contents, Record, SessionKey, SessionStore, StoreKey, TOMBSTONES_KEPT, Version,
};

use self::model::{Model, Random, sorted};

const LONG: Duration = Duration::from_secs(3_600);

/// The connections of several replicas to one store.
pub(crate) struct Replicas<S>(pub(crate) Vec<S>);

pub(crate) fn key(tenant: impl AsRef<[u8]>, site: &str) -> StoreKey {
    StoreKey::new(SessionKey::new(tenant.as_ref()), site)
}

pub(crate) fn set(field: impl AsRef<[u8]>, stamp: u64, body: impl AsRef<[u8]>) -> Record {
    Record { field: field.as_ref().into(), stamp, body: Some(body.as_ref().into()) }
}

pub(crate) fn deleted(field: impl AsRef<[u8]>, stamp: u64) -> Record {
    Record { field: field.as_ref().into(), stamp, body: None }
}

pub(crate) fn merged(applied: Applied) -> Contents {
    match applied {
        Applied::Merged(contents) => contents,
        Applied::Clean(version) => panic!("nobody else changed it: {version:?}"),
    }
}

pub(crate) fn clean(applied: Applied) -> Version {
    match applied {
        Applied::Clean(version) => version,
        Applied::Merged(contents) => panic!("others changed it: {contents:?}"),
    }
}

/// What [`SessionStore`] says, sentence by sentence.
pub(crate) async fn holds<S>(replicas: &Replicas<S>)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let (store, other) = (&replicas.0[0], &replicas.0[1]);
    a_greater_stamp_wins(store, other).await;
    any_bytes_come_back_and_stay_apart(store, other).await;
    a_forgotten_session_is_gone(store, other).await;
    old_tombstones_go_and_young_ones_stay(store).await;
    a_key_is_kept_for_its_time_and_no_longer(store).await;
    nobody_sees_half_a_change(replicas).await;
}

async fn a_greater_stamp_wins<S>(store: &S, other: &S)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let key = key("stamps", "example.com");
    let none = Version::default();
    let now = model::now();
    assert_eq!(store.load(&key).await.unwrap(), Contents::default());
    assert_eq!(store.version(&key).await.unwrap(), none);
    // Nothing to store: the key is still not written.
    assert_eq!(clean(store.apply(&key, &none, &[], LONG).await.unwrap()), none);

    let first = [set("a", now, "1"), set("b", now, "1")];
    let one = clean(store.apply(&key, &none, &first, LONG).await.unwrap());
    assert_ne!(one, none);
    assert_eq!(store.version(&key).await.unwrap(), one);
    assert_eq!(other.version(&key).await.unwrap(), one);

    // Applying twice has the effect of once. A caller with an older version gets everything.
    let again = merged(store.apply(&key, &none, &first, LONG).await.unwrap());
    assert_eq!((&again.version, sorted(again.records)), (&one, sorted(first.clone())));

    // Equal and smaller stamps change nothing, for cookies and for tombstones.
    let late = [set("a", now, "2"), deleted("a", now), set("b", now - 1, "0"), deleted("b", 0)];
    assert_eq!(clean(other.apply(&key, &one, &late, LONG).await.unwrap()), one);

    // Some stamps are greater and some not, and one field occurs twice. The greatest stays.
    let mixed = [
        deleted("a", now + 1),
        set("b", now - 1, "0"),
        set("c", now + 5, "5"),
        set("c", now + 4, "4"),
    ];
    let two = clean(other.apply(&key, &one, &mixed, LONG).await.unwrap());
    assert_ne!(two, one);
    let all = sorted([deleted("a", now + 1), set("b", now, "1"), set("c", now + 5, "5")]);
    let loaded = store.load(&key).await.unwrap();
    assert_eq!((loaded.version, sorted(loaded.records)), (two.clone(), all));

    // A late write does not restore a deleted cookie. A new one does.
    assert_eq!(clean(store.apply(&key, &two, &first, LONG).await.unwrap()), two);
    let back = [set("a", now + 2, "3")];
    clean(store.apply(&key, &two, &back, LONG).await.unwrap());
    let records = store.load(&key).await.unwrap().records;
    assert!(records.contains(&back[0]), "{records:?}");
}

async fn any_bytes_come_back_and_stay_apart<S>(store: &S, other: &S)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let long = vec![b'x'; 1_024];
    let tenants: &[&[u8]] = &[
        b"",
        b"%",
        b"a",
        b"A",
        b"a}:b",
        b"x {ann}",
        b"../x",
        b".",
        b"\0\xff\r\n",
        b"a_41",
        &long,
        &long[1..],
        "b\u{fc}cher".as_bytes(),
        "bu\u{308}cher".as_bytes(),
    ];
    let sites = ["example.com", "example.org", "[::1]", "b"];
    let keys = || tenants.iter().flat_map(|tenant| sites.map(|site| (*tenant, site)));
    let stamp = model::now();
    let record = |tenant: &[u8], site: &str| {
        let big = vec![0xa5; 70_000];
        let own = [tenant, site.as_bytes()].concat();
        [set("", stamp, own), set("v", stamp, ""), set(b"\0\xff\r\n", stamp, big)]
    };
    for (tenant, site) in keys() {
        let key = key(tenant, site);
        clean(store.apply(&key, &Version::default(), &record(tenant, site), LONG).await.unwrap());
    }
    for (tenant, site) in keys() {
        let records = other.load(&key(tenant, site)).await.unwrap().records;
        assert!(sorted(records) == sorted(record(tenant, site)), "{tenant:?} {site}");
    }
}

async fn a_forgotten_session_is_gone<S>(store: &S, other: &S)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let keys =
        [key("gone", "a.com"), key("gone", "b.com"), key("gon", "a.com"), key("gonee", "a.com")];
    for key in &keys {
        let records = [set("a", model::now(), "1"), deleted("b", model::now())];
        clean(store.apply(key, &Version::default(), &records, LONG).await.unwrap());
    }
    let before = store.version(&keys[0]).await.unwrap();
    for _ in 0..2 {
        store.forget(keys[0].tenant()).await.unwrap();
    }
    for (key, left) in keys.iter().zip([0, 0, 2, 2]) {
        assert_eq!(other.load(key).await.unwrap().records.len(), left, "{key:?}");
    }
    assert_eq!(other.version(&keys[0]).await.unwrap(), Version::default());
    // A new value is not mistaken for the old one.
    let records = [set("a", model::now(), "2")];
    let after = clean(other.apply(&keys[0], &Version::default(), &records, LONG).await.unwrap());
    assert_ne!(after, before);
}

async fn old_tombstones_go_and_young_ones_stay<S>(store: &S)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let key = key("tombstones", "example.com");
    let (now, day) = (model::now(), TOMBSTONES_KEPT.as_micros() as u64);
    let minute = 60_000_000;
    let records = [
        deleted("old", now - day - minute),
        deleted("young", now - day + minute),
        set("cookie", now - day - minute, "1"),
    ];
    store.apply(&key, &Version::default(), &records, LONG).await.unwrap();
    let more = set("more", now, "1");
    store.apply(&key, &Version::default(), std::slice::from_ref(&more), LONG).await.unwrap();
    let left = store.load(&key).await.unwrap().records;
    let mut expected = vec![records[1].clone(), records[2].clone(), more];
    // A store may keep it for longer.
    expected.extend(left.iter().find(|record| **record == records[0]).cloned());
    assert_eq!(sorted(left), sorted(expected));
}

async fn a_key_is_kept_for_its_time_and_no_longer<S>(store: &S)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let (brief, lasting) = (key("time", "brief.com"), key("time", "lasting.com"));
    let record = [set("a", model::now(), "1")];
    let known =
        clean(store.apply(&lasting, &Version::default(), &record, Duration::MAX).await.unwrap());
    let known_brief = clean(
        store.apply(&brief, &Version::default(), &record, Duration::from_millis(1)).await.unwrap(),
    );
    // The last call counts, also one that stores nothing.
    assert_eq!(clean(store.apply(&lasting, &known, &record, LONG).await.unwrap()), known);
    while store.version(&brief).await.unwrap() != Version::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(store.load(&brief).await.unwrap(), Contents::default());
    assert_eq!(store.load(&lasting).await.unwrap().records, record);
    let answer = store.apply(&brief, &known_brief, &record, LONG).await.unwrap();
    assert_eq!(merged(answer).records, record);
}

/// Each change sets all fields to one stamp, so each load must return one stamp.
async fn nobody_sees_half_a_change<S>(replicas: &Replicas<S>)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    let key = key("halves", "example.com");
    let fields = ["a", "b", "c", "d"];
    let one_stamp = |contents: &Contents| {
        let mut stamps = contents.records.iter().map(|record| record.stamp);
        let first = stamps.next();
        contents.records.is_empty()
            || (contents.records.len() == fields.len() && stamps.all(|stamp| Some(stamp) == first))
    };
    for round in 0..40_u64 {
        let changes = replicas.0.iter().enumerate().map(|(replica, store)| {
            let (key, stamp) = (&key, model::now() + round * 10 + replica as u64);
            async move {
                let records = fields.map(|field| set(field, stamp, stamp.to_string()));
                store.apply(key, &Version::default(), &records, LONG).await.unwrap()
            }
        });
        let looks = replicas.0.iter().map(|store| store.load(&key));
        let (changes, looks) = join(join_all(changes), join_all(looks)).await;
        let seen = looks.into_iter().map(Result::unwrap);
        let told = changes.into_iter().filter_map(|applied| match applied {
            Applied::Merged(contents) => Some(contents),
            Applied::Clean(_) => None,
        });
        for contents in seen.chain(told) {
            assert!(one_stamp(&contents), "{contents:?}");
        }
    }
}

/// Stories of changes that arrive in any order, twice, and at once from several replicas. At the
/// end the store has what the model has, and two different contents never had one version.
pub(crate) async fn commutes<S>(replicas: &Replicas<S>, seeds: std::ops::Range<u64>)
where
    S: SessionStore<Error: std::fmt::Debug>,
{
    for seed in seeds {
        let mut random = Random(seed);
        let key = key(format!("story-{seed}"), "example.com");
        let (mut model, mut seen) = (Model::default(), HashMap::new());
        let changes = model::changes(&mut random);
        let mut sent: Vec<_> = changes.iter().collect();
        // Some arrive twice, and all in random order.
        sent.extend(changes.iter().filter(|_| random.below(3) == 0));
        random.shuffle(&mut sent);
        let mut known = vec![Version::default(); replicas.0.len()];
        while !sent.is_empty() {
            let at_once = (1 + random.below(replicas.0.len())).min(sent.len());
            let calls: Vec<_> = sent
                .drain(..at_once)
                .map(|records| (random.below(replicas.0.len()), records))
                .collect();
            let answers = join_all(calls.iter().map(|(replica, records)| {
                replicas.0[*replica].apply(&key, &known[*replica], records, LONG)
            }));
            for ((replica, records), answer) in calls.iter().zip(answers.await) {
                model.apply(records);
                match answer.unwrap() {
                    Applied::Clean(version) => known[*replica] = version,
                    Applied::Merged(contents) => {
                        known[*replica] = contents.version.clone();
                        for record in *records {
                            let held =
                                contents.records.iter().find(|held| held.field == record.field);
                            assert!(
                                held.is_some_and(|held| held.stamp >= record.stamp),
                                "seed {seed}"
                            );
                        }
                        one_version_is_one_state(&mut seen, contents, seed);
                    }
                }
            }
            let replica = random.below(replicas.0.len());
            let loaded = replicas.0[replica].load(&key).await.unwrap();
            assert_eq!(sorted(loaded.records.clone()), model.records(), "seed {seed}");
            assert_eq!(replicas.0[0].version(&key).await.unwrap(), loaded.version, "seed {seed}");
            // A replica that has loaded is not told what it knows.
            let answer = replicas.0[replica]
                .apply(&key, &loaded.version, &changes[0][..0], LONG)
                .await
                .unwrap();
            assert_eq!(clean(answer), loaded.version, "seed {seed}");
            one_version_is_one_state(&mut seen, loaded, seed);
        }
    }
}

fn one_version_is_one_state(
    seen: &mut HashMap<Version, Vec<Record>>,
    contents: Contents,
    seed: u64,
) {
    let records = sorted(contents.records);
    let before = seen.entry(contents.version).or_insert_with(|| records.clone());
    assert_eq!(*before, records, "seed {seed}");
}
