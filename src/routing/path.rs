//! Brings paths into one spelling, and finds spellings that servers read differently.

use std::borrow::Cow;

/// The path without dot segments (RFC 3986 section 5.2.4) and without needless escapes (section
/// 6.2.2). `%2F` and empty segments stay: a server may give them a meaning.
///
/// Borrows if there is nothing to do.
pub(super) fn normalised(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let path =
        if is_escaped(path.as_bytes()) { Cow::Borrowed(path) } else { Cow::Owned(escape(path)) };
    if path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        Cow::Owned(without_dot_segments(&path))
    } else {
        path
    }
}

/// Whether a path has no escapes, and no segment that begins with a dot. Then there is nothing to
/// do, as for most paths.
fn is_normal(path: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < plain.len() {
            plain[byte] = is_path_byte(byte as u8);
            byte += 1;
        }
        plain
    };
    let mut before = 0;
    path.iter().all(|&byte| {
        let begins_with_dot = before == b'/' && byte == b'.';
        before = byte;
        PLAIN[usize::from(byte)] && !begins_with_dot
    })
}

fn is_escaped(path: &[u8]) -> bool {
    path.iter().enumerate().all(|(at, &byte)| match byte {
        b'%' => {
            escaped(&path[at..]).is_some_and(|byte| !is_unreserved(byte))
                && !path[at + 1..at + 3].iter().any(u8::is_ascii_lowercase)
        }
        _ => is_path_byte(byte),
    })
}

/// Undoes escapes of unreserved characters, writes the other escapes in upper case, and escapes
/// every character that needs it. A stray `%` is escaped too: it must not form an escape with
/// characters that are decoded after it.
fn escape(path: &str) -> String {
    let mut output = String::with_capacity(path.len() + 8);
    let mut rest = path.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, plain) = match escaped(rest) {
            Some(byte) => {
                rest = &rest[3..];
                (byte, is_unreserved(byte))
            }
            None => {
                rest = behind;
                (first, is_path_byte(first))
            }
        };
        if plain {
            output.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
            output.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    output
}

/// The byte that is escaped at the start of a text, if there is an escape.
pub(super) fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a byte needs no escape in a path: RFC 3986 section 3.3, `pchar` and the slash.
pub(super) const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':'
                | b'@'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// RFC 3986 section 5.2.4.
fn without_dot_segments(path: &str) -> String {
    let mut output = String::with_capacity(path.len());
    let mut ends_in_dots = false;
    for segment in path.split('/').skip(1) {
        ends_in_dots = matches!(segment, "." | "..");
        if segment == ".." {
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if !ends_in_dots {
            output.push('/');
            output.push_str(segment);
        }
    }
    if ends_in_dots {
        output.push('/');
    }
    output
}

/// Whether some server would take a segment for `.` or `..`. `%2e` is a dot. What [some read as a
/// slash](has_hidden_slashes) ends a segment. After a `;` comes a parameter, which Java's servers
/// cut off first.
pub(super) fn has_dot_segments(path: &str) -> bool {
    let path = if has_hidden_slashes(path) {
        let slashes = ["%2f", "%2F", "%5c", "%5C", "\\"];
        Cow::Owned(slashes.iter().fold(path.to_owned(), |path, slash| path.replace(slash, "/")))
    } else {
        Cow::Borrowed(path)
    };
    path.split('/').any(|segment| {
        let mut name = segment.split(';').next().unwrap_or_default();
        let mut dots = 0;
        while let Some(rest) = strip_dot(name) {
            (name, dots) = (rest, dots + 1);
        }
        name.is_empty() && (1..=2).contains(&dots)
    })
}

fn strip_dot(text: &str) -> Option<&str> {
    text.strip_prefix('.').or_else(|| text.strip_prefix("%2e")).or_else(|| text.strip_prefix("%2E"))
}

/// Whether some server would read a slash that is not written as one: `%2F`, `%5C`, or a backslash.
pub(super) fn has_hidden_slashes(path: &str) -> bool {
    path.bytes().enumerate().any(|(at, byte)| {
        byte == b'\\'
            || byte == b'%' && matches!(escaped(&path.as_bytes()[at..]), Some(b'/' | b'\\'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_but_slashes_are_not_made() {
        let rows = [
            ("", ""),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/x/../admin/", "/admin/"),
            ("/pub/%2e%2E/admin", "/admin"),
            ("/./a/./b/.", "/a/b/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/%61dmin", "/admin"),
            ("/a%7Eb", "/a~b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%zz%4", "/a%25zz%254"),
            ("/%", "/%25"),
            ("/a%%32Fb", "/a%252Fb"),
            ("/\u{fc}", "/%C3%BC"),
            ("/a//../b", "/a/b"),
            ("//admin", "//admin"),
            ("/a%2e", "/a."),
            ("/...", "/..."),
            ("/%252e%252e/a", "/%252e%252e/a"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(path, want)| (path, normalised(path), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_some_server_may_take_for_a_dot_segment_or_a_slash_is_seen() {
        let rows = [
            // path, dot segments, hidden slashes
            ("", false, false),
            ("/", false, false),
            ("/a/b.c/..d/...", false, false),
            ("/a/.", true, false),
            ("/a/../b", true, false),
            ("/a/%2e%2E/b", true, false),
            ("/a/.%2e", true, false),
            ("/a/..;x=1/b", true, false),
            ("/a/;../b", false, false),
            ("/.well-known/x", false, false),
            ("/%252e%252e/", false, false),
            ("/a%2Fb", false, true),
            ("/a%5cb", false, true),
            ("/a%252fb", false, false),
            ("/a%2", false, false),
            ("/%2e%2e%2fadmin", true, true),
            ("/a/..%5c..", true, true),
            ("/a/..%2fb%2e", true, true),
            ("/a/b%2fc..", false, true),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(path, dots, slashes)| {
                (path, has_dot_segments(path), dots, has_hidden_slashes(path), slashes)
            })
            .filter(|(_, dots, want_dots, slashes, want_slashes)| {
                dots != want_dots || slashes != want_slashes
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
