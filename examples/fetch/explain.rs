//! `--explain`: which cookies would be sent, and why each other one would not.

use std::{collections::HashSet, fmt::Display};

use http::{
    HeaderMap, Method, Uri,
    header::{COOKIE, HOST},
    uri::Authority,
};
use tower_outbound::cookie::{Cookie, CookieContext, CookieJar};

/// A line for each cookie: its name, its owner, and whether it would be sent. It shows no value.
pub(crate) fn explain(jar: &CookieJar, uri: &Uri, method: &Method, headers: &HeaderMap) -> String {
    let mut text = format!("{}\n", crate::target::show(uri));
    let pairs =
        headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&b| b == b';'));
    let own: Vec<_> = pairs
        .map(|pair| String::from_utf8_lossy(pair.split(|&b| b == b'=').next().unwrap_or_default()))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in &own {
        line(&mut text, "sent", name, "from the command line", None);
    }
    let uri = named_by_host(uri, headers);
    let explained = jar.explain(&CookieContext::new(&uri, method));
    let of_site: HashSet<_> = explained.iter().map(|(cookie, _)| id(cookie)).collect();
    for (cookie, why) in &explained {
        let name = cookie.name();
        match why {
            None if own.iter().any(|own| *own == name) => {
                let why = "the command line has a cookie of this name";
                line(&mut text, "not sent", &name, &owner(cookie), Some(&why));
            }
            None => line(&mut text, "sent", &name, &owner(cookie), None),
            Some(why) => line(&mut text, "not sent", &name, &owner(cookie), Some(why)),
        }
    }
    for cookie in jar.iter().filter(|cookie| !of_site.contains(&id(cookie))) {
        let why = "it is another site's";
        line(&mut text, "not sent", &cookie.name(), &owner(&cookie), Some(&why));
    }
    if own.is_empty() && jar.is_empty() {
        text.push_str("  no cookies\n");
    }
    text
}

/// The name may come from a file and is written to a terminal, so it is escaped.
fn line(text: &mut String, fate: &str, name: &str, owner: &str, why: Option<&dyn Display>) {
    let (name, owner) = (name.escape_debug(), owner.escape_debug());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    text.push_str(&format!("  {fate:8}  {name}, {owner}{why}\n"));
}

fn id(cookie: &Cookie) -> (String, String, Vec<u8>) {
    (cookie.domain().to_owned(), cookie.path().into(), cookie.name().as_bytes().to_vec())
}

fn owner(cookie: &Cookie) -> String {
    let hosts = if cookie.host_only() { "" } else { " and below" };
    format!("{}{hosts}, {}", cookie.domain(), cookie.path())
}

/// If the user gave a Host header, the cookies are those of that host, as for a request.
fn named_by_host(uri: &Uri, headers: &HeaderMap) -> Uri {
    let named = || {
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(Authority::try_from(headers.get(HOST)?.as_bytes()).ok()?);
        Uri::from_parts(parts).ok()
    };
    named().unwrap_or_else(|| uri.clone())
}
