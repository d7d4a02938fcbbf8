//! Ids that publishers chose as a block: what recognises many events, in one row.
//!
//! For each: number and time as steps from the one before, topic: varints; the key, 16 bytes. At the end a CRC-32 of the
//! first number and of all before it.

use mainstay_core::{Timestamp, engine::change::TopicId, event::DedupKey};

use super::{Result, Varints, put_varint, unzigzag, zigzag};

/// So many ids are a row.
pub const IDS_OF_A_BLOCK: usize = 1_000;

/// What recognises an event: its number, its topic, when it was published, the key.
pub type KnownId = (u64, TopicId, Timestamp, DedupKey);

/// Replaces what is in `out` by the block of these, which begin with the number `first` and are in order.
pub fn put_ids(out: &mut Vec<u8>, first: u64, ids: &[KnownId]) {
    out.clear();
    let (mut before, mut then) = (first, 0);
    for (seq, topic, at, key) in ids {
        for number in [seq - before, u64::from(topic.0), zigzag(at.0.wrapping_sub(then))] {
            put_varint(out, number);
        }
        out.extend(key.0);
        (before, then) = (*seq, at.0);
    }
    let crc = checksum(first, out);
    out.extend(crc.to_le_bytes());
}

/// The ids of the block that begins with the number `first`.
pub fn ids(first: u64, bytes: &[u8]) -> Result<Vec<KnownId>> {
    let (rest, crc) = bytes.split_last_chunk::<4>().ok_or("is too short")?;
    if checksum(first, rest) != u32::from_le_bytes(*crc) {
        return Err("its checksum does not fit");
    }
    let (mut seq, mut at) = (first, 0_i64);
    let mut rest = Varints(rest);
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        seq = seq.wrapping_add(rest.next()?);
        let topic = u32::try_from(rest.next()?).map_err(|_| "has a topic out of range")?;
        at = at.wrapping_add(unzigzag(rest.next()?));
        let (key, behind) = rest.0.split_first_chunk::<16>().ok_or("is too short")?;
        rest.0 = behind;
        found.push((seq, TopicId(topic), Timestamp(at), DedupKey(*key)));
    }
    Ok(found)
}

fn checksum(first: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&first.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_come_back_as_they_were_and_a_flipped_bit_is_noticed(all: Vec<(u32, u32, i64, [u8; 16])>, bit: u16) {
            let mut seq = u64::MAX / 2;
            let all: Vec<KnownId> = all
                .into_iter()
                .map(|(step, topic, at, key)| {
                    seq += u64::from(step) + 1;
                    (seq, TopicId(topic), Timestamp(at), DedupKey(key))
                })
                .collect();
            let first = all.first().map_or(1, |known| known.0);
            let mut bytes = Vec::new();
            put_ids(&mut bytes, first, &all);
            prop_assert_eq!(ids(first, &bytes), Ok(all));
            prop_assert!(ids(first + 1, &bytes).is_err());
            let bit = usize::from(bit) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(ids(first, &bytes).is_err());
        }
    }
}
