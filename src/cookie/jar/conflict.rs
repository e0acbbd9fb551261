//! `CookieConflict`: a name that several cookies have.

use std::{error, fmt};

/// Several cookies have the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieConflict {
    /// The name.
    pub name: String,
    /// How many cookies have it.
    pub count: usize,
}

impl fmt::Display for CookieConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count } = self;
        write!(f, "{count} cookies are named {name:?}: ask for those of a URI, or go through all")
    }
}

impl error::Error for CookieConflict {}
