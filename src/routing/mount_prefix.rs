use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use super::{fault::PrefixError, prefix::Prefix};

/// A checked mount prefix, for configurations. [`mount`](super::RoutingLayerBuilder::mount) takes
/// it as it takes a string.
///
/// Two prefixes are equal if they name the same mount, such as `https://h` and `HTTPS://H.:*/`.
/// [`Display`](fmt::Display) shows a prefix as it was written. With the feature `serde` a prefix is
/// read from a string. If the string is not a prefix, the error has the text of [`PrefixError`].
///
/// ```
/// use tower_outbound::routing::MountPrefix;
///
/// let prefix: MountPrefix = "HTTPS://API.example.com:*/".parse()?;
/// assert_eq!(prefix, "https://api.example.com".parse()?);
/// assert_eq!(prefix.as_str(), "HTTPS://API.example.com:*/");
/// assert!("api.example.com".parse::<MountPrefix>().is_err());
/// # Ok::<_, tower_outbound::routing::PrefixError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MountPrefix {
    text: Arc<str>,
    prefix: Prefix,
}

impl MountPrefix {
    /// The prefix as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for MountPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let prefix = Prefix::parse(text).map_err(|fault| PrefixError::new(text, fault))?;
        Ok(Self { text: text.into(), prefix })
    }
}

impl From<MountPrefix> for Arc<str> {
    fn from(prefix: MountPrefix) -> Self {
        prefix.text
    }
}

impl fmt::Display for MountPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for MountPrefix {
    fn eq(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }
}

impl Eq for MountPrefix {}

impl PartialOrd for MountPrefix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MountPrefix {
    fn cmp(&self, other: &Self) -> Ordering {
        self.prefix.cmp(&other.prefix)
    }
}

impl Hash for MountPrefix {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prefix.hash(state);
    }
}

#[cfg(feature = "serde")]
mod serde {
    use std::fmt;

    use ::serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, Visitor},
    };

    use super::MountPrefix;

    impl Serialize for MountPrefix {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.as_str())
        }
    }

    impl<'de> Deserialize<'de> for MountPrefix {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Text;

            impl Visitor<'_> for Text {
                type Value = MountPrefix;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a mount prefix, such as \"https://api.example.com\"")
                }

                fn visit_str<E: Error>(self, text: &str) -> Result<MountPrefix, E> {
                    text.parse().map_err(E::custom)
                }
            }

            deserializer.deserialize_str(Text)
        }
    }
}
