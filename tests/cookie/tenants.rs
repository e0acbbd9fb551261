//! A jar per request, and jars merged.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Request, Response, header::COOKIE};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_outbound::cookie::{CookieControl, CookieJar, CookieLayer, ResponseCookies};

type Client = BoxCloneService<Request<()>, Response<String>, Infallible>;

/// A server that sets what the request's `x-set` says, and answers with the `Cookie` header it got.
fn per_request() -> Client {
    let server = service_fn(|request: Request<()>| async move {
        let got =
            request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap()).to_owned();
        let mut response = Response::new(got);
        if let Some(line) = request.headers().get("x-set") {
            response.headers_mut().insert("set-cookie", line.clone());
        }
        Ok(response)
    });
    BoxCloneService::new(CookieLayer::per_request().layer(server))
}

async fn send(
    client: &mut Client,
    set: &str,
    extensions: impl FnOnce(&mut http::Extensions),
) -> Response<String> {
    let mut request = Request::get("https://example.com/").header("x-set", set).body(()).unwrap();
    extensions(request.extensions_mut());
    client.ready().await.unwrap().call(request).await.unwrap()
}

#[tokio::test]
async fn each_request_has_the_jar_it_brings_and_no_other() {
    let mut client = per_request();
    let (ann, bob) = (CookieJar::new(), CookieJar::new());
    send(&mut client, "who=ann", |e| drop(e.insert(ann.clone()))).await;
    send(&mut client, "who=bob", |e| drop(e.insert(bob.clone()))).await;
    let body = |response: Response<String>| response.into_body();
    assert_eq!(body(send(&mut client, "x=1", |e| drop(e.insert(ann.clone()))).await), "who=ann");
    assert_eq!(body(send(&mut client, "x=1", |e| drop(e.insert(bob.clone()))).await), "who=bob");
    // Without a jar: nothing sent, nothing stored, yet the response says what it set.
    let response = send(&mut client, "who=nobody", |_| ()).await;
    assert_eq!(response.extensions().get::<ResponseCookies>().unwrap().to_map()["who"], "nobody");
    assert_eq!(body(response), "");
    // And one request can opt out of its own jar.
    let control = CookieControl { send: false, store: false };
    let response = send(&mut client, "who=changed", |e| {
        e.insert(ann.clone());
        e.insert(control);
    });
    assert_eq!(body(response.await), "");
    let value = |jar: &CookieJar| jar.get("who").unwrap().unwrap().value().into_owned();
    assert_eq!(
        (value(&ann), value(&bob), ann.len(), bob.len()),
        ("ann".into(), "bob".into(), 2, 2)
    );
}

#[test]
fn of_two_jars_merged_the_later_cookie_wins_and_the_older_creation_time_stays() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let clock = || std::time::UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::SeqCst));
    let at = |seconds: u64| NOW.store(1_000_000 + seconds, Ordering::SeqCst);
    let jar = || CookieJar::builder().clock(clock).build();
    let (left, right) = (jar(), jar());
    let uri = "https://example.com/".parse().unwrap();
    for (seconds, jar, line) in [
        (0, &left, "a=left"),
        (1, &right, "a=right"),
        (2, &right, "b=right"),
        (3, &left, "b=left"),
        (4, &left, "only=left"),
        (5, &right, "also=right"),
        (6, &right, "gone=right; Max-Age=1"),
    ] {
        at(seconds);
        jar.set(&uri, line).unwrap();
    }
    at(10);
    let changes = left.changes();
    left.merge(&right);
    assert!(left.changes() > changes);
    assert_eq!(left.header(&uri).unwrap(), "a=right; b=left; only=left; also=right");
    let created = |name: &str| {
        left.get(name).unwrap().unwrap().created().duration_since(std::time::UNIX_EPOCH).unwrap()
    };
    let seconds = |name| created(name).as_secs() - 1_000_000;
    assert_eq!((seconds("a"), seconds("b"), seconds("also")), (0, 2, 5));
    assert_eq!(right.len(), 4 - 1, "the expired one is gone, and else the other jar is as it was");
    // With itself, and back: nothing happens.
    let (header, changes) = (left.header(&uri), left.changes());
    left.merge(&left.clone());
    assert_eq!((left.header(&uri), left.changes()), (header, changes));
}
