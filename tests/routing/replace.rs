//! Replacing a whole table, and what is kept of the old one.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use http::{Request, Response};
use tower::{
    Layer, ServiceBuilder, ServiceExt,
    layer::{layer_fn, util::Identity},
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    service_fn,
};
use tower_outbound::routing::{MountChanges, PrefixFault, RoutingHandle, RoutingLayer};

use crate::numbers::{Below, answers, ask, get};

type Handle = RoutingHandle<Below, (), usize>;
type Changes = MountChanges<Below, (), usize>;

/// A layer that numbers its services from 1. The number in an answer shows whether a service was
/// kept.
#[derive(Clone, Default)]
struct Numbered(Arc<AtomicUsize>);

impl Numbered {
    fn layer(&self) -> impl Layer<Below, Service = Below> + Send + Sync + 'static {
        let made = Arc::clone(&self.0);
        layer_fn(move |_: Below| answers(made.fetch_add(1, SeqCst) + 1))
    }
}

#[tokio::test]
async fn an_equal_prefix_with_an_equal_key_keeps_its_service_and_nothing_else_does() {
    /// The change of the table, and then which service and which mount answer `https://h/`.
    type Row = (&'static str, fn(&Handle, &Numbered), usize, Option<&'static str>);
    fn replace(handle: &Handle, table: impl FnOnce(Changes) -> Changes) {
        handle.replace(table).unwrap();
    }
    let rows: [Row; 14] = [
        (
            "another key",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("https://h", "b", layer.layer()));
            },
            2,
            Some("https://h"),
        ),
        (
            "the same key",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("https://h", "b", layer.layer()));
            },
            2,
            Some("https://h"),
        ),
        (
            "another spelling, which is shown from then on",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("HTTPS://H:*/", "b", layer.layer()));
            },
            2,
            Some("HTTPS://H:*/"),
        ),
        (
            "the same key for another prefix",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("https://h:443", "b", layer.layer()));
            },
            3,
            Some("https://h:443"),
        ),
        (
            "both: one kept, one new",
            |handle, layer| {
                replace(handle, |table| {
                    table.mount_keyed("https://h", "b", layer.layer()).mount_keyed(
                        "https://h:443",
                        "b",
                        layer.layer(),
                    )
                });
            },
            3,
            Some("https://h:443"),
        ),
        (
            "twice: the last counts, and the first is not made",
            |handle, layer| {
                replace(handle, |table| {
                    table.mount_keyed("https://h:443", "c", layer.layer()).mount_keyed(
                        "https://H:0443",
                        "b",
                        layer.layer(),
                    )
                });
            },
            3,
            Some("https://H:0443"),
        ),
        (
            "unmounted within the table",
            |handle, layer| {
                replace(handle, |table| {
                    table
                        .mount_keyed("https://h:443", "b", layer.layer())
                        .mount_keyed("any://h", "b", layer.layer())
                        .unmount("https://h:443")
                        .unmount("https://never")
                });
            },
            5,
            Some("any://h"),
        ),
        (
            "without a key",
            |handle, layer| replace(handle, |table| table.mount("any://h", layer.layer())),
            6,
            Some("any://h"),
        ),
        (
            "without a key again",
            |handle, layer| replace(handle, |table| table.mount("any://h", layer.layer())),
            7,
            Some("any://h"),
        ),
        (
            "a key for what had none",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("any://h", "", layer.layer()));
            },
            8,
            Some("any://h"),
        ),
        (
            "an update makes it anew, whatever the key",
            |handle, layer| {
                handle.update(|mounts| mounts.mount_keyed("any://h", "", layer.layer())).unwrap();
            },
            9,
            Some("any://h"),
        ),
        (
            "and that is kept by its key",
            |handle, layer| {
                replace(handle, |table| table.mount_keyed("any://h", "", layer.layer()));
            },
            9,
            Some("any://h"),
        ),
        (
            "a service is mounted anew",
            |handle, _| replace(handle, |table| table.mount_service("any://h", answers(99))),
            99,
            Some("any://h"),
        ),
        ("nothing", |handle, _| replace(handle, |table| table), 0, None),
    ];
    let layer = Numbered::default();
    let client = RoutingLayer::builder()
        .mount_keyed("https://h", "a", layer.layer())
        .build()
        .unwrap()
        .layer(answers(0));
    let handle = client.handle();
    // A key of the builder counts too.
    replace(&handle, |table| table.mount_keyed("https://h", "a", layer.layer()));
    assert_eq!(ask(&client, "https://h/").await, (1, Some("https://h".into())));
    let mut wrong = Vec::new();
    for (name, change, number, mount) in rows {
        change(&handle, &layer);
        let got = ask(&client, "https://h/").await;
        if got != (number, mount.map(Arc::from)) {
            wrong.push(format!("{name}: {got:?}, not {number} by {mount:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(handle.prefixes().is_empty());
}

#[tokio::test]
async fn a_kept_mount_keeps_its_permits_and_a_changed_one_has_new_ones() {
    let limit = |permits| {
        ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(permits))
            .into_inner()
    };
    let table = move |changed: usize| {
        move |table: MountChanges<_, (), usize>| {
            table
                .mount_keyed("https://kept", "1", limit(1))
                .mount_keyed("https://changed", changed.to_string(), limit(changed))
                .mount("https://keyless", limit(1))
        }
    };
    let hang = service_fn(|_: Request<()>| pending::<Result<Response<usize>, Infallible>>());
    let client = RoutingLayer::builder().build().unwrap().layer(hang);
    let handle = client.handle();
    handle.replace(table(1)).unwrap();
    let spawn = |uri| tokio_test::task::spawn(client.clone().oneshot(get(uri)));
    let uris = ["https://kept/", "https://changed/", "https://keyless/"];
    let mut held = uris.map(spawn);
    assert!(held.iter_mut().all(|call| call.poll().is_pending()));

    handle.replace(table(2)).unwrap();
    let error = spawn(uris[0]).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "its one permit is out: {error:?}");
    for uri in &uris[1..] {
        assert!(spawn(uri).poll().is_pending(), "{uri} has permits of its own");
    }
    drop(held);
    assert!(spawn(uris[0]).poll().is_pending(), "the permit came back to the kept mount");
}

#[tokio::test]
async fn a_bad_prefix_replaces_nothing_and_applies_no_layer() {
    let layer = Numbered::default();
    let client = RoutingLayer::builder()
        .mount_service("https://h", answers(9))
        .build()
        .unwrap()
        .layer(answers(0));
    let error = client
        .handle()
        .replace(|table| {
            table.mount("https://new", layer.layer()).mount("https://u:secret@bad", layer.layer())
        })
        .unwrap_err();
    assert_eq!((error.prefix(), error.fault()), ("https://bad", PrefixFault::Userinfo));
    assert_eq!(layer.0.load(SeqCst), 0);
    assert_eq!(ask(&client, "https://h/").await, (9, Some("https://h".into())));
}

#[tokio::test]
async fn a_layer_may_change_the_table_that_it_is_to_be_part_of_and_is_applied_once() {
    let (client, layer) =
        (RoutingLayer::builder().build().unwrap().layer(answers(0)), Numbered::default());
    let handle = client.handle();
    handle.replace(|table| table.mount_keyed("https://kept", "k", layer.layer())).unwrap();
    let (inner, numbered) = (handle.clone(), layer.clone());
    let meddles = layer_fn(move |below: Below| {
        // The table that this one was made from is no longer the one that it replaces.
        inner.update(|mounts| mounts.mount_keyed("https://kept", "k", numbered.layer())).unwrap();
        numbered.layer().layer(below)
    });
    handle
        .replace(|table| {
            table.mount_keyed("https://meddles", "m", meddles).mount_keyed(
                "https://kept",
                "k",
                layer.layer(),
            )
        })
        .unwrap();
    assert_eq!(layer.0.load(SeqCst), 3, "first, by the update, and the one that meddles");
    assert_eq!(ask(&client, "https://kept/").await.0, 2, "what was there when it was replaced");
    assert_eq!(ask(&client, "https://meddles/").await.0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_seen_whole_under_load_and_lose_no_update_of_another_thread() {
    const SWAPS: usize = 500;
    let kept = Numbered::default();
    let table = |number: usize| {
        let kept = kept.layer();
        move |table: Changes| {
            table
                .mount_keyed("https://kept", "k", kept)
                .mount_service("https://x", answers(number))
                .mount_service("https://y", answers(number))
        }
    };
    let client = RoutingLayer::builder().build().unwrap().layer(answers(0));
    let handle = client.handle();
    handle.replace(table(1)).unwrap();
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (client, done, asked) = (client.clone(), Arc::clone(&done), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut last = 1;
            while !done.load(SeqCst) {
                for uri in ["https://x/", "https://y/", "https://x/a", "https://y/b"] {
                    let (now, _) = ask(&client, uri).await;
                    assert!(now >= last, "{uri} answers {now} after {last}");
                    last = now;
                }
                assert_eq!(ask(&client, "https://kept/").await.0, 1);
                asked.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
            }
        })
    };
    for number in 2..=SWAPS {
        let before = asked.load(SeqCst);
        handle.replace(table(number)).unwrap();
        while asked.load(SeqCst) == before {
            assert!(!load.is_finished(), "the load has failed");
            tokio::task::yield_now().await;
        }
    }
    done.store(true, SeqCst);
    load.await.unwrap();
    assert_eq!(kept.0.load(SeqCst), 1, "applied once");

    // Each thread's last change is there, or was replaced as a whole by the other's.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let identity = Identity::new();
                handle.update(|mounts| mounts.mount("https://updated", identity)).unwrap();
                assert!(client.handle().prefixes().len() <= 4);
            }
        });
        scope.spawn(|| (0..200).for_each(|number| handle.replace(table(SWAPS + number)).unwrap()));
    });
    assert!((3..=4).contains(&handle.prefixes().len()), "{:?}", handle.prefixes());
    assert_eq!(ask(&client, "https://kept/").await.0, 1);
}
