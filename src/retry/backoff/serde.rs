//! A backoff as a configuration value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backoff, Jitter, Shape};
use crate::retry::duration::Text;

#[derive(Default, Deserialize, Serialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a backoff, a table such as { exponential = \"100ms\" }"
)]
pub(super) struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exponential: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    urllib3: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Jitter>,
}

impl TryFrom<Fields> for Backoff {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let backoff = match (fields.constant, fields.exponential, fields.urllib3) {
            (Some(Text(delay)), None, None) => Self::constant(delay),
            (None, Some(Text(first)), None) => Self::exponential(first),
            (None, None, Some(Text(factor))) => Self::urllib3(factor),
            (None, None, None) => {
                return Err("a backoff needs one of `constant`, `exponential` and `urllib3`");
            }
            _ => {
                return Err(
                    "a backoff has more than one of `constant`, `exponential` and `urllib3`: keep one",
                );
            }
        };
        Ok(Self {
            max: fields.max.map_or(backoff.max, |Text(max)| max),
            jitter: fields.jitter.unwrap_or(backoff.jitter),
            ..backoff
        })
    }
}

impl From<Backoff> for Fields {
    fn from(backoff: Backoff) -> Self {
        let unit = Some(Text(backoff.unit));
        let shape = match backoff.shape {
            Shape::Constant => Self { constant: unit, ..Self::default() },
            Shape::Exponential => Self { exponential: unit, ..Self::default() },
            Shape::Urllib3 => Self { urllib3: unit, ..Self::default() },
        };
        // "No maximum" has no number that people could read.
        let max = (backoff.max != Duration::MAX || backoff.shape != Shape::Constant)
            .then_some(Text(backoff.max));
        Self { max, jitter: Some(backoff.jitter), ..shape }
    }
}
