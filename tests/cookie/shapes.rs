//! Shapes of cookies.txt from the field: how curl, Wget, Python, yt-dlp and this crate read each
//! one. A save loses no line.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tower_outbound::cookie::{
    CookieFile, CookieJar, FileError, Format, ReadError, ReadSummary, SkippedLine,
};

/// The name of a shape, its bytes, how curl, Wget, Python and yt-dlp read it, how this crate reads
/// it, and the reason, if three of the four read it differently.
///
/// An answer is the cookies that are sent, `-` for none, and `!` if the rest of the file is lost
/// too. `skipped`: this crate lists the line as one that it cannot read, and keeps it.
///
/// Recorded on 2026-11-26 with curl 7.88.1 (`-b FILE`), Wget 1.21.3 (`--load-cookies FILE`), Python
/// 3.11.7 (`MozillaCookieJar.load(ignore_discard=True, ignore_expires=True)`) and yt-dlp 2026.10.26
/// (`YoutubeDLCookieJar`, loaded alike). curl and Wget sent their requests to a server on loopback,
/// over TLS if the URL says https. Python and yt-dlp were asked for the header.
///
/// In the bytes `{n}` is `x` n times, and `{utf-16}` at the beginning says how the rest is encoded.
/// Answers show each byte as the character of that number.
type Shape = (&'static str, &'static [u8], [&'static str; 4], &'static str, &'static str);

/// A line between a header and a cookie `ok=1`, which is left out of the answers. Sent to
/// `https://h.example/`.
#[rustfmt::skip]
const LINES: &[Shape] = &[
    ("as it should be", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("of a domain", b".h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("spaces for tabs", b"h.example FALSE / FALSE 4102444800 a 1",
        ["-", "-", "!", "-"], "a=1", "the fields are clear: seven words, flags and a number among them"),
    ("several spaces for tabs", b"h.example   FALSE   /   FALSE   4102444800   a    1",
        ["-", "-", "!", "-"], "a=1", "the fields are clear: seven words, flags and a number among them"),
    ("spaces for some of the tabs", b"h.example  FALSE\t/\tFALSE  4102444800\ta\t1",
        ["-", "-", "!", "-"], "a=1", "the fields are clear"),
    ("spaces for tabs, one in the value", b"h.example FALSE / FALSE 4102444800 a 1 2",
        ["-", "-", "!", "-"], "skipped", ""),
    ("spaces for tabs, no value", b"h.example FALSE / FALSE 4102444800 a",
        ["-", "-", "!", "-"], "skipped", ""),
    ("spaces for tabs, no expiry", b"h.example FALSE / FALSE a 1",
        ["-", "-", "!", "-"], "a=1", "the fifth word is no number, so it is the name"),
    ("no expiry", b"h.example\tFALSE\t/\tFALSE\ta\t1",
        ["-", "-", "!", "-"], "a=1", "the fifth field is no number, so it is the name: a session cookie of an add-on"),
    ("an empty expiry", b"h.example\tFALSE\t/\tFALSE\t\ta\t1",
        ["-", "-", "a=1", "a=1"], "a=1", ""),
    ("expiry 0", b"h.example\tFALSE\t/\tFALSE\t0\ta\t1",
        ["a=1", "a=1", "-", "a=1"], "a=1", ""),
    ("a fractional expiry", b"h.example\tFALSE\t/\tFALSE\t4102444800.123456\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("a fractional expiry of 0", b"h.example\tFALSE\t/\tFALSE\t0.0\ta\t1",
        ["a=1", "a=1", "-", "a=1"], "a=1", ""),
    ("an expiry with an exponent", b"h.example\tFALSE\t/\tFALSE\t4.1024448e9\ta\t1",
        ["-", "a=1", "a=1", "-"], "skipped", ""),
    ("an expiry in milliseconds", b"h.example\tFALSE\t/\tFALSE\t4102444800000\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("an expiry in milliseconds, past", b"h.example\tFALSE\t/\tFALSE\t1000000000000\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "-", "it is 2001; in seconds it would be the year 33658"),
    ("an expiry in microseconds since 1601", b"h.example\tFALSE\t/\tFALSE\t13380163200000000\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("an expiry at the end of the year 9999", b"h.example\tFALSE\t/\tFALSE\t253402300799\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("expiry `null`", b"h.example\tFALSE\t/\tFALSE\tnull\ta\t1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("expiry -1", b"h.example\tFALSE\t/\tFALSE\t-1\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("a large negative expiry", b"h.example\tFALSE\t/\tFALSE\t-62135596800\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("an expiry that is past", b"h.example\tFALSE\t/\tFALSE\t1000000000\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("an expiry of 20 digits", b"h.example\tFALSE\t/\tFALSE\t99999999999999999999\ta\t1",
        ["-", "-", "a=1", "a=1"], "a=1", ""),
    ("expiry `undefined`", b"h.example\tFALSE\t/\tFALSE\tundefined\ta\t1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("expiry `Session`", b"h.example\tFALSE\t/\tFALSE\tSession\ta\t1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("expiry `Infinity`", b"h.example\tFALSE\t/\tFALSE\tInfinity\ta\t1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("expiry as a date", b"h.example\tFALSE\t/\tFALSE\t2100-01-01T00:00:00Z\ta\t1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a tab behind the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\t",
        ["a=1", "a=1\t", "!", "-"], "a=1", ""),
    ("a space behind the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1 ",
        ["a=1", "a=1 ", "a=1 ", "a=1 "], "a=1", "servers trim it (RFC 6265bis section 5.6), so it is no part of the value"),
    ("a tab and more behind the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\tLax",
        ["-", "a=1\tLax", "!", "-"], "skipped", ""),
    ("a space in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1 2",
        ["a=1 2", "a=1 2", "a=1 2", "a=1 2"], "a=1 2", ""),
    ("spaces around the name", b"h.example\tFALSE\t/\tFALSE\t4102444800\t a \t1",
        ["a =1", "a =1", " a =1", " a =1"], "a=1", "servers trim them"),
    ("a space before the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t 1",
        ["a= 1", "a= 1", "a= 1", "a= 1"], "a=1", "servers trim it"),
    ("no value and no tab before it", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta",
        ["a=", "-", "!", "-"], "a=", ""),
    ("an empty value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t",
        ["a=", "a=", "a=", "a="], "a=", ""),
    ("an empty name", b"h.example\tFALSE\t/\tFALSE\t4102444800\t\t1",
        ["1=", "-", "1", "1"], "1", ""),
    ("a quoted value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t\"1\"",
        ["a=\"1\"", "a=\"1\"", "a=\"1\"", "a=\"1\""], "a=\"1\"", ""),
    ("`=` in the name", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta=b\t1",
        ["a=b=1", "a=b=1", "a=b=1", "a=b=1"], "a=b=1", ""),
    ("`=` in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\tb=c",
        ["a=b=c", "a=b=c", "a=b=c", "a=b=c"], "a=b=c", ""),
    ("`=` before the name", b"h.example\tFALSE\t/\tFALSE\t4102444800\t=a\t1",
        ["=a=1", "=a=1", "=a=1", "=a=1"], "a=1", "a Set-Cookie of this pair is a nameless cookie, which is sent as its value"),
    ("`;` in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1;2",
        ["a=1;2", "a=1;2", "a=1;2", "a=1;2"], "skipped", "a server would read two cookies"),
    ("`;` in the name", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta;b\t1",
        ["a;b=1", "a;b=1", "a;b=1", "a;b=1"], "skipped", "a server would read two cookies"),
    ("a `#` in the name", b"h.example\tFALSE\t/\tFALSE\t4102444800\t#a\t1",
        ["#a=1", "#a=1", "#a=1", "#a=1"], "#a=1", ""),
    ("a NUL byte in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\x002",
        ["!", "a=1", "a=1\x002", "a=1\x002"], "skipped", ""),
    ("NUL bytes behind the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\0\0\0",
        ["!", "a=1", "a=1\0\0\0", "a=1\0\0\0"], "skipped", ""),
    ("a line of NUL bytes", b"\0\0\0\0\0\0\0\0",
        ["!", "-", "!", "-"], "skipped", ""),
    ("another control character in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\x012",
        ["a=1\u{1}2", "a=1\u{1}2", "a=1\u{1}2", "a=1\u{1}2"], "skipped", "no header may carry it (RFC 9110 section 5.5)"),
    ("a value that is UTF-8", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t\xc3\xa9",
        ["a=\u{c3}\u{a9}", "a=\u{c3}\u{a9}", "a=\u{c3}\u{a9}", "a=\u{c3}\u{a9}"], "a=\u{c3}\u{a9}", ""),
    ("a value that is Latin-1", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t\xe9",
        ["a=\u{e9}", "a=\u{e9}", "!", "!"], "a=\u{e9}", ""),
    ("a carriage return in the value", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\r2",
        ["a=1", "a=1\r2", "!", "a=1"], "skipped", ""),
    ("flags 0 and 1", b"h.example\t0\t/\t1\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("flags 1 and 0", b".h.example\t1\t/\t0\t4102444800\ta\t1",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("small flags", b"h.example\tfalse\t/\ttrue\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("capital flags", b"h.example\tFalse\t/\tTrue\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("flags yes and no", b"h.example\tno\t/\tyes\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "skipped", "a Secure cookie might go in clear"),
    ("an empty flag", b"h.example\tFALSE\t/\t\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "skipped", ""),
    ("a dot, and FALSE", b".h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("no dot, and TRUE", b"h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("TRUE for all, named `__Host-a`", b"h.example\tTRUE\t/\tTRUE\t4102444800\t__Host-a\t1",
        ["-", "__Host-a=1", "!", "!"], "__Host-a=1", ""),
    ("TRUE for all and a dot, named `__Host-a`", b".h.example\tTRUE\t/\tTRUE\t4102444800\t__Host-a\t1",
        ["-", "__Host-a=1", "__Host-a=1", "__Host-a=1"], "__Host-a=1", ""),
    ("`__Secure-a` without Secure", b"h.example\tFALSE\t/\tFALSE\t4102444800\t__Secure-a\t1",
        ["-", "__Secure-a=1", "__Secure-a=1", "__Secure-a=1"], "-", "a rule refuses it (RFC 6265bis section 4.1.3.1); the line stays in the file"),
    ("`http://h.example` as domain", b"http://h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("`https://h.example/` as domain", b"https://h.example/\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("`h.example:443` as domain", b"h.example:443\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "a=1", "-", "-"], "a=1", "Wget writes ports; cookies know none (RFC 6265bis section 8.5)"),
    ("`h.example/` as domain", b"h.example/\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("`H.Example` as domain", b"H.Example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("`h.example.` as domain", b"h.example.\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "a=1", "one dot of the root is dropped, here as in a URI"),
    ("two dots before the domain", b"..h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("`*.h.example` as domain", b"*.h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "!", "!"], "-", ""),
    ("a space behind the domain", b"h.example \tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("an empty domain", b"\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "skipped", ""),
    ("a domain that is a public suffix", b".example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "-", ""),
    ("a path without a slash", b"h.example\tFALSE\tx\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "-", "-"], "skipped", ""),
    ("an empty path", b"h.example\tFALSE\t\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "a=1", "a=1"], "a=1", ""),
    ("no path", b"h.example\tFALSE\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "!", "-"], "skipped", ""),
    ("a path in quotes", b"h.example\tFALSE\t\"/\"\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "-", "-"], "skipped", ""),
    ("a pair of 4,096 bytes", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t{4095}",
        ["a={4095}", "a={4095}", "a={4095}", "a={4095}"], "a={4095}", ""),
    ("a pair of 4,097 bytes", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t{4096}",
        ["a={4096}", "a={4096}", "a={4096}", "a={4096}"], "skipped", "too long for a cookie (RFC 6265bis section 5.6)"),
    ("a pair of 8,000 bytes", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t{7999}",
        ["-", "a={7999}", "a={7999}", "a={7999}"], "skipped", "too long for a cookie"),
    ("a comment", b"# a comment",
        ["-", "-", "-", "-"], "-", ""),
    ("an indented comment", b"  # a comment",
        ["-", "-", "-", "-"], "-", ""),
    ("an indented cookie", b"  h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "-", "-"], "a=1", ""),
    ("white space alone", b"   \t ",
        ["-", "-", "-", "-"], "-", ""),
    ("a comment that was a cookie", b"#h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("a line with `$`", b"$Version=1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("a cookie with `$` before it", b"$h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("a line with `//`", b"// cookies of h.example",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a line with `;`", b"; cookies of h.example",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a heading", b"[cookies]",
        ["-", "-", "!", "!"], "skipped", ""),
    ("a rule", b"--------",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a fence of Markdown", b"```",
        ["-", "-", "!", "-"], "skipped", ""),
    ("`EOF`", b"EOF",
        ["-", "-", "!", "-"], "skipped", ""),
    ("the names of the fields", b"domain\tflag\tpath\tsecure\texpiration\tname\tvalue",
        ["-", "-", "!", "-"], "skipped", ""),
    ("`#HttpOnly_`", b"#HttpOnly_h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "a=1", "a=1"], "a=1", ""),
    ("`#HttpOnly_` and a dot", b"#HttpOnly_.h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "a=1", "a=1"], "a=1", ""),
    ("`#httponly_`", b"#httponly_h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("`# HttpOnly_`", b"# HttpOnly_h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "-", ""),
    ("`#HttpOnly_` indented", b" #HttpOnly_h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "-", "-"], "a=1", "as curl: it is no comment"),
    ("`#HttpOnly_` with spaces for tabs", b"#HttpOnly_h.example FALSE / FALSE 4102444800 a 1",
        ["-", "-", "!", "-"], "a=1", "the fields are clear"),
    ("`#HttpOnly_` and no cookie", b"#HttpOnly_ are marked so",
        ["-", "-", "!", "-"], "skipped", ""),
    ("the same cookie twice", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t0\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("a line of `Set-Cookie`", b"Set-Cookie: a=1; Domain=h.example; Path=/",
        ["a=1", "-", "!", "-"], "skipped", ""),
    ("a pair alone", b"a=1",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a line cut short", b"h.example\tFALSE\t/\tFALS",
        ["-", "-", "!", "-"], "skipped", ""),
    ("a host alone", b"h.example",
        ["-", "-", "!", "-"], "skipped", ""),
    ("JSON", b"{\"domain\": \"h.example\", \"name\": \"a\", \"value\": \"1\"}",
        ["-", "-", "!", "!"], "skipped", ""),
    ("two cookies in a line", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1 h.example\tFALSE\t/\tFALSE\t4102444800\tb\t1",
        ["-", "a=1 h.example\tFALSE\t/\tFALSE\t4102444800\tb\t1", "!", "-"], "skipped", ""),
];

/// As [`LINES`], sent to another URL, which comes second.
#[rustfmt::skip]
const LINES_ELSEWHERE: &[(&str, &str, &[u8], [&str; 4], &str, &str)] = &[
    ("flags 0 and 1, in clear", "http://h.example/", b"h.example\t0\t/\t1\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "-", "1 is TRUE: a Secure cookie does not go in clear"),
    ("small flags, in clear", "http://h.example/", b"h.example\tfalse\t/\ttrue\t4102444800\ta\t1",
        ["-", "a=1", "a=1", "a=1"], "-", "true is TRUE: a Secure cookie does not go in clear"),
    ("an empty flag, in clear", "http://h.example/", b"h.example\tFALSE\t/\t\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "skipped", ""),
    ("flags 0 and 1, of a subdomain", "https://s.h.example/", b"h.example\t0\t/\t1\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "-", ""),
    ("flags 1 and 0, of a subdomain", "https://s.h.example/", b".h.example\t1\t/\t0\t4102444800\ta\t1",
        ["-", "-", "!", "!"], "a=1", ""),
    ("a dot and FALSE, of a subdomain", "https://s.h.example/", b".h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "!", "!"], "-", ""),
    ("no dot and TRUE, of a subdomain", "https://s.h.example/", b"h.example\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("TRUE for all, named `__Host-a`, of a subdomain", "https://s.h.example/", b"h.example\tTRUE\t/\tTRUE\t4102444800\t__Host-a\t1",
        ["-", "__Host-a=1", "!", "!"], "-", ""),
    ("a path without a slash, below it", "https://h.example/x/y", b"h.example\tFALSE\tx\tFALSE\t4102444800\ta\t1",
        ["a=1", "-", "-", "-"], "skipped", ""),
    ("a domain that is not ASCII", "https://xn--bcher-kva.example/", b"b\xc3\xbccher.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "skipped", ""),
    ("a domain that is an A-label", "https://xn--bcher-kva.example/", b"xn--bcher-kva.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("an IPv4 address", "https://10.0.0.1/", b"10.0.0.1\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("an IPv4 address, and TRUE", "https://10.0.0.1/", b"10.0.0.1\tTRUE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("an IPv6 address", "https://[::2]/", b"::2\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "-", "-"], "a=1", ""),
    ("an IPv6 address in brackets", "https://[::2]/", b"[::2]\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "-", "-"], "a=1", "it is how a URI spells this host"),
    ("an IPv6 address as Python writes it", "https://[::2]/", b"[::2].local\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "a=1", ""),
    ("a host with a port", "http://h.example:8080/", b"h.example:8080\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "a=1", "-", "-"], "a=1", "Wget writes ports; cookies know none"),
    ("a host of one label", "http://intranet/", b"intranet\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "-", "-"], "a=1", ""),
    ("`localhost`", "http://localhost/", b"localhost\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "-", "-"], "a=1", ""),
    ("`localhost.local`, as Python writes it", "http://localhost/", b"localhost.local\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["-", "-", "a=1", "a=1"], "a=1", ""),
];

/// Whole files. Sent to `https://h.example/`.
#[rustfmt::skip]
const FILES: &[Shape] = &[
    ("empty", b"",
        ["-", "-", "!", "!"], "-", ""),
    ("a header and no more", b"# Netscape HTTP Cookie File\n\n",
        ["-", "-", "-", "-"], "-", ""),
    ("no header", b"h.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("Wget's header", b"# HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("a header of its own", b"# Exported by an add-on\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("no line end behind the last line", b"# Netscape HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("a byte order mark", b"\xef\xbb\xbf# Netscape HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["a=1", "a=1", "!", "!"], "a=1", ""),
    ("a byte order mark and no header", b"\xef\xbb\xbfh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["-", "-", "!", "!"], "a=1", ""),
    ("Windows line ends", b"# Netscape HTTP Cookie File\r\n\r\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\r\n",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("Windows line ends, empty values", b"# Netscape HTTP Cookie File\r\n\r\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t\r\n",
        ["a=", "a=", "a=", "a="], "a=", ""),
    ("line ends of the old Mac", b"# Netscape HTTP Cookie File\r\rh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\r",
        ["-", "-", "a=1", "a=1"], "!", ""),
    ("UTF-16, as PowerShell redirects", b"{utf-16}# Netscape HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n",
        ["-", "-", "!", "!"], "!", ""),
    ("empty lines in between", b"# Netscape HTTP Cookie File\n\n\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n\n",
        ["a=1", "a=1", "a=1", "a=1"], "a=1", ""),
    ("JSON of an add-on", b"[{\"domain\": \"h.example\", \"path\": \"/\", \"name\": \"a\", \"value\": \"1\"}]\n",
        ["-", "-", "!", "!"], "!", ""),
    ("JSON over several lines", b"[\n  {\n    \"domain\": \"h.example\",\n    \"name\": \"a\",\n    \"value\": \"1\"\n  }\n]\n",
        ["-", "-", "!", "!"], "!", ""),
    ("JSON under a header", b"# Netscape HTTP Cookie File\n\n[{\"domain\": \"h.example\", \"path\": \"/\", \"name\": \"a\", \"value\": \"1\"}]\n",
        ["-", "-", "!", "!"], "!", ""),
    ("a page of HTML", b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n",
        ["-", "-", "!", "!"], "!", ""),
    ("a page of HTML under a header", b"# Netscape HTTP Cookie File\n\n<html><body>Log in</body></html>\n",
        ["-", "-", "!", "-"], "!", "no line is a cookie: the caller would be logged out and not know why"),
    ("the header of a request", b"Cookie: a=1; b=2\n",
        ["-", "-", "!", "!"], "!", ""),
    ("pairs alone", b"a=1; b=2\n",
        ["-", "-", "!", "!"], "!", ""),
    ("headers of a response", b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Domain=h.example; Path=/\r\n\r\n",
        ["a=1", "-", "!", "!"], "!", ""),
    ("a line of `Set-Cookie` alone", b"Set-Cookie: a=1; Domain=h.example; Path=/\n",
        ["a=1", "-", "!", "!"], "!", ""),
    ("spaces for tabs throughout", b"# Netscape HTTP Cookie File\n\nh.example FALSE / FALSE 4102444800 a 1\nh.example FALSE / FALSE 4102444800 b 2\n",
        ["-", "-", "!", "-"], "a=1; b=2", "the fields are clear"),
    ("NUL bytes alone, as after a crash", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ["-", "-", "!", "!"], "!", ""),
    ("NUL bytes at the end, as after a crash", b"# Netscape HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ["a=1", "a=1", "!", "a=1"], "a=1", ""),
    ("a last line cut short", b"# Netscape HTTP Cookie File\n\nh.example\tFALSE\t/\tFALSE\t4102444800\ta\t1\nh.example\tFALSE\t/\tFAL",
        ["a=1", "a=1", "!", "a=1"], "a=1", ""),
];

const HEADER: &str = "# Netscape HTTP Cookie File\n\n";
const GOOD: &str = "h.example\tFALSE\t/\tFALSE\t4102444800\tok\t1\n";

/// A shape, as the tests below use it.
struct Case {
    name: &'static str,
    url: &'static str,
    file: Vec<u8>,
    peers: [&'static str; 4],
    ours: &'static str,
    why: &'static str,
}

fn cases() -> Vec<Case> {
    let among = |line: &[u8]| [HEADER.as_bytes(), &expanded(line), b"\n", GOOD.as_bytes()].concat();
    let url = "https://h.example/";
    let lines = LINES.iter().map(|&(name, line, peers, ours, why)| {
        let file = among(line);
        Case { name, url, file, peers, ours, why }
    });
    let elsewhere = LINES_ELSEWHERE.iter().map(|&(name, url, line, peers, ours, why)| {
        let file = among(line);
        Case { name, url, file, peers, ours, why }
    });
    let files = FILES.iter().map(|&(name, file, peers, ours, why)| {
        let file = expanded(file);
        Case { name, url, file, peers, ours, why }
    });
    lines.chain(elsewhere).chain(files).collect()
}

fn expanded(text: &[u8]) -> Vec<u8> {
    let text: String = text.iter().copied().map(char::from).collect();
    if let Some(text) = text.strip_prefix("{utf-16}") {
        return format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    }
    let filled = fill(&text);
    filled.chars().map(|byte| u8::try_from(byte).unwrap()).collect()
}

/// With `x` n times in place of `{n}`.
fn fill(text: &str) -> String {
    let number = |text: &str| text.split_once('}')?.0.parse::<usize>().ok();
    let mut pieces = text.split('{');
    let mut filled = pieces.next().unwrap().to_owned();
    for piece in pieces {
        match number(piece) {
            Some(times) => {
                filled +=
                    &format!("{}{}", "x".repeat(times), &piece[piece.find('}').unwrap() + 1..]);
            }
            None => filled += &format!("{{{piece}"),
        }
    }
    filled
}

/// How this crate reads a file, in the words of the table.
fn ours(file: &[u8], url: &str) -> String {
    let jar = CookieJar::new();
    let skipped = match jar.read_from(file, Format::Netscape) {
        Ok(ReadSummary { skipped, .. }) => skipped,
        Err(ReadError::Line { .. }) => return "!".to_owned(),
        Err(error) => return error.to_string(),
    };
    let cookies = header(&jar, url);
    let sent: Vec<&str> = cookies.split("; ").filter(|pair| !["ok=1", ""].contains(pair)).collect();
    match (sent.is_empty(), skipped.is_empty()) {
        (false, _) => sent.join("; "),
        (true, false) => "skipped".to_owned(),
        (true, true) => "-".to_owned(),
    }
}

fn header(jar: &CookieJar, url: &str) -> String {
    let value = jar.header(&url.parse().unwrap());
    value.map_or(String::new(), |value| value.as_bytes().iter().copied().map(char::from).collect())
}

#[test]
fn each_shape_is_read_as_the_table_says() {
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let (got, want) = (ours(&case.file, case.url), fill(case.ours));
            (got != want).then(|| format!("{}: {got:.60}, not {want:.60}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_shape_that_is_read_otherwise_than_by_most_has_a_reason() {
    let wrong: Vec<&str> = cases()
        .iter()
        .filter(|Case { peers, ours, why, .. }| {
            let ours = if *ours == "skipped" { "-" } else { *ours };
            let most =
                peers.iter().find(|answer| peers.iter().filter(|peer| peer == answer).count() > 2);
            most.is_some_and(|most| *most != ours) && why.is_empty()
        })
        .map(|case| case.name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The figures that the documentation names.
#[test]
fn most_shapes_leave_each_program_with_a_file_that_it_uses() {
    let cases = cases();
    let count = |peer: usize| cases.iter().filter(|case| case.peers[peer] != "!").count();
    let used = cases.iter().filter(|case| case.ours != "!").count();
    assert_eq!((cases.len(), [0, 1, 2, 3].map(count), used), (153, [150, 153, 90, 125], 141));
    // And the cookie of the shape itself is sent, of those that have one.
    let sent = |answer: &str| !["!", "-", "skipped"].contains(&answer);
    let count = |peer: usize| cases.iter().filter(|case| sent(case.peers[peer])).count();
    let ours = cases.iter().filter(|case| sent(case.ours)).count();
    assert_eq!(([0, 1, 2, 3].map(count), ours), ([69, 69, 58, 62], 73));
}

fn cookie(name: &str) -> String {
    format!("h.example\tFALSE\t/\tFALSE\t4102444800\t{name}\t1")
}

fn open(path: &Path) -> Result<CookieFile, FileError> {
    CookieFile::open(path, Format::Netscape)
}

fn listed(skipped: &[SkippedLine]) -> Vec<usize> {
    skipped.iter().map(|skipped| skipped.line).collect()
}

/// The lines of a file behind our own header.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(path).unwrap();
    text.split(|&byte| byte == b'\n').skip(3).map(<[u8]>::to_vec).collect()
}

#[test]
fn what_was_skipped_stays_in_its_place_through_every_save() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let skipped =
        ["// one", "\u{e9}\u{0}\u{0}", "h.example\tFALSE\t/\tFAL", "  $four\t\r", "{\"five\": 5}"];
    let [one, two, three, four, five] = skipped;
    let (a, b, c) = (cookie("a"), cookie("b"), cookie("c"));
    let file =
        [HEADER.trim_end(), one, &a, two, three, &b, "# a comment", four, &c, five].join("\n");
    fs::write(&path, file).unwrap();

    let file = open(&path).unwrap();
    assert_eq!(listed(file.skipped()), [2, 4, 5, 8, 10]);
    assert_eq!(header(file.jar(), "https://h.example/"), "a=1; b=1; c=1");
    // A change, a removal and a new cookie, and then the same file again.
    file.jar().set(&"https://h.example/".parse().unwrap(), "c=2; Max-Age=1000").unwrap();
    file.jar().remove("h.example", "/", "a").unwrap();
    file.save().unwrap();
    let again = open(&path).unwrap();
    again.jar().set(&"https://h.example/".parse().unwrap(), "d=1").unwrap();
    again.save().unwrap();

    let changed = |line: &Vec<u8>| {
        let line = String::from_utf8(line.clone()).unwrap();
        if line.ends_with("\tc\t2") { "c=2".to_owned() } else { line }
    };
    let lines: Vec<String> = lines(&path).iter().map(changed).collect();
    let d = "h.example\tFALSE\t/\tFALSE\t0\td\t1";
    assert_eq!(lines, [one, two, three, &b, four, "c=2", five, d, ""]);
}

/// Each save reads the file again, so every shape is written by one save and read by the next.
#[test]
fn every_shape_is_the_same_after_two_saves() {
    let directory = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (number, case) in cases().iter().enumerate().filter(|(_, case)| case.ours != "!") {
        let path = directory.path().join(number.to_string());
        fs::write(&path, &case.file).unwrap();
        let first = open(&path).unwrap();
        let skipped: Vec<_> = first.skipped().iter().map(|skipped| skipped.reason).collect();
        first.save().unwrap();
        let once = fs::read(&path).unwrap();
        let second = open(&path).unwrap();
        second.save().unwrap();
        let again: Vec<_> = second.skipped().iter().map(|skipped| skipped.reason).collect();
        let lost = LINES
            .iter()
            .find(|shape| shape.0 == case.name && shape.3 == "skipped")
            .is_some_and(|shape| {
                let line = expanded(shape.1);
                !once
                    .windows(line.len() + 2)
                    .any(|window| window == [b"\n", &line[..], b"\n"].concat())
            });
        if lost
            || once != fs::read(&path).unwrap()
            || skipped != again
            || ours(&once, case.url) != fill(case.ours)
        {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn two_who_save_keep_the_lines_that_neither_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, format!("{HEADER}// first\n{}\n// second\n", cookie("a"))).unwrap();
    let files = [open(&path).unwrap(), open(&path).unwrap()];
    let uri = "https://h.example/".parse().unwrap();
    for round in 0..3 {
        for (number, file) in files.iter().enumerate() {
            file.jar().set(&uri, format!("n{number}{round}=1; Max-Age=1000")).unwrap();
            file.save().unwrap();
        }
    }
    // A third one writes into it, also with a line that nobody can read.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "// third\n").unwrap();
    files[0].save().unwrap();

    let file = open(&path).unwrap();
    assert_eq!(file.jar().len(), 7);
    let lines = lines(&path);
    let remarks: Vec<usize> = ["// first", "// second", "// third"]
        .iter()
        .map(|remark| lines.iter().position(|line| line == remark.as_bytes()).unwrap())
        .collect();
    assert_eq!(remarks, [0, 2, lines.len() - 2], "{lines:?}");
}

#[test]
fn a_file_that_loses_its_last_cookie_is_no_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, format!("// first\n{}\n// second\n", cookie("a"))).unwrap();
    let file = open(&path).unwrap();
    file.jar().clear();
    file.save().unwrap();

    let again = open(&path).unwrap();
    assert_eq!((again.jar().len(), again.skipped().len()), (0, 2));
    again.jar().set(&"https://h.example/".parse().unwrap(), "b=1").unwrap();
    again.save().unwrap();
    let lines = lines(&path);
    assert_eq!([&lines[0][..], &lines[1][..]], [&b"// first"[..], b"// second"]);
    assert!(lines[2].ends_with(b"\tb\t1"), "{lines:?}");
}

#[test]
fn a_file_without_a_cookie_names_its_first_line_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let rows = [
        ("damaged", 1, "expected seven fields between tabs"),
        ("\n\n# a comment\nsid=secret\nsid=secret\n", 4, "expected seven fields between tabs"),
        (
            "[{\"name\": \"secret\"}]",
            1,
            "it is JSON, not cookies.txt: see `Format::Browser` and `Format::Json`",
        ),
        (
            "\n  {\n  \"version\": 1",
            2,
            "it is JSON, not cookies.txt: see `Format::Browser` and `Format::Json`",
        ),
        ("<html>secret", 1, "it is HTML, not cookies.txt"),
        ("\u{0}\u{0}", 1, "expected seven fields between tabs"),
    ];
    for (text, line, reason) in rows {
        fs::write(&path, text).unwrap();
        let error = open(&path).unwrap_err();
        let said = format!(
            "cannot read cookies from {} as cookies.txt: line {line}: {reason}",
            path.display()
        );
        assert_eq!((error.to_string(), error.line()), (said, Some(line)), "{text}");
        // Nor is it one that a save may write into.
        let file = CookieFile::with_jar(&path, Format::Netscape, CookieJar::new());
        assert!(matches!(file.save(), Err(FileError::Read { .. })), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn strict_takes_a_line_that_cannot_be_read_for_an_error_at_opening_and_at_each_save() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let strict = |path: &Path| CookieFile::builder(path, Format::Netscape).strict(true).open();
    fs::write(&path, format!("{HEADER}{}\n", cookie("a"))).unwrap();
    let file = strict(&path).unwrap();
    let damaged = format!("{HEADER}{}\n// third\n", cookie("a"));
    fs::write(&path, &damaged).unwrap();
    file.jar().set(&"https://h.example/".parse().unwrap(), "b=1").unwrap();
    for error in [strict(&path).unwrap_err(), file.save().unwrap_err()] {
        assert!(matches!(error, FileError::Read { .. }) && error.line() == Some(4), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    // A text that is read differently than it is written is no damage.
    fs::write(&path, "  # a comment\nh.example 0 / 0 4102444800000 a 1\n").unwrap();
    assert_eq!(strict(&path).unwrap().jar().len(), 1);
}

#[test]
fn a_file_over_the_bound_is_an_error_at_opening_and_at_each_save() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = format!("{}\n", cookie("a"));
    fs::write(&path, &text).unwrap();
    let open = |max_bytes| CookieFile::builder(&path, Format::Netscape).max_bytes(max_bytes).open();
    assert_eq!(open(text.len()).unwrap().jar().len(), 1);
    assert_eq!(open(usize::MAX).unwrap().jar().len(), 1);
    let said = format!(
        "cannot read cookies from {} as cookies.txt: it is larger than {} bytes, the most that is read",
        path.display(),
        text.len() - 1
    );
    assert_eq!(open(text.len() - 1).unwrap_err().to_string(), said);

    let file = open(text.len()).unwrap();
    fs::write(&path, text.repeat(2)).unwrap();
    let error = file.save().unwrap_err();
    let is_too_large = matches!(&error, FileError::Read { source: ReadError::TooLarge { max_bytes, .. }, .. } if *max_bytes == text.len());
    assert!(is_too_large, "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text.repeat(2));
}

#[test]
fn a_save_that_would_be_too_large_to_read_leaves_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = format!("{}\n", cookie("a"));
    fs::write(&path, &text).unwrap();
    let file = CookieFile::builder(&path, Format::Netscape).max_bytes(500).open().unwrap();
    let set = |n: usize| {
        let line = format!("n{n}={}; Max-Age=3600", "x".repeat(100));
        file.jar().set(&"https://h.example/".parse().unwrap(), line).unwrap();
    };
    set(0);
    file.save().unwrap();
    let saved = fs::read_to_string(&path).unwrap();
    (1..9).for_each(set);
    let error = file.save().unwrap_err();
    assert!(matches!(error, FileError::Write { .. }), "{error:?}");
    assert!(error.to_string().contains("larger than 500 bytes"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), saved);
}

#[test]
fn the_builder_fills_the_jar_that_it_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, format!("{}\n", cookie("a"))).unwrap();
    let jar = CookieJar::new();
    jar.set(&"https://h.example/".parse().unwrap(), "b=1").unwrap();
    let file = CookieFile::builder(&path, Format::Netscape).jar(jar.clone()).open().unwrap();
    assert_eq!((jar.len(), file.jar().len()), (2, 2));
    file.save().unwrap();
    assert_eq!(open(&path).unwrap().jar().len(), 2);
}

const CHILD: &str = "COOKIE_SHAPES_CHILD";

/// Not a fact: what each process of the test below does.
#[test]
fn child_of_two_processes() {
    let Some(told) = std::env::var_os(CHILD) else { return };
    let told = told.into_string().unwrap();
    let (name, path) = told.split_once(' ').unwrap();
    let uri = "https://h.example/".parse().unwrap();
    for round in 0..20 {
        let file = open(Path::new(path)).unwrap();
        assert_eq!(file.skipped().len(), 3);
        file.jar().set(&uri, format!("{name}{round}=1; Max-Age=1000")).unwrap();
        file.save().unwrap();
    }
}

#[test]
fn two_processes_that_save_at_once_lose_no_cookie_and_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, format!("// 1\n{}\n// 2\n{}\n// 3\n", cookie("a"), cookie("b"))).unwrap();
    let children: Vec<_> = ["x", "y"]
        .iter()
        .map(|name| {
            Command::new(std::env::current_exe().unwrap())
                .args(["child_of_two_processes", "--nocapture"])
                .env(CHILD, format!("{name} {}", path.display()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(open(&path).unwrap().jar().len(), 42);
    let lines = lines(&path);
    let first: Vec<_> = lines[..5].iter().map(|line| String::from_utf8_lossy(line)).collect();
    assert_eq!(first, ["// 1", &cookie("a"), "// 2", &cookie("b"), "// 3"]);
}
