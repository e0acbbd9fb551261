//! Faults of a server or a configuration are found at the start.

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The words of the error of connecting to it.
async fn refused(config: RedisConfig) -> String {
    let error = RedisStore::connect(config.timeout(Duration::from_secs(5))).await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains("secret"), "{told}");
    error.to_string()
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_a_clear_error() {
    if !can_start("redis::start::a_server_that_cannot_be_used_is_a_clear_error") {
        return;
    }
    let server = Server::start(&["--requirepass", "right"]);
    let socket = server.socket().display().to_string();
    let with = |password: &str| RedisConfig::new(&server.url()).unwrap().login("", password);
    RedisStore::connect(with("right")).await.unwrap();
    assert_eq!(refused(with("secret")).await, format!("{socket} refused with WRONGPASS"));
    assert_eq!(
        refused(RedisConfig::new(&server.url()).unwrap()).await,
        format!("{socket} refused with NOAUTH")
    );
    assert!(refused(with("right").database(99)).await.contains("refused with ERR"));

    let nowhere = server.path("nowhere").display().to_string();
    let told = refused(RedisConfig::new(&format!("unix://{nowhere}")).unwrap()).await;
    assert!(told.starts_with(&format!("cannot reach {nowhere}: No such file")), "{told}");

    let replica = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    let told = refused(RedisConfig::new(&replica.url()).unwrap()).await;
    assert!(told.ends_with("is a replica, but only a primary stores sessions"), "{told}");
}

/// The permissions that a user needs, as in the docs of `RedisStore`.
#[tokio::test]
async fn a_user_who_may_do_what_is_documented_and_no_more_is_enough() {
    if !can_start("redis::start::a_user_who_may_do_what_is_documented_and_no_more_is_enough") {
        return;
    }
    let server = Server::start(&[]);
    let connection = "+hello +select +role +info +time +client|tracking +evalsha +script|load";
    let scripts = "+hset +hdel +pexpire +pttl +exists +del +sadd +srem +scard +sismember +smembers";
    let may = format!("{connection} +hgetall +hget {scripts}");
    assert_eq!(server.ask(&format!("ACL SETUSER app on >right ~to1:* {may}")), "+OK");
    let config = config(&server.url()).login("app", "right").max_sites(1);
    let store = RedisStore::connect(config).await.unwrap();
    let mut events: Events<'_> = Box::pin(store.events());
    told(&mut events, &["back"]).await;
    let key = key("t", "example.com");
    let body = write(&store, &key, 1).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(body));
    store.version(&key).await.unwrap();
    // Everything that a script does, such as removing an old tombstone and a site that has expired.
    store.apply(&key, &Version::default(), &[deleted("b", 1)], LONG).await.unwrap();
    server.ask("DEL to1:{t}:example.com");
    write(&store, &self::key("t", "example.org"), 2).await.unwrap();
    store.forget(key.tenant()).await.unwrap();
    assert_eq!(server.ask("DBSIZE"), ":0");
    assert_eq!(server.ask("ACL LOG"), "");
}

#[tokio::test]
async fn a_user_who_may_not_load_a_script_is_refused_at_once() {
    if !can_start("redis::start::a_user_who_may_not_load_a_script_is_refused_at_once") {
        return;
    }
    let server = Server::start(&[]);
    assert_eq!(server.ask("ACL SETUSER app on >right ~* +@all -script"), "+OK");
    let store = RedisStore::new(config(&server.url()).login("app", "right")).unwrap();
    let error = write(&store, &key("t", "example.com"), 1).await.unwrap_err();
    assert!(matches!(&error, RedisError::Refused { code, .. } if code == "NOPERM"), "{error}");
    // Not for as long as the time allows.
    let commands = server.ask("INFO commandstats");
    assert!(commands.contains("cmdstat_evalsha:calls=1,"), "{commands}");
}

#[tokio::test]
async fn a_server_without_resp3_is_too_old() {
    for answer in [
        "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `secret`\r\n",
        "-ERR unknown command 'HELLO'\r\n",
        "-NOPROTO unsupported protocol version\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://:secret@{}", listener.local_addr().unwrap());
        let old = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 1_024];
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let config = RedisConfig::new(&url).unwrap().timeout(Duration::from_secs(20));
        let error = tokio::select! {
            store = RedisStore::connect(config) => store.unwrap_err(),
            () = old => panic!("it hangs up first"),
        };
        assert!(matches!(error, RedisError::TooOld { .. }), "{answer}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn a_configuration_shows_no_password() {
    let config = RedisConfig::sentinel("main", ["redis://user:secret1@h:1/"]).unwrap();
    let config = config.login("app", "secret2").ca_certificates(*b"secret3");
    let shown = format!("{config:?}");
    assert!(shown.contains("h:1") && !shown.contains("secret"), "{shown}");
    let shown = format!("{:?}", store("redis://user:secret@h:1/"));
    assert!(shown.contains("h:1") && !shown.contains("secret"), "{shown}");
    assert!(RedisConfig::cluster([]).is_err());
}

#[test]
fn certificates_that_cannot_be_used_are_an_error() {
    for pem in ["", "secret", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n"]
    {
        let config = RedisConfig::new("rediss://h").unwrap().ca_certificates(pem);
        let error = RedisStore::new(config).unwrap_err();
        assert!(matches!(error, RedisError::Config { .. }), "{pem}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn over_tls_the_server_must_have_a_certificate_of_the_given_ones() {
    if !can_start("redis::start::over_tls_the_server_must_have_a_certificate_of_the_given_ones") {
        return;
    }
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, another) = (authority(), authority());
    let pair = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&pair, &ours).unwrap();
    let server = Server::start_on_tcp(|directory, port| {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let options = [
            ("--port", "0".to_owned()),
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", write("cert.pem", certificate.pem())),
            ("--tls-key-file", write("key.pem", pair.serialize_pem())),
            ("--tls-ca-cert-file", write("ca.pem", ours.pem())),
            ("--tls-auth-clients", "no".to_owned()),
            ("--requirepass", "right".to_owned()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    });
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("rediss://:right@{host}:{}", server.port());
        let config = |pem: String| RedisConfig::new(&url).unwrap().ca_certificates(pem);
        let store = RedisStore::connect(config(ours.pem())).await.unwrap();
        let body = write(&store, &key("t", "example.com"), 1).await.unwrap();
        assert_eq!(read(&store, &key("t", "example.com")).await, Some(body));

        let told = refused(config(another.pem())).await;
        assert!(told.contains("certificate"), "{told}");
        // Without TLS nothing of ours is answered.
        refused(RedisConfig::new(&url.replace("rediss", "redis")).unwrap()).await;
    }
}
