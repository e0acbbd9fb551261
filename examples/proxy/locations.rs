//! Rewrites URLs in an upstream's answer, so that clients find them at the proxy.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LOCATION, LINK, LOCATION, REFRESH},
};

use super::table::Upstream;

/// Rewrites `Location`, `Content-Location`, `Refresh` and `Link` that point to this upstream.
pub(crate) fn make_public(headers: &mut HeaderMap, upstream: &Upstream) {
    for name in [LOCATION, CONTENT_LOCATION] {
        rewrite(headers, &name, |value| upstream.public(value));
    }
    rewrite(headers, &REFRESH, |value| refresh(value, upstream));
    rewrite(headers, &LINK, |value| link(value, upstream));
}

/// Replaces each value of a header for which the closure returns another one.
fn rewrite(headers: &mut HeaderMap, name: &http::HeaderName, new: impl Fn(&str) -> Option<String>) {
    let http::header::Entry::Occupied(mut entry) = headers.entry(name) else { return };
    for value in entry.iter_mut() {
        let public = value.to_str().ok().and_then(&new);
        if let Some(public) = public.and_then(|text| HeaderValue::try_from(text).ok()) {
            *value = public;
        }
    }
}

/// Reads `5; url=http://upstream/x`, with or without quotation marks, as browsers do.
fn refresh(value: &str, upstream: &Upstream) -> Option<String> {
    let at = value.find([';', ','])? + 1;
    let (delay, rest) = value.split_at(at);
    let rest = rest.trim_start();
    let (name, url) =
        rest.split_at_checked(3).filter(|(name, _)| name.eq_ignore_ascii_case("url"))?;
    let url = url.trim_start().strip_prefix('=')?.trim_start();
    let (quote, url) = match url.chars().next()? {
        mark @ ('"' | '\'') => (mark.to_string(), url[1..].split(mark).next()?),
        _ => (String::new(), url.trim_end()),
    };
    Some(format!("{delay} {name}={quote}{}{quote}", upstream.public(url)?))
}

/// Reads `<http://upstream/a>; rel=next, <http://upstream/b>` (RFC 8288). The URLs are between
/// angle brackets, outside quotation marks.
fn link(value: &str, upstream: &Upstream) -> Option<String> {
    let mut new = String::with_capacity(value.len());
    let (mut rest, mut is_new) = (value, false);
    while let Some((start, end)) = target(rest) {
        let url = &rest[start..end];
        let public = upstream.public(url);
        is_new |= public.is_some();
        new.push_str(&rest[..start]);
        new.push_str(public.as_deref().unwrap_or(url));
        rest = &rest[end..];
    }
    new.push_str(rest);
    is_new.then_some(new)
}

/// Where the next URL of a `Link` is.
fn target(value: &str) -> Option<(usize, usize)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let start = value.find(|mark| {
        match mark {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        mark == '<' && !is_quoted
    })? + 1;
    let end = start + value[start..].find('>')?;
    Some((start, end))
}
