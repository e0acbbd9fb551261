//! Which cookies a non-secure origin must leave alone (RFC 6265bis section 5.7, step 12).

use super::{
    data::{Data, Identity},
    origin::domain_match,
    path::path_match,
    set_cookie::trim,
};

/// Whether a stored cookie keeps a non-secure origin from setting or deleting a cookie of that
/// identity and value. The caller checks whether the stored one has expired.
pub(in crate::cookie) fn shields(old: &Data, new: &Identity<'_>, value: &[u8]) -> bool {
    let domain = || str::from_utf8(new.domain).unwrap_or_default();
    // Either domain may be the wider one: a host-only cookie is sent next to a parent's. The path
    // counts in one direction only: a longer path would be sent first, and so win.
    old.flags.secure
        && passes_for(new.name, value, old.name())
        && (domain_match(domain(), old.domain()) || domain_match(old.domain(), domain()))
        && path_match(new.path, old.path_bytes())
}

/// Whether servers would read a cookie with that name and value as one of the name `other`.
pub(in crate::cookie) fn passes_for(name: &[u8], value: &[u8], other: &[u8]) -> bool {
    // A nameless cookie is sent as its value alone. If that is `sid=1`, a server reads `sid`.
    let read = || value.split(|&byte| byte == b'=').next().is_some_and(|read| trim(read) == other);
    name == other || name.is_empty() && read()
}
