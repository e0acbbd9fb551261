//! curl's `-b -c -L --retry`, over TLS: a real client around the layers.
//!
//! ```sh
//! cargo run --example fetch -- -v -L --retry 3 -b cookies.txt -c cookies.txt https://example.com/
//! ```
//!
//! Flags have the same meaning as in curl, except for those in the table of `README.md` and
//! `--help`.
//! [`Session::transfer`] has the stack: redirects, retries, cookies, hyper.

mod args;
mod client;
mod decode;
mod explain;
mod failed;
mod jar;
mod log;
mod output;
mod progress;
mod redirects;
mod retries;
mod target;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use clap::Parser;
use http::{
    HeaderMap, Method, Request,
    header::{AUTHORIZATION, HOST, LOCATION},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RetryLayer,
    cookie::{CookieJar, HostDecides},
    retry::RetryPolicy,
};
use tracing::{Instrument, debug_span};

use self::{
    args::Args,
    client::{Body, HttpClient},
    failed::{Failed, complain, timed_out},
    redirects::Redirects,
    target::{Target, show},
};

fn main() -> ExitCode {
    let (result, silent) = match Args::try_parse() {
        Ok(args) => (run(&args), args.silent),
        Err(error) => (failed::usage(&error), false),
    };
    let status = result.unwrap_or_else(|failed| {
        complain(silent && failed.status != 2, &failed);
        failed.status
    });
    status.into()
}

/// Returns the exit status, which is that of the first failure.
fn run(args: &Args) -> Result<u8, Failed> {
    if args.verbose {
        log::init();
    }
    if args.outputs.len() > args.urls.len() {
        return Err(Failed::new(2, "more -o than URLs"));
    }
    let (jar, save_to) = jar::open(args)?;
    let body = args.body()?;
    let session = Session {
        client: client::new(args)?,
        jar,
        policy: retries::policy(args),
        method: args.method.clone().unwrap_or(if body.is_some() {
            Method::POST
        } else {
            Method::GET
        }),
        headers: args.headers(body.is_some())?,
        body: body.unwrap_or_default(),
        args,
    };

    if args.explain {
        return session.explain();
    }
    if args.insecure {
        complain(args.silent, &"warning: -k accepts any certificate; anyone may read and answer");
    }
    let failed = |error| Failed::new(1, format!("cannot start: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut status = 0;
    let mut note = |result: Result<(), Failed>| {
        if let Err(failed) = result {
            complain(args.silent, &failed);
            status = if status == 0 { failed.status } else { status };
        }
    };
    for (number, url) in args.urls.iter().enumerate() {
        let output = args.outputs.get(number).map(PathBuf::as_path);
        note(runtime.block_on(session.fetch(url, output)));
    }
    // Otherwise a name look-up that hangs would keep the program alive beyond --max-time.
    runtime.shutdown_background();
    if let Some(file) = save_to {
        note(file.save().map_err(|error| Failed::new(23, error.to_string())));
    }
    Ok(status)
}

/// What all URLs share.
struct Session<'a> {
    client: HttpClient,
    jar: CookieJar,
    policy: RetryPolicy,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    args: &'a Args,
}

impl Session<'_> {
    fn explain(&self) -> Result<u8, Failed> {
        let unwritable = |error| Failed::new(23, format!("cannot write to stdout: {error}"));
        let mut out = std::io::stdout();
        for Target { uri, .. } in &self.args.urls {
            let text = explain::explain(&self.jar, uri, &self.method, &self.headers);
            out.write_all(text.as_bytes()).map_err(unwritable)?;
        }
        Ok(0)
    }

    async fn fetch(&self, target: &Target, output: Option<&Path>) -> Result<(), Failed> {
        // The current hop, for the error message.
        let hop = Arc::new(Mutex::new(show(&target.uri)));
        // The span tells the log when a poll is over.
        let transfer =
            self.transfer(target, output, Arc::clone(&hop)).instrument(debug_span!("url"));
        let result = match self.args.max_time.filter(|limit| !limit.is_zero()) {
            Some(limit) => {
                tokio::time::timeout(limit, transfer).await.unwrap_or_else(|_| Err(timed_out()))
            }
            None => transfer.await,
        };
        result.map_err(|failed| {
            let hop = hop.lock().unwrap_or_else(PoisonError::into_inner);
            Failed::new(failed.status, format!("{hop}: {failed}"))
        })
    }

    async fn transfer(
        &self,
        target: &Target,
        output: Option<&Path>,
        hop: Arc<Mutex<String>>,
    ) -> Result<(), Failed> {
        let limit =
            self.args.retry_max_time.filter(|limit| !limit.is_zero() && self.args.retry.is_some());
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let policy = self.policy.clone();
        let mut request = Request::new(Body::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(value) = &target.authorization {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| value.clone());
        }
        // If the user gave a Host header, the cookies are those of that host, as in curl.
        if self.headers.contains_key(HOST) {
            request.extensions_mut().insert(HostDecides);
        }
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::with_policy(Redirects::new(self.args, &request)))
            .map_request(move |mut request: Request<Body>| {
                *hop.lock().unwrap_or_else(PoisonError::into_inner) = show(request.uri());
                if let Some(until) = until {
                    // Each hop has its own retries, but all hops share one deadline.
                    let left = until.saturating_duration_since(Instant::now());
                    request.extensions_mut().insert(policy.clone().deadline(left));
                }
                request
            })
            .layer(RetryLayer::new(self.policy.clone()))
            .layer(CookieLayer::new(self.jar.clone()))
            .service(self.client.clone());

        let response = client.oneshot(request).await.map_err(|error| failed::explain(&*error))?;
        // Redirects are followed, so a response that is still one could not be followed. An empty
        // Location is no redirect, as in curl.
        let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = response.headers().get(LOCATION);
        let leads = location.is_some_and(|location| !location.as_bytes().trim_ascii().is_empty());
        if self.args.follow() && redirects && leads {
            let why = "cannot follow: its Location is not a URL, or would repeat the request";
            return Err(Failed::new(1, why));
        }
        output::write(response, output, self.args).await
    }
}
