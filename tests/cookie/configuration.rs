//! A jar's limits as configuration values.

use tower_outbound::cookie::CookieLimits;

#[test]
fn limits_are_a_table_and_what_is_absent_is_the_default() {
    let limits: CookieLimits = toml::from_str("per_domain = 20\nbytes = 65536").unwrap();
    assert_eq!(limits, CookieLimits { per_domain: 20, bytes: 65_536, ..CookieLimits::default() });
    assert_eq!(toml::from_str::<CookieLimits>("").unwrap(), CookieLimits::default());
    let json = serde_json::to_string(&limits).unwrap();
    assert_eq!(serde_json::from_str::<CookieLimits>(&json).unwrap(), limits);
}

#[test]
fn an_unknown_limit_is_named_with_its_line() {
    let rows = [
        ("per_domian = 20", "unknown field `per_domian`"),
        ("total = -1", "integer `-1`"),
        ("[cookies]\ntotal = 1", "unknown field `cookies`"),
    ];
    for (text, fault) in rows {
        let error = toml::from_str::<CookieLimits>(&format!("# limits\n{text}")).unwrap_err();
        assert!(error.message().contains(fault) && error.to_string().contains("line 2"), "{error}");
    }
    let error = serde_json::from_str::<CookieLimits>("3").unwrap_err().to_string();
    assert!(error.contains("expected cookie limits, a table such as"), "{error}");
}
