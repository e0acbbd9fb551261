//! reqwest as a tower service through tower-reqwest, and reqwest with the jar as its cookie store.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use reqwest::{Body, ResponseBuilderExt};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, Failure, OneExchangeLayer, RetryError, RetryHistory, RetryPolicy},
    routing::Mount,
};
use tower_outbound_ecosystem::{Seen, Server, busy_at_first};
use tower_reqwest::HttpClientLayer;

type Session = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// What reqwest would do by itself is left to the layers: redirects, since each hop has cookies of
/// its own, and retries.
fn reqwest() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
        .unwrap()
}

fn session(server: &Server, jar: &CookieJar, policy: RetryPolicy) -> Session {
    // A body in memory can be sent again, but a stream cannot.
    let copy = |body: &Body| body.as_bytes().map(|bytes| Body::from(Bytes::copy_from_slice(bytes)));
    let retries = RetryLayer::new(policy.backoff(Backoff::none())).replay_with(copy);
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new().replay_with(copy)))
        .layer(RoutingLayer::builder().mount(server.origin("localhost"), retries).build().unwrap())
        .layer(CookieLayer::new(jar.clone()))
        .layer(HttpClientLayer)
        .service(reqwest());
    Session::new(stack)
}

fn moved(seen: &Seen) -> Response<http_body_util::Full<Bytes>> {
    let response = match seen.uri.path() {
        "/old" => Response::builder().status(302).header("location", "/new"),
        _ => Response::builder(),
    };
    response.body(seen.body.clone().into()).unwrap()
}

#[tokio::test]
async fn a_call_survives_a_503_and_keeps_cookies_over_redirects_and_calls() {
    let server = Server::start(busy_at_first(moved)).await;
    let jar = CookieJar::new();
    let session = session(&server, &jar, RetryPolicy::new());
    let get = || {
        Request::get(format!("{}/old", server.origin("localhost"))).body(Body::default()).unwrap()
    };
    let response = session.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&Mount(server.origin("localhost").into())));
    assert_eq!(response.extensions().get::<RetryHistory>().unwrap().attempts().len(), 2);
    assert_eq!(
        server.lines(),
        ["GET /old", "GET /old busy=1", "GET /new busy=1; done=1", "GET /new busy=1; done=1"]
    );
    assert_eq!((jar.len(), server.connections()), (2, 1));
}

#[tokio::test]
async fn a_put_is_repeated_with_its_body_and_a_stream_is_sent_once() {
    let server = Server::start(busy_at_first(moved)).await;
    let session = session(&server, &CookieJar::new(), RetryPolicy::new());
    let put = |path: &str, body: Body| {
        Request::put(format!("{}{path}", server.origin("localhost"))).body(body).unwrap()
    };
    let response = session.clone().oneshot(put("/bytes", Body::from("text"))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "text");
    let stream = Body::wrap(http_body_util::Full::new(Bytes::from("stream")));
    assert_eq!(session.oneshot(put("/stream", stream)).await.unwrap().status(), 503);
    let bodies: Vec<_> =
        server.seen().into_iter().map(|seen| (seen.uri.path().to_owned(), seen.body)).collect();
    let wanted = [("/bytes", "text"), ("/bytes", "text"), ("/stream", "stream")];
    assert_eq!(bodies, wanted.map(|(path, body)| (path.to_owned(), Bytes::from(body))));
}

/// A complete reqwest client for each prefix, with its own proxies and TLS settings.
#[tokio::test]
async fn each_mount_may_be_a_client_of_its_own() {
    let server = Server::start(|_, _| Response::new(http_body_util::Full::default())).await;
    let named = |name: &'static str| reqwest::Client::builder().user_agent(name).build().unwrap();
    let session = RoutingLayer::builder()
        .mount_service(server.origin("localhost"), HttpClientLayer.layer(named("mounted")))
        .build()
        .unwrap()
        .layer(HttpClientLayer.layer(named("fallback")));
    for host in ["localhost", "127.0.0.1"] {
        let request = Request::get(server.origin(host)).body(Body::default()).unwrap();
        session.clone().oneshot(request).await.unwrap();
    }
    let agents: Vec<_> =
        server.seen().iter().map(|seen| seen.header["user-agent"].clone()).collect();
    assert_eq!(agents, ["mounted", "fallback"]);
}

/// reqwest repeats what an HTTP/2 server refused, without the policy. With `never` the policy makes
/// that attempt.
#[tokio::test]
async fn what_reqwest_repeats_by_itself_is_the_policys_once_it_is_turned_off() {
    let default = || {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        builder.http2_prior_knowledge()
    };
    for (client, attempts) in
        [(default(), None), (default().retry(reqwest::retry::never()), Some(2))]
    {
        let server = Server::start(|_, count| {
            let mut response = Response::new(http_body_util::Full::default());
            if count == 0 {
                response.extensions_mut().insert(h2::Reason::REFUSED_STREAM);
            }
            response
        })
        .await;
        let client = ServiceBuilder::new()
            // The retries cannot see what reqwest does with a request.
            .layer(OneExchangeLayer::new())
            .layer(HttpClientLayer)
            .service(client.build().unwrap());
        let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())).replay_with(
            |body: &Body| body.as_bytes().map(|bytes| Bytes::copy_from_slice(bytes).into()),
        );
        // It was not processed, so even a POST may be repeated.
        let post = Request::post(server.origin("localhost")).body(Body::from("text")).unwrap();
        let response = retries.layer(client).oneshot(post).await.unwrap();
        let history =
            response.extensions().get::<RetryHistory>().map(|history| history.attempts().len());
        assert_eq!(
            (response.status(), history, server.lines()),
            (200.try_into().unwrap(), attempts, vec!["POST /".to_owned(); 2])
        );
    }
}

/// The kernel accepts the connection, and nothing answers.
#[tokio::test]
async fn a_time_out_of_reqwests_own_is_a_time_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", silent.local_addr().unwrap());
    let time = std::time::Duration::from_millis(50);
    let limits = [
        ("timeout", reqwest::Client::builder().timeout(time)),
        ("read_timeout", reqwest::Client::builder().read_timeout(time)),
    ];
    for (what, client) in limits {
        let client = HttpClientLayer.layer(client.build().unwrap());
        let policy = RetryPolicy::new().total(1).backoff(Backoff::none());
        let retries = RetryLayer::new(policy).replay_with(|_: &Body| Some(Body::default()));
        let get = Request::get(&uri).body(Body::default()).unwrap();
        let error = retries.layer(client).oneshot(get).await.unwrap_err();
        let history = error.downcast_ref::<RetryError>().expect(what).history();
        let failures: Vec<_> = history.attempts().iter().map(|attempt| attempt.failure).collect();
        assert_eq!(failures, [Some(Failure::Timeout); 2], "{what}");
    }
}

/// Each hop has the cookies of its own host.
#[tokio::test]
async fn a_jar_under_reqwest_stores_and_sends_at_each_hop_of_a_redirect() {
    let server = Server::start(|seen: &Seen, _| {
        let (_, port) = seen.host.rsplit_once(':').unwrap();
        let response = match seen.uri.path() {
            "/first" => Response::builder()
                .status(302)
                .header("location", format!("http://127.0.0.1:{port}/second"))
                .header("set-cookie", "first=1; Path=/"),
            "/second" => Response::builder()
                .status(302)
                .header("location", "/third")
                .header("set-cookie", "second=2; Path=/"),
            _ => Response::builder(),
        };
        response.body(Bytes::new().into()).unwrap()
    })
    .await;
    let jar = CookieJar::new();
    let client = reqwest::Client::builder()
        .cookie_provider(std::sync::Arc::new(jar.clone()))
        .build()
        .unwrap();
    for _ in 0..2 {
        let url = format!("{}/first", server.origin("localhost"));
        assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    }
    assert_eq!(
        server.lines(),
        [
            "GET /first",
            "GET /second",
            "GET /third second=2",
            "GET /first first=1",
            "GET /second second=2",
            "GET /third second=2",
        ]
    );
    let domains: Vec<_> = jar.iter().map(|cookie| cookie.domain().to_owned()).collect();
    assert_eq!(domains, ["localhost", "127.0.0.1"]);
}

/// Existing code makes a request with a `RequestBuilder`. It is sent through the stack without
/// tower-reqwest, and the result is a `reqwest::Response`.
#[tokio::test]
async fn existing_code_is_sent_through_the_layers() {
    async fn send_via(
        session: &Session,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, BoxError> {
        let request = Request::try_from(request.build()?)?;
        Ok(session.clone().oneshot(request).await?.into())
    }
    let server = Server::start(busy_at_first(moved)).await;
    let client = reqwest();
    let through = service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let response = client.execute(request.try_into()?).await?;
            let url = response.url().clone();
            let mut response = Response::<Body>::from(response);
            let named = Response::builder().url(url).body(()).expect("an extension alone");
            response.extensions_mut().extend(named.into_parts().0.extensions);
            Ok::<_, reqwest::Error>(response)
        }
    });
    let copy = |body: &Body| body.as_bytes().map(|bytes| Body::from(Bytes::copy_from_slice(bytes)));
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())).replay_with(copy);
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new().replay_with(copy)))
        .layer(RoutingLayer::builder().mount("http://", retries).build().unwrap())
        .layer(CookieLayer::default())
        .layer(OneExchangeLayer::new())
        .service(through);
    let session = Session::new(stack);
    let request = reqwest::Client::new().get(format!("{}/old", server.origin("localhost")));
    let sent = tokio::spawn(async move { send_via(&session, request).await });
    let response = sent.await.unwrap().unwrap().error_for_status().unwrap();
    assert_eq!(response.url().path(), "/new");
    assert_eq!(
        server.lines(),
        ["GET /old", "GET /old busy=1", "GET /new busy=1; done=1", "GET /new busy=1; done=1"]
    );
}
