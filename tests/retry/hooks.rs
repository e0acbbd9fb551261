//! The hooks of a policy: how long a server asks to wait, which requests may be repeated, and the
//! head of the next attempt.

use std::{
    future::ready,
    io::ErrorKind::{ConnectionRefused, ConnectionReset},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    request, response,
};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{
    Attempt, AttemptNumber, AttemptRecord, Backoff, Decision, Failure, Jitter, OverMax, Policy,
    RetryHistory, RetryLayer, RetryPolicy, ServerDelay, StopReason, Terms,
    retry_after::{grpc_retry_pushback_ms, retry_after_ms, x_ratelimit_reset},
};

use crate::{
    fakes::{Answer, Body, SECOND, Server, client, get, history, policy, request},
    rows, rows_async,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The head of a response with headers, as `name: value` with `|` between.
fn head(status: u16, headers: &str) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in headers.split('|').filter_map(|line| line.split_once(':')) {
        response = response.header(name, value);
    }
    response.body(()).unwrap().into_parts().0
}

#[test]
fn the_readers_read_what_servers_write_and_nothing_else() {
    type Read = fn(&response::Parts) -> Option<ServerDelay>;
    let (ms, reset, grpc): (Read, Read, Read) =
        (retry_after_ms, x_ratelimit_reset, grpc_retry_pushback_ms);
    let after = |millis| Some(ServerDelay::After(millis * MILLISECOND));
    let longest = Some(ServerDelay::After(Duration::MAX));
    let never = Some(ServerDelay::Never);
    let rows: &[(Read, &str, Option<ServerDelay>)] = &[
        (ms, "", None),
        (ms, "retry-after:7", None),
        (ms, "retry-after-ms:1500", after(1500)),
        (ms, "retry-after-ms: 20\t", after(20)),
        (ms, "retry-after-ms:0.5", Some(ServerDelay::After(Duration::from_micros(500)))),
        (ms, "retry-after-ms:0", after(0)),
        (ms, "x-ms-retry-after-ms:30", after(30)),
        (ms, "retry-after-ms:1|x-ms-retry-after-ms:30", after(1)),
        (ms, "retry-after-ms:soon|x-ms-retry-after-ms:30", after(30)),
        (ms, "retry-after-ms:-1", None),
        (ms, "retry-after-ms:+1", None),
        (ms, "retry-after-ms:1e3", None),
        (ms, "retry-after-ms:inf", None),
        (ms, "retry-after-ms:NaN", None),
        (ms, "retry-after-ms:.", None),
        (ms, "retry-after-ms:1.2.3", None),
        (ms, "retry-after-ms:", None),
        (ms, "retry-after-ms:\u{fc}", None),
        (ms, "retry-after-ms:999999999999999999999999999999", longest),
        (reset, "", None),
        (reset, "x-ratelimit-reset:30", after(30_000)),
        (reset, "x-ratelimit-reset:0.25", after(250)),
        (reset, "x-ratelimit-reset:999999999", Some(ServerDelay::After(999_999_999 * SECOND))),
        (reset, "x-ratelimit-reset:1700000030|date:Tue, 14 Nov 2023 22:13:20 GMT", after(30_000)),
        (reset, "x-ratelimit-reset:1700000030.5|date:Tue, 14 Nov 2023 22:13:20 GMT", after(30_500)),
        (
            reset,
            "x-ratelimit-reset:1700000030500|date:Tue, 14 Nov 2023 22:13:20 GMT",
            after(30_500),
        ),
        (reset, "x-ratelimit-reset:1700000000|date:Tue, 14 Nov 2023 22:13:21 GMT", after(0)),
        (reset, "x-ratelimit-reset:1700000000", after(0)),
        (reset, "x-ratelimit-reset:9|x-ratelimit-remaining:0", after(9000)),
        (reset, "x-ratelimit-reset:9|x-ratelimit-remaining:0.0", after(9000)),
        (reset, "x-ratelimit-reset:9|x-ratelimit-remaining:12", None),
        (reset, "x-ratelimit-reset:9|x-ratelimit-remaining:some", after(9000)),
        (reset, "x-ratelimit-reset:-9", None),
        (reset, "x-ratelimit-reset:1s", None),
        (grpc, "", None),
        (grpc, "grpc-retry-pushback-ms:1500", after(1500)),
        (grpc, "grpc-retry-pushback-ms: 10", after(10)),
        (grpc, "grpc-retry-pushback-ms:0", after(0)),
        (grpc, "grpc-retry-pushback-ms:-1", never),
        (grpc, "grpc-retry-pushback-ms:1.5", never),
        (grpc, "grpc-retry-pushback-ms:soon", never),
        (grpc, "grpc-retry-pushback-ms:", never),
        (grpc, "grpc-retry-pushback-ms:1|grpc-retry-pushback-ms:2", never),
    ];
    rows::hold(rows, |(read, headers, want)| {
        // Rounding errors of floats do not matter.
        let rounded = |delay: ServerDelay| match delay {
            ServerDelay::After(delay) if delay < SECOND * 100 => {
                ServerDelay::After(Duration::from_micros((delay.as_nanos() as u64 + 500) / 1000))
            }
            delay => delay,
        };
        (format!("{headers:?}"), read(&head(503, headers)).map(rounded), *want)
    });

    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + 1000 * SECOND;
    let said = x_ratelimit_reset(&head(429, &format!("x-ratelimit-reset:{}", soon.as_secs())));
    assert!(
        matches!(said, Some(ServerDelay::After(delay)) if delay > 900 * SECOND && delay <= 1000 * SECOND),
        "without a Date our clock counts: {said:?}"
    );
}

/// The decision after one response. `None` if it is no failure.
fn decided(policy: &RetryPolicy, response: &response::Parts) -> Option<Decision> {
    let mut policy = policy.for_request(&Extensions::new());
    let failure = Policy::classify(&policy, Ok(response))?;
    let headers = HeaderMap::new();
    Some(policy.decide(&Attempt::new(&Method::GET, &headers, Ok(response), failure)))
}

#[test]
fn what_a_reader_reads_counts_as_a_retry_after_does() {
    let five = || policy().backoff(Backoff::constant(5 * SECOND));
    let ms = || five().retry_after(retry_after_ms);
    let grpc = || five().retry_after(grpc_retry_pushback_ms);
    let jitter = || ms().backoff(Backoff::constant(SECOND).jitter(Jitter::Full));
    let retry = |millis| Some(Decision::Retry { after: millis * MILLISECOND });
    let stop = |reason| Some(Decision::Return(reason));
    let rows: Vec<(&str, RetryPolicy, u16, &str, Option<Decision>)> = vec![
        ("without it", five(), 503, "retry-after-ms:1500", retry(5000)),
        ("in place of the backoff", ms(), 503, "retry-after-ms:1500", retry(1500)),
        ("whatever the status", ms(), 502, "retry-after-ms:1500", retry(1500)),
        ("before Retry-After", ms(), 503, "retry-after-ms:1500|retry-after:2", retry(1500)),
        ("after None", ms(), 503, "retry-after-ms:soon|retry-after:2", retry(2000)),
        ("neither", ms(), 503, "", retry(5000)),
        ("zero", ms(), 503, "retry-after-ms:0|retry-after:2", retry(5000)),
        ("at the maximum", ms(), 503, "retry-after-ms:60000", retry(60_000)),
        ("past it", ms(), 503, "retry-after-ms:60001", stop(StopReason::RetryAfter)),
        (
            "past it, clamped",
            ms().retry_after_over_max(OverMax::Clamp),
            503,
            "retry-after-ms:60001",
            retry(60_000),
        ),
        (
            "past the deadline",
            ms().deadline(SECOND),
            503,
            "retry-after-ms:1500",
            stop(StopReason::Deadline),
        ),
        ("a little jitter, at the least", jitter(), 503, "retry-after-ms:1500", retry(1500)),
        ("switched off", ms().respect_retry_after(false), 503, "retry-after-ms:1500", retry(5000)),
        ("never", grpc(), 503, "grpc-retry-pushback-ms:-1", stop(StopReason::RetryAfter)),
        (
            "never, not clamped",
            grpc().retry_after_over_max(OverMax::Clamp),
            503,
            "grpc-retry-pushback-ms:-1",
            stop(StopReason::RetryAfter),
        ),
        (
            "never, switched off",
            grpc().respect_retry_after(false),
            503,
            "grpc-retry-pushback-ms:-1",
            retry(5000),
        ),
        ("413 that is not listed", ms(), 413, "retry-after-ms:1500", retry(1500)),
        (
            "429 that is not listed",
            ms().status_forcelist([]),
            429,
            "retry-after-ms:1500",
            retry(1500),
        ),
        ("413, switched off", ms().respect_retry_after(false), 413, "retry-after-ms:1500", None),
        ("413 that asks for no retry", grpc(), 413, "grpc-retry-pushback-ms:-1", None),
        ("500 that is not listed", ms(), 500, "retry-after-ms:1500", None),
        ("200", ms(), 200, "retry-after-ms:1500", None),
    ];
    rows::hold(rows, |(row, policy, status, headers, want)| {
        (row, decided(&policy, &head(status, headers)), want)
    });
}

#[test]
fn a_request_that_the_caller_calls_idempotent_may_be_repeated() {
    let searches = |method: &Method, uri: &Uri, headers: &HeaderMap| {
        (method == Method::POST && uri.path() == "/_search") || headers.contains_key("x-safe")
    };
    let policy = policy().idempotent(searches);
    let (search, other) = (Uri::from_static("/_search"), Uri::from_static("/pay"));
    let (none, safe) =
        (HeaderMap::new(), HeaderMap::from_iter([("x-safe".parse().unwrap(), 1.into())]));
    let retry = Decision::Retry { after: Duration::ZERO };
    let stop = Decision::Return;
    let rows = [
        ("by method and path", Method::POST, Some(&search), &none, retry),
        ("another method", Method::PATCH, Some(&search), &none, stop(StopReason::Method)),
        ("another path", Method::POST, Some(&other), &none, stop(StopReason::Method)),
        ("by a header", Method::PATCH, Some(&other), &safe, retry),
        ("it forbids nothing", Method::GET, Some(&other), &none, retry),
        ("nothing was kept", Method::POST, None, &none, stop(StopReason::Method)),
        ("CONNECT", Method::CONNECT, Some(&search), &safe, stop(StopReason::Disabled)),
    ];
    let broken = std::io::Error::from(ConnectionReset);
    rows::hold(rows, |(row, method, uri, headers, want)| {
        let mut attempt = Attempt::new(&method, headers, Err(&broken), Failure::Read);
        attempt.uri = uri;
        (row, policy.for_request(&Extensions::new()).decide(&attempt), want)
    });
    let never = RetryPolicy::new().connect(0);
    assert!(!never.may_retry(&Method::POST, &none));
    assert!(never.clone().idempotent(searches).may_retry(&Method::POST, &none));
    assert!(!never.idempotent(searches).total(0).may_retry(&Method::POST, &none));
}

/// Sends a request through this crate's layer or tower's.
async fn send(
    ours: bool,
    policy: RetryPolicy,
    server: &Server,
    request: Request<Body>,
) -> Response<Body> {
    match ours {
        true => client(policy, server).oneshot(request).await.unwrap(),
        false => {
            let layer = tower::retry::RetryLayer::new(policy);
            layer.layer(server.strict()).oneshot(request).await.unwrap()
        }
    }
}

const RUNNERS: [bool; 2] = [true, false];

/// The hook sees the URI and the headers that the caller made.
#[tokio::test]
async fn an_idempotent_post_is_sent_again_by_both_runners() {
    let tables = [("/p", 2), ("/other", 1)];
    for ours in RUNNERS {
        for (path, sends) in tables {
            let server = Server::new([Ok(502)]);
            let policy = policy().connect(0).idempotent(move |_, uri, headers| {
                uri.path() == path && !headers.contains_key("x-inner")
            });
            send(ours, policy, &server, request(Method::POST)).await;
            assert_eq!(server.sent(), sends, "{path}, ours: {ours}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_retry_has_the_callers_own_head_with_what_the_hook_makes_of_it() {
    for ours in RUNNERS {
        let server = Server::new([Ok(503), Ok(429), Ok(502)]);
        let told = Arc::new(Mutex::new(Vec::<AttemptRecord>::new()));
        let telling = Arc::clone(&told);
        let hook = move |head: &mut request::Parts, failed: &AttemptRecord| {
            telling.lock().unwrap().push(failed.clone());
            let number = head.extensions.get::<AttemptNumber>().unwrap().0;
            assert_eq!(head.headers["x-attempt"], number.to_string().as_str());
            assert_eq!(head.uri, "http://u:secret@h.example/p?q=secret", "the caller's own");
            head.headers.append("x-hook", failed.number.into());
            head.headers.remove("x-mine");
            head.headers.append("x-twice", HeaderValue::from_static("2"));
            head.uri = format!("http://other.example/{number}").parse().unwrap();
            head.version = Version::HTTP_2;
            head.extensions.insert(failed.number);
            head.extensions.remove::<u8>();
        };
        let mut call = get();
        call.headers_mut().append("x-mine", HeaderValue::from_static("1"));
        call.headers_mut().append("x-twice", HeaderValue::from_static("1"));
        call.extensions_mut().insert(7_u8);
        let policy = policy().attempt_header("x-attempt".parse().unwrap()).before_retry(hook);
        let response = send(ours, policy, &server, call).await;

        let attempts = history(&response).attempts();
        assert_eq!(attempts.len(), 4, "ours: {ours}");
        assert_eq!(*told.lock().unwrap(), attempts[..3], "ours: {ours}");
        let delays: Vec<_> = attempts.iter().map(|attempt| attempt.delay).collect();
        let at_once = Some(Duration::ZERO);
        assert_eq!(delays, [at_once, Some(3 * SECOND), at_once, None], "ours: {ours}");
        server.seen(|heads| {
            let seen: Vec<_> = heads
                .iter()
                .map(|head| {
                    let all = |name| {
                        let values = head.headers.get_all(name).iter();
                        values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" ")
                    };
                    format!(
                        "{} {:?} mine {:?} twice {:?} hook {:?} attempt {:?} {:?} {:?}",
                        head.uri.path(),
                        head.version,
                        all("x-mine"),
                        all("x-twice"),
                        all("x-hook"),
                        head.extensions.get::<AttemptNumber>().map(|number| number.0),
                        head.extensions.get::<u32>(),
                        head.extensions.get::<u8>(),
                    )
                })
                .collect();
            let want = [
                r#"/p HTTP/1.1 mine "1" twice "1" hook "" attempt None None Some(7)"#,
                r#"/2 HTTP/2.0 mine "" twice "1 2" hook "1" attempt Some(2) Some(1) None"#,
                r#"/3 HTTP/2.0 mine "" twice "1 2" hook "2" attempt Some(3) Some(2) None"#,
                r#"/4 HTTP/2.0 mine "" twice "1 2" hook "3" attempt Some(4) Some(3) None"#,
            ];
            rows::hold(seen.into_iter().zip(want), |(got, want)| ("an attempt", got, want));
        });
    }
}

/// The caller's own head decides whether the request may be repeated, even if the hook changes it.
#[tokio::test]
async fn a_hook_that_makes_a_post_of_a_get_does_not_change_whether_it_is_repeated() {
    for ours in RUNNERS {
        let server = Server::new([Ok(503), Ok(502)]);
        let policy = policy().before_retry(|head, _| head.method = Method::POST);
        send(ours, policy, &server, get()).await;
        let methods = server
            .seen(|heads| heads.iter().map(|head| head.method.to_string()).collect::<Vec<_>>());
        assert_eq!(methods, ["GET", "POST", "POST"], "ours: {ours}");
    }
}

/// A token that it reads may have changed while the request waited.
/// The recipe of `before_retry`: a credential that is wrong stays wrong.
#[tokio::test]
async fn a_401_that_stays_is_tried_once_more() {
    let rows: [(&str, &[Answer], usize); 3] = [
        ("a wrong credential", &[Ok(401); 9], 2),
        ("an old token", &[Ok(401)], 2),
        ("a refused connection before it", &[Err(ConnectionRefused), Ok(401), Ok(401)], 2),
    ];
    rows_async::hold(rows, async |(row, answers, sends)| {
        let (server, usual) = (Server::new(answers.iter().copied()), policy());
        let policy = policy().connect(1).classify(move |outcome| match outcome {
            Ok(head) if head.status == StatusCode::UNAUTHORIZED => Some(Failure::Unsent),
            outcome => Policy::classify(&usual, outcome),
        });
        let response = client(policy, &server).oneshot(request(Method::POST)).await;
        (row, (response.is_ok(), server.sent()), (true, sends))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_hook_is_called_after_the_delay_and_for_no_attempt_that_is_not_sent() {
    let begin = Instant::now();
    let rows: [(&str, &[Answer], RetryPolicy, &[u64]); 4] = [
        ("after each delay", &[Ok(429), Ok(429)], policy(), &[3, 6]),
        ("not after the last", &[Ok(429); 9], policy().total(1), &[3]),
        ("not after a success", &[], policy(), &[]),
        ("not past the deadline", &[Ok(429); 9], policy().deadline(5 * SECOND), &[3]),
    ];
    rows_async::hold(rows, async |(row, script, policy, want)| {
        let start = begin.elapsed();
        let called = Arc::new(Mutex::new(Vec::new()));
        let calling = Arc::clone(&called);
        let policy = policy.before_retry(move |_, _| {
            calling.lock().unwrap().push((begin.elapsed() - start).as_secs());
        });
        send(true, policy, &Server::new(script.iter().copied()), get()).await;
        (row, called.lock().unwrap().clone(), want.to_vec())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_says_how_long_the_server_asked_to_wait() {
    let ms = || policy().retry_after(retry_after_ms);
    let grpc = || policy().retry_after(grpc_retry_pushback_ms);
    let rows = [
        ("seconds", policy(), "retry-after:7", Some(7 * SECOND)),
        ("a date", policy(), "retry-after:Thu, 01 Jan 1970 00:00:00 GMT", Some(Duration::ZERO)),
        ("unreadable", policy(), "retry-after:soon", None),
        ("nothing", policy(), "", None),
        ("longer than is accepted", policy(), "retry-after:99999", Some(99_999 * SECOND)),
        (
            "clamped",
            policy().retry_after_over_max(OverMax::Clamp),
            "retry-after:99999",
            Some(99_999 * SECOND),
        ),
        ("by a reader", ms(), "retry-after-ms:1500|retry-after:7", Some(1500 * MILLISECOND)),
        ("by none of it", ms(), "retry-after:7", Some(7 * SECOND)),
        ("never", grpc(), "grpc-retry-pushback-ms:-1", None),
        ("not to be asked", policy().respect_retry_after(false), "retry-after:7", None),
    ];
    let policies = rows.into_iter().flat_map(|row| RUNNERS.map(|ours| (ours, row.clone())));
    rows_async::hold(policies, async |(ours, (row, policy, headers, want))| {
        let server = service_fn(|request: Request<Body>| {
            // The hook is not called for a success.
            let again = request.extensions().get::<AttemptNumber>().is_some();
            let head = head(if again { 200 } else { 503 }, headers);
            ready(Ok::<_, std::io::Error>(Response::from_parts(head, Body::default())))
        });
        let response = match ours {
            true => RetryLayer::new(policy).layer(server).oneshot(get()).await.unwrap(),
            false => {
                tower::retry::RetryLayer::new(policy).layer(server).oneshot(get()).await.unwrap()
            }
        };
        let attempts = history(&response).attempts();
        let asked = (attempts[0].asked(), attempts.get(1).and_then(AttemptRecord::asked));
        (format!("{row}, ours: {ours}"), asked, (want, None))
    })
    .await;
}

/// The first attempt of the inner layer has the outer one's number.
#[tokio::test]
async fn an_attempt_has_the_number_of_the_innermost_layer_that_repeats() {
    let server = Server::new([Ok(503); 9]);
    let layer = |total| RetryLayer::new(policy().total(total));
    layer(2).layer(layer(1).layer(server.strict())).oneshot(get()).await.unwrap();
    let numbers = server.seen(|heads| {
        heads.iter().map(|head| head.extensions.get::<AttemptNumber>().copied()).collect::<Vec<_>>()
    });
    let number = |number| Some(AttemptNumber(number));
    assert_eq!(numbers, [None, number(2), number(2), number(2), number(3), number(2)]);
}

/// A policy of the caller's own has the two methods that the hooks are made of.
#[tokio::test]
async fn a_policy_of_the_callers_own_prepares_attempts_and_reads_waits() {
    #[derive(Clone)]
    struct OnceMore {
        reads: bool,
    }
    impl Policy for OnceMore {
        fn classify(
            &self,
            outcome: Result<&response::Parts, &(dyn std::error::Error + 'static)>,
        ) -> Option<Failure> {
            outcome.ok().map(|head| Failure::Status(head.status))
        }
        fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
            assert_eq!(attempt.uri.map(Uri::path), Some("/p"), "the caller's own");
            match attempt.number {
                1 => Decision::Retry { after: Duration::ZERO },
                _ => Decision::Return(StopReason::Total),
            }
        }
        fn server_delay(&self, head: &response::Parts, _: SystemTime) -> Option<ServerDelay> {
            assert_eq!(head.status, StatusCode::TOO_MANY_REQUESTS);
            self.reads.then_some(ServerDelay::After(SECOND))
        }
        fn prepare(&self, head: &mut request::Parts, failed: &AttemptRecord) {
            head.headers.insert("x-after", failed.number.into());
        }
    }
    for reads in [true, false] {
        let server = Server::new([Ok(429); 2]);
        let layer = RetryLayer::new(OnceMore { reads });
        let response: Result<_, BoxError> = layer.layer(server.strict()).oneshot(get()).await;
        let response = response.unwrap();
        let asked: Vec<_> = response
            .extensions()
            .get::<RetryHistory>()
            .unwrap()
            .attempts()
            .iter()
            .map(AttemptRecord::asked)
            .collect();
        assert_eq!(asked, [reads.then_some(SECOND); 2]);
        server.seen(|heads| assert_eq!(heads[1].headers["x-after"], "1"));
    }
}

#[tokio::test]
async fn a_policy_is_asked_for_its_terms_at_first_and_after_the_first_failure() {
    #[derive(Clone)]
    struct Counted(Arc<Mutex<usize>>);
    impl Policy for Counted {
        fn classify(
            &self,
            outcome: Result<&response::Parts, &(dyn std::error::Error + 'static)>,
        ) -> Option<Failure> {
            let status = outcome.ok()?.status;
            status.is_server_error().then_some(Failure::Status(status))
        }
        fn decide(&mut self, _: &Attempt<'_>) -> Decision {
            Decision::Retry { after: Duration::ZERO }
        }
        fn terms(&self) -> Terms {
            *self.0.lock().unwrap() += 1;
            Terms::default()
        }
    }
    for (answers, times) in [(vec![Ok(200)], 1), (vec![Ok(503), Ok(503), Ok(200)], 2)] {
        let (server, asked) = (Server::new(answers), Arc::default());
        let layer = RetryLayer::new(Counted(Arc::clone(&asked)));
        let response: Result<_, BoxError> = layer.layer(server.strict()).oneshot(get()).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        assert_eq!(*asked.lock().unwrap(), times);
    }
}
