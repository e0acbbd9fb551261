//! Secrets that must not be visible, and sessions that must not be mixed up.

use tower_outbound::{
    cookie::CookieJar,
    session::{
        Applied, Contents, MemoryStore, Record, Seal, SessionError, SessionLayer, SessionPool,
        SessionSeal, SessionStore, SessionVersion, Version,
    },
};

use crate::{
    rows_async,
    support::{client, get, key, store_key, uri},
};

const KEY: [u8; 32] = [7; 32];

fn sealed(memory: &MemoryStore, seal: impl Seal) -> SessionPool<MemoryStore> {
    SessionPool::builder(memory.clone()).seal(seal).build().0
}

fn refused(error: tower::BoxError) -> SessionError {
    *error.downcast_ref().unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test(start_paused = true)]
async fn a_body_opens_in_its_place_alone() {
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
    let pool = |memory: &MemoryStore| sealed(memory, SessionSeal::new(1, &KEY));
    let memory = MemoryStore::new();
    // The keys, as the store knows them. `bob` is only known.
    let (ann, bob) = (store_key(&memory, "ann").await, store_key(&memory, "bob").await);
    for name in ["ann", "bob"] {
        memory.forget(&key(name)).await.unwrap();
    }
    get(&client(&pool(&memory)), "ann", &["id=secret", "other=1"]).await.unwrap();
    let records = memory.load(&ann).await.unwrap().records;
    let [id, other] = [b"=example.com\0/\0id", &b"=example.com\0/\0other"[..]]
        .map(|field| records.iter().find(|record| *record.field == *field).unwrap().clone());
    let rows: Vec<(&str, &_, Vec<Record>, Result<&str, SessionError>)> = vec![
        ("its own", &ann, records.clone(), Ok("id=secret; other=1")),
        ("another tenant", &bob, records.clone(), Err(SessionError::Unreadable)),
        (
            "another cookie",
            &ann,
            vec![Record { body: other.body.clone(), ..id.clone() }],
            Err(SessionError::Unreadable),
        ),
        (
            "a later stamp",
            &ann,
            vec![Record { stamp: id.stamp + 1, ..id.clone() }],
            Err(SessionError::Unreadable),
        ),
    ];
    rows_async::hold(rows, async |(name, place, records, want)| {
        let memory = MemoryStore::new();
        memory.apply(place, &Version::default(), &records, HOUR).await.unwrap();
        let tenant = str::from_utf8(place.tenant().as_bytes()).unwrap().to_owned();
        let mut got = get(&client(&pool(&memory)), &tenant, &[]).await.map_err(refused);
        if let Ok(got) = &mut got {
            let mut cookies: Vec<_> = got.split("; ").collect();
            cookies.sort_unstable();
            *got = cookies.join("; ");
        }
        (name, got, want.map(str::to_owned))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_and_a_wrong_one_is_no_empty_jar() {
    let memory = MemoryStore::new();
    let (old, new) = ([1; 32], [2; 32]);
    let first = sealed(&memory, SessionSeal::new(1, &old));
    get(&client(&first), "ann", &["id=1"]).await.unwrap();
    let both = sealed(&memory, SessionSeal::new(2, &new).also_open(1, &old));
    assert_eq!(get(&client(&both), "ann", &["more=2"]).await.unwrap(), "id=1");
    for seal in [SessionSeal::new(2, &new), SessionSeal::new(1, &new)] {
        let wrong = sealed(&memory, seal);
        let error = refused(get(&client(&wrong), "ann", &[]).await.unwrap_err());
        assert_eq!(error, SessionError::Unreadable);
        assert_eq!(wrong.stats().unreadable, 1);
    }
    // Whoever has lost the key can start again.
    let lost = sealed(&memory, SessionSeal::new(3, &new));
    lost.forget(&key("ann")).await.unwrap();
    assert_eq!(get(&client(&lost), "ann", &[]).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn names_values_and_keys_are_in_no_debug_and_no_error() {
    const CANARIES: [&str; 4] = ["tenant-canary", "name-canary", "value-canary", "007, 007"];
    let memory = MemoryStore::new();
    let seal = SessionSeal::new(1, &KEY);
    let mut shown =
        vec![format!("{seal:?}"), format!("{:?}", SessionPool::builder(memory.clone()))];
    let (pool, _driver) = SessionPool::builder(memory.clone()).seal(seal).build();
    let client = client(&pool);
    get(&client, "tenant-canary", &["name-canary=value-canary"]).await.unwrap();
    let name = "tenant-canary";
    let place = store_key(&MemoryStore::new(), name).await;
    let contents = memory.load(&place).await.unwrap();
    // A body that another replica has changed.
    let mut record = contents.records[0].clone();
    (record.stamp, record.body) = (record.stamp + 1, Some(b"value-canary"[..].into()));
    let hour = std::time::Duration::from_secs(3_600);
    memory.apply(&place, &Version::default(), &[record], hour).await.unwrap();
    let jar: Result<CookieJar, _> = pool.jar(&key(name), &uri("https://example.com/")).await;
    assert_eq!(jar.as_ref().unwrap_err(), &SessionError::Unreadable);
    shown.extend([
        format!("{jar:?}"),
        format!("{}", jar.unwrap_err()),
        format!("{pool:?} {:?}", pool.stats()),
        format!("{:?}", SessionLayer::new(pool.clone())),
        format!("{:?} {place:?}", key(name)),
        format!("{contents:?} {memory:?} {:?}", Applied::Merged(contents.clone())),
        format!("{:?}", SessionVersion::from_bytes(contents.version.as_bytes())),
        format!("{:?}", Contents::default()),
        format!("{:?}", pool.lease(&key(name), "name-canary", std::time::Duration::MAX).await),
    ]);
    // The store has none of it either, except the names of tenants and cookies.
    let (sealed, _driver) =
        SessionPool::builder(memory.clone()).seal(SessionSeal::new(1, &KEY)).build();
    get(&crate::support::client(&sealed), "bob", &["id=value-canary"]).await.unwrap();
    let bob = store_key(&MemoryStore::new(), "bob").await;
    for record in memory.load(&bob).await.unwrap().records {
        let body = record.body.unwrap_or_default();
        assert!(!body.windows(12).any(|bytes| bytes == b"value-canary"));
    }
    for text in shown {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{text}");
        }
    }
}
