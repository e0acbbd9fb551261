//! `CookieConflict`: several cookies have one name.

use std::{error, fmt};

/// Several cookies have the name that was passed to
/// [`CookieJar::get`](crate::cookie::CookieJar::get).
///
/// ```
/// use tower_outbound::cookie::CookieJar;
///
/// let jar = CookieJar::new();
/// jar.set(&"https://a.example/".parse()?, "id=1")?;
/// jar.set(&"https://b.example/".parse()?, "id=2")?;
/// let conflict = jar.get("id").expect_err("two hosts have one");
/// assert_eq!((&*conflict.name, conflict.count), ("id", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// requests: `CookieConflictError`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieConflict {
    /// The name.
    pub name: String,
    /// The number of cookies with this name.
    pub count: usize,
}

impl fmt::Display for CookieConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count } = self;
        write!(f, "{count} cookies are named {name:?}: choose one of `matching` or `iter`")
    }
}

impl error::Error for CookieConflict {}
