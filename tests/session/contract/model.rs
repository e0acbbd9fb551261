//! The simplest possible store, and stories of changes to it.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use tower_outbound::session::Record;

use super::{deleted, set};

/// The record with the greatest stamp for each field.
#[derive(Default)]
pub(crate) struct Model(BTreeMap<Box<[u8]>, Record>);

impl Model {
    pub(crate) fn apply(&mut self, records: &[Record]) {
        for record in records {
            let held = self.0.entry(record.field.clone()).or_insert_with(|| record.clone());
            if held.stamp < record.stamp {
                *held = record.clone();
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.0.values().cloned().collect()
    }
}

pub(crate) fn sorted(records: impl IntoIterator<Item = Record>) -> Vec<Record> {
    let mut records: Vec<_> = records.into_iter().collect();
    records.sort_by(|one, other| one.field.cmp(&other.field));
    records
}

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Two to seven changes of one to four records. A stamp is of one record, as replicas make them.
pub(crate) fn changes(random: &mut Random) -> Vec<Vec<Record>> {
    let begin = now();
    let change = |random: &mut Random| {
        let records = (0..1 + random.below(4)).map(|_| {
            let (field, stamp) = (["a", "b", "c", "d"][random.below(4)], begin + random.next() % 8);
            // The same field and stamp are the same record.
            let is_deleted =
                stamp.wrapping_mul(field.len() as u64 + u64::from(field.as_bytes()[0])) % 3 == 0;
            if is_deleted { deleted(field, stamp) } else { set(field, stamp, stamp.to_string()) }
        });
        records.collect()
    };
    (0..2 + random.below(6)).map(|_| change(random)).collect()
}

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
