//! The session's cookies: read from `-b`, saved into `-c`.

use std::path::Path;

use tower_outbound::cookie::{CookieFile, CookieJar, Format};

use crate::{
    args::Args,
    failed::{Failed, complain},
};

/// The session's jar, filled from every `-b`, and the file of `-c`.
pub(crate) fn open(args: &Args) -> Result<(CookieJar, Option<CookieFile>), Failed> {
    let jar = CookieJar::new();
    let mut files = Vec::new();
    for path in args.cookie_files() {
        let file = CookieFile::open_into(path, Format::Netscape, jar.clone());
        let file = file.map_err(|error| Failed::new(26, error.to_string()))?;
        for line in file.skipped() {
            complain(args.silent, &format_args!("skipped in {}, {line}", path.display()));
        }
        files.push(file);
    }
    if args.junk_session_cookies {
        jar.clear_session_cookies();
    }
    // With curl this means a jar that is not saved.
    let kept = args.cookie_jar.as_ref().filter(|path| path.as_path() != Path::new("/dev/null"));
    let save_to = kept.map(|path| {
        // This must be the same `CookieFile`: a save has to know what changed since it was read.
        let read = files.into_iter().find(|file| same_file(file.path(), path));
        read.unwrap_or_else(|| CookieFile::with_jar(path, Format::Netscape, jar.clone()))
    });
    Ok((jar, save_to))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
