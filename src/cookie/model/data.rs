//! What makes up a cookie: its text in one allocation, its flags, its times.

use std::sync::Arc;

/// Milliseconds since 1970. A clock before 1970 reads 0.
pub(in crate::cookie) type Millis = u64;
/// The expiry of a cookie that has none.
pub(in crate::cookie) const NEVER: Millis = Millis::MAX;

/// The `SameSite` attribute of a cookie (RFC 6265bis section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// The cookie is sent only with requests on behalf of its own site.
    Strict,
    /// As for `Strict`, and also with top-level navigations from other sites that use a safe
    /// method.
    Lax,
    /// The cookie is sent with every request. It must be `Secure`.
    None,
}

impl SameSite {
    /// Its word in files.
    #[cfg(feature = "json")]
    pub(in crate::cookie) const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lax => "lax",
            Self::None => "none",
        }
    }
}

/// The times of a cookie that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) struct Times {
    pub(in crate::cookie) expires: Millis,
    /// When it was last set.
    pub(in crate::cookie) updated: Millis,
    /// When it was last sent; 0 for never.
    pub(in crate::cookie) sent: Millis,
}

/// Name, value, domain, path, flags and creation time. A clone shares the text.
#[derive(Clone)]
pub(in crate::cookie) struct Data {
    /// `; name=value`, or `; value` of a nameless cookie; then domain, then path.
    text: Arc<[u8]>,
    // Where each of them ends. Two bytes each, since rules bound the text below 8 KiB: a jar may
    // hold 50,000 cookies, and four slices would be 64 bytes of each.
    name: u16,
    pair: u16,
    domain: u16,
    pub(in crate::cookie) flags: Flags,
    pub(in crate::cookie) created: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) struct Flags {
    pub(in crate::cookie) host_only: bool,
    pub(in crate::cookie) secure: bool,
    pub(in crate::cookie) http_only: bool,
    pub(in crate::cookie) partitioned: bool,
    pub(in crate::cookie) same_site: Option<SameSite>,
}

/// What makes two cookies the same one, so that the later replaces the earlier (RFC 6265bis section
/// 5.7, step 23).
#[derive(Clone, Copy, Debug)]
pub(in crate::cookie) struct Identity<'a> {
    pub(in crate::cookie) name: &'a [u8],
    pub(in crate::cookie) domain: &'a [u8],
    pub(in crate::cookie) path: &'a [u8],
    pub(in crate::cookie) host_only: bool,
}

/// What is between two pairs of a `Cookie` header (RFC 6265bis section 5.8.3). Each text begins
/// with it, so that a header is joined of whole pieces.
pub(in crate::cookie) const SEPARATOR: &[u8] = b"; ";

impl Data {
    /// The parts must fit: the rules bound name, value and path, and the DNS bounds the domain.
    pub(in crate::cookie) fn new(
        name: &[u8],
        value: &[u8],
        domain: &str,
        path: &str,
        flags: Flags,
        created: Millis,
    ) -> Self {
        let equals: &[u8] = if name.is_empty() { b"" } else { b"=" };
        let parts = [SEPARATOR, name, equals, value, domain.as_bytes(), path.as_bytes()];
        // One allocation: it is made at its full length, then filled.
        let mut text: Arc<[u8]> =
            std::iter::repeat_n(0, Self::length(name, value, domain, path)).collect();
        if let Some(mut rest) = Arc::get_mut(&mut text) {
            for part in parts {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
        }
        let name = SEPARATOR.len() + name.len();
        let pair = name + equals.len() + value.len();
        // What does not fit cannot come: see above. It would make a wrong cookie, but no panic.
        let short = |end: usize| u16::try_from(end).unwrap_or(u16::MAX);
        Self {
            text,
            name: short(name),
            pair: short(pair),
            domain: short(pair + domain.len()),
            flags,
            created,
        }
    }

    /// How long the text of these parts is.
    pub(super) fn length(name: &[u8], value: &[u8], domain: &str, path: &str) -> usize {
        SEPARATOR.len()
            + name.len()
            + usize::from(!name.is_empty())
            + value.len()
            + domain.len()
            + path.len()
    }

    pub(in crate::cookie) fn name(&self) -> &[u8] {
        &self.text[SEPARATOR.len()..usize::from(self.name)]
    }

    /// As it is sent in a `Cookie` header.
    pub(in crate::cookie) fn pair(&self) -> &[u8] {
        &self.text[SEPARATOR.len()..usize::from(self.pair)]
    }

    /// As it is sent there after another pair.
    pub(in crate::cookie) fn separated_pair(&self) -> &[u8] {
        &self.text[..usize::from(self.pair)]
    }

    pub(in crate::cookie) fn value(&self) -> &[u8] {
        // The `=` is there if there is a name.
        let name = usize::from(self.name);
        &self.text[name + usize::from(name > SEPARATOR.len())..usize::from(self.pair)]
    }

    pub(in crate::cookie) fn domain_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.pair)..usize::from(self.domain)]
    }

    pub(in crate::cookie) fn path_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.domain)..]
    }

    pub(in crate::cookie) fn domain(&self) -> &str {
        // It was a `str` in `new`, and is cut where it was joined, so that this cannot fail.
        str::from_utf8(self.domain_bytes()).unwrap_or_default()
    }

    pub(in crate::cookie) fn path(&self) -> &str {
        str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    pub(in crate::cookie) fn path_len(&self) -> usize {
        self.path_bytes().len()
    }

    pub(in crate::cookie) fn text_len(&self) -> usize {
        self.text.len()
    }

    pub(in crate::cookie) fn identity(&self) -> Identity<'_> {
        Identity {
            name: self.name(),
            domain: self.domain_bytes(),
            path: self.path_bytes(),
            host_only: self.flags.host_only,
        }
    }

    pub(in crate::cookie) fn has_identity(&self, identity: &Identity<'_>) -> bool {
        // The name first: among the cookies of a site it is what differs.
        self.name() == identity.name
            && self.flags.host_only == identity.host_only
            && self.path_bytes() == identity.path
            && self.domain_bytes() == identity.domain
    }

    pub(in crate::cookie) fn same_identity(&self, other: &Self) -> bool {
        self.has_identity(&other.identity())
    }

    /// Whether both go to the same hosts.
    pub(in crate::cookie) fn same_hosts(&self, other: &Self) -> bool {
        self.flags.host_only == other.flags.host_only && self.domain_bytes() == other.domain_bytes()
    }
}
