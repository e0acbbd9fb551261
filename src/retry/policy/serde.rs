//! A policy and its limits as configuration values.

use std::{fmt, marker::PhantomData, time::Duration};

use http::{HeaderName, Method, StatusCode};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        Error, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::{Limit, RetryPolicy, config::frames};
use crate::retry::{
    budget::{Bound, Budget, MIN_RETRIES, PERCENT, WINDOW},
    duration::{self, Text},
};

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Times(times) => serializer.serialize_u32(*times),
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::Disabled => serializer.serialize_str("disabled"),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;

        impl Visitor<'_> for NumberOrWord {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of retries, \"unlimited\" or \"disabled\"")
            }

            fn visit_u64<E: Error>(self, times: u64) -> Result<Limit, E> {
                let times = u32::try_from(times);
                times
                    .map(Limit::Times)
                    .map_err(|_| E::custom("more retries than 4294967295; write \"unlimited\""))
            }

            fn visit_i64<E: Error>(self, times: i64) -> Result<Limit, E> {
                let unsigned = u64::try_from(times);
                unsigned
                    .map_err(|_| E::invalid_value(Unexpected::Signed(times), &self))
                    .and_then(|t| self.visit_u64(t))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Limit, E> {
                match word {
                    "unlimited" => Ok(Limit::Unlimited),
                    "disabled" => Ok(Limit::Disabled),
                    _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(NumberOrWord)
    }
}

impl<'de> Deserialize<'de> for RetryPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = RetryPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a retry policy, a table such as { total = 3 }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<RetryPolicy, A::Error> {
                let mut policy = RetryPolicy::new();
                let mut seen = Vec::new();
                while let Some(key) = table.next_key()? {
                    if seen.contains(&key) {
                        return Err(A::Error::custom(format_args!("duplicate field `{key:?}`")));
                    }
                    policy = set(policy, &key, &mut table)?;
                    seen.push(key);
                }
                Ok(policy)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

/// The names are spelt as in a file, so that errors show them so.
#[allow(non_camel_case_types)]
#[derive(Debug, Deserialize, PartialEq)]
#[serde(field_identifier)]
enum Key {
    total,
    connect,
    read,
    status,
    other,
    allowed_methods,
    status_forcelist,
    backoff,
    respect_retry_after,
    retry_after_max,
    retry_after_over_max,
    budget,
    attempt_timeout,
    deadline,
    drain,
    raise_on_status,
    attempt_header,
}

/// The policy with the value of that key.
fn set<'de, A: MapAccess<'de>>(
    policy: RetryPolicy,
    key: &Key,
    table: &mut A,
) -> Result<RetryPolicy, A::Error> {
    Ok(match key {
        Key::total => policy.total(table.next_value::<Limit>()?),
        Key::connect => policy.connect(table.next_value::<Limit>()?),
        Key::read => policy.read(table.next_value::<Limit>()?),
        Key::status => policy.status(table.next_value::<Limit>()?),
        Key::other => policy.other(table.next_value::<Limit>()?),
        Key::allowed_methods => match table.next_value::<OrWord<Methods>>()?.0 {
            Some(Methods(methods)) => {
                policy.allowed_methods(methods.into_iter().map(|Name(method)| method))
            }
            None => policy.any_method(),
        },
        Key::status_forcelist => {
            let statuses: Vec<Status> = table.next_value()?;
            policy.status_forcelist(statuses.into_iter().map(|Status(status)| status))
        }
        Key::backoff => policy.backoff(table.next_value()?),
        Key::respect_retry_after => policy.respect_retry_after(table.next_value()?),
        Key::retry_after_max => policy.retry_after_max(table.next_value::<Text>()?.0),
        Key::retry_after_over_max => policy.retry_after_over_max(table.next_value()?),
        Key::budget => match table.next_value::<OrWord<BudgetTable>>()?.0 {
            Some(BudgetTable(budget)) => policy.budget(budget),
            None => policy.no_budget(),
        },
        Key::attempt_timeout => policy.attempt_timeout(table.next_value::<Time>()?.0),
        Key::deadline => policy.deadline(table.next_value::<Time>()?.0),
        Key::drain => policy.drain(table.next_value()?),
        Key::raise_on_status => policy.raise_on_status(table.next_value()?),
        Key::attempt_header => policy.attempt_header(table.next_value::<Header>()?.0),
    })
}

/// A limit of time. Zero is refused: other programs mean "no limit" by it, and here no request
/// would succeed.
#[derive(Deserialize)]
#[serde(try_from = "Text")]
struct Time(Duration);

impl TryFrom<Text> for Time {
    type Error = &'static str;

    fn try_from(Text(time): Text) -> Result<Self, Self::Error> {
        if time.is_zero() {
            Err("a time limit of zero lets no request succeed; for no limit leave this key out")
        } else {
            Ok(Self(time))
        }
    }
}

/// A value, or the word that means that there is none.
struct OrWord<V>(Option<V>);

trait HasWord {
    const WORD: &'static str;
    const EXPECTED: &'static str;
}

impl<'de, V: Deserialize<'de> + HasWord> Deserialize<'de> for OrWord<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueOrWord<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de> + HasWord> Visitor<'de> for ValueOrWord<V> {
            type Value = Option<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(V::EXPECTED)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Option<V>, E> {
                if word == V::WORD {
                    Ok(None)
                } else {
                    Err(E::invalid_value(Unexpected::Str(word), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Option<V>, A::Error> {
                V::deserialize(SeqAccessDeserializer::new(list)).map(Some)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Option<V>, A::Error> {
                V::deserialize(MapAccessDeserializer::new(table)).map(Some)
            }
        }

        deserializer.deserialize_any(ValueOrWord(PhantomData)).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Methods(Vec<Name>);

impl HasWord for Methods {
    const WORD: &'static str = "any";
    const EXPECTED: &'static str = "a list of methods, or \"any\"";
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(Method);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const COMMON: [Method; 10] = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
            Method::TRACE,
            Method::CONNECT,
            Method::QUERY,
        ];
        // Methods are compared with case: no request has the method `get`.
        if let Some(meant) = COMMON
            .iter()
            .find(|method| **method != *text && text.eq_ignore_ascii_case(method.as_str()))
        {
            return Err(format!("{text:?} is not a method: write \"{meant}\""));
        }
        Method::from_bytes(text.as_bytes())
            .map(Self)
            .map_err(|_| format!("{text:?} is not a method; write one such as \"GET\""))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Status(StatusCode);

impl TryFrom<u64> for Status {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        let status =
            u16::try_from(number).ok().and_then(|number| StatusCode::from_u16(number).ok());
        status
            .map(Self)
            .ok_or_else(|| format!("{number} is not a status; write a number from 100 to 999"))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Header(HeaderName);

impl TryFrom<String> for Header {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.parse();
        let name = name.map_err(|_| {
            format!("{text:?} is not the name of a header; write one such as \"x-attempt\"")
        })?;
        if frames(&name) {
            return Err(format!(
                "{text:?} says how a request is framed or routed; write one such as \"x-attempt\""
            ));
        }
        Ok(Self(name))
    }
}

/// A budget as it is written. A key that is left out has the value of [`Budget::default`].
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a budget, a table such as { percent = 20 }")]
struct BudgetFields {
    #[serde(deserialize_with = "whole_percent")]
    percent: u32,
    min_retries: Floor,
    #[serde(with = "duration")]
    window: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rate, a table such as { count = 1, per = \"1s\" }")]
struct Floor {
    count: u32,
    #[serde(with = "duration")]
    per: Duration,
}

impl Default for BudgetFields {
    fn default() -> Self {
        let (count, per) = MIN_RETRIES;
        Self { percent: PERCENT, min_retries: Floor { count, per }, window: WINDOW }
    }
}

/// Read as a fraction, so that the error for a fraction can say what is wrong.
fn whole_percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let percent = f64::deserialize(deserializer)?;
    if percent.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&percent) {
        Ok(percent as u32)
    } else {
        Err(D::Error::custom(format_args!(
            "`percent` of a budget must be a whole number from 0 to 4294967295, not {percent}"
        )))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "BudgetFields")]
struct BudgetTable(Budget);

impl HasWord for BudgetTable {
    const WORD: &'static str = "none";
    const EXPECTED: &'static str = "a table of `percent`, `min_retries` and `window`, or \"none\"";
}

impl TryFrom<BudgetFields> for BudgetTable {
    type Error = Bound;

    fn try_from(fields: BudgetFields) -> Result<Self, Self::Error> {
        let Floor { count, per } = fields.min_retries;
        Budget::checked(fields.percent, (count, per), fields.window).map(Self)
    }
}
