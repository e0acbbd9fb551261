//! kube: its `Client` over a stack with our layers, and its own retries.

use http::{HeaderValue, Response, StatusCode, Uri, uri::PathAndQuery};
use hyper_util::{client::legacy::Client as HyperClient, rt::TokioExecutor};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    client::{Body, ClientBuilder, ConfigExt},
};
use serde_json::json;
use tokio::net::TcpSocket;
use tower::{ServiceBuilder, buffer::BufferLayer};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, Failure, Policy, RetryError, RetryPolicy},
};
use tower_outbound_ecosystem::{Seen, Server, busy_at_first, json as json_response};

fn cluster(seen: &Seen) -> Response<http_body_util::Full<bytes::Bytes>> {
    json_response(&match seen.method.as_str() {
        "POST" => json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}}),
        _ => json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": {},
            "items": [{"metadata": {"name": "one"}}, {"metadata": {"name": "two"}}],
        }),
    })
}

/// `Client::new` adds no retries, so ours are the only ones.
fn client(server: &Server, jar: &CookieJar, policy: RetryPolicy) -> Client {
    let config = Config::new(server.origin("localhost").parse().unwrap());
    let retries = RetryLayer::new(policy.backoff(Backoff::none()))
        .replay_with(|body: &Body| body.try_clone());
    let service = ServiceBuilder::new()
        // kube's own requests have no host, so this must be outside the mounts.
        .layer(config.base_uri_layer())
        .layer(RoutingLayer::builder().mount(server.origin("localhost"), retries).build().unwrap())
        .layer(CookieLayer::new(jar.clone()))
        .service(HyperClient::builder(TokioExecutor::new()).build_http());
    Client::new(service, config.default_namespace)
}

fn pods(client: Client) -> Api<Pod> {
    Api::default_namespaced(client)
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_list_survives_a_503_and_cookies_are_kept_across_calls() {
    let server = Server::start(busy_at_first(cluster)).await;
    let jar = CookieJar::new();
    let pods = pods(client(&server, &jar, RetryPolicy::new()));
    for _ in 0..2 {
        let list = pods.list(&ListParams::default()).await.unwrap();
        let names: Vec<_> =
            list.items.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["one", "two"]);
    }
    assert_eq!(
        server.lines(),
        [format!("GET {PODS}"), format!("GET {PODS} busy=1"), format!("GET {PODS} busy=1; done=1")]
    );
    assert_eq!((jar.len(), server.connections()), (2, 1));
}

/// One stack for two clusters. Each host has its mount, and the jar keeps their cookies apart.
#[tokio::test]
async fn each_cluster_has_the_mount_of_its_host() {
    let (patient, hasty) =
        (Server::start(busy_at_first(cluster)).await, Server::start(busy_at_first(cluster)).await);
    let retries = |policy: RetryPolicy| {
        RetryLayer::new(policy.backoff(Backoff::none())).replay_with(|body: &Body| body.try_clone())
    };
    let jar = CookieJar::new();
    let routes = RoutingLayer::builder()
        .mount(patient.origin("localhost"), retries(RetryPolicy::new()))
        .mount(hasty.origin("127.0.0.1"), retries(RetryPolicy::none()))
        .strict();
    let stack = ServiceBuilder::new()
        .layer(routes.build().unwrap())
        .layer(CookieLayer::new(jar.clone()))
        .service(HyperClient::builder(TokioExecutor::new()).build_http());
    let pods_of = |origin: String| {
        let base_uri = Config::new(origin.parse().unwrap()).base_uri_layer();
        pods(Client::new(ServiceBuilder::new().layer(base_uri).service(stack.clone()), "default"))
    };
    assert!(pods_of(patient.origin("localhost")).list(&ListParams::default()).await.is_ok());
    assert!(pods_of(hasty.origin("127.0.0.1")).list(&ListParams::default()).await.is_err());
    assert!(pods_of(hasty.origin("127.0.0.1")).list(&ListParams::default()).await.is_ok());
    assert_eq!(patient.lines(), [format!("GET {PODS}"), format!("GET {PODS} busy=1")]);
    assert_eq!(hasty.lines(), [format!("GET {PODS}"), format!("GET {PODS} busy=1")]);
    assert_eq!(jar.len(), 4);
}

#[tokio::test]
async fn a_create_is_repeated_with_its_body_only_where_the_policy_says_so() {
    for (policy, attempts) in [(RetryPolicy::new(), 1), (RetryPolicy::new().any_method(), 2)] {
        let server = Server::start(busy_at_first(cluster)).await;
        let pods = pods(client(&server, &CookieJar::new(), policy));
        let pod = Pod::default();
        assert_eq!(pods.create(&PostParams::default(), &pod).await.is_ok(), attempts == 2);
        let seen = server.seen();
        assert_eq!(seen.len(), attempts);
        assert!(seen.iter().all(|seen| seen.body == serde_json::to_vec(&pod).unwrap()));
    }
}

/// A layer with a default origin can also be outside kube's base URI. It does not change the
/// request.
#[tokio::test]
async fn relative_uris_are_routed_by_a_default_origin() {
    let server = Server::start(busy_at_first(cluster)).await;
    let origin: Uri = server.origin("localhost").parse().unwrap();
    let config = Config::new(origin.clone());
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()))
        .replay_with(|body: &Body| body.try_clone());
    let routes = RoutingLayer::builder()
        .mount(server.origin("localhost"), retries)
        .default_origin(origin)
        .strict();
    let service = ServiceBuilder::new()
        .layer(routes.build().unwrap())
        .layer(config.base_uri_layer())
        .service(HyperClient::builder(TokioExecutor::new()).build_http());
    let list = pods(Client::new(service, "default")).list(&ListParams::default()).await.unwrap();
    assert_eq!((list.items.len(), server.lines().len()), (2, 2));
}

/// kube's `ClientBuilder` has its own retries (429, 503, 504; also for POST). `default_retry` turns
/// them off.
#[tokio::test]
async fn kubes_own_retries_are_one_field_of_its_config() {
    for (default_retry, attempts) in [(true, 2), (false, 1)] {
        let server = Server::start(busy_at_first(cluster)).await;
        let mut config = Config::new(server.origin("localhost").parse().unwrap());
        config.default_retry = default_retry;
        let pods = pods(ClientBuilder::try_from(config).unwrap().build());
        assert_eq!(
            pods.create(&PostParams::default(), &Pod::default()).await.is_ok(),
            default_retry
        );
        assert_eq!(server.lines(), vec![format!("POST {PODS}"); attempts]);
    }
}

/// Over kube's whole stack: its TLS, its token, its base URI. Its box is not `Clone`, so there is a
/// buffer.
#[tokio::test]
async fn over_kubes_own_tls_and_token_the_layers_alone_retry() {
    let server = Server::start_tls(busy_at_first(cluster)).await;
    let origin: Uri = server.origin("localhost").parse().unwrap();
    let mut config = Config::new(origin.clone());
    config.default_retry = false;
    config.root_cert = server.certificate.as_ref().map(|certificate| vec![certificate.to_vec()]);
    config.auth_info.token = Some("secret".to_owned().into());
    let jar = CookieJar::new();
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()))
        .replay_with(|body: &Body| body.try_clone());
    let routes =
        RoutingLayer::builder().mount(origin.to_string(), retries).default_origin(origin.clone());
    let client = ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&BufferLayer::new(64))
        .with_layer(&CookieLayer::new(jar.clone()).default_origin(origin))
        .with_layer(&routes.build().unwrap())
        .build();
    // In its own task, as in a controller.
    let list = tokio::spawn(async move { pods(client).list(&ListParams::default()).await });
    assert_eq!(list.await.unwrap().unwrap().items.len(), 2);
    assert_eq!(server.lines(), [format!("GET {PODS}"), format!("GET {PODS} busy=1")]);
    assert!(server.seen().iter().all(|seen| seen.header["authorization"] == "Bearer secret"));
    assert_eq!(jar.len(), 2);
}

/// kube's whole stack without its retries, then ours: `mount` is the prefix of the retries.
fn outside_kubes_stack(cluster_url: &Uri, mount: &Uri, policy: RetryPolicy) -> Client {
    let mut config = Config::new(cluster_url.clone());
    config.default_retry = false;
    let retries = RetryLayer::new(policy.backoff(Backoff::none()))
        .replay_with(|body: &Body| body.try_clone());
    let routes = RoutingLayer::builder()
        .mount(mount.to_string(), retries)
        .default_origin(cluster_url.clone());
    ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&BufferLayer::new(64))
        .with_layer(&CookieLayer::default().default_origin(cluster_url.clone()))
        .with_layer(&routes.build().unwrap())
        .build()
}

fn origin_of(cluster_url: &Uri) -> Uri {
    let mut parts = cluster_url.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap()
}

/// kube adds the path of the cluster (as Rancher's) below the layers. A default origin may have it.
#[tokio::test]
async fn a_mount_with_the_path_of_the_cluster_matches_no_request() {
    for is_origin_only in [true, false] {
        let server = Server::start(busy_at_first(cluster)).await;
        let cluster_url: Uri =
            format!("{}/k8s/clusters/c-1", server.origin("localhost")).parse().unwrap();
        let mount = if is_origin_only { origin_of(&cluster_url) } else { cluster_url.clone() };
        let pods = pods(outside_kubes_stack(&cluster_url, &mount, RetryPolicy::new()));
        assert_eq!(pods.list(&ListParams::default()).await.is_ok(), is_origin_only);
        let path = format!("GET /k8s/clusters/c-1{PODS}");
        let wanted =
            if is_origin_only { vec![path.clone(), format!("{path} busy=1")] } else { vec![path] };
        assert_eq!(server.lines(), wanted);
    }
}

#[tokio::test]
async fn a_cookie_for_the_path_of_the_cluster_is_not_sent() {
    let server = Server::start(|seen, _| {
        let mut response = cluster(seen);
        for cookie in ["below=1; Path=/k8s/clusters/c-1", "above=1; Path=/api"] {
            response.headers_mut().append("set-cookie", HeaderValue::from_static(cookie));
        }
        response
    })
    .await;
    let cluster_url: Uri =
        format!("{}/k8s/clusters/c-1", server.origin("localhost")).parse().unwrap();
    let mount = origin_of(&cluster_url);
    let pods = pods(outside_kubes_stack(&cluster_url, &mount, RetryPolicy::new()));
    for _ in 0..2 {
        pods.list(&ListParams::default()).await.unwrap();
    }
    let path = format!("GET /k8s/clusters/c-1{PODS}");
    assert_eq!(server.lines(), [path.clone(), format!("{path} above=1")]);
}

/// The API server answers 429 before it processes a request.
#[tokio::test]
async fn a_create_that_was_rejected_with_429_is_repeated_by_kube_or_by_a_classifier() {
    let usual = RetryPolicy::new();
    let unsent = RetryPolicy::new().classify(move |outcome| match outcome {
        Ok(head) if head.status == StatusCode::TOO_MANY_REQUESTS => Some(Failure::Unsent),
        outcome => Policy::classify(&usual, outcome),
    });
    let rows = [("kube's own", None, 2), ("ours", Some(RetryPolicy::new()), 1)];
    for (name, policy, attempts) in rows.into_iter().chain([("classified", Some(unsent), 2)]) {
        let server = Server::start(|seen, count| {
            let mut response = cluster(seen);
            if count == 0 {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
            }
            response
        })
        .await;
        let origin: Uri = server.origin("localhost").parse().unwrap();
        let client = match policy {
            None => ClientBuilder::try_from(Config::new(origin)).unwrap().build(),
            Some(policy) => outside_kubes_stack(&origin, &origin, policy),
        };
        let made = pods(client).create(&PostParams::default(), &Pod::default()).await;
        assert_eq!(made.is_ok(), attempts == 2, "{name}: {made:?}");
        assert_eq!(server.lines(), vec![format!("POST {PODS}"); attempts], "{name}");
    }
}

#[tokio::test]
async fn the_error_of_a_typed_call_is_the_retries_error() {
    // A port that is bound, so that nothing else uses it, but not listening.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let origin: Uri = format!("http://{}", deaf.local_addr().unwrap()).parse().unwrap();
    let pods = pods(outside_kubes_stack(&origin, &origin, RetryPolicy::new().total(1)));
    match pods.list(&ListParams::default()).await {
        Err(kube::Error::Service(error)) => {
            let error = error.downcast_ref::<RetryError>().expect("a limit is used up");
            assert_eq!(error.history().attempts().len(), 2);
        }
        other => panic!("{other:?}"),
    }
}
