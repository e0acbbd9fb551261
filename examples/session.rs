//! A session as in Python's requests: a login, cookies without any code for them, retries, mounts,
//! and a jar on disk.
//!
//! `cargo run --example session` starts a small server of its own and plays the story against it;
//! `cargo run --example session -- http://HOST:PORT` plays the same story against that one.

/// Like `println!`, but does not panic if the reader closes the pipe.
macro_rules! say {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arguments)*);
    }};
}

#[path = "session/attempts.rs"]
mod attempts;
#[path = "session/server.rs"]
mod server;

use std::{
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    timeout::TimeoutLayer,
    util::{BoxCloneService, MapErrLayer},
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::{self, CookieControl, CookieFile, CookieJar, Format, ResponseCookies},
    retry::{Backoff, Jitter, Limit, RetryError, RetryHistory, RetryPolicy},
    routing::Mount,
};

use attempts::{PrintAttempts, print_retry};

type Body = Full<Bytes>;
type HttpClient = Client<Counted, Body>;
type Session = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

/// The stack: time, redirects, mounts (with their retries), cookies, client.
fn session(client: HttpClient, jar: CookieJar, base: &str) -> Result<Session, BoxError> {
    let policy = retries();
    let routes = RoutingLayer::builder()
        // Every other host. requests mounts this prefix in every session.
        .mount("http://", RetryLayer::new(policy.clone()))
        // session.mount("http://localhost", HTTPAdapter(max_retries=retries)), for every port.
        .mount("http://localhost", RetryLayer::new(policy))
        .mount(format!("{base}/down"), RetryLayer::new(RetryPolicy::new().total(Limit::Disabled)))
        .build()?;
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(routes)
        .layer(PrintAttempts)
        .layer(CookieLayer::new(jar))
        .service(client);
    Ok(BoxCloneService::new(
        ServiceBuilder::new().layer(MapErrLayer::new(BoxError::from)).service(stack),
    ))
}

/// `Retry(total=3, backoff_factor=0.1, status_forcelist=[500], allowed_methods=["GET"])`, except
/// for the first delay: urllib3 has none, and reads the body first. Here the body is read during
/// the delay.
fn retries() -> RetryPolicy {
    RetryPolicy::new()
        .total(3)
        .backoff(Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None))
        .status_forcelist([StatusCode::INTERNAL_SERVER_ERROR])
        .allowed_methods([Method::GET])
        .before_retry(print_retry)
}

struct Story {
    base: String,
    jar: CookieJar,
    session: Session,
    requests: usize,
}

impl Story {
    async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        self.requests += 1;
        self.session.ready().await?.call(request).await
    }

    fn get(&self, path: &str) -> Result<Request<Body>, BoxError> {
        Ok(Request::get(format!("{}{path}", self.base)).body(Body::default())?)
    }

    async fn login(&mut self, name: &str, password: &str) -> Result<(), BoxError> {
        say!("\n# log in as {name:?}");
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", name)
            .append_pair("password", password)
            .finish();
        let login = Request::post(format!("{}/api/login", self.base))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))?;
        let response = self.send(login).await?;
        self.show(response).await?;
        say!("# and ask for the protected page");
        let protected = self.get("/protected")?;
        let response = self.send(protected).await?;
        self.show(response).await
    }

    /// Prints status, body and jar. The jar's values may be shown, because they belong to the
    /// story. The attempts were printed already.
    async fn show(&self, response: Response<Incoming>) -> Result<(), BoxError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, 64 * 1024).collect().await.map(Collected::to_bytes);
        if head.status == StatusCode::NOT_FOUND {
            say!("  skipped: this server has no such endpoint (404)");
            return Ok(());
        }
        let body = body?;
        say!("  status   {}", head.status);
        say!("  body     {}", String::from_utf8_lossy(&body).trim_end());
        if let Some(Mount(prefix)) = head.extensions.get() {
            say!("  mount    {prefix}");
        }
        if let Some(history) = head.extensions.get::<RetryHistory>() {
            say!("  retries  {} ({})", history.attempts().len() - 1, history.stop_reason());
        }
        say!("  jar      {:?}", self.jar.to_map());
        Ok(())
    }
}

async fn play(base: &str, client: HttpClient) -> Result<usize, BoxError> {
    let jar = CookieJar::new();
    let session_of = |jar: CookieJar| session(client.clone(), jar, base);
    let mut story =
        Story { base: base.to_owned(), session: session_of(jar.clone())?, jar, requests: 0 };

    say!("\n# a cookie for one request only, without the session's jar");
    let mut once = story.get("/api/cookies")?;
    once.headers_mut().insert(header::COOKIE, cookie::header_value([("user_id", "2")])?);
    once.extensions_mut().insert(CookieControl { send: false, store: false });
    let response = story.send(once).await?;
    let own = response
        .extensions()
        .get::<ResponseCookies>()
        .map(ResponseCookies::to_map)
        .unwrap_or_default();
    story.show(response).await?;
    say!("  its own  {own:?}");

    story.login("name", "pass").await?;
    story.login("some_name", "pass").await?;

    say!("\n# a flaky endpoint, retried by the policy of its mount");
    let flaky = story.get("/flaky")?;
    let response = story.send(flaky).await?;
    story.show(response).await?;

    say!("\n# an endpoint that is down; this request has a policy that makes it an error");
    let mut down = story.get("/down")?;
    down.extensions_mut().insert(retries().raise_on_status(true));
    match story.send(down).await {
        Ok(response) => story.show(response).await?,
        Err(error) => match error.downcast_ref::<RetryError>() {
            Some(error) => say!("  error    {error}\n{}", indented(error.history())),
            None => return Err(error),
        },
    }

    say!("\n# the same endpoint through its own mount, which has no retries");
    let down = story.get("/down")?;
    let response = story.send(down).await?;
    story.show(response).await?;

    say!("\n# the jar on disk, and a second session that loads it");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cookies.txt");
    CookieFile::with_jar(&path, Format::Netscape, story.jar.clone()).save()?;
    let file = CookieFile::open(&path, Format::Netscape)?;
    say!("  loaded   {} of {} cookies", file.jar().len(), story.jar.len());
    story.jar = file.jar().clone();
    story.session = session_of(story.jar.clone())?;
    let protected = story.get("/protected")?;
    let response = story.send(protected).await?;
    story.show(response).await?;
    Ok(story.requests)
}

fn indented(history: &RetryHistory) -> String {
    let lines: Vec<_> =
        history.to_string().lines().map(|line| format!("           {line}")).collect();
    lines.join("\n")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = std::env::args_os().nth(1).map(|url| url.to_string_lossy().into_owned());
    match run(url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("session: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(url: Option<String>) -> Result<(), BoxError> {
    let opened = Arc::new(AtomicUsize::new(0));
    let client = Client::builder(TokioExecutor::new()).build(Counted::new(&opened));
    match url {
        Some(url) => {
            let base = base_of(&url)?;
            say!("against {base}");
            let requests = play(&base, client).await?;
            say!("\n{requests} requests, over {} connection(s)", opened.load(Ordering::Relaxed));
        }
        None => {
            let server = server::Server::start().await?;
            let base = format!("http://localhost:{}", server.port());
            say!("against a server of its own, {base}");
            let requests = play(&base, client).await?;
            say!(
                "\n{requests} requests in {} attempts over {} connection(s), by the server's count",
                server.requests(),
                server.connections()
            );
        }
    }
    Ok(())
}

fn base_of(url: &str) -> Result<String, BoxError> {
    let usable = "give a base URL such as http://localhost:8000";
    let uri: Uri = url.parse().map_err(|error| format!("not a URL ({error}): {usable}"))?;
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("http"), Some(host), None) if !host.is_empty() => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("not a plain http:// URL: {usable}").into()),
    }
}

/// The error and its sources, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        next = source.source();
    }
    line
}

/// Counts the connections it opens.
#[derive(Clone)]
struct Counted {
    connector: HttpConnector,
    opened: Arc<AtomicUsize>,
}

impl Counted {
    fn new(opened: &Arc<AtomicUsize>) -> Self {
        let mut connector = HttpConnector::new();
        // Otherwise a small last piece of a request waits for an acknowledgement, 40 ms or more.
        connector.set_nodelay(true);
        Self { connector, opened: Arc::clone(opened) }
    }
}

impl Service<Uri> for Counted {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.connector.call(uri)
    }
}
