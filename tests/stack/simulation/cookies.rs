//! A plain, slow jar. It computes the cookies for a server from the answers that the client got.

use std::{cmp::Reverse, time::Duration};

struct Cookie {
    name: String,
    value: String,
    domain: String,
    host_only: bool,
    path: String,
    expires: Option<Duration>,
}

/// In the order of creation.
#[derive(Default)]
pub(crate) struct PlainJar(Vec<Cookie>);

impl PlainJar {
    /// Stores a `Set-Cookie` with a path, which `host` sent over plain HTTP.
    pub(crate) fn store(&mut self, host: &str, line: &str, now: Duration) {
        let mut parts = line.split("; ");
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).unwrap();
        let mut cookie = Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: host.to_owned(),
            host_only: true,
            path: String::new(),
            expires: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("Domain", domain)) => {
                    (cookie.domain, cookie.host_only) = (domain.to_owned(), false);
                }
                Some(("Path", path)) => cookie.path = path.to_owned(),
                Some(("Max-Age", seconds)) => {
                    cookie.expires = Some(now + Duration::from_secs(seconds.parse().unwrap()));
                }
                // Only a secure origin may set these.
                None if part == "Secure" => return,
                _ => panic!("a part that is not known: {part}"),
            }
        }
        // The domain of another host, or a public suffix: each name under `test` has another owner.
        if !is_within(host, &cookie.domain) || !cookie.domain.contains('.') {
            return;
        }
        let same = |other: &Cookie| {
            (&other.name, &other.domain, other.host_only, &other.path)
                == (&cookie.name, &cookie.domain, cookie.host_only, &cookie.path)
        };
        self.expire(now);
        match self.0.iter().position(same) {
            Some(at) => self.0[at] = cookie,
            None => self.0.push(cookie),
        }
        self.expire(now);
    }

    /// The `Cookie` header of a request to `host`.
    pub(crate) fn header(&mut self, host: &str, path: &str, now: Duration) -> String {
        self.expire(now);
        let mut sent: Vec<_> = self
            .0
            .iter()
            .filter(|cookie| {
                if cookie.host_only {
                    host == cookie.domain
                } else {
                    is_within(host, &cookie.domain)
                }
            })
            .filter(|cookie| cookie.path == "/" || path.starts_with(&format!("{}/", cookie.path)))
            .collect();
        sent.sort_by_key(|cookie| Reverse(cookie.path.len()));
        sent.iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn expire(&mut self, now: Duration) {
        self.0.retain(|cookie| cookie.expires.is_none_or(|expires| now < expires));
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.ends_with(&format!(".{domain}"))
}
