//! A server that knows the cookies that each tenant must have, fails on purpose, and records what
//! must never happen.

use std::{
    collections::HashMap,
    error::Error,
    fmt::{self, Write as _},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame};
use tower::{BoxError, Service};

/// The last one has no mount at first, and the first two share a site.
pub(crate) const HOSTS: [&str; 4] =
    ["api.example.com", "www.example.com", "shop.example.org", "other.example"];

/// Errors after which the request was not processed.
#[derive(Debug)]
pub(crate) struct NeverWritten;

impl fmt::Display for NeverWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("never written")
    }
}

impl Error for NeverWritten {}

/// What a tenant's jar must hold, according to the answers that its client got.
struct Cookie {
    name: &'static str,
    value: u64,
    host: usize,
    /// Whether the other hosts of the site get it too.
    has_domain: bool,
    is_secure: bool,
    path: &'static str,
}

/// The names differ by kind, so that two kinds are never one cookie.
const KINDS: [(&str, bool, bool, &str); 4] = [
    ("sid", false, true, "/"),
    ("csrf", false, false, "/account"),
    ("all", true, true, "/"),
    ("seen", true, false, "/"),
];

fn site(host: usize) -> &'static str {
    let (_, site) = HOSTS[host].split_once('.').expect("a dot");
    if host == 3 { HOSTS[3] } else { site }
}

impl Cookie {
    fn is_for(&self, host: usize, is_secure: bool, path: &str) -> bool {
        let is_host = self.host == host || self.has_domain && site(self.host) == site(host);
        is_host && (is_secure || !self.is_secure) && path.starts_with(self.path)
    }
}

/// How the last attempt of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not ended, or its caller did not wait for the end.
    Open,
    Answered(StatusCode),
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) tenant: usize,
    pub(crate) host: usize,
    /// Whether the caller has said that it may be processed twice.
    pub(crate) may_repeat: bool,
    pub(crate) is_mounted: bool,
    pub(crate) attempts: usize,
    pub(crate) end: End,
    processed: u32,
    /// Whether the attempt before it was never sent. The first retry after that is free.
    was_unsent: bool,
    has_drawn_free: bool,
}

#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    pub(crate) mounted: u64,
    pub(crate) paid_retries: u64,
    pub(crate) posts_processed: u64,
    pub(crate) cookies_sent: u64,
    pub(crate) cookies_set: u64,
    pub(crate) ends: HashMap<&'static str, u64>,
}

pub(crate) struct Book {
    pub(crate) random: fastrand::Rng,
    tenants: Vec<Vec<Cookie>>,
    open: HashMap<u64, Asked>,
    values: u64,
    /// How many attempts of 100 fail.
    pub(crate) trouble: u8,
    /// Whether the caller would really wait for an attempt without an answer.
    pub(crate) is_real_time: bool,
    pub(crate) counts: Counts,
    pub(crate) wrong: Vec<String>,
}

impl Book {
    pub(crate) fn wrong(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }

    pub(crate) fn meet(&mut self, what: &'static str) {
        *self.counts.ends.entry(what).or_default() += 1;
    }

    pub(crate) fn ask(
        &mut self,
        id: u64,
        tenant: usize,
        host: usize,
        may_repeat: bool,
        is_mounted: bool,
    ) {
        let asked = Asked {
            tenant,
            host,
            may_repeat,
            is_mounted,
            attempts: 0,
            end: End::Open,
            processed: 0,
            was_unsent: false,
            has_drawn_free: false,
        };
        self.open.insert(id, asked);
        self.counts.mounted += u64::from(is_mounted);
    }

    fn process(&mut self, id: u64, method: &Method) {
        self.counts.posts_processed += u64::from(method == Method::POST);
        let asked = self.open.get_mut(&id).expect("it is open");
        asked.processed += 1;
        if asked.processed > 1 && !asked.may_repeat {
            let attempts = asked.attempts;
            self.wrong(format!("#{id}: processed again by attempt {attempts}"));
        }
    }

    /// Checks a request when its caller is done with it.
    pub(crate) fn close(&mut self, id: u64) -> Asked {
        self.open.remove(&id).expect("it was asked")
    }

    /// Checks that the `Cookie` header has all cookies of the tenant, and no others.
    fn check(&mut self, id: u64, uri: &Uri, headers: &HeaderMap) {
        let Asked { tenant, host, .. } = self.open[&id];
        let is_secure = uri.scheme_str() == Some("https");
        let sent = headers.get(header::COOKIE).map_or("", |value| value.to_str().expect("ASCII"));
        let mut left = 0;
        let mut missing = String::new();
        for cookie in &self.tenants[tenant] {
            if cookie.is_for(host, is_secure, uri.path()) {
                left += 1;
                let pair = (cookie.name, format_args!("{tenant}-{}", cookie.value));
                let is_sent = sent
                    .split("; ")
                    .filter_map(|sent| sent.split_once('='))
                    .any(|(name, value)| name == pair.0 && is_value(value, tenant, cookie.value));
                if !is_sent {
                    let _ = write!(missing, " {}={}", pair.0, pair.1);
                }
            }
        }
        self.counts.cookies_sent += left as u64;
        let pairs = if sent.is_empty() { 0 } else { sent.split("; ").count() };
        if pairs != left || !missing.is_empty() {
            self.wrong(format!(
                "#{id}: tenant {tenant} at {uri} sent {sent:?}, {left} were due, without{missing}"
            ));
        }
    }

    /// Changes cookies by an answer, and in the tenant's book.
    fn change(&mut self, tenant: usize, host: usize, is_secure: bool, headers: &mut HeaderMap) {
        while self.random.u8(..4) == 0 {
            let (name, has_domain, needs_secure, path) = KINDS[self.random.usize(..KINDS.len())];
            if needs_secure && !is_secure {
                continue;
            }
            let jar = &mut self.tenants[tenant];
            let is_one = |cookie: &Cookie| {
                cookie.name == name
                    && (cookie.host == host || has_domain && site(cookie.host) == site(host))
            };
            let at = jar.iter().position(is_one);
            let mut line = String::with_capacity(64);
            if self.random.u8(..4) == 0 {
                let _ = write!(line, "{name}=; Max-Age=0; Path={path}");
                at.map(|at| jar.swap_remove(at));
            } else {
                self.values += 1;
                let value = self.values;
                let _ = write!(line, "{name}={tenant}-{value}; Path={path}");
                // Some are session cookies.
                if self.random.bool() {
                    line.push_str("; Max-Age=86400");
                }
                let cookie =
                    Cookie { name, value, host, has_domain, is_secure: needs_secure, path };
                match at {
                    Some(at) => jar[at] = cookie,
                    None => jar.push(cookie),
                }
            }
            if has_domain {
                let _ = write!(line, "; Domain={}", site(host));
            }
            if needs_secure {
                line.push_str("; Secure");
            }
            self.counts.cookies_set += 1;
            headers
                .append(header::SET_COOKIE, HeaderValue::try_from(line).expect("a header's value"));
        }
    }
}

fn is_value(sent: &str, tenant: usize, value: u64) -> bool {
    sent.split_once('-')
        .is_some_and(|(owner, number)| owner.parse() == Ok(tenant) && number.parse() == Ok(value))
}

/// Shared by the callers and the upstream, which run on one thread.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<Book>>);

impl World {
    pub(crate) fn new(seed: u64, tenants: usize) -> Self {
        Self(Arc::new(Mutex::new(Book {
            random: fastrand::Rng::with_seed(seed),
            tenants: (0..tenants).map(|_| Vec::new()).collect(),
            open: HashMap::new(),
            values: 0,
            trouble: 10,
            is_real_time: false,
            counts: Counts::default(),
            wrong: Vec::new(),
        })))
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Bodies.

/// The bytes of a request's body, and of its answer.
pub(crate) fn content(id: u64, chunk: u8) -> Bytes {
    Bytes::from(format!("chunk {chunk} of {id};"))
}

/// A body that comes in chunks and is not always ready.
pub(crate) struct Chunks {
    id: u64,
    sent: u8,
    chunks: u8,
    /// A bit for each poll: whether the poll is pending.
    pending: u16,
    tail: Tail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    Whole,
    Breaks,
    NeverEnds,
}

impl Chunks {
    pub(crate) const fn new(id: u64, chunks: u8, pending: u16, tail: Tail) -> Self {
        Self { id, sent: 0, chunks, pending, tail }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let is_pending = self.pending & 1 == 1;
        self.pending >>= 1;
        if is_pending {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.sent == self.chunks {
            return match self.tail {
                Tail::Whole => Poll::Ready(None),
                Tail::Breaks => Poll::Ready(Some(Err("the body breaks".into()))),
                Tail::NeverEnds => Poll::Pending,
            };
        }
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(content(self.id, self.sent)))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.chunks && self.tail == Tail::Whole
    }
}

// The service.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    Answer(u16),
    /// The request is not processed, and the client knows that.
    Refused,
    Unwritten,
    /// The request is not processed, and the client cannot know that.
    Reset,
    /// The request is processed, and there is no answer.
    ResetAfter,
    TimedOut,
    Garbled,
    Silent,
}

impl Plan {
    fn draw(random: &mut fastrand::Rng, trouble: u8) -> Self {
        if random.u8(..100) >= trouble {
            return Self::Answer([200, 200, 200, 204, 404, 500][random.usize(..6)]);
        }
        match random.u8(..16) {
            0 | 1 => Self::Refused,
            2 => Self::Unwritten,
            3 => Self::Reset,
            4 => Self::ResetAfter,
            5 => Self::TimedOut,
            6 => Self::Garbled,
            7 => Self::Silent,
            8 => Self::Answer(421),
            9 => Self::Answer(425),
            10 => Self::Answer(429),
            11 => Self::Answer(408),
            12 => Self::Answer(502),
            13 => Self::Answer(504),
            _ => Self::Answer(503),
        }
    }

    const fn is_unsent(self) -> bool {
        matches!(self, Self::Refused | Self::Unwritten | Self::Answer(421 | 425))
    }

    const fn processes(self) -> bool {
        !self.is_unsent() && !matches!(self, Self::Reset)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Answer(200..400) => "2xx",
            Self::Answer(421 | 425) => "421 and 425, not processed",
            Self::Answer(429) => "429",
            Self::Answer(400..500) => "other 4xx",
            Self::Answer(_) => "5xx",
            Self::Refused => "connection refused",
            Self::Unwritten => "never written",
            Self::Reset => "reset before it was processed",
            Self::ResetAfter => "reset after it was processed",
            Self::TimedOut => "timed out",
            Self::Garbled => "garbled",
            Self::Silent => "no answer",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Upstream(pub(crate) World);

pub(crate) fn id(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-id")?.to_str().ok()?.parse().ok()
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Response = Response<Chunks>;
    type Error = BoxError;
    type Future = Exchange<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Exchange<B> {
        let mut book = self.0.book();
        let book = &mut *book;
        let id = id(request.headers()).expect("each request has one");
        book.check(id, request.uri(), request.headers());
        let plan = match Plan::draw(&mut book.random, book.trouble) {
            Plan::Silent if book.is_real_time => Plan::ResetAfter,
            plan => plan,
        };
        book.meet(plan.name());
        book.counts.attempts += 1;
        let asked = book.open.get_mut(&id).expect("it is open");
        asked.attempts += 1;
        asked.end = End::Open;
        if asked.attempts > 1 {
            if asked.was_unsent && !asked.has_drawn_free {
                asked.has_drawn_free = true;
            } else {
                book.counts.paid_retries += 1;
            }
        }
        asked.was_unsent = matches!(plan, Plan::Refused | Plan::Unwritten);
        if plan == Plan::Silent {
            book.process(id, request.method());
        }
        Exchange {
            world: self.0.clone(),
            id,
            plan,
            request,
            pending: book.random.u8(..4),
            // Sometimes it answers before it has read the whole body.
            reads: book.random.u8(..8) > 0,
            got: Vec::new(),
        }
    }
}

/// Keeps the request until it ends, as a client does.
pub(crate) struct Exchange<B> {
    world: World,
    id: u64,
    plan: Plan,
    request: Request<B>,
    pending: u8,
    reads: bool,
    got: Vec<u8>,
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads the upload, which must be the request's from its first byte.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while let Some(frame) = ready!(Pin::new(self.request.body_mut()).poll_frame(cx)) {
            let data = frame.map_err(Into::into)?.into_data().expect("no trailers");
            self.got.extend_from_slice(&data);
        }
        // A body that is sent again may arrive in other pieces.
        let chunks = self.request.headers()["x-chunks"].as_bytes()[0] - b'0';
        let mut left = &*self.got;
        let is_whole = (1..=chunks).all(|chunk| {
            let rest = left.strip_prefix(&*content(self.id, chunk));
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        if !is_whole || !left.is_empty() {
            let got = String::from_utf8_lossy(&self.got);
            self.world.book().wrong(format!("#{}: of {chunks} chunks {got:?}", self.id));
        }
        Poll::Ready(Ok(()))
    }

    fn end(&self) -> Result<Response<Chunks>, BoxError> {
        let mut book = self.world.book();
        let book = &mut *book;
        let Self { id, plan, request, .. } = self;
        if plan.processes() {
            book.process(*id, request.method());
        }
        let asked = book.open.get_mut(id).expect("it is open");
        let (tenant, host) = (asked.tenant, asked.host);
        let Plan::Answer(status) = *plan else {
            asked.end = End::Failed;
            return Err(match plan {
                Plan::Refused => io::Error::from(io::ErrorKind::ConnectionRefused).into(),
                Plan::Unwritten => NeverWritten.into(),
                Plan::TimedOut => io::Error::from(io::ErrorKind::TimedOut).into(),
                Plan::Garbled => "no HTTP".into(),
                _ => io::Error::from(io::ErrorKind::ConnectionReset).into(),
            });
        };
        let status = StatusCode::from_u16(status).expect("a status");
        asked.end = End::Answered(status);
        let attempt = asked.attempts;
        let (chunks, pending) = (book.random.u8(..3), book.random.u16(..) & 0b101);
        let tail = match book.random.u8(..16) {
            0 => Tail::Breaks,
            1 => Tail::NeverEnds,
            _ => Tail::Whole,
        };
        let mut response = Response::new(Chunks::new(*id, chunks, pending, tail));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("x-id", HeaderValue::from(*id));
        headers.insert("x-attempt", HeaderValue::from(attempt));
        headers.insert("x-chunks", HeaderValue::from(u16::from(chunks)));
        if matches!(status.as_u16(), 429 | 503) && book.random.bool() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
        }
        let is_secure = request.uri().scheme_str() == Some("https");
        book.change(tenant, host, is_secure, headers);
        Ok(response)
    }
}

impl<B> Future for Exchange<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Chunks>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pending > 0 {
            self.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let writes = !matches!(self.plan, Plan::Refused | Plan::Unwritten);
        if self.reads && writes {
            let read = ready!(self.poll_upload(cx));
            self.reads = false;
            if let Err(error) = read {
                // The upload broke off, so the request is not processed.
                let mut book = self.world.book();
                book.open.get_mut(&self.id).expect("it is open").end = End::Failed;
                return Poll::Ready(Err(error));
            }
        }
        if self.plan == Plan::Silent {
            return Poll::Pending;
        }
        Poll::Ready(self.end())
    }
}
