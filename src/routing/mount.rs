use std::{fmt, sync::Arc};

/// The prefix of the mount that served a request, as it was written: an extension of the response.
///
/// Absent where the fallback served it. Where routers are nested, it is the outermost one's.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, layer::util::Identity, service_fn};
/// use tower_outbound::routing::{Mount, RoutingLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let client = service_fn(|_request: Request<()>| async { Ok::<_, std::io::Error>(Response::new(())) });
/// let client = RoutingLayer::builder().mount("https://api.example.com/v1/", Identity::new()).build()?.layer(client);
///
/// let response = client.oneshot(Request::get("https://api.example.com/v1/users").body(())?).await?;
/// let Mount(prefix) = response.extensions().get().expect("a mount served it");
/// assert_eq!(&**prefix, "https://api.example.com/v1/");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount(pub Arc<str>);

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
