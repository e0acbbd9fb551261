//! `examples/adapters.rs`, over real TLS on the loopback.

#[allow(dead_code, unreachable_pub)]
#[path = "../../examples/adapters.rs"]
mod example;

#[tokio::test]
async fn each_prefix_has_its_own_tls_settings_and_everything_else_has_the_third() {
    let lines = example::run().await.unwrap();
    let expected = [
        "https://api.example/        https://api.example      over TLSv1_3, cookies: none",
        "https://legacy.example/     https://legacy.example   over TLSv1_2, cookies: none",
        "https://www.example/        everything else          over TLSv1_3, cookies: none",
        "https://api.example/again   https://api.example      over TLSv1_3, cookies: seen=TLSv1_3",
        "https://old.example/        refused: received fatal alert: ProtocolVersion",
        "https://elsewhere.example/  refused: invalid peer certificate: UnknownIssuer",
        "one jar, with cookies of    api.example, legacy.example, www.example",
    ];
    assert_eq!(lines, expected);
}
