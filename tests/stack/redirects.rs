//! `RedirectPolicy` and the bodies of requests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_http::follow_redirect::{FollowRedirectLayer, policy::Policy};
use tower_outbound::{RedirectPolicy, retry::ReplayBody};

use crate::rows;

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
