//! Sessions as in most middleware: a session is one value, which is read at the beginning of a
//! request and written whole at its end.
#![cfg(feature = "redis")]

use std::{collections::HashMap, sync::Mutex, time::Duration};

use futures_util::Stream;
use tower_outbound::session::{
    Applied, Contents, Event, Record, RedisError, RedisStore, SessionKey, SessionStore, StoreKey,
    Version,
};

use crate::contract::model::{Model, now};

pub(super) struct Blob {
    inner: RedisStore,
    /// As they were when they were read.
    read: Mutex<HashMap<StoreKey, Vec<Record>>>,
}

impl Blob {
    pub(super) fn new(inner: RedisStore) -> Self {
        Self { inner, read: Mutex::default() }
    }
}

type Plain = Vec<(Vec<u8>, u64, Option<Vec<u8>>)>;

impl SessionStore for Blob {
    type Error = RedisError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, RedisError> {
        let Contents { version, records } = self.inner.load(key).await?;
        let body = records.into_iter().find_map(|record| record.body);
        let plain: Plain = body.map_or(Vec::new(), |body| serde_json::from_slice(&body).unwrap());
        let records: Vec<_> = plain
            .into_iter()
            .map(|(field, stamp, body)| Record {
                field: field.into(),
                stamp,
                body: body.map(Into::into),
            })
            .collect();
        self.read.lock().unwrap().insert(key.clone(), records.clone());
        Ok(Contents { version, records })
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, RedisError> {
        let mut whole = Model::default();
        whole.apply(self.read.lock().unwrap().get(key).map_or(&[], Vec::as_slice));
        whole.apply(records);
        let plain: Plain = whole
            .records()
            .into_iter()
            .map(|record| (record.field.into(), record.stamp, record.body.map(Into::into)))
            .collect();
        let blob = Record {
            field: (*b"blob").into(),
            stamp: now(),
            body: Some(serde_json::to_vec(&plain).unwrap().into()),
        };
        let applied = self.inner.apply(key, known, &[blob], ttl).await?;
        self.read.lock().unwrap().insert(key.clone(), whole.records());
        Ok(Applied::Clean(match applied {
            Applied::Clean(version) => version,
            Applied::Merged(contents) => contents.version,
        }))
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, RedisError> {
        self.inner.version(key).await
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), RedisError> {
        self.inner.forget(tenant).await
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        self.inner.events()
    }
}
