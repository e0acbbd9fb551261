//! Bodies that the server compressed.

use super::*;
use crate::rows;

/// "hello", by Python's gzip and zlib, and by hand.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00";
const GZIP_TWICE: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x93\xef\xe6`\x00\x01&\xe6\xd3\x1egO\x9edgh[&`\xc6\x0a\x14\x00\x00\xa7o\xb4E\x19\x00\x00\x00";
const ZLIB: &[u8] = b"x\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15";
/// zlib first, then gzip.
const ZLIB_IN_GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x98s\xda\xe3\xec\xc9\x93\xec\x0cl:L\xa2\x00D\xfe\x85\xaa\x0d\x00\x00\x00";
const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";

fn encoded(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn compressed_asks_for_codings_and_decodes_them() {
    let raw = &ZLIB[2..ZLIB.len() - 4];
    let two_members = [GZIP, GZIP].concat();
    let junk = [GZIP, b"junk"].concat();
    let short = &GZIP[..GZIP.len() - 4];
    // The header, the body, the exit status, and the output.
    let rows: [(&str, &str, &[u8], i32, &str); 20] = [
        ("gzip", "gzip", GZIP, 0, "hello"),
        ("an old name", "x-gzip", GZIP, 0, "hello"),
        ("capitals", "GZIP", GZIP, 0, "hello"),
        ("deflate", "deflate", ZLIB, 0, "hello"),
        ("deflate without zlib's frame", "deflate", raw, 0, "hello"),
        ("br", "br", BROTLI, 0, "hello"),
        ("zstd", "zstd", ZSTD, 0, "hello"),
        ("two, in the order of their use", "deflate, gzip", ZLIB_IN_GZIP, 0, "hello"),
        ("one that changes nothing", "zstd, identity", ZSTD, 0, "hello"),
        ("the same twice", "gzip, gzip", GZIP_TWICE, 0, "hello"),
        ("in two lines", "gzip\r\nContent-Encoding: gzip", GZIP_TWICE, 0, "hello"),
        ("identity", "identity", b"hello", 0, "hello"),
        ("no name", "", b"hello", 0, "hello"),
        ("two members", "gzip", &two_members, 0, "hellohello"),
        ("an empty body", "gzip", b"", 0, ""),
        ("an unknown coding", "SECRET", b"hello", 61, ""),
        ("six codings", "gzip, gzip, gzip, gzip, gzip, gzip", GZIP, 61, ""),
        ("not gzip", "gzip", b"hello", 61, ""),
        // curl 7.88 accepts it.
        ("no end", "gzip", short, 61, "hello"),
        // 23 in curl.
        ("junk behind it", "gzip", &junk, 61, "hello"),
    ];
    rows::hold(rows, |(row, coding, body, status, stdout)| {
        let message = encoded(&format!("Content-Encoding: {coding}\r\n"), body);
        let server = Server::new(move |_, _| Reply::Keep(message.clone()));
        let outcome = fetch(&["--compressed", &server.url("/")]);
        assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
        let asked = server.seen()[0].all("accept-encoding").join(", ");
        assert_eq!(asked, "gzip, deflate, br, zstd");
        let name = format!("{row}: {outcome:?}");
        (name, (outcome.status, outcome.stdout.clone()), (status, stdout.to_owned()))
    });
}

#[test]
fn without_compressed_a_body_is_as_it_came() {
    let server = Server::new(|_, _| Reply::Keep(encoded("Content-Encoding: gzip\r\n", GZIP)));
    let output = command(&[&server.url("/")]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), GZIP));
    assert_eq!(server.seen()[0].all("accept-encoding"), [""; 0]);
}

#[test]
fn compressed_keeps_the_head_as_it_came_and_the_users_own_header() {
    let message = || encoded("Content-Encoding: gzip\r\n", GZIP);
    let server = Server::new(move |seen, _| match seen.method.as_str() {
        // The head of a body that does not follow.
        "HEAD" => Reply::Keep(encoded("Content-Encoding: gzip\r\n", b"")),
        _ => Reply::Keep(message()),
    });
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\nhello",
        GZIP.len()
    );
    let arguments = ["-i", "--compressed", "-H", "Accept-Encoding: gzip;q=1", &server.url("/")];
    assert_outcome(&fetch(&arguments), 0, &head);
    assert_eq!(server.seen()[0].all("accept-encoding"), ["gzip;q=1"]);
    assert_outcome(&fetch(&["--compressed", "-X", "HEAD", &server.url("/")]), 0, "");
}

#[test]
fn a_compressed_body_that_is_cut_off_is_a_broken_transfer() {
    let server = Server::new(|_, _| {
        let message = encoded("Content-Encoding: gzip\r\n", GZIP);
        Reply::Close(message[..message.len() - 6].to_vec())
    });
    assert_outcome(&fetch(&["--compressed", &server.url("/")]), 18, "hello");
}
