//! One interface for both jars, so that the benches run the same code on each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cookie_store::{CookieStore, RawCookie};
use http::{HeaderValue, Uri};
use tower_outbound::cookie::{CookieJar, CookieLimits};
use url::Url;

/// How many cookies a site has by default.
pub(crate) const PER_SITE: usize = 5;

/// Names and values with the lengths of real ones.
pub(crate) const PAIRS: [(&str, &str); 20] = [
    ("sessionid", "7f3a9c51e0b24d68"),
    ("csrftoken", "Qm9yZWRvbTIwMjY"),
    ("theme", "dark"),
    ("locale", "en-GB"),
    ("_ga", "GA1.2.1294.1763"),
    ("consent", "yes"),
    ("cart", "c-55120"),
    ("ab_group", "7"),
    ("seen_banner", "1"),
    ("tz", "Europe%2FOslo"),
    ("uid", "5821"),
    ("referrer", "newsletter"),
    ("currency", "EUR"),
    ("store", "oslo-2"),
    ("sort", "price"),
    ("view", "grid"),
    ("trace", "00f067aa0ba902b7"),
    ("edge", "arn1"),
    ("last", "1763990000"),
    ("promo", "none"),
];

pub(crate) trait Jar: Sync {
    /// What a caller has ready. Making it is not measured.
    type Uri: Sync;
    fn new() -> Self;
    fn uri(text: &str) -> Self::Uri;
    fn set(&self, uri: &Self::Uri, line: &str);
    fn look_up(&self, uri: &Self::Uri) -> Option<HeaderValue>;
    fn count(&self) -> usize;

    /// A jar of `sites` sites with `per_site` cookies each, which `lines` writes.
    fn filled(sites: usize, per_site: usize, lines: &Lines) -> Self
    where
        Self: Sized,
    {
        let jar = Self::new();
        for site in 0..sites {
            let uri = Self::uri(&uri_text(site));
            (0..per_site).for_each(|cookie| jar.set(&uri, &lines(site, cookie)));
        }
        // Otherwise the bench would measure a jar that does nothing.
        assert_eq!(jar.count(), sites * per_site, "every cookie is stored");
        jar
    }
}

/// The `Set-Cookie` line of a site's nth cookie.
pub(crate) type Lines = dyn Fn(usize, usize) -> String;

pub(crate) fn uri_text(site: usize) -> String {
    format!("https://www.site{site}.com/api/items")
}

pub(crate) fn session(_: usize, cookie: usize) -> String {
    let (name, value) = PAIRS[cookie];
    format!("{name}={value}; Path=/; Secure; HttpOnly")
}

/// The default limits allow fewer than 100,000 sites.
pub(crate) fn roomy() -> CookieLimits {
    CookieLimits { total: 10_000_000, bytes: 1 << 32, ..CookieLimits::default() }
}

impl Jar for CookieJar {
    type Uri = Uri;

    fn new() -> Self {
        Self::builder().limits(roomy()).build()
    }

    fn uri(text: &str) -> Uri {
        text.parse().expect("a URI")
    }

    fn set(&self, uri: &Uri, line: &str) {
        let _ = std::hint::black_box(self.set(uri, line));
    }

    fn look_up(&self, uri: &Uri) -> Option<HeaderValue> {
        self.header(uri)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

/// Does what reqwest's own jar does.
impl Jar for Mutex<CookieStore> {
    type Uri = Url;

    fn new() -> Self {
        Self::default()
    }

    fn uri(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn set(&self, url: &Url, line: &str) {
        let cookie = RawCookie::parse(line).ok().map(RawCookie::into_owned);
        lock(self).store_response_cookies(cookie.into_iter(), url);
    }

    fn look_up(&self, url: &Url) -> Option<HeaderValue> {
        let pairs: Vec<_> = lock(self)
            .get_request_values(url)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let line = pairs.join("; ");
        if line.is_empty() { None } else { HeaderValue::from_maybe_shared(Bytes::from(line)).ok() }
    }

    fn count(&self) -> usize {
        lock(self).iter_unexpired().count()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
