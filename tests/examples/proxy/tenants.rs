//! Each tenant has its own jar.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::StatusCode;
use tokio::{sync::mpsc, time::timeout};

use super::*;

#[tokio::test]
async fn each_tenant_has_a_jar_and_no_cookie_reaches_a_client_or_another_tenant() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&format!("{TENANTS}{}", mount("", upstream, ""))).await;

    for (tenant, path) in
        [("ann", "/login?id=of-ann"), ("bob", "/login?id=of-bob"), ("ann", "/login?more=1")]
    {
        let answer = proxy.get_as(tenant, path).await;
        assert_eq!(answer.status, StatusCode::OK);
        for name in ["set-cookie", "set-cookie2", "x-hop"] {
            assert_eq!(answer.headers.get(name), None, "{name}");
        }
    }
    let sent = async |headers: &[(&str, &[u8])]| proxy.send("GET", "/", headers, "").await.body;
    assert_eq!(
        sent(&[("x-tenant", b"ann")]).await,
        r#"cookies ["id=of-ann; second=1; more=1"], headers ["cookie"]"#
    );
    assert_eq!(
        sent(&[("x-tenant", b"bob")]).await,
        r#"cookies ["id=of-bob; second=1"], headers ["cookie"]"#
    );

    // A client's own cookies are dropped.
    let own: &[(&str, &[u8])] = &[
        ("x-tenant", b"bob"),
        ("cookie", b"id=of-ann"),
        ("cookie2", b"$Version=1"),
        ("connection", b"x-drop, x-tenant"),
        ("x-drop", b"1"),
        ("te", b"trailers"),
        ("accept", b"*/*"),
    ];
    assert_eq!(sent(own).await, r#"cookies ["id=of-bob; second=1"], headers ["accept", "cookie"]"#);
    // It would come back in the body.
    assert_eq!(proxy.send("TRACE", "/", own, "").await.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_tenant_header_that_is_missing_or_hostile_gives_no_jar() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&format!("{TENANTS}{}", mount("", upstream, ""))).await;
    proxy.get_as("ann", "/?id=of-ann").await;

    let long = "ann".repeat(3_000);
    let rows: &[&[(&str, &[u8])]] = &[
        &[],
        &[("x-tenant", b"")],
        &[("x-tenant", b"carol")],
        &[("x-tenant", b"ANN")],
        &[("x-tenant", b"ann,bob")],
        &[("x-tenant", b"../ann")],
        &[("x-tenant", b"an%6e")],
        &[("x-tenant", b"ann\xff")],
        &[("x-tenant", long.as_bytes())],
        &[("x-tenant", b"ann"), ("x-tenant", b"ann")],
        &[("x-tenant", b"ann"), ("x-tenant", b"bob")],
        &[("x-tenant-id", b"ann")],
    ];
    for headers in rows {
        for _ in 0..2 {
            let answer = proxy.send("GET", "/?id=of-no-one", headers, "").await;
            assert!(answer.body.starts_with("cookies [], "), "{headers:?}: {}", answer.body);
            assert_eq!(
                (answer.status, answer.headers.get("set-cookie")),
                (StatusCode::OK, None),
                "{headers:?}"
            );
        }
    }
    assert!(proxy.get_as("ann", "/").await.body.starts_with(r#"cookies ["id=of-ann; second=1"]"#));
    assert!(proxy.get_as("bob", "/").await.body.starts_with("cookies []"));
}

/// All at once: two tenants, an upstream that is busy at every third request, and a table that
/// changes to correct and wrong ones.
#[tokio::test]
async fn two_tenants_and_a_flaky_upstream_stay_apart_and_lose_nothing_while_the_table_changes() {
    /// Each request that arrived: its tenant, its path and its cookies.
    type Seen = Arc<Mutex<Vec<(String, u64, String)>>>;
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let upstream = Router::new().fallback(move |request: Request| {
        let tenant = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let number: u64 = request.uri().query().unwrap().parse().unwrap();
        let mut cookies: Vec<_> = request
            .headers()
            .get_all("cookie")
            .iter()
            .flat_map(|line| line.to_str().unwrap().split("; "))
            .map(str::to_owned)
            .collect();
        cookies.sort_unstable();
        let mut log = log.lock().unwrap();
        let is_first = !log.iter().any(|(whose, which, _)| (whose, *which) == (&tenant, number));
        log.push((tenant.clone(), number, cookies.join("; ")));
        let (status, name) = if number % 3 == 2 && is_first { (503, "busy") } else { (200, "who") };
        let response = Response::builder()
            .status(status)
            .header("set-cookie", format!("{name}={tenant}; Path=/"));
        std::future::ready(response.body(Body::from(format!("{tenant} {number}"))).unwrap())
    });
    let (a, b) = (serve(upstream.clone()).await, serve(upstream).await);
    let table = |upstream: SocketAddr| {
        format!("{TENANTS}{}", mount("/of", upstream, &format!("{AT_ONCE}, budget = \"none\"")))
    };
    let mut proxy = Proxy::start(&table(a)).await;

    let (results, mut answered) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let load = ["ann", "bob"].map(|tenant| {
        let (client, to, results, over) =
            (proxy.client.clone(), proxy.public, results.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut sent = 0_u64;
            while !over.load(Relaxed) {
                let headers: [(&str, &[u8]); 1] = [("x-tenant", tenant.as_bytes())];
                let answer = send(
                    &client,
                    to,
                    "GET",
                    &format!("/of/{tenant}?{sent}"),
                    &headers,
                    Bytes::new(),
                )
                .await;
                assert_eq!(
                    (answer.status, answer.body),
                    (StatusCode::OK, format!("{tenant} {sent}"))
                );
                assert!(!answer.headers.contains_key("set-cookie"), "{:?}", answer.headers);
                sent += 1;
                results.send(()).unwrap();
            }
            (tenant, sent)
        })
    });
    drop(results);
    for swap in 0..20 {
        let table = table(if swap % 2 == 0 { b } else { a });
        let is_well = swap % 3 != 2;
        let said =
            proxy.reload(&if is_well { table } else { table.replace("prefix", "prefiks") }).await;
        let end = if is_well { "proxy: reloaded " } else { "; the old table stays" };
        assert!(said.contains(end), "{said}");
        // There is load between any two.
        for _ in 0..10 {
            timeout(PATIENCE, answered.recv()).await.unwrap().unwrap();
        }
    }
    over.store(true, Relaxed);
    let seen_by = |tenant| {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|(whose, ..)| whose == tenant)
            .cloned()
            .collect::<Vec<_>>()
    };
    for task in load {
        let (tenant, sent) = task.await.unwrap();
        assert!(sent > 6, "{sent}");
        // Every third one twice; the second time with what the first one was given.
        let wanted: Vec<_> = (0..sent)
            .flat_map(|number| {
                let cookies = match number {
                    0 => String::new(),
                    1 | 2 => format!("who={tenant}"),
                    _ => format!("busy={tenant}; who={tenant}"),
                };
                let again = (number % 3 == 2).then(|| format!("busy={tenant}; who={tenant}"));
                [Some(cookies), again]
                    .into_iter()
                    .flatten()
                    .map(move |cookies| (tenant.to_owned(), number, cookies))
            })
            .collect();
        assert_eq!(seen_by(tenant), wanted);
    }
}
