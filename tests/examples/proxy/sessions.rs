//! Jars in a store that several proxies share.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::{
    server::{Server, can_start},
    *,
};
use crate::{rows, rows_async};

/// `place` and what else the section has, with a mount for that upstream.
fn table(place: &str, upstream: SocketAddr) -> String {
    format!("{TENANTS}[sessions]\n{place}\n{}", mount("", upstream, ""))
}

fn redis(server: &Server) -> String {
    format!("url = \"{}\"\nunsealed = true\ndeadline = \"20s\"", server.url())
}

fn directory(path: &Path) -> String {
    format!("directory = \"{}\"\nunsealed = true\ndeadline = \"20s\"", path.display())
}

/// What the upstream was sent for ann.
async fn cookies(proxy: &Proxy, path: &str) -> String {
    let answer = proxy.get_as("ann", path).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.headers.get("set-cookie"), None);
    let (cookies, _) = answer.body.split_once("], ").unwrap();
    cookies.trim_start_matches("cookies [").trim_matches('"').to_owned()
}

/// Each proxy is killed as soon as it has answered, so that nothing is written later.
async fn two_proxies_are_killed_in_turn(place: &str) {
    let table = table(place, serve(Router::new().fallback(echo)).await);
    let (mut a, mut b) = (Proxy::start(&table).await, Proxy::start(&table).await);
    assert_eq!(cookies(&a, "/login?id=1").await, "");
    a.child.kill().await.unwrap();
    assert_eq!(cookies(&b, "/").await, "id=1; second=1");
    assert_eq!(cookies(&b, "/?of=b").await, "id=1; second=1");
    b.child.kill().await.unwrap();
    a = Proxy::start(&table).await;
    assert_eq!(cookies(&a, "/?of=a").await, "id=1; second=1; of=b");
    let counts = async |proxy: &Proxy| {
        let names = ["loads", "applies", "merges", "stale_refusals", "unreadable", "failures"];
        let mut counts = Vec::new();
        for name in names {
            counts.push(proxy.count(&format!("proxy_session_{name}_total")).await);
        }
        counts
    };
    assert_eq!(counts(&a).await, [1, 1, 0, 0, 0, 0]);
    let page = send(&a.client, a.metrics, "GET", "/metrics", &[], Bytes::new()).await.body;
    let seconds =
        page.lines().find_map(|line| line.strip_prefix("proxy_session_apply_seconds_total "));
    assert!(seconds.unwrap().parse::<f64>().unwrap() > 0.0, "{page}");
    assert_eq!(a.count("proxy_jars").await, 1);
    // Another tenant has nothing of it.
    assert!(a.get_as("bob", "/").await.body.starts_with("cookies []"));
    a.child.kill().await.unwrap();
    b = Proxy::start(&table).await;
    assert_eq!(cookies(&b, "/").await, "id=1; second=1; of=a");
}

#[tokio::test]
async fn a_tenant_that_logs_in_on_one_proxy_is_served_by_another_over_redis() {
    if !can_start("a_tenant_that_logs_in_on_one_proxy_is_served_by_another_over_redis") {
        return;
    }
    let server = Server::start(&[]);
    two_proxies_are_killed_in_turn(&redis(&server)).await;
}

#[tokio::test]
async fn a_tenant_that_logs_in_on_one_proxy_is_served_by_another_over_a_directory() {
    let place = tempfile::tempdir().unwrap();
    two_proxies_are_killed_in_turn(&directory(&place.path().join("sessions"))).await;
}

/// The answers of requests until one is as expected.
async fn until(proxy: &Proxy, path: &str, is_awaited: impl Fn(&Answer) -> bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    let wait = async {
        loop {
            let answer = proxy.get_as("ann", path).await;
            answers.push(answer);
            if answers.last().is_some_and(&is_awaited) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("an answer as awaited");
    answers
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_or_the_last_known_jar_and_never_an_empty_one() {
    if !can_start("a_store_that_is_down_is_a_503_or_the_last_known_jar_and_never_an_empty_one") {
        return;
    }
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    // What came to the upstream under a path for a tenant who is logged in.
    let (seen, hits) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (log, counted) = (Arc::clone(&seen), Arc::clone(&hits));
    let upstream = serve(Router::new().fallback(move |request: Request| {
        counted.fetch_add(1, SeqCst);
        if request.uri().path() == "/in" {
            let cookie = request.headers().get("cookie").cloned();
            log.lock().unwrap().push(cookie);
        }
        echo(request)
    }))
    .await;
    let place = redis(&server).replace("20s", "2s");
    let refuses = Proxy::start(&table(&place, upstream)).await;
    let serves =
        Proxy::start(&table(&format!("{place}\non_outage = \"last-known 5m\""), upstream)).await;
    cookies(&refuses, "/login?id=1").await;
    assert_eq!(cookies(&refuses, "/in").await, "id=1; second=1");
    assert_eq!(cookies(&serves, "/in").await, "id=1; second=1");

    server.kill();
    // A proxy may not have noticed yet.
    let answers = until(&refuses, "/in", |answer| answer.status != StatusCode::OK).await;
    let last = answers.last().unwrap();
    assert_eq!(
        (last.status, &*last.body),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "503: no request is sent without its tenant's cookies: the session store failed or \
             did not answer in time\n"
        )
    );
    // It is not sent, and not tried again.
    let (before, attempts) = (hits.load(SeqCst), refuses.counts("").await[1]);
    assert_eq!(refuses.get_as("ann", "/in").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((hits.load(SeqCst), refuses.counts("").await[1]), (before, attempts + 1));
    assert!(refuses.count("proxy_session_failures_total").await > 0);
    assert_eq!(refuses.count("proxy_unrouted_requests_total").await, 0);

    while serves.count("proxy_session_failures_total").await == 0 {
        assert_eq!(cookies(&serves, "/in").await, "id=1; second=1");
    }
    assert_eq!(cookies(&serves, "/in").await, "id=1; second=1");
    // A jar that was never loaded is not known.
    assert_eq!(serves.get_as("bob", "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(serves.get("/").await.status, StatusCode::OK);
    assert_eq!(refuses.get("/").await.status, StatusCode::OK);
    // What is set meanwhile is written later.
    assert_eq!(cookies(&serves, "/?late=1").await, "id=1; second=1");

    server.start_again();
    until(&refuses, "/in", |answer| answer.body.contains("late=1")).await;
    let seen = seen.lock().unwrap();
    let is_whole = |cookie: &http::HeaderValue| cookie.to_str().unwrap().contains("id=1");
    assert!(seen.iter().all(|cookie| cookie.as_ref().is_some_and(is_whole)), "{seen:?}");
}

#[tokio::test]
async fn changes_that_the_store_has_not_taken_at_the_end_are_said_to_be_lost() {
    if !can_start("changes_that_the_store_has_not_taken_at_the_end_are_said_to_be_lost") {
        return;
    }
    let mut server = Server::start(&[]);
    let place = redis(&server).replace("20s", "2s") + "\non_outage = \"last-known 5m\"";
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&table(&place, upstream)).await;
    cookies(&proxy, "/?id=1").await;
    server.kill();
    cookies(&proxy, "/?late=1").await;
    proxy.signal("TERM").await;
    let (said, code) = proxy.ended().await;
    let end = "the last changes of some tenants are lost: the session store failed or did not \
               answer in time";
    assert!(said.last().unwrap().contains(end), "{said:?}");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_key_seals_and_one_that_is_not_known_is_a_500_and_sends_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    fs::write(path("old"), format!("{}\n", "0a".repeat(32))).unwrap();
    fs::write(path("new"), "B1".repeat(32)).unwrap();
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    let upstream = serve(Router::new().fallback(move |request: Request| {
        counted.fetch_add(1, SeqCst);
        echo(request)
    }))
    .await;
    let with = |keys: &[(u32, &str)]| {
        let key = |(number, name): &(u32, &str)| {
            format!("{{ number = {number}, file = \"{}\" }}", path(name))
        };
        let keys: Vec<_> = keys.iter().map(key).collect();
        let sealed = format!("keys = [{}]", keys.join(", "));
        table(
            &directory(Path::new(&path("sessions"))).replace("unsealed = true", &sealed),
            upstream,
        )
    };
    let old = Proxy::start(&with(&[(1, "old")])).await;
    cookies(&old, "/?id=of-ann").await;
    let mut files = vec![place.path().join("sessions")];
    while let Some(file) = files.pop() {
        if file.is_dir() {
            files.extend(fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(&file).unwrap();
            assert!(!bytes.windows(6).any(|part| part == b"of-ann"), "{}", file.display());
        }
    }
    let both = Proxy::start(&with(&[(2, "new"), (1, "old")])).await;
    assert_eq!(cookies(&both, "/").await, "id=of-ann; second=1");
    let new = Proxy::start(&with(&[(2, "new")])).await;
    let before = hits.load(SeqCst);
    let answer = new.get_as("ann", "/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.body);
    assert!(answer.body.contains("the stored session cannot be read"), "{}", answer.body);
    assert_eq!((hits.load(SeqCst), new.count("proxy_session_unreadable_total").await), (before, 1));
}

#[tokio::test]
async fn a_reload_keeps_the_sessions_and_refuses_others() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let good = table("memory = true\nunsealed = true\ndeadline = \"20s\"", upstream);
    let mut proxy = Proxy::start(&good).await;
    cookies(&proxy, "/?id=1").await;
    let refused = [
        (good.replace("20s", "10s"), "[sessions] cannot change while the proxy runs"),
        (format!("{TENANTS}{}", mount("", upstream, "")), "[sessions] cannot change"),
        (format!("{good}[cookies]\nper_domain = 7\n"), "[cookies] with [sessions] cannot change"),
    ];
    for (table, why) in refused {
        let said = proxy.reload(&table).await;
        assert!(said.contains(why) && said.ends_with("; the old table stays"), "{said}");
        assert_eq!(cookies(&proxy, "/").await, "id=1; second=1");
    }
    // The store may be that of other proxies, which still know the tenant.
    for (table, sent) in [(good.replace("\"ann\", ", ""), ""), (good, "id=1; second=1")] {
        let said = proxy.reload(&table).await;
        assert!(said.starts_with("proxy: reloaded "), "{said}");
        assert_eq!(cookies(&proxy, "/").await, sent);
    }
    // A table without the section cannot get one either.
    let mut without = Proxy::start(&format!("{TENANTS}{}", mount("", upstream, ""))).await;
    let said = without.reload(&table("memory = true\nunsealed = true", upstream)).await;
    assert!(said.contains("[sessions] cannot change"), "{said}");
}

#[tokio::test]
async fn a_proxy_does_not_start_without_its_store_or_its_keys() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    fs::write(path("short"), "secret0").unwrap();
    fs::write(path("long"), "ab".repeat(5_000)).unwrap();
    fs::write(path("words"), format!("{}secret", "a".repeat(58))).unwrap();
    fs::write(path("file"), "").unwrap();
    let at =
        |name: &str| format!("memory = true\nkeys = [{{ number = 7, file = \"{}\" }}]", path(name));
    let no_key = "`keys`: number 7: not 64 hexadecimal digits";
    let unsealed = |place: &str| format!("{place}\nunsealed = true");
    let rows = [
        (at("secret"), "`keys`: number 7: cannot read its file: No such file"),
        (at("short"), no_key),
        (at("long"), no_key),
        (at("words"), no_key),
        (
            "memory = true\nkeys = [{ number = 7, env = \"secret\" }]".to_owned(),
            "`keys`: number 7: its variable is not set",
        ),
        (unsealed("url = \"secret://h\""), "`url`: cannot use this configuration of redis: "),
        (unsealed("url = \"redis://u:secret@127.0.0.1:1\""), "`url`: cannot reach 127.0.0.1:1: "),
        // The key is valid.
        (
            "url = \"redis://127.0.0.1:1\"\nkeys = [{ number = 7, env = \"PROXY_KEY\" }]"
                .to_owned(),
            "`url`: cannot reach",
        ),
        (unsealed(&format!("directory = \"{}\"", path("file"))), "`directory`: cannot make"),
    ];
    rows_async::hold(rows, async |(section, want)| {
        fs::write(path("table.toml"), format!("[sessions]\n{section}\n")).unwrap();
        let run = Command::new(program("proxy"))
            .arg(path("table.toml"))
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .env("PROXY_KEY", "c".repeat(64))
            .kill_on_drop(true)
            .output();
        let output = timeout(PATIENCE, run).await.expect("an end").unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let holds = said.contains(&format!("table.toml: [sessions]: {want}"))
            && !said.contains("secret")
            && output.status.code() == Some(1);
        (format!("{section}: {said}"), holds, true)
    })
    .await;
}

#[test]
fn what_is_wrong_with_a_section_names_its_key_and_shows_no_url() {
    let memory = "memory = true\nunsealed = true";
    let rows = [
        ("", "line 1: [sessions] has one of `url`, `directory` and `memory = true`"),
        ("memory = false\nunsealed = true", "line 1: [sessions] has one of `url`, "),
        ("directory = \"\"\nunsealed = true", "line 1: [sessions] has one of `url`, "),
        ("url = \"redis://secret\"\nmemory = true", "line 1: [sessions] has one of `url`, "),
        ("url = \"redis://secret\"\nurls = 1", "line 3: unknown field `urls`"),
        ("url = \"redis://secret\"", "line 1: [sessions] has `keys`, which seal cookies; or"),
        ("memory = true\nunsealed = false", "line 1: [sessions] has `keys`, "),
        ("memory = true\nkeys = []", "line 1: [sessions] has `keys`, "),
        (
            "memory = true\nunsealed = true\nkeys = [{ number = 1, env = \"A\" }]",
            "line 1: [sessions] has `keys`, ",
        ),
        (
            "memory = true\nkeys = [{ number = 1, env = \"A\" }, { number = 1, file = \"b\" }]",
            "line 1: `keys` has number 1 twice",
        ),
        ("memory = true\nkeys = [\"secret\"]", "line 3: `keys` has keys as "),
        ("memory = true\nkeys = [{ number = 1 }]", "line 3: `keys` has keys as "),
        ("memory = true\nkeys = [{ number = 1, key = \"secret\" }]", "line 3: `keys` has keys as "),
        (
            "memory = true\nkeys = [{ number = \"secret\", env = \"A\" }]",
            "line 3: `keys` has keys ",
        ),
        ("memory = true\nkeys = [{ number = -1, env = \"A\" }]", "line 3: `keys` has keys as "),
        ("memory = true\nkeys = [{ env = \"A\" }]", "line 3: `keys` has keys as "),
        (
            "memory = true\nkeys = [{ number = 1, env = \"A\", file = \"b\" }]",
            "line 3: `keys` has keys as ",
        ),
        (
            "memory = true\nkeys = [{ number = 1, env = \"A\", also = \"secret\" }]",
            "line 3: `keys` has keys as ",
        ),
        ("memory = true\nunsealed = true\non_outage = \"last-known\"", "line 4: `on_outage` is"),
        ("memory = true\nunsealed = true\non_outage = \"last-known 7h\"", "line 4: `on_outage` is"),
        ("memory = true\nunsealed = true\non_outage = \"empty\"", "line 4: `on_outage` is"),
        ("memory = true\nunsealed = true\ndeadline = \"0s\"", "line 4: `deadline` of sessions"),
        ("memory = true\nunsealed = true\ndeadline = \"2m\"", "line 4: `deadline` of sessions"),
        ("memory = true\nunsealed = true\ndeadline = 5", "line 4: invalid type: integer"),
    ];
    rows::hold(rows, |(section, want)| {
        let text = format!("[sessions]\n{section}\n");
        let got = super::table::Table::parse(text.as_bytes());
        let said = format!("{:?}", got.as_ref().map_err(ToString::to_string));
        let fault = got.map_err(|fault| fault.to_string());
        let holds = fault.is_err_and(|fault| fault.starts_with(want)) && !said.contains("secret");
        (format!("{section}: {said}"), holds, true)
    });
    let read = |text: &str| super::table::Table::parse(format!("[sessions]\n{text}").as_bytes());
    let table = read(&format!("{memory}\non_outage = \"last-known 6h\"")).unwrap();
    let sessions = table.sessions.unwrap();
    let outage = sessions.on_outage.0;
    assert_eq!(
        (outage, sessions.deadline.0),
        (Some(Duration::from_secs(21_600)), Duration::from_millis(250))
    );
    let refuse = read(&format!("{memory}\non_outage = \"refuse\"")).unwrap();
    assert_eq!(refuse.sessions.unwrap().on_outage.0, None);
    let table = read("url = \"redis://:secret@h\"\nunsealed = true").unwrap();
    assert!(!format!("{table:?}").contains("secret"), "{table:?}");
}
