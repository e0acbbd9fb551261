//! The first look: one mount with retries, one jar, two requests, and a server for them.
#[path = "minimal/server.rs"]
mod server;

use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_outbound::{CookieLayer, RetryLayer, RoutingLayer, cookie::CookieJar};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (base, jar) = (server::start()?, CookieJar::new());
    let session = ServiceBuilder::new()
        .layer(RoutingLayer::builder().mount("http://localhost", RetryLayer::default()).build()?)
        .layer(CookieLayer::new(jar.clone()))
        .service(Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>());
    for path in ["/login", "/account"] {
        let request = http::Request::get(format!("{base}{path}")).body(Empty::new())?;
        let body = session.clone().oneshot(request).await?.into_body().collect().await?;
        println!("{path}: {}, jar: {:?}", str::from_utf8(&body.to_bytes())?, jar.to_map());
    }
    Ok(())
}
