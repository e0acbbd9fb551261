//! Records everything that happens in one simulation, and reports what must not happen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode, header::SET_COOKIE};

use super::cookies::PlainJar;

/// The last one has no mount, so it has no retries and only the caller's time limit.
pub(crate) const HOSTS: [&str; 4] = ["a.test", "sub.a.test", "b.test", "c.test"];
pub(crate) const MOUNTED: usize = 3;

/// What a mount's policy allows.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) total: u32,
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Option<Duration>,
    /// How many requests earn one retry in the budget. `None` if there is no budget.
    pub(crate) requests_per_retry: Option<u32>,
}

/// How an attempt ended, as seen between the retries and the cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not ended yet.
    Open,
    Status(StatusCode),
    Error(String),
    /// It was dropped: its time was up, or the caller gave up.
    Dropped,
}

struct Attempt {
    cookies: String,
    end: End,
    /// The names and values that its response set.
    set: Vec<String>,
    processed: u32,
}

struct Asked {
    host: usize,
    method: Method,
    keyed: bool,
    attempts: Vec<Attempt>,
}

impl Asked {
    fn may_repeat(&self) -> bool {
        self.keyed || self.method != Method::POST
    }

    fn processed(&self) -> u32 {
        self.attempts.iter().map(|attempt| attempt.processed).sum()
    }
}

/// The outcome of a request for its caller.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A status, and the number of attempts.
    Response(StatusCode, usize),
    /// An error, with the number of attempts if it has one.
    Error(Option<usize>),
    /// The caller gave up.
    GivenUp,
}

struct Book {
    /// Virtual time, for when no host runs that could read it.
    time: Duration,
    rules: Vec<Rules>,
    asked: Vec<Asked>,
    jar: PlainJar,
    values: u32,
    /// First attempts, and retries that certainly withdraw from the budget, by host.
    begun: [u32; HOSTS.len()],
    paid: [u32; HOSTS.len()],
    finished: bool,
    report: Report,
}

#[derive(Clone, Default)]
pub(crate) struct Report {
    pub(crate) trace: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// How often each event happened that a story should contain.
    pub(crate) met: BTreeMap<&'static str, usize>,
}

impl Report {
    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }
}

pub(crate) struct Ledger(Mutex<Book>);

impl Book {
    /// Virtual time since the simulation began.
    fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(self.time)
    }

    fn note(&mut self, text: &str) {
        let now = self.now().as_millis();
        self.report.trace.push(format!("{now:>6} {text}"));
    }

    fn wrong(&mut self, text: String) {
        self.note(&format!("WRONG: {text}"));
        self.report.wrong.push(text);
    }
}

impl Ledger {
    pub(crate) fn new(rules: &[Rules]) -> Self {
        Self(Mutex::new(Book {
            time: Duration::ZERO,
            rules: rules.to_vec(),
            asked: Vec::new(),
            jar: PlainJar::default(),
            values: 0,
            begun: [0; HOSTS.len()],
            paid: [0; HOSTS.len()],
            finished: false,
            report: Report::default(),
        }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, text: &str) {
        self.book().note(text);
    }

    /// Between two steps of the simulation.
    pub(crate) fn at(&self, time: Duration) {
        self.book().time = time;
    }

    pub(crate) fn wrong(&self, text: String) {
        self.book().wrong(text);
    }

    pub(crate) fn meet(&self, what: &'static str) {
        self.book().report.meet(what);
    }

    /// A value that no other cookie has.
    pub(crate) fn value(&self) -> u32 {
        let mut book = self.book();
        book.values += 1;
        book.values
    }

    /// All callers are done, so the faults can end.
    pub(crate) fn finish(&self) {
        self.book().finished = true;
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.book().finished
    }

    /// A caller begins a request. Returns the number of the request.
    pub(crate) fn ask(&self, host: usize, method: &Method, keyed: bool, path: &str) -> usize {
        let mut book = self.book();
        let id = book.asked.len();
        let key = if keyed { " with a key" } else { "" };
        book.note(&format!("#{id} {method} {}{path}{key}", HOSTS[host]));
        book.asked.push(Asked { host, method: method.clone(), keyed, attempts: Vec::new() });
        id
    }

    /// An attempt passes from the retries to the cookies.
    pub(crate) fn begin(&self, id: usize, number: usize, path: &str) {
        let book = &mut *self.book();
        let asked = &book.asked[id];
        let (host, may_repeat, made) = (asked.host, asked.may_repeat(), asked.attempts.len());
        let now = book.now();
        let cookies = book.jar.header(HOSTS[host], path, now);
        book.note(&format!("#{id}.{number} begins with [{cookies}]"));
        if number != made + 1 {
            book.wrong(format!("#{id}: attempt {number} after {made}"));
        }
        let most = 1 + book.rules.get(host).map_or(0, |rules| rules.total as usize);
        if number > most {
            book.wrong(format!("#{id}: attempt {number} of {most}"));
        }
        // Without a delay no time passes for them.
        assert!(number <= 100, "#{id}: attempts without end");
        if let Some(last) = book.asked[id].attempts.last() {
            // The rest may be errors from before the request was sent, which cost nothing.
            let paid = last.processed > 0 || matches!(last.end, End::Status(_) | End::Dropped);
            if !may_repeat && (paid || last.end == End::Open) {
                let end = &last.end;
                let text = format!(
                    "#{id}: a POST is repeated after {end:?}, processed {} times",
                    last.processed
                );
                book.wrong(text);
            }
            let last = book.asked[id].attempts.last().unwrap();
            book.report.meet(match (&last.end, may_repeat) {
                (End::Status(_), _) => "retry after a status",
                (End::Dropped, _) => "retry after a timeout",
                (_, false) => "retry of a POST that was not sent",
                (_, true) if last.processed > 0 => "retry after the server had it",
                (_, true) => "retry after an error",
            });
            if last.set.iter().any(|pair| cookies.split("; ").any(|sent| sent == pair)) {
                book.report.meet("retry with cookies of the attempt before");
            }
            book.paid[host] += u32::from(paid);
        } else {
            book.begun[host] += 1;
        }
        if let Some(requests) = book.rules.get(host).and_then(|rules| rules.requests_per_retry) {
            let (begun, paid) = (book.begun[host], book.paid[host]);
            if paid * requests > begun {
                book.wrong(format!(
                    "#{id}: {paid} retries of {begun} requests, where {requests} are to grant one"
                ));
            }
        }
        book.asked[id].attempts.push(Attempt {
            cookies,
            end: End::Open,
            set: Vec::new(),
            processed: 0,
        });
    }

    /// A server begins to handle an attempt, with this `Cookie` header.
    pub(crate) fn process(&self, host: usize, id: usize, number: usize, cookies: &str) {
        let book = &mut *self.book();
        book.note(&format!("#{id}.{number} is with {}", HOSTS[host]));
        let Some(attempt) =
            book.asked.get_mut(id).and_then(|asked| asked.attempts.get_mut(number - 1))
        else {
            return book.wrong(format!("#{id}.{number}: no one sent it"));
        };
        attempt.processed += 1;
        let expected = attempt.cookies.clone();
        let asked = &book.asked[id];
        let (to, times) = (asked.host, asked.processed());
        if to != host {
            book.wrong(format!("#{id}.{number} to {} went to {}", HOSTS[to], HOSTS[host]));
        }
        if times > 1 && !book.asked[id].may_repeat() {
            book.wrong(format!("#{id}.{number}: a POST is processed {times} times"));
        }
        if cookies != expected {
            book.wrong(format!("#{id}.{number}: cookies [{cookies}], not [{expected}]"));
        }
        book.report.meet(if cookies.is_empty() {
            "request without cookies"
        } else {
            "request with cookies"
        });
    }

    /// The head of a response has passed the cookies and returns to the retries.
    pub(crate) fn receive(
        &self,
        id: usize,
        number: usize,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        let book = &mut *self.book();
        let host = book.asked[id].host;
        let (now, mut set) = (book.now(), Vec::new());
        for line in headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            book.note(&format!("#{id}.{number} sets {line}"));
            book.jar.store(HOSTS[host], line, now);
            set.extend(line.split("; ").next().map(str::to_owned));
        }
        book.asked[id].attempts[number - 1].set = set;
        self.end_in(book, id, number, End::Status(status));
    }

    pub(crate) fn end(&self, id: usize, number: usize, end: End) {
        self.end_in(&mut self.book(), id, number, end);
    }

    fn end_in(&self, book: &mut Book, id: usize, number: usize, end: End) {
        book.note(&format!("#{id}.{number} ends: {end:?}"));
        if matches!(&end, End::Error(text) if text.contains("reset")) {
            book.report.meet("reset");
        }
        book.asked[id].attempts[number - 1].end = end;
    }

    /// The caller has what it asked for.
    pub(crate) fn close(&self, id: usize, outcome: &Outcome) {
        let book = &mut *self.book();
        book.note(&format!("#{id} {outcome:?}"));
        let attempts = &book.asked[id].attempts;
        let last = attempts.last().map(|attempt| attempt.end.clone());
        let made = attempts.len();
        let (what, fits) = match (outcome, &last) {
            (Outcome::Response(status, told), Some(End::Status(last))) => {
                ("response", status == last && *told == made)
            }
            (Outcome::Response(..), _) => ("response", false),
            // A success must be returned to the caller.
            (Outcome::Error(told), Some(End::Status(last))) => (
                "error after a response",
                !last.is_success() && told.is_some_and(|told| told == made),
            ),
            (Outcome::Error(told), _) => ("error", told.is_none_or(|told| told == made)),
            (Outcome::GivenUp, _) => ("request given up", last != Some(End::Open)),
        };
        book.report.meet(what);
        if !fits {
            book.wrong(format!(
                "#{id}: {outcome:?}, after {made} attempts of which the last came to {last:?}"
            ));
        }
    }

    /// No message is in flight any more.
    pub(crate) fn settle(&self) -> Report {
        let mut book = self.book();
        let mut wrong = Vec::new();
        for (id, asked) in book.asked.iter().enumerate() {
            for (attempt, number) in asked.attempts.iter().zip(1..) {
                if attempt.processed > 1 {
                    wrong.push(format!("#{id}.{number} is processed {} times", attempt.processed));
                }
                if attempt.end == End::Open {
                    wrong.push(format!("#{id}.{number} never ends"));
                }
            }
        }
        wrong.into_iter().for_each(|text| book.wrong(text));
        book.report.clone()
    }
}
