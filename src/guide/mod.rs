//! The guide: a page for each library that you may come from, and a page for each job.
//!
//! | you come from | page |
//! |---|---|
//! | Python's requests and urllib3 | [`from_requests`] |
//! | Python's httpx | [`from_httpx`] |
//! | reqwest, with reqwest_cookie_store and reqwest-retry | [`from_reqwest`] |
//! | tower's own `Retry` | [`from_tower_retry`] |
//!
//! | you want to | page |
//! |---|---|
//! | put these layers into kube, octocrab, tonic, reqwest or axum | [`clients`] |
//! | send a token or a key only to the host that it is for | [`credentials`] |
//! | count, trace and log | [`observability`] |
//! | test your code without a network and without waiting | [`testing`] |
//! | build a proxy, or follow a mesh's configuration | [`proxies_and_meshes`] |
//! | share sessions between processes | [`replicas`] |
//! | know what is promised | [`security`], [`compatibility`] |
//!
//! This module has no code. The tests compile every snippet, and run most of them.

macro_rules! pages {
    ($($name:ident)+) => {$(
        #[doc = include_str!(concat!(stringify!($name), ".md"))]
        pub mod $name {}
    )+};
}

pages! {
    from_requests
    from_httpx
    from_reqwest
    from_tower_retry
    credentials
    observability
    testing
    proxies_and_meshes
    replicas
    security
    compatibility
}

// Its snippets need clients that this crate does not depend on: `ecosystem/` compiles them.
#[cfg_attr(not(doctest), doc = include_str!("clients.md"))]
pub mod clients {}
