//! Mount prefixes as configuration values.

use std::collections::{BTreeMap, HashMap};

use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
use tower_outbound::routing::{Mount, MountPrefix, RoutingLayer};

use crate::rows;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    fallback: MountPrefix,
    mounts: BTreeMap<MountPrefix, u32>,
}

#[test]
fn a_prefix_is_a_string_and_a_key_and_is_written_as_it_was_read() {
    let text = r#"{"fallback":"HTTPS://H:*/","mounts":{"any://*.books.example:*/v1":2,"http://[0:0::1]":1}}"#;
    let table: Table = serde_json::from_str(text).unwrap();
    assert_eq!(table.fallback, "https://h".parse().unwrap());
    assert_eq!(table.mounts[&"http://[::1]:*".parse().unwrap()], 1);
    let back: Table = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(back.fallback.as_str(), "HTTPS://H:*/");
    assert_eq!(back.mounts, table.mounts);
    let set: HashMap<MountPrefix, ()> =
        [("https://h".parse().unwrap(), ()), (table.fallback, ())].into();
    assert_eq!(set.len(), 1);
}

#[cfg(feature = "idna")]
#[test]
fn a_prefix_beyond_ascii_is_a_string_too_and_is_written_as_it_was_read() {
    let text = "\"any://*.bücher.example:*/v1\"";
    let prefix: MountPrefix = serde_json::from_str(text).unwrap();
    assert_eq!(prefix, "any://*.xn--bcher-kva.example:*/v1".parse().unwrap());
    assert_eq!(serde_json::to_string(&prefix).unwrap(), text);
}

#[test]
fn a_bad_prefix_in_a_table_file_is_named_with_its_line_and_fault_and_without_secrets() {
    let rows = [
        (
            "fallback = \"https://h\"\n[mounts]\n\"https://u:secret@h\" = 1",
            "line 3",
            "https://h\": it cannot have a user",
        ),
        ("\nfallback = \"localhost:8080\"\n[mounts]", "line 2", "it must begin with a scheme"),
        ("fallback = 7\n[mounts]", "line 1", "a mount prefix, such as"),
        (
            "fallback = \"https://h\"\n[mounts]\n\"https://127.1\" = 1",
            "line 3",
            "four decimal octets",
        ),
        ("fallback = \"https://h\"\n[mount]", "line 2", "mount"),
    ];
    rows::hold(rows, |(text, line, fault)| {
        let error = toml::from_str::<Table>(text).unwrap_err();
        // The file's own line is shown below the message; what is said about it is what counts.
        let message = error.message();
        let got =
            [error.to_string().contains(line), message.contains(fault), message.contains("secret")];
        (error.to_string(), got, [true, true, false])
    });
}

#[tokio::test]
async fn a_checked_prefix_is_mounted_and_named_as_it_was_written() {
    let prefix: MountPrefix = serde_json::from_str("\"HTTPS://H\"").unwrap();
    let below = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    let client = RoutingLayer::builder()
        .mount(prefix.clone(), Identity::new())
        .build()
        .unwrap()
        .layer(below);
    let response =
        client.clone().oneshot(Request::get("https://h/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Mount("HTTPS://H".into())));
    client.handle().update(|mounts| mounts.unmount(prefix)).unwrap();
    let response = client.oneshot(Request::get("https://h/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.extensions().get::<Mount>(), None);
}
