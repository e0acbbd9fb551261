//! Pools of jars: which jars stay, and the callbacks for those that are evicted.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_outbound::cookie::{CookieJar, CookieLimits, JarPool};

use crate::{pairs::pairs, rows};

static SECONDS: AtomicU64 = AtomicU64::new(0);
static CLOCK: Mutex<()> = Mutex::new(());

fn clock() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(SECONDS.load(Ordering::SeqCst))
}

/// A pool that records which jars it evicts.
fn pool(max_jars: usize) -> (JarPool, Arc<Mutex<Vec<String>>>) {
    let left: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&left);
    let pool = JarPool::builder()
        .max_jars(max_jars)
        .idle(Duration::from_secs(10))
        .clock(clock)
        .on_evict(move |key: &String, jar| {
            note.lock().unwrap().push(format!("{key}:{}", jar.len()));
        })
        .build();
    (pool, left)
}

#[test]
fn a_pool_keeps_the_jars_that_are_asked_for() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let (jars, left) = pool(3);
    let uri = "https://example.com/".parse().unwrap();
    for key in ["a", "b", "c"] {
        jars.get(key).set(&uri, format!("who={key}")).unwrap();
    }
    jars.get("a");
    jars.get("d");
    assert_eq!((jars.len(), left.lock().unwrap().clone()), (3, vec!["b:1".to_owned()]));
    assert_eq!(jars.get("a").header(&uri).unwrap(), "who=a");
    assert_eq!(jars.get("b").header(&uri), None, "it left, and begins anew");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:1", "c:1"]);

    SECONDS.store(9, Ordering::SeqCst);
    jars.get("a");
    SECONDS.store(10, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (2, 1));
    assert_eq!(left.lock().unwrap().as_slice(), ["b:1", "c:1", "d:0", "b:0"]);
    assert_eq!((jars.evict_all(), jars.is_empty()), (1, true));
}

#[test]
fn a_pool_by_default_keeps_a_thousand_jars_for_an_hour() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let jars: JarPool<u32> = JarPool::keyed().clock(clock).build();
    for key in 0..1_000_u32 {
        jars.get(key);
    }
    assert_eq!((jars.len(), jars.peek(&0).is_some()), (1_000, true));
    jars.get(1_000_u32);
    assert_eq!((jars.len(), jars.peek(&0).is_some()), (1_000, false));
    SECONDS.store(3_599, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (0, 1_000));
    SECONDS.store(3_600, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (1_000, 0));
    // Each of them is made with `new_jar`.
    let limits = CookieLimits::default();
    let lines = |n: usize| ("set-cookie".parse().unwrap(), format!("c{n}=1").parse().unwrap());
    let uri = "https://example.com/".parse().unwrap();
    let stored =
        jars.get(0_u32).store_response(&uri, &(0..=limits.per_response).map(lines).collect());
    assert_eq!((stored.accepted().len(), stored.rejected().len()), (limits.per_response, 1));
}

#[test]
fn a_jar_that_a_request_holds_is_passed_over() {
    let _clock = CLOCK.lock();
    SECONDS.store(100, Ordering::SeqCst);
    let (jars, left) = pool(2);
    let held = jars.get("held");
    jars.get("b");
    SECONDS.store(200, Ordering::SeqCst);
    jars.get("c");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0"]);
    jars.get("d");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0"]);
    assert!(jars.peek(&"held".to_owned()).is_some());
    // The pool is bounded even if every jar is held.
    let all: Vec<_> = (0..10).map(|n| jars.get(format!("h{n}"))).collect();
    assert_eq!(jars.len(), 2);
    assert_eq!(left.lock().unwrap().len(), 2 + 10);
    drop((held, all));
}

/// Otherwise each new key would look at every jar that is held.
#[test]
fn a_jar_that_a_request_holds_counts_as_asked_for() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let (jars, left) = pool(3);
    let held = jars.get("held");
    jars.get("b");
    jars.get("c");
    SECONDS.store(9, Ordering::SeqCst);
    jars.get("d");
    drop(held);
    SECONDS.store(18, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (1, 2));
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0"]);
    jars.get("e");
    jars.get("f");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0", "d:0"]);
}

type Callback = fn(&JarPool<u32>, &u32);

/// A pool of two jars whose callback uses the pool, and the jars that it has evicted.
fn pool_with(callback: Callback) -> (JarPool<u32>, Arc<Mutex<Vec<u32>>>) {
    let left: Arc<Mutex<Vec<u32>>> = Arc::default();
    let pool: Arc<std::sync::OnceLock<JarPool<u32>>> = Arc::default();
    let (note, inside) = (Arc::clone(&left), Arc::clone(&pool));
    let jars = JarPool::keyed().max_jars(2).on_evict(move |key, _| {
        note.lock().unwrap().push(*key);
        callback(inside.get().unwrap(), key);
    });
    (pool.get_or_init(|| jars.build()).clone(), left)
}

#[test]
fn a_callback_that_uses_the_pool_panics_and_holds_up_no_other_jar() {
    let rows: &[(&str, Callback)] = &[
        ("ask for its own key", |jars, key| drop(jars.get(*key))),
        ("ask for another", |jars, key| drop(jars.get((key + 1) % 20))),
        ("ask for one that nobody else asks for", |jars, _| drop(jars.get(99_u32))),
        ("look at its own key", |jars, key| drop(jars.peek(key))),
        ("count the jars", |jars, _| _ = jars.len()),
        ("take its own out", |jars, key| drop(jars.remove(key))),
        ("evict what is idle", |jars, _| _ = jars.evict_idle()),
        ("evict all", |jars, _| _ = jars.evict_all()),
    ];
    rows::hold(rows, |(row, callback)| {
        let (jars, left) = pool_with(*callback);
        for n in 0..20_u32 {
            let asked = std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(n)));
            if asked.is_err() != (n >= 2) || jars.len() > 2 {
                return Err(format!("{row}: {n}, {} jars", jars.len()));
            }
        }
        let all = std::panic::catch_unwind(AssertUnwindSafe(|| jars.evict_all()));
        let left = left.lock().unwrap().clone();
        if all.is_ok() || !jars.is_empty() || left.len() != 20 {
            return Err(format!("{row}: {all:?}, {left:?} left"));
        }
        Ok(())
    });
}

#[test]
fn a_new_jar_that_is_made_with_the_pool_panics_and_leaves_it_whole() {
    let pool: Arc<std::sync::OnceLock<JarPool<u32>>> = Arc::default();
    let inside = Arc::clone(&pool);
    let jars = JarPool::keyed().new_jar(move |key| match key {
        0 => inside.get().unwrap().get(1_u32),
        _ => CookieJar::new(),
    });
    let jars = pool.get_or_init(|| jars.build());
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(0_u32))).is_err());
    jars.get(2_u32);
    assert_eq!((jars.len(), jars.peek(&0).is_some(), jars.peek(&2).is_some()), (1, false, true));
}

#[test]
fn a_callback_that_panics_holds_up_no_other_jar() {
    let calls: &[(&str, fn(&JarPool<u32>))] = &[
        ("get", |jars| drop(jars.get(9_u32))),
        ("evict_idle", |jars| _ = jars.evict_idle()),
        ("evict_all", |jars| _ = jars.evict_all()),
    ];
    let _clock = CLOCK.lock();
    let bad = [vec![1], vec![1, 2], vec![2], vec![3], vec![1, 2, 3]];
    rows::hold(pairs(calls, bad), |((row, call), bad)| {
        SECONDS.store(0, Ordering::SeqCst);
        let left: Arc<Mutex<Vec<u32>>> = Arc::default();
        let (note, throws) = (Arc::clone(&left), bad.clone());
        let jars: JarPool<u32> = JarPool::keyed()
            .clock(clock)
            .idle(Duration::from_secs(10))
            .on_evict(move |key, _| {
                note.lock().unwrap().push(*key);
                assert!(!throws.contains(key), "on purpose");
            })
            .build();
        (1..4_u32).for_each(|key| drop(jars.get(key)));
        SECONDS.store(20, Ordering::SeqCst);
        let panics = std::panic::catch_unwind(AssertUnwindSafe(|| call(&jars))).is_err();
        let mut left = left.lock().unwrap().clone();
        left.sort_unstable();
        let rest = jars.len();
        // The next ones are evicted as usual.
        (4..6_u32).for_each(|key| drop(jars.get(key)));
        let later = (jars.evict_all(), jars.len());
        let stay = usize::from(*row == "get");
        let want = (true, vec![1, 2, 3], stay, (2 + stay, 0));
        (format!("{row} with {bad:?}"), (panics, left, rest, later), want)
    });
}

#[test]
fn a_pool_whose_callback_always_panics_grows_no_further() {
    let jars: JarPool<u32> =
        JarPool::keyed().max_jars(4).on_evict(|_, _| panic!("on purpose")).build();
    let panics = (0..20_u32)
        .filter(|&n| std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(n))).is_err())
        .count();
    assert_eq!((panics, jars.len()), (16, 4));
}

/// By handshakes: `a` is evicted, asked for while its callback runs, and evicted again before the
/// first callback returns.
#[test]
fn an_eviction_that_was_called_off_takes_no_later_jar_with_it() {
    use std::sync::mpsc::channel;
    let ((entered, enter), (go_on, wait)) = (channel::<u32>(), channel::<()>());
    let (entered, wait) = (Mutex::new(entered), Mutex::new(wait));
    let calls = AtomicU64::new(0);
    let jars: JarPool<u32> = JarPool::keyed()
        .max_jars(1)
        .on_evict(move |key, _| {
            if *key == 1 && calls.fetch_add(1, Ordering::SeqCst) == 0 {
                entered.lock().unwrap().send(*key).unwrap();
                wait.lock().unwrap().recv().unwrap();
            }
        })
        .build();
    let uri = "https://example.com/".parse().unwrap();
    jars.get(1_u32).set(&uri, "v=1").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| jars.get(2_u32));
        assert_eq!(enter.recv(), Ok(1));
        let rescued = jars.get(1_u32);
        rescued.set(&uri, "v=2").unwrap();
        go_on.send(()).unwrap();
    });
    assert_eq!(jars.get(1_u32).header(&uri).unwrap(), "v=2");
    assert_eq!(jars.len(), 1);
}

#[test]
fn a_pool_of_files_brings_no_logout_back() {
    use tower_outbound::cookie::{CookieFile, Format};
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().to_owned(), directory.path().to_owned());
    let jars = JarPool::builder()
        .max_jars(1)
        .new_jar(move |key: &String| {
            CookieFile::open(from.join(key), Format::Netscape).unwrap().jar().clone()
        })
        .on_evict(move |key: &String, jar| {
            CookieFile::with_jar(to.join(key), Format::Netscape, jar.clone()).overwrite().unwrap();
        })
        .build();
    let uri = "https://example.com/".parse().unwrap();
    for (line, want) in [
        ("sid=1; Max-Age=1000", Some("sid=1")),
        ("sid=; Max-Age=0", None),
        ("x=2; Max-Age=9", Some("x=2")),
    ] {
        jars.get("ann").set(&uri, line).unwrap();
        jars.get("bob");
        let header = jars.get("ann").header(&uri);
        assert_eq!(header.as_ref().map(|value| value.to_str().unwrap()), want);
    }
}

#[test]
fn many_threads_share_a_pool_and_no_tenant_sees_another() {
    let jars: JarPool<usize> = JarPool::keyed().max_jars(8).build();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let jars = jars.clone();
            scope.spawn(move || {
                let uri = "https://example.com/".parse().unwrap();
                for round in 0..500 {
                    let key = (thread * 7 + round) % 16;
                    let jar = jars.get(key);
                    if let Some(header) = jar.header(&uri) {
                        assert_eq!(header, format!("who={key}"));
                    }
                    jar.set(&uri, format!("who={key}")).unwrap();
                }
            });
        }
    });
    assert!(jars.len() <= 8, "{}", jars.len());
}

#[test]
fn a_key_that_many_ask_for_at_once_has_one_jar_made_once() {
    let (made, start) = (Arc::new(AtomicU64::new(0)), std::sync::Barrier::new(8));
    let counted = Arc::clone(&made);
    let jars: JarPool<u32> = JarPool::keyed()
        .new_jar(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            CookieJar::new()
        })
        .build();
    let uri = "https://example.com/".parse().unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (jars, start, uri) = (&jars, &start, &uri);
            scope.spawn(move || {
                start.wait();
                jars.get(1_u32).set(uri, format!("c{n}=1")).unwrap();
            });
        }
    });
    assert_eq!((made.load(Ordering::SeqCst), jars.get(1_u32).len()), (1, 8));
}

/// If `new_jar` panics, a thread that waits for this jar makes it.
#[test]
fn a_new_jar_that_panics_leaves_nobody_waiting() {
    use std::sync::mpsc::channel;
    let ((entered, enter), (go_on, wait)) = (channel::<()>(), channel::<()>());
    let (entered, wait) = (Mutex::new(entered), Mutex::new(wait));
    let calls = AtomicU64::new(0);
    let jars: JarPool<u32> = JarPool::keyed()
        .new_jar(move |_| {
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                entered.lock().unwrap().send(()).unwrap();
                wait.lock().unwrap().recv().unwrap();
                panic!("on purpose");
            }
            CookieJar::new()
        })
        .build();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(1_u32))));
        enter.recv().unwrap();
        let second = scope.spawn(|| jars.get(1_u32));
        go_on.send(()).unwrap();
        assert!(first.join().unwrap().is_err());
        assert!(second.join().unwrap().is_empty());
    });
    assert_eq!(jars.len(), 1);
}

/// Each callback records that it runs for its key, and lets the other threads run.
#[test]
fn no_two_callbacks_run_for_one_key_at_a_time() {
    use std::sync::atomic::AtomicBool;
    static RUNNING: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
    static TWICE: AtomicU64 = AtomicU64::new(0);
    fn run(key: usize) {
        if RUNNING[key].swap(true, Ordering::SeqCst) {
            TWICE.fetch_add(1, Ordering::SeqCst);
        }
        (0..10).for_each(|_| std::thread::yield_now());
        RUNNING[key].store(false, Ordering::SeqCst);
    }
    let jars: JarPool<usize> = JarPool::keyed()
        .max_jars(1)
        .new_jar(|key| {
            run(*key);
            CookieJar::new()
        })
        .on_evict(|key, _| run(*key))
        .build();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let jars = &jars;
            scope.spawn(move || {
                for round in 0..500_usize {
                    let key = (thread + round) % 3;
                    drop(jars.get(key));
                    match round % 50 {
                        0 => _ = jars.evict_all(),
                        25 => _ = jars.remove(&key),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!((jars.evict_all() <= 3, jars.len(), TWICE.load(Ordering::SeqCst)), (true, 0, 0));
}

/// Panics at each comparison of keys that the pool makes, in each place.
#[test]
fn a_key_whose_hash_or_eq_panics_spoils_nothing_and_leaves_nobody_waiting() {
    use std::{
        cell::Cell,
        hash::{Hash, Hasher},
    };
    thread_local! {
        /// Counts the questions down; the one at 1 panics.
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }
    #[derive(Clone)]
    struct Key(u32);
    fn ask() {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        assert!(left != 1, "on purpose");
    }
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            ask();
            self.0.hash(state);
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            ask();
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let calls: &[(&str, fn(&JarPool<Key>))] = &[
        ("get one that is not there", |jars| drop(jars.get(Key(9)))),
        ("get one that is", |jars| drop(jars.get(Key(2)))),
        ("peek", |jars| drop(jars.peek(&Key(2)))),
        ("remove", |jars| drop(jars.remove(&Key(2)))),
        ("evict all", |jars| _ = jars.evict_all()),
    ];
    rows::hold(pairs(calls, 1..8), |((row, call), question)| {
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let left = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&left);
            let jars: JarPool<Key> = JarPool::keyed()
                .max_jars(2)
                .on_evict(move |_, _| _ = count.fetch_add(1, Ordering::SeqCst))
                .build();
            (1..=2).for_each(|key| drop(jars.get(Key(key))));
            LEFT.set(question);
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| call(&jars)));
            LEFT.set(0);
            // As if nothing had happened.
            for key in [9, 1, 2, 3, 9, 2] {
                drop(jars.get(Key(key)));
                assert!(jars.len() <= 2 && jars.peek(&Key(key)).is_some());
            }
            let before = left.load(Ordering::SeqCst);
            let all = jars.evict_all();
            done.send((all, jars.len(), left.load(Ordering::SeqCst) - before)).unwrap();
        });
        // Long enough for any machine. The fault would be a thread that waits for ever.
        let outcome = finished.recv_timeout(Duration::from_secs(60));
        (format!("{row}, question {question}"), outcome, Ok((2, 0, 2)))
    });
}
