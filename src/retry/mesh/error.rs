//! Why a mesh's configuration cannot become a policy.

use std::{error::Error, fmt, ops::RangeInclusive};

/// The error for a value of a mesh's configuration that a
/// [`RetryPolicy`](crate::retry::RetryPolicy) cannot have.
///
/// `Display` says the field, its value, and what to write.
///
/// ```
/// use tower_outbound::retry::{RetryPolicy, mesh::LinkerdRetryBudget};
///
/// let mut budget = LinkerdRetryBudget::default();
/// budget.retry_ratio = 0.125;
/// let error = RetryPolicy::try_from(budget).expect_err("12.5 percent");
/// assert_eq!(error.field(), "retryBudget.retryRatio");
/// assert_eq!(
///     error.to_string(),
///     "retryBudget.retryRatio is 0.125: write whole hundredths, such as 0.2"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshError {
    field: &'static str,
    value: String,
    advice: &'static str,
}

impl MeshError {
    pub(super) fn new(field: &'static str, value: impl fmt::Display, advice: &'static str) -> Self {
        Self { field, value: value.to_string(), advice }
    }

    /// The path of the field, as the mesh's documentation spells it: `timeouts.backendRequest`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for MeshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.advice)
    }
}

impl Error for MeshError {}

/// The number of a field, if it is within the field's bounds.
///
/// Fields are 64 bits wide, as the integers of these APIs are. With a narrower type the
/// deserializer would refuse the number, and its error would name the type and not the bounds.
pub(super) fn bounded(
    number: i64,
    bounds: RangeInclusive<u32>,
    field: &'static str,
    advice: &'static str,
) -> Result<u32, MeshError> {
    u32::try_from(number)
        .ok()
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| MeshError::new(field, number, advice))
}
