//! The table of mounts, changed while requests are in flight.

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
};

use http::{Request, Response};
use tokio::sync::oneshot;
use tower::{
    Layer, ServiceExt,
    layer::{layer_fn, util::Identity},
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    service_fn,
};
use tower_outbound::routing::{Mount, PrefixError, PrefixFault, RoutingHandle, RoutingLayer};

use crate::{
    numbers::{Below, Client, answers, ask, get},
    rows_async,
};

async fn number(client: &Client, uri: &str) -> usize {
    ask(client, uri).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_load_are_each_seen_whole_and_leave_the_rest_alone() {
    const SWAPS: usize = 1_000;
    let applied = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&applied);
    let kept = layer_fn(move |inner: Below| {
        counted.fetch_add(1, Relaxed);
        inner
    });
    let client = RoutingLayer::builder()
        .mount("https://kept", kept)
        .mount_service("https://x", answers(1))
        .mount_service("https://y", answers(1))
        .build()
        .unwrap()
        .layer(answers(0));
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, done, asked) = (client.clone(), Arc::clone(&done), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut last = 1;
                while !done.load(SeqCst) {
                    // Both are replaced in one step, by ever greater numbers: whoever has seen one
                    // of a table can see no older one of another, and never
                    // none.
                    for uri in ["https://x/", "https://y/", "https://x/a", "https://y/b"] {
                        let now = number(&client, uri).await;
                        assert!(now >= last, "{uri} answers {now} after {last}");
                        last = now;
                    }
                    assert_eq!(
                        ask(&client, "https://kept/").await,
                        (0, Some("https://kept".into()))
                    );
                    asked.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let handle = client.handle();
    for number in 2..=SWAPS + 1 {
        // Not all before the load has begun, nor between two of its requests.
        let before = asked.load(SeqCst);
        handle
            .update(|mounts| {
                mounts
                    .unmount("https://x")
                    .unmount("https://y")
                    .mount_service(format!("https://gone-{number}"), answers(number))
                    .unmount(format!("https://gone-{}", number - 1))
                    .mount_service("https://x:*/", answers(number))
                    .mount_service("https://Y", answers(number))
            })
            .unwrap();
        while asked.load(SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, SeqCst);
    for task in load {
        task.await.unwrap();
    }
    assert!(asked.load(SeqCst) >= SWAPS);
    assert_eq!(applied.load(Relaxed), 1, "the layer that was left alone");
    assert_eq!(number(&client, "https://x/").await, SWAPS + 1);
    assert_eq!(handle.prefixes().len(), 4);
}

#[tokio::test]
async fn a_call_in_flight_ends_on_the_table_it_began_with() {
    let (send, receive) = oneshot::channel::<()>();
    let receive = Arc::new(Mutex::new(Some(receive)));
    let waits = service_fn(move |_: Request<()>| {
        let receive = receive.lock().unwrap().take().unwrap();
        async move { receive.await.map(|()| Response::new(7)) }
    });
    let client = RoutingLayer::builder()
        .mount_service("https://h", waits)
        .build()
        .unwrap()
        .layer(answers(0));
    let mut first = tokio_test::task::spawn(client.clone().oneshot(get("https://h/")));
    // A call that was not polled yet has also begun.
    let unpolled = tower::Service::call(&mut client.clone(), get("https://else/"));
    assert!(first.poll().is_pending());
    client
        .handle()
        .update(|mounts| {
            mounts
                .unmount("https://h")
                .mount_service("https://h", answers(8))
                .mount_service("https://else", answers(9))
        })
        .unwrap();
    assert_eq!(number(&client, "https://h/").await, 8);
    assert_eq!(number(&client, "https://else/").await, 9);
    send.send(()).unwrap();
    let response = first.await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Mount("https://h".into())));
    assert_eq!(response.into_body(), 7);
    assert_eq!(unpolled.await.unwrap().into_body(), 0);
}

#[tokio::test]
async fn a_mount_that_is_not_named_keeps_its_permits_and_one_that_is_mounted_again_does_not() {
    let limit = || {
        tower::ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
    };
    let hang = service_fn(|_: Request<()>| pending::<Result<Response<usize>, Infallible>>());
    let client = RoutingLayer::builder()
        .mount("https://kept", limit().into_inner())
        .mount("https://again", limit().into_inner())
        .build()
        .unwrap()
        .layer(hang);
    let spawn = |uri| tokio_test::task::spawn(client.clone().oneshot(get(uri)));
    let (mut kept, mut again) = (spawn("https://kept/"), spawn("https://again/"));
    assert!(kept.poll().is_pending() && again.poll().is_pending());

    let handle = client.handle();
    handle
        .update(|mounts| {
            mounts
                .mount("https://again", limit().into_inner())
                .mount("https://new", limit().into_inner())
        })
        .unwrap();
    let error = spawn("https://kept/").await.unwrap_err();
    assert!(error.is::<Overloaded>(), "its one permit is out: {error:?}");
    assert!(spawn("https://again/").poll().is_pending(), "it has a permit of its own");
    drop(kept);
    assert!(spawn("https://kept/").poll().is_pending(), "the permit came back to the kept mount");
    drop(again);
}

#[tokio::test]
async fn a_bad_prefix_changes_nothing_and_applies_no_layer() {
    let client = RoutingLayer::builder()
        .mount_service("https://h", answers(1))
        .build()
        .unwrap()
        .layer(answers(0));
    let applied = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&applied);
    let layer = layer_fn(move |inner: Below| {
        counted.fetch_add(1, Relaxed);
        inner
    });
    let error = client
        .handle()
        .update(|mounts| {
            mounts
                .unmount("https://h")
                .mount("https://new", layer.clone())
                .mount("https://u:secret@bad", layer.clone())
        })
        .unwrap_err();
    assert_eq!((error.prefix(), error.fault()), ("https://bad", PrefixFault::Userinfo));
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = client.handle().update(|mounts| mounts.unmount("h")).unwrap_err();
    assert_eq!((error.prefix(), error.fault()), ("h", PrefixFault::Scheme));
    assert_eq!(applied.load(Relaxed), 0);
    assert_eq!(ask(&client, "https://h/").await, (1, Some("https://h".into())));
    assert_eq!(ask(&client, "https://new/").await, (0, None));
}

#[tokio::test]
async fn changes_take_effect_in_their_order_and_unmounting_goes_by_meaning() {
    let client = RoutingLayer::builder()
        .mount_service("https://h/a%7Eb", answers(1))
        .build()
        .unwrap()
        .layer(answers(0));
    let handle = client.handle();
    let rows: [(
        &str,
        fn(&RoutingHandle<Below, (), usize>) -> Result<(), PrefixError>,
        &[&str],
        usize,
    ); 6] = [
        (
            "another prefix of the same host",
            |handle| {
                handle.update(|mounts| {
                    mounts.unmount("https://h").unmount("any://h/a~b").unmount("https://h/a~b/c")
                })
            },
            &["https://h/a%7Eb"],
            1,
        ),
        (
            "mounted, then unmounted",
            |handle| {
                handle.update(|mounts| {
                    mounts.mount_service("https://h/a~b/c", answers(2)).unmount("https://h/a~b/c")
                })
            },
            &["https://h/a%7Eb"],
            1,
        ),
        (
            "another spelling",
            |handle| handle.update(|mounts| mounts.unmount("HTTPS://H.:*/x/../a~b/")),
            &[],
            0,
        ),
        (
            "unmounted, then mounted",
            |handle| {
                handle.update(|mounts| {
                    mounts.unmount("https://h").mount_service("https://h", answers(3))
                })
            },
            &["https://h"],
            3,
        ),
        (
            "twice: the last",
            |handle| {
                handle.update(|mounts| {
                    mounts
                        .mount_service("https://H", answers(4))
                        .mount_service("https://h:*", answers(5))
                })
            },
            &["https://h:*"],
            5,
        ),
        ("nothing", |handle| handle.update(|mounts| mounts), &["https://h:*"], 5),
    ];
    rows_async::hold(rows, async |(name, change, prefixes, want)| {
        change(&handle).unwrap();
        let got = (handle.prefixes(), number(&client, "https://h/a~b/c").await);
        let want = (prefixes.iter().map(|&prefix| prefix.into()).collect::<Vec<Arc<str>>>(), want);
        (name, got, want)
    })
    .await;
}

#[tokio::test]
async fn what_is_unmounted_is_let_go_though_idle_clones_live_on() {
    let counted = Arc::new(());
    let weak: Weak<()> = Arc::downgrade(&counted);
    let service = service_fn(move |_: Request<()>| {
        let _ = &counted;
        pending::<Result<Response<usize>, Infallible>>()
    });
    let client = RoutingLayer::<Below, (), usize>::builder()
        .mount_service("https://h", service)
        .build()
        .unwrap();
    // The layer could make another service, so it keeps what it mounts.
    let (idle, handle) = {
        let client = client.layer(answers(0));
        (client.clone(), client.handle())
    };
    drop(client);
    let mut call = tokio_test::task::spawn(idle.clone().oneshot(get("https://h/")));
    assert!(call.poll().is_pending());
    handle.update(|mounts| mounts.unmount("https://h")).unwrap();
    drop(call);
    assert_eq!(weak.strong_count(), 0, "neither the idle clone nor the handle holds it");
    assert_eq!(number(&idle, "https://h/").await, 0);
}

#[tokio::test]
async fn the_table_may_be_changed_from_within_what_is_mounted_and_from_within_a_change() {
    let client = RoutingLayer::builder().build().unwrap().layer(answers(0));
    let handle = client.handle();
    let inner = handle.clone();
    let changes = service_fn(move |_: Request<()>| {
        inner.update(|mounts| mounts.unmount("https://h")).unwrap();
        ready(Ok::<_, Infallible>(Response::new(1)))
    });
    let (layered, dropped) = (handle.clone(), handle.clone());
    /// Changes the table once more when it is let go.
    struct OnDrop(RoutingHandle<Below, (), usize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.update(|mounts| mounts.mount_service("https://dropped", answers(2))).unwrap();
        }
    }
    let on_drop = Arc::new(OnDrop(dropped));
    let holds = service_fn(move |_: Request<()>| {
        let _ = &on_drop;
        ready(Ok::<_, Infallible>(Response::new(3)))
    });
    handle
        .update(|mounts| {
            handle.update(|mounts| mounts.mount_service("https://nested", answers(4))).unwrap();
            let layer = layer_fn(move |inner: Below| {
                layered.update(|mounts| mounts.mount("https://layered", Identity::new())).unwrap();
                inner
            });
            mounts
                .mount_service("https://h", changes)
                .mount("https://layer", layer)
                .mount_service("https://holds", holds)
        })
        .unwrap();
    assert_eq!(number(&client, "https://h/").await, 1);
    assert_eq!(number(&client, "https://h/").await, 0, "it unmounted itself");
    handle.update(|mounts| mounts.unmount("https://holds")).unwrap();
    let mut prefixes = handle.prefixes();
    prefixes.sort();
    assert_eq!(
        prefixes,
        ["https://dropped", "https://layer", "https://layered", "https://nested"].map(Arc::from)
    );
}

#[test]
fn updates_from_several_threads_are_all_kept() {
    let client = RoutingLayer::builder().build().unwrap().layer(answers(0));
    let handle = client.handle();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let handle = &handle;
            scope.spawn(move || {
                for number in 0..100 {
                    let prefix = format!("https://h{number}.t{thread}");
                    handle.update(|mounts| mounts.mount_service(prefix, answers(1))).unwrap();
                }
            });
        }
    });
    assert_eq!(handle.prefixes().len(), 400);
    let text = format!("{handle:?} {client:?}");
    assert!(text.contains("https://h99.t3"), "{text}");
}
