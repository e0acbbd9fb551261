//! Whom TLS trusts.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::Arc,
};

use super::*;

pub(super) struct Certificate {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) pem: String,
}

pub(super) fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    Certificate { config: Arc::new(config), pem: made.cert.pem() }
}

#[test]
fn tls_trusts_cacert_and_checks_the_name_behind_resolve() {
    let certificate = certificate("secure.example");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, &certificate.pem).unwrap();
    let pem = path.to_str().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server =
        Server::on(listener, Some(certificate.config), |seen, _| match seen.target.as_str() {
            "/set" => reply(200, "Set-Cookie: __Host-id=1; Secure; Path=/\r\n", ""),
            _ => ok(seen.header("cookie")),
        });
    let port = server.port();
    let [right, wrong] =
        ["secure.example", "other.example"].map(|host| format!("{host}:{port}:127.0.0.1"));
    let [set, get] = ["set", ""].map(|path| format!("https://Secure.example:{port}/{path}"));
    let other = format!("https://other.example:{port}/");

    assert_outcome(&fetch(&["--cacert", pem, "--resolve", &right, &set, &get]), 0, "__Host-id=1");
    let outcome = fetch(&["--resolve", &right, &get]);
    assert_outcome(&outcome, 60, "");
    assert!(outcome.stderr.contains("certificate"), "{outcome:?}");
    let outcome = fetch(&[
        "--retry",
        "3",
        "--retry-delay",
        "60",
        "--cacert",
        pem,
        "--resolve",
        &wrong,
        &other,
    ]);
    assert_outcome(&outcome, 60, "");
    // Plain HTTP to a TLS server, and TLS to a plain server.
    assert_ne!(fetch(&[&server.url("/")]).status, 0);
    let plain = Server::new(|_, _| ok(""));
    assert_outcome(&fetch(&[&format!("https://{}/", plain.address)]), 35, "");
}

#[test]
fn insecure_accepts_any_certificate_and_warns() {
    let made = certificate("other.example");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = Server::on(listener, Some(made.config), |_, _| ok("body"));
    let url = format!("https://127.0.0.1:{}/", server.port());
    assert_outcome(&fetch(&[&url]), 60, "");
    let rows: [(&[&str], usize); 2] = [(&["-k"], 1), (&["--insecure", "-s"], 0)];
    for (flags, lines) in rows {
        let outcome = fetch(&[flags, &[&url]].concat());
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "body"), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), lines, "{outcome:?}");
        assert!(lines == 0 || outcome.stderr.starts_with("fetch: warning: -k "), "{outcome:?}");
    }
    // Tried again only if it is said to be.
    for (flags, lines) in [(&[][..], 1), (&["--retry-all-errors"], 3)] {
        let arguments = ["-v", "--retry", "2", "--retry-delay", "0.01", &url];
        let outcome = fetch(&[flags, &arguments].concat());
        assert_eq!(outcome.status, 60);
        let attempts = outcome.stderr.lines().filter(|line| line.starts_with("* GET ")).count();
        assert_eq!(attempts, lines, "{flags:?}: {outcome:?}");
    }
}

#[test]
fn resolve_is_for_one_host_and_port() {
    let server = Server::new(|seen, _| ok(seen.header("host")));
    let port = server.port();
    let arguments = [
        "--resolve",
        &format!("Made-Up.example:{port}:127.0.0.1"),
        &format!("http://made-up.EXAMPLE:{port}/"),
    ];
    assert_outcome(&fetch(&arguments), 0, &format!("made-up.example:{port}"));
    // An entry for another port does not count: then this address is asked itself, and nobody is
    // there.
    let refused = closed_address();
    assert!(matches!(refused.ip(), IpAddr::V4(_)));
    let arguments =
        ["--resolve", &format!("{}:{port}:127.0.0.1", refused.ip()), &format!("http://{refused}/")];
    assert_outcome(&fetch(&arguments), 7, "");
}
