//! Compares routing with a plain, slow oracle, which reads URLs as text, tries every mount on every
//! request, and shares no code with the crate. First it uses a corpus of confusing URLs, then
//! random ones, then tables that change.

use http::{Request, Response, Uri};
use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
use tower_outbound::routing::{Mount, RoutingHandle, RoutingLayer, RoutingService, UriError};

use crate::rows_async;

mod oracle {
    //! The rules of mounts, word for word.

    use std::net::Ipv6Addr;

    #[derive(Clone, Debug, PartialEq)]
    pub(crate) enum Host {
        Name(Vec<String>),
        V4([u8; 4]),
        V6(Ipv6Addr),
        /// In brackets, but no address.
        Odd(String),
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum Fault {
        Relative,
        Port,
        NumericHost,
    }

    #[derive(Debug)]
    struct Parts {
        scheme: String,
        host: String,
        /// As it is written behind the colon.
        port: String,
        path: String,
    }

    /// RFC 3986, appendix B, by hand.
    fn parts(url: &str) -> Option<Parts> {
        let (scheme, rest) = url.split_once("://")?;
        if scheme.is_empty() || scheme.contains(['/', '?', '#', '@', ':']) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = match rest[..end].rfind('@') {
            Some(at) => &rest[at + 1..end],
            None => &rest[..end],
        };
        let host_end = if authority.starts_with('[') {
            authority.find(']')? + 1
        } else {
            authority.find(':').unwrap_or(authority.len())
        };
        let path_end = rest[end..].find(['?', '#']).map_or(rest.len(), |at| end + at);
        Some(Parts {
            scheme: scheme.to_ascii_lowercase(),
            host: authority[..host_end].to_ascii_lowercase(),
            port: authority[host_end..].to_owned(),
            path: rest[end..path_end].to_owned(),
        })
    }

    fn host(text: &str) -> Result<Host, Fault> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Some(inner) = text.strip_prefix('[') {
            return Ok(match inner.trim_end_matches(']').parse() {
                Ok(address) => Host::V6(address),
                Err(_) => Host::Odd(text.to_owned()),
            });
        }
        let labels: Vec<String> = text.split('.').map(str::to_owned).collect();
        let last = labels.last().unwrap();
        let decimal = !last.is_empty() && last.chars().all(|c| c.is_ascii_digit());
        let hexadecimal =
            last.starts_with("0x") && last[2..].chars().all(|c| c.is_ascii_hexdigit());
        if !decimal && !hexadecimal {
            return Ok(Host::Name(labels));
        }
        let octets: Vec<u8> = labels
            .iter()
            .filter(|label| label.as_str() == "0" || !label.starts_with('0'))
            .filter(|label| label.chars().all(|c| c.is_ascii_digit()))
            .filter_map(|label| label.parse().ok())
            .collect();
        match <[u8; 4]>::try_from(octets) {
            Ok(octets) if labels.len() == 4 => Ok(Host::V4(octets)),
            _ => Err(Fault::NumericHost),
        }
    }

    /// A character, or an escape that is kept: they differ even where the byte is the same.
    type Segment = Vec<(u8, bool)>;

    fn segments(path: &str) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let raw: Vec<&str> = path.split('/').skip(1).collect();
        for (index, raw_segment) in raw.iter().enumerate() {
            let bytes = raw_segment.as_bytes();
            let (mut segment, mut at) = (Segment::new(), 0);
            while at < bytes.len() {
                let escape = raw_segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
                // `from_str_radix` takes a sign.
                let escape = escape.filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
                match escape.map(|digits| u8::from_str_radix(digits, 16).unwrap()) {
                    Some(byte) => {
                        segment.push((
                            byte,
                            !(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
                        ));
                        at += 3;
                    }
                    None => {
                        // A character that a path cannot contain counts as escaped.
                        let plain = bytes[at].is_ascii_alphanumeric()
                            || b"-._~:@!$&'()*+,;=".contains(&bytes[at]);
                        segment.push((bytes[at], !plain));
                        at += 1;
                    }
                }
            }
            let is_last = index + 1 == raw.len();
            if segment == [(b'.', false)] || segment == [(b'.', false), (b'.', false)] {
                if segment.len() == 2 {
                    segments.pop();
                }
                if is_last {
                    segments.push(Segment::new());
                }
            } else {
                segments.push(segment);
            }
        }
        // A trailing slash means nothing.
        if segments.last().is_some_and(Vec::is_empty) {
            segments.pop();
        }
        segments
    }

    fn default_port(scheme: &str) -> Option<u16> {
        [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)]
            .into_iter()
            .find(|(name, _)| *name == scheme)
            .map(|(_, port)| port)
    }

    /// How specific a match is: host, path, port, scheme.
    type Score = ((u8, usize), usize, u8, u8);

    /// IDNA, as far as it is needed here.
    const A_LABELS: [(&str, &str); 2] = [("bücher", "xn--bcher-kva"), ("faß", "xn--fa-hia")];

    /// The index of the mount that serves a request.
    pub(crate) fn route(mounts: &[impl AsRef<str>], url: &str) -> Result<Option<usize>, Fault> {
        let request = parts(url).ok_or(Fault::Relative)?;
        let default = default_port(&request.scheme);
        let port = match request.port.strip_prefix(':') {
            None if request.port.is_empty() => default,
            Some("") => default,
            Some(digits) if digits.chars().all(|c| c.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| Fault::Port)?)
            }
            _ => return Err(Fault::Port),
        };
        let request_host = host(&request.host)?;
        let path = segments(&request.path);

        let score = |mount: &str| -> Option<Score> {
            let mut mount = mount.to_owned();
            for (label, a_label) in A_LABELS {
                mount = mount.replace(label, a_label);
            }
            let mount = parts(&mount).unwrap();
            let by_scheme = match mount.scheme.as_str() {
                "any" => 0,
                scheme if scheme == request.scheme => 1,
                _ => return None,
            };
            if mount.host.is_empty() {
                return Some(((0, 0), 0, 0, by_scheme));
            }
            let by_host = match mount.host.strip_prefix("*.") {
                None => (host(&mount.host).unwrap() == request_host).then_some((2, 0))?,
                Some(domain) => {
                    let Host::Name(domain) = host(domain).unwrap() else {
                        panic!("{domain} is an address")
                    };
                    let Host::Name(labels) = &request_host else { return None };
                    let is_below = labels.len() > domain.len()
                        && labels.ends_with(&domain)
                        && labels.iter().all(|label| !label.is_empty());
                    is_below.then_some((1, domain.len()))?
                }
            };
            let by_port = match mount.port.strip_prefix(':') {
                // No port is every port.
                None | Some("" | "*") => 0,
                Some(number) => (port == Some(number.parse().unwrap())).then_some(1)?,
            };
            let below = segments(&mount.path);
            path.starts_with(&below).then_some((by_host, below.len(), by_port, by_scheme))
        };
        let scored = mounts
            .iter()
            .enumerate()
            .filter_map(|(index, mount)| Some((score(mount.as_ref())?, index)));
        // Two with the same score are the same prefix, so the last one counts.
        Ok(scored.max().map(|(_, index)| index))
    }
}

const MOUNTS: &[&str] = &[
    "https://example.com",
    "https://EXAMPLE.com/v1",
    "https://example.com/a/b",
    "https://example.com/a~b",
    "https://example.com/Admin/",
    "https://example.com/ü",
    "https://example.com/v1/x/y",
    "https://example.com:8443",
    "https://example.com:443/v1",
    "any://example.com",
    "custom://example.com:9",
    "custom://example.com",
    "https://api.example.com.",
    "https://*.example.com",
    "any://*.example.com:*/v1",
    "https://*.api.example.com",
    "http://localhost",
    "http://localhost:8080",
    "http://localhost:*/any",
    "any://any.test:*",
    "http://127.0.0.1:80",
    "http://127.0.0.1:*/",
    "http://1.2.3.4",
    "http://[::1]",
    "http://[0:0::1]:8080",
    "http://[2001:DB8::0:1]",
    "http://[::127.0.0.1]",
    #[cfg(feature = "idna")]
    "https://bücher.example",
    #[cfg(feature = "idna")]
    "https://*.bücher.example",
    #[cfg(feature = "idna")]
    "https://faß.example",
    "wss://",
    "ftp://",
    "https://example.com/x/../v1/",
    "https://localhost/%7E",
];

type Client = RoutingService<Below, (), ()>;
type Below = tower::util::BoxCloneSyncService<Request<()>, Response<()>, BoxError>;

fn client(mounts: &[impl AsRef<str>]) -> Client {
    let below = Below::new(service_fn(|_: Request<()>| async { Ok(Response::new(())) }));
    let mount = |builder: tower_outbound::routing::RoutingLayerBuilder<_, _, _>, prefix: &str| {
        builder.mount(prefix, Identity::new())
    };
    let builder = mounts
        .iter()
        .fold(RoutingLayer::builder(), |builder, prefix| mount(builder, prefix.as_ref()));
    builder.build().unwrap().layer(below)
}

/// Which mount serves a request, for the crate and for the oracle, as text.
async fn both(client: &Client, mounts: &[impl AsRef<str>], url: &str) -> (String, String) {
    let ours = match client.clone().oneshot(Request::get(url).body(()).unwrap()).await {
        Ok(response) => {
            response.extensions().get::<Mount>().map_or("F".to_owned(), |mount| mount.0.to_string())
        }
        Err(error) => match error.downcast_ref::<UriError>() {
            Some(error) => format!("{error:?}"),
            None => panic!("{url}: {error:?}"),
        },
    };
    let theirs = match oracle::route(mounts, url) {
        Ok(index) => index.map_or("F", |index| mounts[index].as_ref()).to_owned(),
        Err(fault) => format!("{fault:?}"),
    };
    (ours, theirs)
}

#[tokio::test]
async fn more_than_500_confusing_urls_go_where_the_oracle_says() {
    let corpus = include_str!("../data/confusing_urls.txt");
    let urls: Vec<_> =
        corpus.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()).collect();
    let client = client(MOUNTS);
    let (sent, refused): (Vec<&str>, Vec<&str>) =
        urls.into_iter().partition(|url| url.parse::<Uri>().is_ok());
    let mut by = std::collections::BTreeMap::<_, usize>::new();
    rows_async::hold(&sent, async |url| {
        let (ours, theirs) = both(&client, MOUNTS, url).await;
        *by.entry(theirs.clone()).or_default() += 1;
        (url, ours, theirs)
    })
    .await;
    let checked = sent.len();
    assert!(checked >= 500, "{checked} are URIs to http; not these: {refused:#?}");
    // A corpus that no mount serves would prove nothing.
    let unused: Vec<_> = MOUNTS.iter().filter(|mount| !by.contains_key(**mount)).collect();
    assert_eq!(
        unused,
        [&"https://EXAMPLE.com/v1"],
        "each but the one that is mounted again serves something: {by:#?}"
    );
    for fault in ["F", "Relative", "Port", "NumericHost"] {
        assert!(by[fault] >= 10, "{by:#?}");
    }
}

/// A generator that is the same everywhere (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.roll(texts.len())]
    }

    fn url(&mut self) -> String {
        let scheme = self.of(&["https", "https", "http", "HTTP", "ws", "own"]);
        let userinfo = self.of(&["", "", "", "u@", "a.test:443@", "b%2F@"]);
        let host = self.of(&[
            "a.test",
            "A.test",
            "a.test.",
            "x.a.test",
            "y.x.a.test",
            "b.a.test",
            "z.b.a.test",
            "a.test.b",
            "a..test",
            "[::1]",
            "[0::1]",
            "1.2.3.4",
            "1.2.3",
            "0x1",
            "xn--bcher-kva.a.test",
        ]);
        let port = self.of(&["", "", "", ":", ":80", ":443", ":8080", ":0443", ":99999", ":x"]);
        let mut path = String::new();
        for _ in 0..self.roll(6) {
            path.push('/');
            path.push_str(self.of(&[
                "a", "a", "b", "A", "%61", "", ".", "..", "%2e%2E", "%2f", "a%2Fb", "a;x", "%",
                "..;", "c",
            ]));
        }
        format!("{scheme}://{userinfo}{host}{port}{path}{}", self.of(&["", "", "?q", "?/../a"]))
    }

    fn prefix(&mut self) -> String {
        let scheme = self.of(&["https", "https", "http", "HTTPS", "any", "ws", "own"]);
        if self.roll(12) == 0 {
            return format!("{scheme}://");
        }
        let host = self.of(&[
            "a.test",
            "a.test",
            "A.TEST.",
            "*.a.test",
            "*.test",
            "*.b.a.test",
            "b.a.test",
            "[::1]",
            "1.2.3.4",
            #[cfg(feature = "idna")]
            "bücher.a.test",
        ]);
        let port = self.of(&["", "", "", ":*", ":*", ":80", ":443", ":8080"]);
        let path = self.of(&[
            "", "", "/", "/a", "/a/", "/%61/b", "/a/b", "/A", "/x/../a", "//a", "/a%2fb", "/a/b/c",
            "/a;x",
        ]);
        format!("{scheme}://{host}{port}{path}")
    }
}

#[tokio::test]
async fn urls_and_tables_of_chance_agree_with_the_oracle() {
    let (mut dice, mut checked, mut mounted) = (Dice(0x5eed), 0, 0);
    rows_async::hold(0..400, async |table| {
        let mounts: Vec<_> = (0..dice.roll(25)).map(|_| dice.prefix()).collect();
        let client = client(&mounts);
        let mut differ = Vec::new();
        for _ in 0..50 {
            let url = dice.url();
            if url.parse::<Uri>().is_err() {
                continue;
            }
            let (ours, theirs) = both(&client, &mounts, &url).await;
            checked += 1;
            mounted += usize::from(theirs.contains("://"));
            if ours != theirs {
                differ.push(format!("{url}: {ours}, by the oracle {theirs}"));
            }
        }
        (format!("table {table}, {mounts:?}"), differ, Vec::<String>::new())
    })
    .await;
    assert!(checked > 15_000 && mounted > 4_000, "{mounted} of {checked} had a mount");
}

/// A table that is changed many times is equal to a table that is built at once.
#[tokio::test]
async fn a_table_that_was_changed_a_thousand_times_agrees_with_the_oracle() {
    /// The text of the prefix that names the same mount as `prefix`, if one is mounted.
    fn same(mounts: &[String], prefix: &str) -> Option<usize> {
        let parsed: tower_outbound::routing::MountPrefix = prefix.parse().unwrap();
        mounts.iter().position(|other| other.parse().as_ref() == Ok(&parsed))
    }
    let mut dice = Dice(0xc0ffee);
    let mut mounts: Vec<String> = Vec::new();
    let client = client(&mounts);
    let handle: RoutingHandle<_, _, _> = client.handle();
    rows_async::hold(0..1_000, async |change| {
        let changes: Vec<_> =
            (0..1 + dice.roll(3)).map(|_| (dice.prefix(), dice.roll(5) < 2)).collect();
        handle
            .update(|table| {
                changes.iter().fold(table, |table, (prefix, is_mounted)| match is_mounted {
                    true => table.mount(prefix.as_str(), Identity::new()),
                    false => table.unmount(prefix.as_str()),
                })
            })
            .unwrap();
        for (prefix, is_mounted) in changes {
            if let Some(index) = same(&mounts, &prefix) {
                mounts.remove(index);
            }
            if is_mounted {
                mounts.push(prefix);
            }
        }
        let (mut has, mut wants) = (handle.prefixes(), mounts.clone());
        has.sort();
        wants.sort();
        assert!(
            has.iter().map(|prefix| &**prefix).eq(wants.iter().map(String::as_str)),
            "{has:?}, not {wants:?}"
        );
        let mut differ = Vec::new();
        for _ in 0..10 {
            let url = dice.url();
            if url.parse::<Uri>().is_ok() {
                let (ours, theirs) = both(&client, &mounts, &url).await;
                if ours != theirs {
                    differ.push(format!("{url}: {ours}, by the oracle {theirs}"));
                }
            }
        }
        (format!("change {change}, {mounts:?}"), differ, Vec::<String>::new())
    })
    .await;
}
