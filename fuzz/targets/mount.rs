//! Any prefix and any URI: errors, not panics; and what a prefix names is served by it.
#![no_main]

use futures_util::FutureExt;
use http::{Request, Response, Uri};
use libfuzzer_sys::fuzz_target;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::routing::{Mount, MountPrefix, RoutingLayer};

fuzz_target!(|text: &str| {
    let Some((prefix, uri)) = text.split_once('\n') else { return };
    if prefix.parse::<MountPrefix>().is_err() {
        assert!(
            RoutingLayer::<(), (), ()>::builder().mount_service(prefix, never()).build().is_err()
        );
        return;
    }
    let answer = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    let layer = RoutingLayer::builder()
        .mount_service(prefix, answer)
        .strict()
        .build()
        .expect("a good prefix");
    let service = layer.layer(answer);
    let served = |uri: &str| {
        let uri = uri.parse::<Uri>().ok()?;
        let call = service.clone().oneshot(Request::builder().uri(uri).body(()).ok()?);
        Some(call.now_or_never().expect("everything here is ready"))
    };
    if let Some(Ok(response)) = served(uri) {
        let Mount(by) = response.extensions().get().expect("the only mount");
        assert_eq!(&**by, prefix);
    }
    let host = prefix
        .split_once("://")
        .map_or(prefix, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    let names_one = !host.is_empty() && prefix.is_ascii() && !host.contains('*');
    if names_one
        && !host.to_ascii_lowercase().contains("xn--")
        && !host.to_ascii_lowercase().contains("invalid")
    {
        let stranger = served("http://unmounted.invalid/").expect("a URI");
        assert!(stranger.is_err(), "{prefix} serves a stranger");
    }
    let named = prefix.starts_with("http://")
        && prefix.is_ascii()
        && !prefix.contains(['*', '?', '#', '\\', ' ', '%']);
    if let Some(result) = named.then(|| served(prefix)).flatten() {
        assert!(result.is_ok(), "{prefix}: {}", result.unwrap_err());
    }
});

fn never()
-> impl tower::Service<Request<()>, Response = Response<()>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync {
    service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>())
}
