//! What is dropped if several sites together have too much. Pure: values in, a choice out.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

/// One item of a site.
pub(in crate::cookie) struct Item<'a, R> {
    pub(in crate::cookie) site: &'a str,
    pub(in crate::cookie) bytes: usize,
    /// The item of a site with the least rank is dropped first.
    pub(in crate::cookie) rank: R,
    /// Whether it was there before. A bound below what was there is raised to it: items that others
    /// put there are not for this caller to drop.
    pub(in crate::cookie) is_there: bool,
}

#[derive(Clone, Copy)]
pub(in crate::cookie) struct Bounds {
    pub(in crate::cookie) per_site: usize,
    pub(in crate::cookie) total: usize,
    pub(in crate::cookie) bytes: usize,
    /// Whether the older half is dropped last, so that a flood does not reach older items.
    pub(in crate::cookie) spares_older: bool,
}

/// The places of the items to drop. The items are in the order in which they came.
///
/// Above the bound of a site, that site's items are dropped. Above the total count or bytes, the
/// largest site drops first, so one site's flood drops nothing of others.
pub(in crate::cookie) fn over<R: Ord>(items: &[Item<'_, R>], bounds: Bounds) -> HashSet<usize> {
    let sum = |items: &mut dyn Iterator<Item = &Item<'_, R>>| {
        items.fold((0, 0), |(count, bytes): (usize, usize), item| (count + 1, bytes + item.bytes))
    };
    let (mut count, mut bytes) = sum(&mut items.iter());
    let (there, there_bytes) = sum(&mut items.iter().filter(|item| item.is_there));
    let (total, room) = (bounds.total.max(there), bounds.bytes.max(there_bytes));

    let mut by_site: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        by_site.entry(item.site).or_default().push(place);
    }
    let mut gone = HashSet::new();
    for places in by_site.values_mut() {
        let there = places.iter().filter(|&&place| items[place].is_there).count();
        let most = bounds.per_site.max(there);
        let half = if bounds.spares_older { most / 2 } else { 0 };
        let spared: HashSet<usize> = places.iter().copied().take(half).collect();
        // The first to drop is last.
        places.sort_by_key(|place| Reverse((spared.contains(place), &items[*place].rank)));
        let excess = places.split_off(most.min(places.len()));
        count -= excess.len();
        bytes -= excess.iter().map(|&place| items[place].bytes).sum::<usize>();
        gone.extend(excess);
    }

    let older = |most: usize| if bounds.spares_older { most / 2 } else { 0 };
    let older_by_count = older(total);
    let mut text = 0;
    let older_by_bytes = items.iter().take_while(|item| {
        text += item.bytes;
        text <= older(room)
    });
    let older_by_bytes = older_by_bytes.count();
    let mut sites: Vec<Vec<usize>> = by_site.into_values().collect();
    for by_bytes in [false, true] {
        let is_over =
            |count: usize, bytes: usize| if by_bytes { bytes > room } else { count > total };
        if !is_over(count, bytes) {
            continue;
        }
        let older = if by_bytes { older_by_bytes } else { older_by_count };
        let size = |places: &[usize]| match by_bytes {
            true => places.iter().map(|&place| items[place].bytes).sum(),
            false => places.len(),
        };
        let turn = |size: usize, site: usize, places: &[usize]| {
            let next = *places.last()?;
            Some((size, Reverse((next < older, &items[next].rank)), site))
        };
        let turns = sites.iter().enumerate();
        let turns = turns.filter_map(|(site, places)| turn(size(places), site, places));
        let mut turns: BinaryHeap<_> = turns.collect();
        while is_over(count, bytes) {
            let Some((size, _, site)) = turns.pop() else { break };
            let Some(place) = sites[site].pop() else { continue };
            count -= 1;
            bytes -= items[place].bytes;
            gone.insert(place);
            let size = size - if by_bytes { items[place].bytes } else { 1 };
            turns.extend(turn(size, site, &sites[site]));
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a3` is an item of the site `a` with the rank 3, of ten bytes each; with a `!` it was there
    /// before.
    fn items(row: &str) -> Vec<Item<'_, u32>> {
        let item = |word| {
            let (word, is_there) = match str::strip_suffix(word, "!") {
                Some(word) => (word, true),
                None => (word, false),
            };
            let (site, rank) = word.split_at(1);
            Item { site, bytes: 10, rank: rank.parse().unwrap(), is_there }
        };
        row.split_whitespace().map(item).collect()
    }

    #[test]
    fn the_largest_site_gives_first_and_of_a_site_what_has_the_least_rank() {
        let all = Bounds { per_site: 99, total: 99, bytes: 990, spares_older: false };
        let (total, bytes) = (|total| Bounds { total, ..all }, |bytes| Bounds { bytes, ..all });
        let per_site = |per_site| Bounds { per_site, ..all };
        let older = |bounds| Bounds { spares_older: true, ..bounds };
        let rows = [
            ("a1 a2 b3", all, "a1 a2 b3"),
            ("a1 a2 a3 b0", per_site(2), "a2 a3 b0"),
            // The first half of a site's share stays.
            ("a1 a2 a3 a4 a5", older(per_site(4)), "a1 a2 a4 a5"),
            // The largest site gives, whatever the ranks of others are.
            ("a5 a6 a7 a8 b1 c1", total(4), "a7 a8 b1 c1"),
            ("a5 a6 a7 a8 b1 b2 c1", total(5), "a7 a8 b1 b2 c1"),
            ("a5 a6 a7 a8 b1 c1", bytes(40), "a7 a8 b1 c1"),
            ("a5 a6 a7 a8 b1 c1", older(total(4)), "a7 a8 b1 c1"),
            // Of sites of one size the least rank, or the first of the newer half.
            ("a1 b2 c3 d4 e5", total(4), "b2 c3 d4 e5"),
            ("a1 b2 c3 d4 e5", older(total(4)), "a1 b2 d4 e5"),
            ("a1 b2 c3 d4 e5", older(bytes(40)), "a1 b2 d4 e5"),
            // What was there before is not cut down, but makes no room for more.
            ("a1! a2! a3! a4", per_site(1), "a2! a3! a4"),
            ("a1! a2! a3!", per_site(1), "a1! a2! a3!"),
            ("a1! b2! c3! a4", total(1), "b2! c3! a4"),
        ];
        let mut wrong = Vec::new();
        for (row, bounds, want) in rows {
            let gone = over(&items(row), bounds);
            let left = row.split_whitespace().enumerate();
            let left = left.filter(|(place, _)| !gone.contains(place)).map(|(_, word)| word);
            let left = left.collect::<Vec<_>>().join(" ");
            if left != want {
                wrong.push(format!("{row}: {left}, not {want}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
