//! Any file as a jar, in each format: an error with its line, or cookies that stay the same if they
//! are written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_outbound::cookie::{CookieJar, Format};

fn written(jar: &CookieJar, format: Format) -> Vec<u8> {
    let mut file = Vec::new();
    jar.write_to(&mut file, format).expect("a vector takes it all");
    file
}

fuzz_target!(|file: &[u8]| {
    let Some((format, file)) = file.split_first() else { return };
    let formats = [Format::Netscape, Format::Json, Format::CookieStore, Format::Browser];
    let format = formats[usize::from(*format) % formats.len()];
    let jar = CookieJar::new();
    if let Err(error) = jar.read_from(file, format) {
        assert!(!error.to_string().is_empty());
        assert!(jar.is_empty(), "half a file was read");
        return;
    }
    let once = written(&jar, format);
    let again = CookieJar::new();
    again.read_from(&*once, format).expect("its own file");
    assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&written(&again, format)));
});
