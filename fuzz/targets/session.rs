//! Any answer of a session store: an error, or a jar of that session's site. If a change is then
//! written, another replica reads the same cookies.
#![no_main]

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, stream};
use http::Uri;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use tower_outbound::{
    cookie::{Cookie, CookieJar, CookieLimits},
    session::{
        Applied, Contents, Event, Record, SessionError, SessionKey, SessionPool, SessionStore,
        StoreKey, Version,
    },
};

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
}

/// First gives the prepared answer, then answers like a real store.
struct Store {
    contents: Mutex<Contents>,
    /// What others have written in the meantime.
    merged: Mutex<Option<Vec<Record>>>,
}

impl Store {
    fn next(&self) -> Contents {
        self.contents.lock().expect("no panic").clone()
    }
}

impl SessionStore for Store {
    type Error = Infallible;

    async fn load(&self, _: &StoreKey) -> Result<Contents, Infallible> {
        Ok(self.next())
    }

    async fn apply(
        &self,
        _: &StoreKey,
        _: &Version,
        records: &[Record],
        _: Duration,
    ) -> Result<Applied, Infallible> {
        let contents = &mut *self.contents.lock().expect("no panic");
        assert!(records.iter().all(|record| record.stamp < 1 << 53), "no store can keep it");
        let others = self.merged.lock().expect("no panic").take();
        let has_others = others.is_some();
        for record in others.iter().flatten().chain(records) {
            match contents.records.iter_mut().find(|stored| stored.field == record.field) {
                Some(stored) if stored.stamp >= record.stamp => {}
                Some(stored) => *stored = record.clone(),
                None => contents.records.push(record.clone()),
            }
        }
        let mut version = contents.version.as_bytes().to_vec();
        version.push(b'+');
        contents.version = Version::from_bytes(&version);
        Ok(match has_others {
            true => Applied::Merged(contents.clone()),
            false => Applied::Clean(contents.version.clone()),
        })
    }

    fn forget(&self, _: &SessionKey) -> impl Future<Output = Result<(), Infallible>> + Send {
        std::future::ready(Ok(()))
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        stream::empty()
    }
}

/// A list of records: a byte of flags, a stamp, a field and a body with their lengths before them.
fn records(mut input: &[u8]) -> Option<(Vec<Record>, &[u8])> {
    let mut records = Vec::new();
    let take = |input: &mut &[u8], length: usize| -> Option<Vec<u8>> {
        let (taken, rest) = input.split_at_checked(length)?;
        *input = rest;
        Some(taken.to_vec())
    };
    while let Some((flags, rest)) = input.split_first() {
        input = rest;
        if *flags == 0 {
            break;
        }
        // If a part is missing, a usual value is used.
        let stamp = match flags & 1 {
            0 => 1_790_000_000_000_000 + u64::from(*flags),
            _ => u64::from_le_bytes(take(&mut input, 8)?.try_into().ok()?),
        };
        let length = take(&mut input, 1)?[0];
        let text = take(&mut input, usize::from(length))?;
        let body = match flags & 6 {
            0 => None,
            2 => {
                let length = take(&mut input, 1)?[0];
                Some(take(&mut input, usize::from(length))?)
            }
            // A cookie that a server could set.
            _ => {
                let jar = CookieJar::new();
                let _ = jar.set(&Uri::from_static("https://www.example.com/a"), &text);
                jar.iter().next().map(|cookie| cookie.to_bytes())
            }
        };
        let named = body.as_ref().and_then(|body| Cookie::from_bytes(body).ok());
        let field = match named.filter(|_| flags & 8 == 0) {
            Some(cookie) if flags & 16 == 0 => cookie.id().as_bytes().to_vec(),
            Some(cookie) => [b"!", cookie.id().as_bytes()].concat(),
            None => text,
        };
        records.push(Record { field: field.into(), stamp, body: body.map(Into::into) });
    }
    Some((records, input))
}

fn pairs(jar: &CookieJar) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs: Vec<_> = jar
        .iter()
        .map(|cookie| (cookie.id().as_bytes().to_vec(), cookie.value_bytes().to_vec()))
        .collect();
    pairs.sort();
    pairs
}

async fn story(store: Arc<Store>) -> Result<(), SessionError> {
    let (key, uri) = (SessionKey::new(&b"ann"[..]), Uri::from_static("https://www.example.com/a"));
    let pool = || SessionPool::builder(Arc::clone(&store)).unsealed().build();
    let ((first, _driver), (second, _driver_of_second)) = (pool(), pool());
    let jar = first.jar(&key, &uri).await?;
    let limits = CookieLimits::default();
    assert!(jar.len() <= limits.per_domain);
    for uri in [&uri, &Uri::from_static("http://example.com/")] {
        let header = jar.header(uri);
        assert!(header.is_none_or(|header| header.len() <= limits.header_bytes));
    }
    // A change, which is merged with what others have written.
    if jar.set(&uri, "sid=1; Secure; Path=/").is_err() {
        return Ok(());
    }
    first.flush().await?;
    let jar = first.jar(&key, &uri).await?;
    let others = second.jar(&key, &uri).await?;
    assert_eq!(pairs(&jar), pairs(&others), "two replicas differ");
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let Some((contents, rest)) = records(input) else { return };
    let merged = rest.split_first().and_then(|(_, rest)| records(rest)).map(|(merged, _)| merged);
    let contents =
        Contents { version: Version::from_bytes(&rest[..rest.len().min(9)]), records: contents };
    let store = Arc::new(Store { contents: Mutex::new(contents), merged: Mutex::new(merged) });
    RUNTIME.with(|runtime| {
        if let Err(error) = runtime.block_on(story(store)) {
            assert!(!error.to_string().is_empty());
        }
    });
});
