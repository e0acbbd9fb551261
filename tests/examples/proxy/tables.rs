//! The table of mounts: its faults, and its reload under load.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::StatusCode;
use tokio::{sync::mpsc, time::timeout};
use tower_outbound::retry::Policy;

use super::*;
use crate::rows;

#[tokio::test]
async fn a_reload_under_load_loses_no_request_and_keeps_the_budget_of_mounts_that_are_as_before() {
    const SWAPS: usize = 20;
    let named =
        |name: &'static str| serve(Router::new().fallback(get(move || std::future::ready(name))));
    let (a, b) = (named("a").await, named("b").await);
    let busy =
        serve(Router::new().fallback(|| std::future::ready(StatusCode::SERVICE_UNAVAILABLE))).await;
    let budget = |total: u32| {
        let budget = "budget = { percent = 0, min_retries = { count = 60, per = \"1h\" } }";
        mount("/busy", busy, &format!("total = {total}, {AT_ONCE}, {budget}"))
    };
    let table = |upstream: SocketAddr, busy: String| {
        format!("{TENANTS}{}{busy}", mount("/which", upstream, ""))
    };
    let mut proxy = Proxy::start(&table(a, budget(100))).await;

    assert_eq!(proxy.get("/busy").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(proxy.counts("/busy").await, [1, 61, 1]);

    let (results, mut seen) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = ["ann", "bob", "ann", "bob"]
        .into_iter()
        .map(|tenant| {
            let (client, to, results, over) =
                (proxy.client.clone(), proxy.public, results.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut sent = 0_u64;
                while !over.load(Relaxed) {
                    let headers: [(&str, &[u8]); 1] = [("x-tenant", tenant.as_bytes())];
                    let answer = send(&client, to, "GET", "/which", &headers, Bytes::new()).await;
                    sent += 1;
                    results.send((answer.status, answer.body)).unwrap();
                }
                sent
            })
        })
        .collect();
    for swap in 1..=SWAPS {
        let (upstream, name) = if swap % 2 == 1 { (b, "b") } else { (a, "a") };
        let said = proxy.reload(&table(upstream, budget(100))).await;
        assert!(said.starts_with("proxy: reloaded "), "{said}");
        assert_eq!(proxy.get("/which").await.body, name);
        // There is load between any two.
        for _ in 0..20 {
            let (status, body) = timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
            assert!(status == StatusCode::OK && ["a", "b"].contains(&&*body), "{status} {body}");
        }
    }
    // So it does with a table that is wrong.
    let said = proxy
        .reload(&table(b, budget(100)).replace("http://127.0.0.1:*/busy", "http://u:p@127.1/"))
        .await;
    assert!(
        said.contains("table.toml: line 7: ") && said.ends_with("; the old table stays"),
        "{said}"
    );
    assert!(!said.contains("u:p"), "{said}");
    over.store(true, Relaxed);
    drop(results);
    while let Some((status, body)) = seen.recv().await {
        assert!(status == StatusCode::OK && ["a", "b"].contains(&&*body), "{status} {body}");
    }
    let mut sent = SWAPS as u64;
    for task in load {
        sent += task.await.unwrap();
    }
    assert_eq!(proxy.counts("/which").await, [sent, sent, 0]);
    assert_eq!(proxy.count("proxy_reloads_total{result=\"ok\"}").await, SWAPS as u64);
    assert_eq!(proxy.count("proxy_reloads_total{result=\"kept\"}").await, 1);

    // The budget is still used up. If the text of a mount changed, its budget is new.
    proxy.get("/busy").await;
    assert_eq!(proxy.counts("/busy").await, [2, 62, 2]);
    proxy.reload(&table(a, budget(99))).await;
    proxy.get("/busy").await;
    assert_eq!(proxy.counts("/busy").await, [3, 123, 3]);
}

#[tokio::test]
async fn a_table_with_a_fault_keeps_the_old_one_and_says_which_line() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let good = format!("{TENANTS}{}", mount("", upstream, "total = 1"));
    let mut proxy = Proxy::start(&good).await;
    proxy.get_as("ann", "/?id=of-ann").await;
    let rows = [
        (
            good.replace("http://127.0.0.1:*", "127.0.0.1"),
            "line 3: mount prefix \"127.0.0.1\": it must begin with a scheme",
        ),
        (
            good.replace("ann", "eve").replace("total = 1", "totl = 1"),
            "line 5: unknown field `totl`",
        ),
        (good.replace("tenants = [", "tenants = "), "line 1: "),
        (String::from("\n\n[mounts]\n"), "line 3: unknown field `mounts`"),
    ];
    for (number, (table, fault)) in (1..).zip(&rows) {
        let said = proxy.reload(table).await;
        assert!(said.contains(fault) && said.ends_with("; the old table stays"), "{fault}: {said}");
        assert_eq!(proxy.count("proxy_reloads_total{result=\"kept\"}").await, number);
        assert!(
            proxy.get_as("ann", "/").await.body.starts_with(r#"cookies ["id=of-ann; second=1"]"#)
        );
    }
    fs::remove_file(proxy.directory.path().join("table.toml")).unwrap();
    proxy.signal("HUP").await;
    assert!(proxy.line().await.ends_with("; the old table stays"));
    assert_eq!(proxy.get("/").await.status, StatusCode::OK);
    // Read, this would be a table of nothing; others like it would never end.
    std::os::unix::fs::symlink("/dev/null", proxy.directory.path().join("table.toml")).unwrap();
    proxy.signal("HUP").await;
    let said = proxy.line().await;
    assert!(
        said.contains("a table is a regular file") && said.ends_with("; the old table stays"),
        "{said}"
    );
    let too_long = format!("{good}#{}", "x".repeat(1 << 20));
    let said = proxy.reload(&too_long).await;
    assert!(said.contains("at most 1 MiB") && said.ends_with("; the old table stays"), "{said}");
    assert_eq!(proxy.get("/").await.status, StatusCode::OK);

    // A correct table again. A tenant that was not in the table for a while has no cookies.
    proxy.reload(&good.replace("\"ann\", ", "")).await;
    assert!(proxy.get_as("ann", "/").await.body.starts_with("cookies []"));
    proxy.reload(&good).await;
    assert!(proxy.get_as("ann", "/").await.body.starts_with("cookies []"));
}

#[tokio::test]
async fn a_proxy_does_not_start_with_a_table_that_has_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.toml");
    fs::write(&path, "# nothing\n[[mount]]\nprefix = \"http://h\"\nupstream = \"https://h\"\n")
        .unwrap();
    let output = Command::new(program("proxy")).arg(&path).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("table.toml: line 4: an upstream is written as \"http://host:port\""),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[cfg(not(all(feature = "redis", feature = "seal")))]
#[tokio::test]
async fn a_program_without_the_feature_session_says_so_to_a_table_that_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.toml");
    fs::write(&path, "[sessions]\nmemory = true\nunsealed = true\n").unwrap();
    let output = Command::new(program("proxy")).arg(&path).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("[sessions]: this program was built without the feature session"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_table_it_began_with() {
    let (upstream, arrived, release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let request = in_flight(&proxy, &arrived).await;
    proxy.reload(TENANTS).await;
    assert_eq!(proxy.get("/held").await.status, StatusCode::NOT_FOUND);
    release.notify_one();
    assert_eq!(request.await.unwrap().body, "held");
}

#[test]
fn a_table_is_read_whole_and_what_is_wrong_in_it_has_a_line() {
    let table = table::Table::parse(include_bytes!("../../../examples/proxy/table.toml")).unwrap();
    assert_eq!((table.tenants.len(), table.mounts.len(), table.cookies.per_domain), (2, 2, 50));
    assert_eq!(table.tenant_header, "x-tenant");
    let empty = table::Table::parse(b"").unwrap();
    assert_eq!(format!("{empty:?}"), format!("{:?}", table::Table::empty()));

    let mount = "[[mount]]\nprefix = \"http://h\"\nupstream = \"http://u:1\"\n";
    let rows = [
        (
            "tenant_header = \"x tenant\"".to_owned(),
            "line 1: \"x tenant\" is not the name of a header",
        ),
        ("[cookies]\nper_domian = 3".to_owned(), "line 2: unknown field `per_domian`"),
        (
            mount.replace("http://h", "https://h"),
            "line 2: https://h: this proxy accepts no https from clients; write http://",
        ),
        (mount.replace("http://h", "http://127.1"), "line 2: mount prefix \"http://127.1\": "),
        (
            format!("{mount}\n{}", mount.replace("http://h", "HTTP://H:*")),
            "line 6: HTTP://H:*: it is mounted twice",
        ),
        (
            format!("{mount}retry = {{ deadline = 5 }}"),
            "line 4: invalid type: integer `5`, expected a duration",
        ),
        (
            format!("{mount}retry = {{ deadline = \"0s\" }}"),
            "line 4: a time limit of zero lets no request succeed",
        ),
        (
            format!("{mount}[mount.retry]\nbudget = {{ percent = -1 }}"),
            "line 5: `percent` of a budget",
        ),
        (format!("{mount}upstreams = 1"), "line 4: unknown field `upstreams`"),
        (mount.replace("upstream = \"http://u:1\"\n", ""), "line 1: missing field `upstream`"),
        (
            mount.replace("http://u:1", "http://u:1/x"),
            "line 3: an upstream is written as \"http://host:port\"",
        ),
        (mount.replace("http://u:1", "http://me@u:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "u:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:99999"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:80000#x"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:abc"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:0"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://127.1:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://*.u:1"), "line 3: an upstream is written as"),
        ("tenants = [\"ann\", \"\"]".to_owned(), "line 1: \"\" is not a valid tenant"),
        ("tenants = [\"\u{e9}\"]".to_owned(), "line 1: \"\u{e9}\" is not a valid tenant"),
        ("tenant_header = \"Host\"".to_owned(), "line 1: \"Host\" has another meaning"),
        ("tenant_header = \"expect\"".to_owned(), "line 1: \"expect\" has another meaning"),
        ("mount = [3]".to_owned(), "line 1: invalid type: integer `3`, expected a mount, a table"),
        (
            mount.replace("http://h", "ftp://h"),
            "line 2: ftp://h: this proxy accepts no ftp from clients; write http://",
        ),
        (mount.replace("http://u:1\"", "http://u:1"), "line 3: "),
    ];
    rows::hold(rows, |(text, want)| {
        let got = table::Table::parse(text.as_bytes()).map_err(|fault| fault.to_string());
        (format!("{text}: {got:?}"), got.is_err_and(|got| got.starts_with(want)), true)
    });
    let latin = table::Table::parse(b"# one\n# caf\xe9\n").map_err(|fault| fault.to_string());
    assert_eq!(latin.unwrap_err(), "line 2: the file is not text; save it as UTF-8");
    let (own, default) = (
        format!("{mount}retry = {{ deadline = \"5m\" }}"),
        format!("{mount}retry = {{ total = 1 }}"),
    );
    for (text, seconds) in [(own, 300), (default, 60), (mount.to_owned(), 60)] {
        let table = table::Table::parse(text.as_bytes()).unwrap();
        let (_, mount) = table.mounts.first_key_value().unwrap();
        assert_eq!(mount.retry.terms().deadline, Some(Duration::from_secs(seconds)), "{text}");
    }
}
