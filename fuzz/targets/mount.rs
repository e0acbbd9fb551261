//! Any prefix and any URI: errors, not panics. A prefix serves the URI that it names, and every
//! request that it serves is sent to the host that it names.
#![no_main]

use std::net::Ipv6Addr;

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
        if let Some((mount, names_port)) = prefix_dialled(prefix) {
            let request = dialled(&uri.parse().expect("it was served")).expect("it has a host");
            assert_eq!(mount.0, request.0, "{prefix} serves another host, by {uri}");
            assert!(!names_port || mount.1 == request.1, "{prefix} serves another port, by {uri}");
        }
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

/// The host and port that a client connects to, read without the crate.
fn dialled(uri: &Uri) -> Option<(String, Option<u16>)> {
    let authority = uri.authority()?;
    let host = authority.host().to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match address.map(str::parse::<Ipv6Addr>) {
        Some(Ok(address)) => address.to_string(),
        _ => host.strip_suffix('.').unwrap_or(&host).to_owned(),
    };
    let implied = match uri.scheme_str() {
        Some("https" | "wss") => Some(443),
        Some("http" | "ws") => Some(80),
        _ => None,
    };
    Some((host, authority.port_u16().or(implied)))
}

/// The same for a prefix that is a URI with one host, and whether it has a port.
fn prefix_dialled(prefix: &str) -> Option<((String, Option<u16>), bool)> {
    let uri = prefix.parse::<Uri>().ok()?;
    let host = uri.host()?;
    let is_plain = !host.contains('*') && !prefix.contains(":*") && !host.contains('%');
    (is_plain && !host.is_empty())
        .then(|| Some((dialled(&uri)?, uri.port_u16().is_some())))
        .flatten()
}

fn never()
-> impl tower::Service<Request<()>, Response = Response<()>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync {
    service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>())
}
