//! Replaces `sessions.rs` in a program that was built without the features that it needs.

use std::{error::Error, sync::Arc};

use http::{Extensions, StatusCode};
use tower::BoxError;
use tower_outbound::{cookie::CookieLimits, retry::RetryPolicy};

use crate::table;

/// Has no value: without the features there are no sessions.
pub(crate) enum Sessions {}

pub(crate) type Shared<C> = C;

pub(crate) fn over<C>(client: C, _: Option<&Sessions>) -> C {
    client
}

pub(crate) fn not_retried(policy: RetryPolicy) -> RetryPolicy {
    policy
}

pub(crate) fn refusal(_: &(dyn Error + 'static)) -> Option<StatusCode> {
    None
}

impl Sessions {
    pub(crate) async fn open(_: &table::Sessions, _: CookieLimits) -> Result<Self, String> {
        Err("this program was built without the feature session; build it with \
             `--features serde,redis,seal`"
            .into())
    }

    pub(crate) fn name(&self, _: &Arc<str>, _: &mut Extensions) {
        match *self {}
    }

    pub(crate) async fn flush(&self) -> Result<(), BoxError> {
        match *self {}
    }

    pub(crate) fn len(&self) -> usize {
        match *self {}
    }

    pub(crate) fn count(&self, _: &mut String) {
        match *self {}
    }
}
