//! `RedirectPolicy`: the bodies of requests, and an empty `Location` in every stack.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    layer::util::Identity,
    service_fn,
    util::{BoxCloneSyncService, MapErrLayer},
};
use tower_http::follow_redirect::{FollowRedirectLayer, policy::Policy};
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    retry::{ReplayBody, RetryPolicy},
};

use crate::{pairs::pairs, rows, rows_async};

/// Method and body of each request, and the last status. The server redirects once.
type Got = (Vec<(Method, String)>, u16);

async fn follow<B>(
    policy: impl Policy<B, BoxError> + Clone + Send + 'static,
    status: u16,
    request: Request<B>,
) -> Got
where
    B: Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static,
{
    let got: Arc<Mutex<Vec<_>>> = Arc::default();
    let log = Arc::clone(&got);
    let mut client =
        FollowRedirectLayer::with_policy(policy).layer(service_fn(move |request: Request<B>| {
            let log = Arc::clone(&log);
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                log.lock().unwrap().push((head.method, String::from_utf8(bytes.into()).unwrap()));
                let response = match head.uri.path() {
                    "/" => Response::builder().status(status).header("location", "//b.example/end"),
                    _ => Response::builder(),
                };
                Ok::<_, BoxError>(response.body(())?)
            }
        }));
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    let got = got.lock().unwrap().clone();
    (got, response.status().as_u16())
}

fn put<B>(body: B) -> Request<B> {
    Request::put("https://a.example/").body(body).unwrap()
}

#[tokio::test]
async fn a_body_that_can_be_sent_again_is_and_another_response_is_returned() {
    let captured = |cap| put(ReplayBody::new(Full::<Bytes>::from("one two"), cap));
    let twice = (vec![(Method::PUT, "one two".to_owned()); 2], 200);
    let once = |status| (vec![(Method::PUT, "one two".to_owned())], status);
    let as_get = (vec![(Method::PUT, "one two".to_owned()), (Method::GET, String::new())], 200);
    let full = || put(Full::<Bytes>::from("one two"));
    let text = || put("one two".to_owned());
    let none = RedirectPolicy::new().replay_with(|_: &String| None);
    let copies = RedirectPolicy::new().replay_with(|body: &String| Some(body.clone()));
    let rows = [
        ("bytes, 307", follow(RedirectPolicy::new(), 307, full()).await, &twice),
        ("bytes, 308", follow(RedirectPolicy::new(), 308, full()).await, &twice),
        ("bytes, 303", follow(RedirectPolicy::new(), 303, full()).await, &as_get),
        (
            "a stream that was kept, 307",
            follow(RedirectPolicy::new(), 307, captured(7)).await,
            &twice,
        ),
        ("a function, 307", follow(copies, 307, text()).await, &twice),
        ("a function that does not, 307", follow(none.clone(), 307, text()).await, &once(307)),
        ("a function that does not, 303", follow(none, 303, text()).await, &as_get),
    ];
    rows::hold(rows, |(row, got, want)| (row, got, want.clone()));
}

type Request1 = Request<Full<Bytes>>;
type Client = BoxCloneSyncService<Request1, Response<Full<Bytes>>, BoxError>;

/// `RedirectPolicy` as a layer around `inner`, and a server that redirects three requests to the
/// same place, and then answers.
fn redirecting<L>(status: u16, location: &'static str, inner: &L) -> (Client, Arc<AtomicUsize>)
where
    L: Layer<Client>,
    L::Service: Service<Request1, Response = Response<Full<Bytes>>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request1>>::Error: Into<BoxError>,
    <L::Service as Service<Request1>>::Future: Send,
{
    let sends = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sends);
    let server = service_fn(move |_: Request1| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            let response = match number {
                3.. => Response::builder(),
                _ => Response::builder().status(status).header("location", location),
            };
            Ok(response.body(Full::default())?)
        }
    });
    let client = MapErrLayer::new(Into::into).layer(inner.layer(Client::new(server)));
    (Client::new(RedirectPolicy::new().layer(client)), sends)
}

#[tokio::test]
async fn as_a_layer_it_knows_an_empty_location_in_every_stack() {
    let facts = [
        (Method::GET, 302, "", 1),
        (Method::GET, 307, " ", 1),
        (Method::POST, 301, "", 1),
        (Method::POST, 302, "", 1),
        (Method::POST, 303, "", 1),
        (Method::POST, 307, "", 1),
        (Method::GET, 302, "/a/../p?q=1", 4),
        (Method::GET, 302, "?q=1", 4),
        (Method::POST, 303, "/p?q=1", 4),
        (Method::POST, 308, "/p?q=1", 1),
        (Method::POST, 307, "/p?q=2", 2),
    ];
    let stacks = ["the client alone", "retries", "mounts", "cookies"];
    let rows = pairs(facts, stacks);
    rows_async::hold(rows, async |((method, status, location, want), stack)| {
        let routes = || RoutingLayer::builder().mount("https://a.example", Identity::new());
        let (client, sends) = match stack {
            "retries" => redirecting(status, location, &RetryLayer::new(RetryPolicy::new())),
            "mounts" => redirecting(status, location, &routes().build().unwrap()),
            "cookies" => redirecting(status, location, &CookieLayer::default()),
            _ => redirecting(status, location, &Identity::new()),
        };
        let request = Request::builder().method(&method).uri("https://a.example:443/p?q=1");
        let response = client.oneshot(request.body(Full::from("x")).unwrap()).await.unwrap();
        let sends = sends.load(Ordering::Relaxed);
        assert_eq!(response.status() == 200, sends == 4, "the redirect is returned");
        (format!("{method} {status} {location:?}, {stack}"), sends, want)
    })
    .await;
}
