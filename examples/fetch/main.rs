//! curl's `-b -c -L --retry`, over TLS: a real client around the layers.
//!
//! ```sh
//! cargo run --example fetch -- -v -L --retry 3 -b cookies.txt -c cookies.txt https://example.com/
//! ```
//!
//! Flags mean what curl's mean. [`Session::transfer`] has the stack: redirects, retries, cookies,
//! hyper.

mod args;
mod client;
mod failed;
mod log;
mod output;
mod redirects;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, HOST, LOCATION},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RetryLayer,
    cookie::{CookieFile, CookieJar, Format, HostDecides},
    retry::{self, Backoff, Failure, Jitter, Limit, RetryPolicy},
};
use tracing::{Instrument, debug_span};

use self::{
    args::{Args, Target, show},
    client::{Body, HttpClient},
    failed::{BAD_CERTIFICATE, Failed, complain, explain, timed_out},
    redirects::Redirects,
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

/// Gives the exit status: the first failure's.
fn run(args: &Args) -> Result<u8, Failed> {
    if args.verbose {
        log::init();
    }
    if args.outputs.len() > args.urls.len() {
        return Err(Failed::new(2, "more -o than URLs"));
    }
    let (jar, save_to) = jar(args)?;
    let body = args.body()?;
    let session = Session {
        client: client::new(args)?,
        jar,
        policy: policy(args),
        method: args.method.clone().unwrap_or(if body.is_some() {
            Method::POST
        } else {
            Method::GET
        }),
        headers: args.headers(body.is_some())?,
        body: body.unwrap_or_default(),
        args,
    };

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
    // A name look-up that still hangs would keep the program past its --max-time.
    runtime.shutdown_background();
    if let Some(file) = save_to {
        note(file.save().map_err(|error| Failed::new(23, error.to_string())));
    }
    Ok(status)
}

/// The session's jar, filled from `-b`, and the file of `-c`.
fn jar(args: &Args) -> Result<(CookieJar, Option<CookieFile>), Failed> {
    let mut files = args.cookie_files();
    let read = files.next().map(|path| CookieFile::open(path, Format::Netscape)).transpose();
    let read = read.map_err(|error| Failed::new(26, error.to_string()))?;
    if files.next().is_some() {
        return Err(Failed::new(2, "cookies are read from one file only"));
    }
    if let Some(file) = &read {
        let path = file.path().display();
        for line in file.skipped() {
            complain(args.silent, &format_args!("skipped in {path}, {line}"));
        }
    }
    let jar = read.as_ref().map_or_else(CookieJar::new, |file| file.jar().clone());
    // curl's idiom for a jar that is kept nowhere.
    let kept = args.cookie_jar.as_ref().filter(|path| path.as_path() != Path::new("/dev/null"));
    let save_to = kept.map(|path| match read {
        // One and the same: only then does a save know what has changed since it was read.
        Some(file) if same_file(file.path(), path) => file,
        _ => CookieFile::with_jar(path, Format::Netscape, jar.clone()),
    });
    Ok((jar, save_to))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn policy(args: &Args) -> RetryPolicy {
    let mut policy = RetryPolicy::new()
        .total(args.retry.map_or(Limit::Disabled, Limit::Times))
        .status_forcelist(
            [408, 429, 500, 502, 503, 504]
                .into_iter()
                .filter_map(|code| StatusCode::from_u16(code).ok()),
        )
        // As long as curl waits at most.
        .retry_after_max(Duration::from_secs(6 * 60 * 60))
        // One user's own requests: there is no fleet to hold back.
        .no_budget();
    if let Some(delay) = args.retry_delay.filter(|delay| !delay.is_zero()) {
        policy = policy.backoff(Backoff::constant(delay).jitter(Jitter::None));
    }
    let classes = policy.clone();
    policy.classify(move |outcome| match outcome {
        // With a Retry-After the policy's own classes would retry it.
        Ok(head) if head.status == StatusCode::PAYLOAD_TOO_LARGE => None,
        // A failed connection, which they would retry too; but the certificate will be no better.
        Err(error) if explain(error).status == BAD_CERTIFICATE => Some(Failure::Never),
        _ => retry::Policy::classify(&classes, outcome),
    })
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
    async fn fetch(&self, target: &Target, output: Option<&Path>) -> Result<(), Failed> {
        // The hop that is under way, for the message.
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
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::with_policy(Redirects::new(self.args)))
            .map_request(move |mut request: Request<Body>| {
                *hop.lock().unwrap_or_else(PoisonError::into_inner) = show(request.uri());
                if let Some(until) = until {
                    // Each hop has its own retries, but all of them have the one deadline.
                    let left = until.saturating_duration_since(Instant::now());
                    request.extensions_mut().insert(policy.clone().deadline(left));
                }
                request
            })
            .layer(RetryLayer::new(self.policy.clone()))
            .layer(CookieLayer::new(self.jar.clone()))
            .service(self.client.clone());

        let mut request = Request::new(Body::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(value) = &target.authorization {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| value.clone());
        }
        // A Host of the user's own names whose cookies they are, as in curl.
        if self.headers.contains_key(HOST) {
            request.extensions_mut().insert(HostDecides);
        }
        let response = client.oneshot(request).await.map_err(|error| explain(&*error))?;
        // A redirect that was to be followed and is here all the same led nowhere. An empty
        // Location is no redirect, as in curl.
        let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = response.headers().get(LOCATION);
        let leads = location.is_some_and(|location| !location.as_bytes().trim_ascii().is_empty());
        if self.args.location && redirects && leads {
            return Err(Failed::new(1, "cannot follow: its Location leads nowhere"));
        }
        output::write(response, output, self.args.include).await
    }
}
