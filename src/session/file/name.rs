//! File names of sessions: any bytes become names that every file system keeps distinct.

use std::path::{Path, PathBuf};

use crate::session::{SessionKey, StoreKey};

/// Longest session key, in bytes. A path takes up to three times as much, and 4,096 is the limit on
/// Linux.
pub(super) const LONGEST: usize = 1_024;

/// Longest name of one directory or file. 255 is the limit, and the temporary file of a save is
/// longer than its target.
const CHUNK: usize = 200;

/// The directory of a session. `None` if its key is too long.
pub(super) fn tenant(root: &Path, tenant: &SessionKey) -> Option<PathBuf> {
    let name = tenant.as_bytes();
    (name.len() <= LONGEST).then(|| join(root, 't', name))
}

/// The file of a site, inside the session's directory.
pub(super) fn site(root: &Path, key: &StoreKey) -> Option<PathBuf> {
    Some(join(&tenant(root, key.tenant())?, 's', key.site().as_bytes()))
}

/// Whether it is the name of a site's file, and not of a temporary file or of someone else's.
pub(super) fn is_site(file_name: &str) -> bool {
    file_name.starts_with("s-")
}

/// The lock of a session. One lock for all sessions is too slow. One for each would stay forever,
/// since a lock file cannot be removed safely.
pub(super) fn lock(root: &Path, tenant: &SessionKey) -> PathBuf {
    // FNV-1a: every process and version must compute the same file.
    let hash = tenant.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    root.join(format!(".lock-{:02x}", (hash ^ (hash >> 32)) & 0xff))
}

/// A long name is spread over directories of their own kind, `c-`. So no name is a prefix of
/// another, or has a meaning for the system, such as `.`, `..` or `nul`.
fn join(directory: &Path, kind: char, name: &[u8]) -> PathBuf {
    let escaped = escape(name);
    let mut path = directory.to_owned();
    let mut rest = escaped.as_str();
    while rest.len() > CHUNK {
        let (chunk, tail) = rest.split_at(CHUNK);
        path.push(format!("c-{chunk}"));
        rest = tail;
    }
    path.push(format!("{kind}-{rest}"));
    path
}

/// Lower-case letters, digits and `-` stay, and each other byte becomes `_` and two digits. So file
/// systems that ignore case, or drop a dot at the end, keep the names distinct.
fn escape(name: &[u8]) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => escaped.push(char::from(*byte)),
            _ => escaped.push_str(&format!("_{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn path(name: &[u8], site_name: &str) -> PathBuf {
        let key = StoreKey::new(SessionKey::new(name), site_name);
        site(Path::new("root"), &key).expect("it is short enough")
    }

    #[test]
    fn no_name_meets_another_or_leaves_the_directory() {
        let long = vec![b'a'; LONGEST];
        let names: &[&[u8]] = &[
            b"",
            b".",
            b"..",
            b"../x",
            b"/etc",
            b"a",
            b"A",
            b"a.",
            b"a ",
            b"a_41",
            b"a}:b",
            b"x {ann}",
            b"nul",
            b"con.txt",
            b"t-a",
            b"s-a",
            b"c-a",
            b"\0",
            b"\xff\xfe",
            "\u{e9}".as_bytes(),
            "e\u{301}".as_bytes(),
            &long,
            &long[1..],
            &long[..CHUNK],
            &long[..CHUNK + 1],
            &[0xff; LONGEST],
        ];
        let sites = ["example.com", "EXAMPLE.com", "", "..", "[::1]", "a/b", &"x".repeat(300)];
        let mut seen = HashSet::new();
        for name in names {
            for site in sites {
                let path = path(name, site);
                let text = path.to_str().expect("it is ASCII").to_ascii_lowercase();
                assert!(seen.insert(text.clone()), "{text} twice");
                for part in path.components().skip(1) {
                    let part = part.as_os_str().to_str().expect("it is ASCII");
                    assert!(part.len() <= CHUNK + 2, "{part}");
                    assert!(part.as_bytes()[1] == b'-' && !part.contains('.'), "{part}");
                }
                assert!(path.starts_with("root"));
                assert!(path.as_os_str().len() < 4_096 - 256, "{}", path.as_os_str().len());
            }
        }
    }

    #[test]
    fn a_name_that_is_too_long_has_no_path() {
        assert_eq!(tenant(Path::new("root"), &SessionKey::new([0; LONGEST + 1])), None);
    }
}
