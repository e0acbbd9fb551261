//! The requests to a server: each is a command, or a script that is one atomic step.

use std::{sync::LazyLock, time::Duration};

use redis::{Cmd, Script, cmd};

use super::{name, record};
use crate::session::{Record, SessionKey, StoreKey, TOMBSTONES_KEPT, Version, nonce::nonce};

static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget.lua")));

/// A command for the node of one session.
pub(super) struct Request {
    pub(super) slot: u16,
    pub(super) command: Cmd,
    /// The script to load if the server does not know it.
    pub(super) script: Option<&'static str>,
}

pub(super) fn load(key: &StoreKey) -> Request {
    let mut command = cmd("HGETALL");
    command.arg(name::cookies(key));
    Request { slot: name::slot(key.tenant()), command, script: None }
}

pub(super) fn version(key: &StoreKey) -> Request {
    let mut command = cmd("HGET");
    command.arg(name::cookies(key)).arg("v");
    Request { slot: name::slot(key.tenant()), command, script: None }
}

pub(super) fn apply(
    key: &StoreKey,
    known: &Version,
    records: &[Record],
    ttl: Duration,
    max_sites: u32,
) -> Request {
    let mut command = cmd("EVALSHA");
    command
        .arg(APPLY.get_hash())
        .arg(2)
        .arg(name::cookies(key))
        .arg(name::sites(key.tenant()))
        .arg(known.as_bytes())
        .arg(format!("{:016x}", nonce()))
        .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST_TTL))
        .arg(u64::try_from(TOMBSTONES_KEPT.as_micros()).unwrap_or(u64::MAX))
        .arg(max_sites)
        .arg(name::escape(key.site().as_bytes()));
    for one in records {
        command.arg(record::field(one)).arg(record::value(one));
    }
    let script = Some(include_str!("apply.lua"));
    Request { slot: name::slot(key.tenant()), command, script }
}

pub(super) fn forget(tenant: &SessionKey) -> Request {
    let mut command = cmd("EVALSHA");
    command.arg(FORGET.get_hash()).arg(1).arg(name::sites(tenant));
    let script = Some(include_str!("forget.lua"));
    Request { slot: name::slot(tenant), command, script }
}

/// A hundred years in milliseconds. A server refuses a time beyond the range of its clock.
const LONGEST_TTL: u64 = 100 * 366 * 24 * 60 * 60 * 1_000;
