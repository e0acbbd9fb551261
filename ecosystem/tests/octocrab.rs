//! octocrab: our layers by `with_layer`, and its own retries.

use std::sync::Arc;

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT},
};
use http_body::Body;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use octocrab::{
    AuthState, OctoBody, Octocrab, OctocrabBuilder,
    service::middleware::{
        base_uri::BaseUriLayer, extra_headers::ExtraHeadersLayer, retry::RetryConfig,
    },
};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tower::util::MapRequestLayer;
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, Failure, Policy, RetryError, RetryPolicy, retry_after::x_ratelimit_reset},
};
use tower_outbound_ecosystem::{Seen, Server, busy_at_first, json as json_response};

fn api(seen: &Seen) -> Response<http_body_util::Full<bytes::Bytes>> {
    json_response(&json!({"login": "octocat", "body": String::from_utf8_lossy(&seen.body)}))
}

/// `with_service` adds no retries, so ours are the only ones. The last layer is the outermost.
fn client(server: &Server, jar: &CookieJar, policy: RetryPolicy) -> Octocrab {
    client_of(&server.origin("localhost"), jar, policy)
}

/// `site` is the base URI, with its path, and the prefix of the mount.
fn client_of(site: &str, jar: &CookieJar, policy: RetryPolicy) -> Octocrab {
    // A clone of an `OctoBody` shares its data, and is empty after the data was sent. `try_clone`
    // makes an independent body. For an empty body, as in a GET, it returns `None`.
    let replay =
        |body: &OctoBody| body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty));
    let retries = RetryLayer::new(policy.backoff(Backoff::none())).replay_with(replay);
    OctocrabBuilder::new_empty()
        .with_service(Client::builder(TokioExecutor::new()).build_http::<OctoBody>())
        .with_layer(&CookieLayer::new(jar.clone()))
        .with_layer(&RoutingLayer::builder().mount(site, retries).build().unwrap())
        // octocrab's own requests have no host, so this must be outside the mounts.
        .with_layer(&BaseUriLayer::new(site.parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_call_survives_a_503_and_cookies_are_kept_across_calls() {
    let server = Server::start(busy_at_first(api)).await;
    let jar = CookieJar::new();
    let octocrab = client(&server, &jar, RetryPolicy::new());
    for _ in 0..2 {
        let user: Value = octocrab.get("/user", None::<&()>).await.unwrap();
        assert_eq!(user["login"], "octocat");
    }
    assert_eq!(server.lines(), ["GET /user", "GET /user busy=1", "GET /user busy=1; done=1"]);
    assert_eq!((jar.len(), server.connections()), (2, 1));
}

/// One stack for the public site and for an enterprise's, with a mount for each host.
#[tokio::test]
async fn each_site_has_the_mount_of_its_host() {
    let (patient, hasty) =
        (Server::start(busy_at_first(api)).await, Server::start(busy_at_first(api)).await);
    let retries = |policy: RetryPolicy| {
        let replay = |body: &OctoBody| {
            body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty))
        };
        RetryLayer::new(policy.backoff(Backoff::none())).replay_with(replay)
    };
    let jar = CookieJar::new();
    let site = |origin: String| {
        let routes = RoutingLayer::builder()
            .mount(patient.origin("localhost"), retries(RetryPolicy::new()))
            .mount(hasty.origin("127.0.0.1"), retries(RetryPolicy::none()))
            .strict();
        OctocrabBuilder::new_empty()
            .with_service(Client::builder(TokioExecutor::new()).build_http::<OctoBody>())
            .with_layer(&CookieLayer::new(jar.clone()))
            .with_layer(&routes.build().unwrap())
            .with_layer(&BaseUriLayer::new(origin.parse().unwrap()))
            .with_auth(AuthState::None)
            .build()
            .unwrap()
    };
    let (public, own) = (site(patient.origin("localhost")), site(hasty.origin("127.0.0.1")));
    assert!(public.get::<Value, _, _>("/user", None::<&()>).await.is_ok());
    assert!(own.get::<Value, _, _>("/user", None::<&()>).await.is_err());
    assert_eq!((patient.lines().len(), hasty.lines().len(), jar.len()), (2, 1, 3));
}

#[tokio::test]
async fn a_post_is_repeated_with_its_body_only_where_the_policy_says_so() {
    for (policy, attempts) in [(RetryPolicy::new(), 1), (RetryPolicy::new().any_method(), 2)] {
        let server = Server::start(busy_at_first(api)).await;
        let octocrab = client(&server, &CookieJar::new(), policy);
        let made: Result<Value, _> =
            octocrab.post("/user/repos", Some(&json!({"name": "new"}))).await;
        assert_eq!(made.is_ok(), attempts == 2, "{made:?}");
        let bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies, vec![r#"{"name":"new"}"#; attempts]);
    }
}

/// octocrab's default client retries three times, also a POST. `RetryConfig::None` turns that off.
#[tokio::test]
async fn octocrabs_own_retries_are_one_setting_of_its_builder() {
    for (config, attempts) in [(RetryConfig::Simple(3), 2), (RetryConfig::None, 1)] {
        let server = Server::start(busy_at_first(api)).await;
        let octocrab = Octocrab::builder()
            .base_uri(server.origin("localhost"))
            .unwrap()
            .add_retry_config(config)
            .build()
            .unwrap();
        let user: Result<Value, _> = octocrab.get("/user", None::<&()>).await;
        let made: Result<Value, _> =
            octocrab.post("/user/repos", Some(&json!({"name": "new"}))).await;
        assert_eq!(
            (user.is_ok(), made.is_ok()),
            (attempts == 2, attempts == 2),
            "{user:?} {made:?}"
        );
        let lines = server.lines();
        let count = |line| lines.iter().filter(|other| *other == line).count();
        assert_eq!(
            (count("GET /user"), count("POST /user/repos")),
            (attempts, attempts),
            "{lines:?}"
        );
    }
}

/// If octocrab is given a service, it sets only the token.
#[tokio::test]
async fn a_token_a_user_agent_and_tls_go_with_each_attempt() {
    let server = Server::start_tls(busy_at_first(api)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.certificate.clone().expect("it speaks TLS")).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    let replay =
        |body: &OctoBody| body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty));
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())).replay_with(replay);
    let origin = server.origin("localhost");
    let user_agent = vec![(USER_AGENT, HeaderValue::from_static("my-app/1.0"))];
    let octocrab = OctocrabBuilder::new_empty()
        .with_service(Client::builder(TokioExecutor::new()).build::<_, OctoBody>(tls))
        .with_layer(&CookieLayer::default())
        .with_layer(&RoutingLayer::builder().mount(origin.as_str(), retries).build().unwrap())
        .with_layer(&ExtraHeadersLayer::new(Arc::new(user_agent)))
        .with_layer(&BaseUriLayer::new(origin.parse().unwrap()))
        .with_auth(AuthState::AccessToken { token: "secret".to_owned().into() })
        .build()
        .unwrap();
    let user = tokio::spawn(async move { octocrab.get::<Value, _, _>("/user", None::<&()>).await });
    assert_eq!(user.await.unwrap().unwrap()["login"], "octocat");
    assert_eq!(server.lines(), ["GET /user", "GET /user busy=1"]);
    for seen in server.seen() {
        assert_eq!(seen.header["authorization"], "Bearer secret");
        assert_eq!(seen.header["user-agent"], "my-app/1.0");
    }
}

#[tokio::test]
async fn a_mount_may_have_the_path_of_the_base_uri() {
    let server = Server::start(busy_at_first(api)).await;
    let site = format!("{}/api/v3", server.origin("localhost"));
    let octocrab = client_of(&site, &CookieJar::new(), RetryPolicy::new());
    // A relative URI, and the absolute one of a `next` link.
    for uri in ["/user".to_owned(), format!("{site}/repos")] {
        octocrab.get::<Value, _, _>(uri, None::<&()>).await.unwrap();
    }
    assert_eq!(
        server.lines(),
        [
            "GET /api/v3/user",
            "GET /api/v3/user busy=1",
            "GET /api/v3/repos busy=1; done=1",
            "GET /api/v3/repos busy=1; done=1"
        ]
    );
}

/// octocrab knows only `api.github.com` as the host of a token.
#[tokio::test]
async fn an_absolute_link_to_another_server_has_no_token_but_from_a_layer() {
    for is_in_a_layer in [false, true] {
        let server = Server::start(|seen, _| api(seen)).await;
        let origin = server.origin("localhost");
        let own = server.address.port();
        let token = MapRequestLayer::new(move |mut request: Request<OctoBody>| {
            let uri = request.uri();
            if is_in_a_layer && (uri.host(), uri.port_u16()) == (Some("localhost"), Some(own)) {
                let token = HeaderValue::from_static("Bearer secret");
                request.headers_mut().insert(AUTHORIZATION, token);
            }
            request
        });
        let octocrab = OctocrabBuilder::new_empty()
            .with_service(Client::builder(TokioExecutor::new()).build_http::<OctoBody>())
            .with_layer(&token)
            .with_layer(&BaseUriLayer::new(origin.parse().unwrap()))
            .with_auth(AuthState::AccessToken { token: "secret".to_owned().into() })
            .build()
            .unwrap();
        let elsewhere = server.origin("127.0.0.1");
        for uri in ["/user".to_owned(), format!("{origin}/user"), format!("{elsewhere}/user")] {
            octocrab.get::<Value, _, _>(uri, None::<&()>).await.unwrap();
        }
        let tokens: Vec<_> =
            server.seen().iter().map(|seen| seen.header.contains_key(AUTHORIZATION)).collect();
        assert_eq!(tokens, [true, is_in_a_layer, false]);
    }
}

/// The policy of the guide's page `clients`.
fn waits_for_rate_limits() -> RetryPolicy {
    let usual = RetryPolicy::new();
    RetryPolicy::new().retry_after(x_ratelimit_reset).classify(move |outcome| match outcome {
        Ok(head)
            if matches!(head.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
                && (head.headers.contains_key(RETRY_AFTER)
                    || x_ratelimit_reset(head).is_some()) =>
        {
            Some(Failure::Unsent)
        }
        outcome => Policy::classify(&usual, outcome),
    })
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_and_another_403_is_not() {
    type Headers = &'static [(&'static str, &'static str)];
    const SPENT: Headers = &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")];
    const FOR_AN_HOUR: Headers = &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "3600")];
    const NOT_SPENT: Headers = &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "0")];
    const SECONDARY: Headers = &[("x-ratelimit-remaining", "7"), ("retry-after", "0")];
    let usual: fn() -> RetryPolicy = RetryPolicy::new;
    let rows = [
        ("a primary limit", waits_for_rate_limits as fn() -> RetryPolicy, 403, SPENT, 2),
        ("a primary limit as 429", waits_for_rate_limits, 429, SPENT, 2),
        ("a secondary limit", waits_for_rate_limits, 403, SECONDARY, 2),
        ("a longer wait than a minute", waits_for_rate_limits, 403, FOR_AN_HOUR, 1),
        ("no rate limit", waits_for_rate_limits, 403, NOT_SPENT, 1),
        ("without the classifier", usual, 403, SPENT, 1),
        (
            "with the reader alone",
            || RetryPolicy::new().retry_after(x_ratelimit_reset),
            403,
            SPENT,
            1,
        ),
    ];
    for (name, policy, status, headers, attempts) in rows {
        let server = Server::start(move |seen, count| {
            let mut response = api(seen);
            if count == 0 {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                for (name, value) in headers {
                    response.headers_mut().insert(*name, HeaderValue::from_static(value));
                }
            }
            response
        })
        .await;
        let octocrab = client(&server, &CookieJar::new(), policy());
        let made: Result<Value, _> =
            octocrab.post("/user/repos", Some(&json!({"name": "new"}))).await;
        assert_eq!(made.is_ok(), attempts == 2, "{name}: {made:?}");
        assert_eq!(server.lines(), vec!["POST /user/repos"; attempts], "{name}");
    }
}

#[tokio::test]
async fn the_error_of_a_typed_call_is_the_retries_error() {
    // A port that is bound, so that nothing else uses it, but not listening.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let site = format!("http://{}", deaf.local_addr().unwrap());
    let octocrab = client_of(&site, &CookieJar::new(), RetryPolicy::new().total(1));
    match octocrab.current().user().await {
        Err(octocrab::Error::Service { source, .. }) => {
            let error = source.downcast_ref::<RetryError>().expect("a limit is used up");
            assert_eq!(error.history().attempts().len(), 2);
        }
        other => panic!("{other:?}"),
    }
}
