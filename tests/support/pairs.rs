//! Tables of two dimensions.

/// Pairs each of the first with each of the second.
pub(crate) fn pairs<A: Clone, B>(
    first: impl IntoIterator<Item = A>,
    second: impl IntoIterator<Item = B> + Clone,
) -> impl Iterator<Item = (A, B)> {
    first
        .into_iter()
        .flat_map(move |one| second.clone().into_iter().map(move |other| (one.clone(), other)))
}
