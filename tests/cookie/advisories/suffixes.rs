//! Every rule of the embedded public suffix list as a supercookie: a cookie that would reach the
//! sites of strangers.

use std::{path::PathBuf, process::Command};

use http::{HeaderValue, Method};
use tower_outbound::cookie::{CookieContext, CookieJar, CookieStorage, Rejection, SiteForCookies};

use crate::{jars::uri, rows};

/// The rules of the list that is compiled in. Its crate comes with the text that it was made from.
fn rules() -> Vec<String> {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output();
        let output = output.expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let metadata = ["metadata", "--frozen", "--format-version=1", "--filter-platform", host];
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&metadata)).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let psl = packages.iter().find(|package| package["name"] == "psl").expect("a dependency");
    let manifest = PathBuf::from(psl["manifest_path"].as_str().expect("a path"));
    let text = std::fs::read_to_string(manifest.with_file_name("data").join("rules.txt"));
    text.expect("the text of the list").lines().map(str::to_owned).collect()
}

/// As a URI and a `Domain` can spell it.
fn to_ascii(name: &str) -> String {
    match url::Host::parse(name).expect("a name of a host") {
        url::Host::Domain(domain) => domain,
        address => panic!("{address}"),
    }
}

/// Sets a cookie for `domain` from `host`, in four spellings of the domain. Returns whether the
/// host keeps it, or why it is rejected.
fn outcomes(host: &str, domain: &str) -> [Result<bool, Rejection>; 4] {
    let spellings =
        [domain.to_owned(), domain.to_uppercase(), format!(".{domain}"), format!("{domain}.")];
    spellings.map(|spelt| {
        // A `Domain` with a trailing dot is only accepted from a host with the same spelling.
        let dot = if spelt.ends_with('.') { "." } else { "" };
        let jar = CookieJar::new();
        jar.set(&uri(format!("https://{host}{dot}/")), format!("a=1; Domain={spelt}"))?;
        let stranger = uri(format!("https://stranger.{domain}/"));
        Ok(jar.get("a").unwrap().unwrap().host_only() && jar.header(&stranger).is_none())
    })
}

#[test]
fn no_rule_of_the_embedded_list_is_a_domain_in_any_spelling() {
    let rules = rules();
    let count = |first| rules.iter().filter(|rule| rule.starts_with(first)).count();
    // Otherwise the text was not the list.
    assert!(rules.len() > 10_000 && count('*') > 300 && count('!') >= 8, "{}", rules.len());
    let strangers = [Err(Rejection::PublicSuffix); 4];
    rows::hold(&rules, |rule| {
        let (got, want) = if let Some(exception) = rule.strip_prefix('!') {
            // It is a site as others are. What it is below is not one of its domains.
            let site = to_ascii(exception);
            let (_, parent) = site.split_once('.').unwrap();
            // A suffix, as `ck`, or another's site, as `kobe.jp`.
            let refused = match parent.contains('.') {
                true => Err(Rejection::DomainMismatch),
                false => Err(Rejection::PublicSuffix),
            };
            let got = [outcomes(&site, parent), outcomes(&format!("www.{site}"), &site)];
            (got, [[refused; 4], [Ok(false); 4]])
        } else {
            let suffix = match rule.strip_prefix("*.") {
                Some(parent) => format!("anything.{}", to_ascii(parent)),
                None => to_ascii(rule),
            };
            // The suffix's own host keeps the cookie to itself.
            let got = [outcomes(&format!("site.{suffix}"), &suffix), outcomes(&suffix, &suffix)];
            (got, [strangers, [Ok(true); 4]])
        };
        (rule, got, want)
    });
}

/// A jar that has cookies of a site may know without the list that a host belongs to it. If the
/// request names a page, the list is asked.
#[test]
fn what_a_jar_knows_of_sites_is_what_the_list_says() {
    rows::hold(&rules(), |rule| {
        // Above, at and below the rule.
        let suffix = to_ascii(rule.trim_start_matches("*.").trim_start_matches('!'));
        let parents = suffix.match_indices('.').map(|(dot, _)| suffix[dot + 1..].to_owned());
        let below = ["a.", "b.a.", "www."].map(|labels| format!("{labels}{suffix}"));
        let mut hosts: Vec<_> = parents.chain([suffix.clone()]).chain(below).collect();
        // The first cookie of a site says what the jar knows of it.
        let from_above = headers(&hosts);
        hosts.reverse();
        let (got, want): (Vec<_>, Vec<_>) = from_above.into_iter().chain(headers(&hosts)).unzip();
        (rule, got, want)
    });
}

/// The header for each host, as the jar knows sites and as the list does, once each host has set
/// cookies for itself and for all others.
fn headers(hosts: &[String]) -> Vec<(Option<String>, Option<String>)> {
    let jar = CookieJar::new();
    for host in hosts {
        let uri = uri(format!("https://{host}/"));
        let _ = jar.set(&uri, format!("{host}=1"));
        for domain in hosts {
            let _ = jar.set(&uri, format!("{host}-for-{domain}=1; Domain={domain}"));
        }
    }
    let text = |header: HeaderValue| String::from_utf8_lossy(header.as_bytes()).into_owned();
    let both = hosts.iter().map(|host| {
        let uri = uri(format!("https://{host}/"));
        let page = SiteForCookies::new(&uri);
        let listed = CookieContext::new(&uri, &Method::GET).on_behalf_of(Some(&page));
        (jar.header(&uri).map(text), CookieStorage::header(&jar, &listed).map(text))
    });
    both.collect()
}
