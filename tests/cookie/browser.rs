//! The exports of browsers: arrays of add-ons and of Puppeteer, and Playwright's `storageState`.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tower_outbound::cookie::{
    Cookie, CookieFile, CookieJar, FileError, Format, ReadError, SameSite,
};

/// As EditThisCookie exports from Chrome: floats, `hostOnly`, no expiry for a session cookie.
const EDIT_THIS_COOKIE: &str = r#"[
{
    "domain": ".shop.example",
    "expirationDate": 4102444800.232584,
    "hostOnly": false,
    "httpOnly": true,
    "name": "sid",
    "path": "/",
    "sameSite": "no_restriction",
    "secure": true,
    "session": false,
    "storeId": "0",
    "value": "s%3A1",
    "id": 1
},
{
    "domain": "www.shop.example",
    "hostOnly": true,
    "httpOnly": false,
    "name": "cart",
    "path": "/cart",
    "sameSite": "unspecified",
    "secure": false,
    "session": true,
    "storeId": "0",
    "value": "",
    "id": 2
}
]"#;

/// As Cookie-Editor exports: in another order, with nulls, and in Firefox with more fields.
const COOKIE_EDITOR: &str = r#"[
    {
        "name": "sid",
        "value": "1",
        "domain": ".shop.example",
        "hostOnly": false,
        "path": "/",
        "secure": true,
        "httpOnly": true,
        "sameSite": "lax",
        "session": false,
        "firstPartyDomain": "",
        "partitionKey": null,
        "expirationDate": 4102444800,
        "storeId": "firefox-default"
    },
    {
        "name": "theme",
        "value": "dark",
        "domain": "shop.example",
        "hostOnly": true,
        "path": "/",
        "secure": false,
        "httpOnly": false,
        "sameSite": "no_restriction",
        "session": true,
        "firstPartyDomain": "",
        "partitionKey": null,
        "expirationDate": null,
        "storeId": null
    }
]"#;

/// As `JSON.stringify(await page.cookies())` of Puppeteer.
const PUPPETEER: &str = r#"[
  {"name": "sid", "value": "1", "domain": ".shop.example", "path": "/", "expires": 4102444800.5,
   "size": 4, "httpOnly": true, "secure": true, "session": false, "sameSite": "Strict",
   "sameParty": false, "sourceScheme": "Secure", "sourcePort": 443, "priority": "Medium"},
  {"name": "tab", "value": "2", "domain": "shop.example", "path": "/", "expires": -1, "size": 4,
   "httpOnly": false, "secure": false, "session": true, "sourceScheme": "NonSecure"},
  {"name": "__Host-chip", "value": "3", "domain": "shop.example", "path": "/", "expires": -1,
   "httpOnly": false, "secure": true, "session": true, "sameSite": "None",
   "partitionKey": {"sourceOrigin": "https://top.example", "hasCrossSiteAncestor": true}}
]"#;

/// As Playwright's `context.storageState({ path })`.
const STORAGE_STATE: &str = r#"{
  "cookies": [
    {
      "name": "sid",
      "value": "1",
      "domain": ".shop.example",
      "path": "/",
      "expires": 4102444800.123456,
      "httpOnly": true,
      "secure": true,
      "sameSite": "None"
    },
    {
      "name": "tab",
      "value": "2",
      "domain": "www.shop.example",
      "path": "/",
      "expires": -1,
      "httpOnly": false,
      "secure": false,
      "sameSite": "Lax"
    }
  ],
  "origins": [
    {
      "origin": "https://www.shop.example",
      "localStorage": [
        { "name": "token", "value": "in \"quotes\", \u00e9" }
      ]
    }
  ]
}"#;

/// As `json.dump(driver.get_cookies(), file)` of Selenium.
const SELENIUM: &str = r#"[{"domain": ".shop.example", "expiry": 4102444800, "httpOnly": true,
"name": "sid", "path": "/", "sameSite": "Lax", "secure": true, "value": "1"},
{"domain": "shop.example", "httpOnly": false, "name": "tab", "path": "/", "sameSite": "None",
"secure": true, "value": "2"}]"#;

/// So that the cap of 400 days ends after the cookies of these files.
fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 - 86_400)
}

fn jar() -> CookieJar {
    CookieJar::builder().clock(clock).build()
}

fn read(text: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
    let jar = jar();
    jar.read_from(text.as_ref(), Format::Browser).map_err(|error| error.to_string())?;
    Ok(jar.iter().map(|cookie| shown(&cookie)).collect())
}

fn shown(cookie: &Cookie) -> String {
    let mut words = vec![format!("{}={}", cookie.name(), cookie.value())];
    let star = if cookie.host_only() { "" } else { "*." };
    words.push(format!("{star}{}{}", cookie.domain(), cookie.path()));
    let flags = [
        ("Secure", cookie.secure()),
        ("HttpOnly", cookie.http_only()),
        ("Partitioned", cookie.partitioned()),
        ("Strict", cookie.same_site() == Some(SameSite::Strict)),
        ("Lax", cookie.same_site() == Some(SameSite::Lax)),
        ("None", cookie.same_site() == Some(SameSite::None)),
    ];
    words.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()));
    words.extend(cookie.expires().map(|at| {
        let since = at.duration_since(clock()).unwrap() - Duration::from_secs(86_400);
        format!("+{}ms", since.as_millis())
    }));
    words.join(" ")
}

#[test]
fn each_program_exports_are_read() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "EditThisCookie",
            EDIT_THIS_COOKIE,
            &[
                "sid=s%3A1 *.shop.example/ Secure HttpOnly None +233ms",
                "cart= www.shop.example/cart",
            ],
        ),
        (
            "Cookie-Editor",
            COOKIE_EDITOR,
            &["sid=1 *.shop.example/ Secure HttpOnly Lax +0ms", "theme=dark shop.example/"],
        ),
        (
            "Puppeteer",
            PUPPETEER,
            &[
                "sid=1 *.shop.example/ Secure HttpOnly Strict +500ms",
                "tab=2 shop.example/",
                "__Host-chip=3 shop.example/ Secure Partitioned None",
            ],
        ),
        (
            "Selenium",
            SELENIUM,
            &["sid=1 *.shop.example/ Secure HttpOnly Lax +0ms", "tab=2 shop.example/ Secure None"],
        ),
        (
            "Playwright",
            STORAGE_STATE,
            &["sid=1 *.shop.example/ Secure HttpOnly None +123ms", "tab=2 www.shop.example/ Lax"],
        ),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .map(|(program, text, want)| (program, read(text), want))
        .filter(|(_, got, want)| got.as_ref().map_or(true, |got| got != *want))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The fields other than `name`, `value` and `domain`, which all exports have.
#[test]
fn a_field_means_what_the_program_that_writes_it_means() {
    let rows = [
        (r#""expires": -1"#, "a=1 h.example/"),
        (r#""expires": 0"#, "a=1 h.example/"),
        (r#""expires": null"#, "a=1 h.example/"),
        (r#""expirationDate": -1.0"#, "a=1 h.example/"),
        (r#""expires": -62135596800"#, "a=1 h.example/"),
        (r#""expires": 4102444800"#, "a=1 h.example/ +0ms"),
        (r#""expires": 4102444800.0004"#, "a=1 h.example/ +0ms"),
        (r#""expires": 4.1024448e9"#, "a=1 h.example/ +0ms"),
        (r#""expires": 4102444800, "session": true"#, "a=1 h.example/"),
        (
            r#""expirationDate": 4102444800, "expires": "2100-01-01T00:00:00Z""#,
            "a=1 h.example/ +0ms",
        ),
        (r#""hostOnly": false"#, "a=1 *.h.example/"),
        (r#""domain": ".h.example", "hostOnly": true"#, "a=1 h.example/"),
        (r#""domain": ".h.example""#, "a=1 *.h.example/"),
        (r#""domain": "H.Example""#, "a=1 h.example/"),
        (r#""domain": "10.0.0.1", "hostOnly": false"#, "a=1 10.0.0.1/"),
        (r#""domain": "[::1]""#, "a=1 [::1]/"),
        (r#""path": "/x/""#, "a=1 h.example/x/"),
        (r#""path": null"#, "a=1 h.example/"),
        (r#""sameSite": null"#, "a=1 h.example/"),
        (r#""sameSite": """#, "a=1 h.example/"),
        (r#""sameSite": "unspecified""#, "a=1 h.example/"),
        (r#""sameSite": "Default""#, "a=1 h.example/"),
        (r#""sameSite": "LAX""#, "a=1 h.example/ Lax"),
        (r#""sameSite": "None", "secure": true"#, "a=1 h.example/ Secure None"),
        (r#""sameSite": "None""#, "a=1 h.example/"),
        (r#""sameSite": "no_restriction""#, "a=1 h.example/"),
        (r#""partitionKey": "https://top.example""#, "a=1 h.example/ Partitioned"),
        (r#""partitionKey": """#, "a=1 h.example/"),
        (r#""name": "", "value": "x""#, "=x h.example/"),
        (r#""value": "\u00e9""#, "a=\u{e9} h.example/"),
        (r#""storeId": {}, "id": [1], "priority": "Low""#, "a=1 h.example/"),
    ];
    let mut wrong = Vec::new();
    for (fields, want) in rows {
        let of_all = [("name", "\"a\""), ("value", "\"1\""), ("domain", "\"h.example\"")];
        let of_all = of_all.iter().filter(|(name, _)| !fields.contains(&format!("\"{name}\"")));
        let of_all: String = of_all.map(|(name, value)| format!("\"{name}\": {value}, ")).collect();
        let cookie = format!("{{{of_all}{fields}}}");
        for text in [format!("[{cookie}]"), format!("{{\"cookies\": [{cookie}]}}")] {
            if read(&text) != Ok(vec![want.to_owned()]) {
                wrong.push((text.clone(), read(&text)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_damaged_export_is_an_error_that_names_the_line_and_takes_nothing() {
    let rows = [
        ("", "line 1: it ends too early"),
        ("# Netscape HTTP Cookie File\n", "line 1: it is not JSON"),
        ("[\n{\"name\": \"a\"", "line 2: it ends too early"),
        ("\"secret\"", "line 1: it is not an array of cookies"),
        ("{}", "line 1: it has no `cookies`"),
        ("{\"cookies\":\n{}}", "line 2: it is not an array of cookies"),
        ("{\"version\": 1, \"cookies\": []}", "line 1: it is a jar's own JSON: see `Format::Json`"),
        ("[\n\"secret\"]", "line 2: a cookie is not an object"),
        ("[GOOD,\n{\"value\": \"1\", \"domain\": \"h.example\"}]", "line 2: `name` is not text"),
        ("[GOOD,\n{\"name\": \"a\", \"domain\": \"h.example\"}]", "line 2: `value` is not text"),
        ("[GOOD,\n{\"name\": \"a\", \"value\": \"1\"}]", "line 2: `domain` is not text"),
        ("[GOOD,\n{FIELDS, \"path\": 1}]", "line 2: `path` is not text"),
        ("[GOOD,\n{FIELDS, \"secure\": 1}]", "line 2: `secure` is neither true nor false"),
        ("[GOOD,\n{FIELDS, \"hostOnly\": \"\"}]", "line 2: `hostOnly` is neither true nor false"),
        (
            "[GOOD,\n{FIELDS, \"expires\": \"soon\"}]",
            "line 2: the expiry is not a number of seconds",
        ),
        (
            "[GOOD,\n{FIELDS, \"sameSite\": \"secret\"}]",
            "line 2: `sameSite` is not a value that browsers use",
        ),
        (
            "[GOOD,\n{FIELDS, \"sameSite\": 1}]",
            "line 2: `sameSite` is not a value that browsers use",
        ),
        (
            "[\n{\"name\": \"a\", \"value\": \"1\", \"domain\": \"https://h.example\"}]",
            "line 2: a cookie needs the domain of a host, such as `example.com`",
        ),
    ];
    let fields = r#""name": "a", "value": "1", "domain": "h.example""#;
    let mut wrong = Vec::new();
    for (text, want) in rows {
        let text = text.replace("GOOD", "{FIELDS}").replace("FIELDS", fields);
        let jar = jar();
        match jar.read_from(text.as_bytes(), Format::Browser) {
            Err(error @ ReadError::Line { .. }) if error.to_string() == want && jar.is_empty() => {}
            other => wrong.push((text, other.map_err(|error| error.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// In a trial Playwright 1.65.2 read such a file as the state of a request context and sent its
/// cookies. It refused the file if a cookie lacked one of the eight fields.
#[test]
fn a_storage_state_is_written_with_every_field_that_playwright_requires() {
    let jar = jar();
    let uri = "https://www.shop.example/x".parse().unwrap();
    for line in [
        "sid=1; Domain=shop.example; Path=/; Secure; HttpOnly; SameSite=None; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
        "tab=2; SameSite=Strict",
        "plain=\"3\"",
        "chip=4; Secure; Path=/; Partitioned",
        "nameless",
    ] {
        jar.set(&uri, line).unwrap();
    }
    jar.set(&uri, b"bytes=\xe9").unwrap();
    let mut text = Vec::new();
    jar.write_to(&mut text, Format::Browser).unwrap();
    let want = r#"{"cookies": [
{"domain":".shop.example","expires":4102444800,"httpOnly":true,"name":"sid","path":"/","sameSite":"None","secure":true,"value":"1"},
{"domain":"www.shop.example","expires":-1,"httpOnly":false,"name":"tab","path":"/","sameSite":"Strict","secure":false,"value":"2"},
{"domain":"www.shop.example","expires":-1,"httpOnly":false,"name":"plain","path":"/","sameSite":"Lax","secure":false,"value":"\"3\""},
{"domain":"www.shop.example","expires":-1,"httpOnly":false,"name":"chip","path":"/","sameSite":"Lax","secure":true,"value":"4"},
{"domain":"www.shop.example","expires":-1,"httpOnly":false,"name":"","path":"/","sameSite":"Lax","secure":false,"value":"nameless"}
], "origins": []}
"#;
    assert_eq!(String::from_utf8(text).unwrap(), want);
    assert_eq!(read(want).unwrap().len(), 5);
    let mut text = Vec::new();
    CookieJar::new().write_to(&mut text, Format::Browser).unwrap();
    assert_eq!(read(&text), Ok(vec![]));
}

fn open(path: &Path) -> CookieFile {
    CookieFile::builder(path, Format::Browser).jar(jar()).open().unwrap()
}

#[test]
fn what_pages_have_stored_stays_in_a_storage_state_through_every_save() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    fs::write(&path, STORAGE_STATE).unwrap();
    let uri = "https://www.shop.example/".parse().unwrap();
    for value in 3..6 {
        let file = open(&path);
        assert_eq!(file.skipped(), []);
        file.jar().set(&uri, format!("tab={value}; SameSite=Lax")).unwrap();
        file.save().unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    let origins =
        STORAGE_STATE.split_once("\"origins\": ").unwrap().1.trim_end_matches(['}', '\n']);
    assert!(text.contains(origins), "{text}");
    let sid = "sid=1 *.shop.example/ Secure HttpOnly None +123ms";
    assert_eq!(read(&text).unwrap(), [sid, "tab=5 www.shop.example/ Lax"]);
}

#[test]
fn an_export_of_an_add_on_becomes_a_storage_state_when_it_is_saved() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("add-on", EDIT_THIS_COOKIE),
        ("other", COOKIE_EDITOR),
        ("puppeteer", PUPPETEER),
        ("selenium", SELENIUM),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        open(&path).save().unwrap();
        let once = fs::read_to_string(&path).unwrap();
        assert!(once.starts_with("{\"cookies\": ["), "{name}: {once}");
        // Nothing that the format keeps is lost by it.
        let kept = |text: &str| -> Vec<String> {
            let word = |cookie: &String| cookie.replace(" Lax", "").replace(" Partitioned", "");
            read(text).unwrap().iter().map(word).collect()
        };
        assert_eq!(kept(&once), kept(text), "{name}");
        open(&path).save().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), once, "{name}");
    }
}

/// A cookie without `SameSite` is read as `Lax`. If that counted as our change, it would replace a
/// change of another process.
#[test]
fn what_the_format_does_not_keep_is_no_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    fs::write(
        &path,
        r#"[{"name": "a", "value": "1", "domain": "h.example", "partitionKey": "k"}]"#,
    )
    .unwrap();
    let ours = open(&path);
    ours.save().unwrap();
    let theirs = open(&path);
    theirs.jar().set(&"https://h.example/".parse().unwrap(), "a=2; Path=/").unwrap();
    theirs.save().unwrap();
    ours.save().unwrap();
    assert_eq!(open(&path).jar().to_map()["a"], "2");
}

#[test]
fn cookies_txt_says_that_an_export_is_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    for text in [EDIT_THIS_COOKIE, COOKIE_EDITOR, PUPPETEER, STORAGE_STATE] {
        fs::write(&path, text).unwrap();
        match CookieFile::open(&path, Format::Netscape) {
            Err(error @ FileError::Read { .. }) => {
                let end = "as cookies.txt: line 1: it is JSON, not cookies.txt: see `Format::Browser` and `Format::Json`";
                assert!(error.to_string().ends_with(end), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Browsers keep longer cookies than RFC 6265bis allows.
#[test]
fn a_cookie_that_no_jar_could_hold_costs_none_of_the_others() {
    let long = format!(
        "{{\n\"name\": \"long\", \"value\": \"{}\", \"domain\": \"h.example\"}}",
        "x".repeat(4_096)
    );
    let good = r#"{"name": "a", "value": "1", "domain": "h.example"}"#;
    let texts = [
        format!("[{good},\n{long}]"),
        format!("{{\"cookies\": [{good},\n{long}], \"origins\": [{{\"origin\": \"o\"}}]}}"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let origins = |text: &str| text.contains(r#"{"origin": "o"}"#);
    for text in texts {
        let mut said = Vec::new();
        let summary = jar().read_from(text.as_bytes(), Format::Browser).unwrap();
        said.extend(summary.skipped.iter().map(ToString::to_string));
        fs::write(&path, &text).unwrap();
        let strict = CookieFile::builder(&path, Format::Browser).strict(true).open();
        assert_eq!(strict.unwrap_err().line(), Some(2));
        let uri = "https://h.example/".parse().unwrap();
        for line in ["b=1", "b=; Max-Age=0", "a=; Max-Age=0; Path=/"] {
            let file = open(&path);
            said.extend(file.skipped().iter().map(ToString::to_string));
            file.jar().set(&uri, line).unwrap();
            file.save().unwrap();
            let saved = fs::read_to_string(&path).unwrap();
            assert!(saved.contains(&long) && origins(&saved) == origins(&text), "{line}: {saved}");
        }
        // Only the cookie that could not be read is left.
        assert_eq!((open(&path).jar().len(), open(&path).skipped().len()), (0, 1));
        let want = "a cookie's name and value are at most 4096 bytes together";
        let wrong: Vec<_> = said.iter().filter(|said| !said.ends_with(want)).collect();
        assert!(wrong.is_empty() && said.len() == 4, "{said:?}");
    }
}
