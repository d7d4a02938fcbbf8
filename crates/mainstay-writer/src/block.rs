//! Events of one topic as a block: what the tables keep of the log, many events a row.
//!
//! A block has two parts. Its heads say of each event all but what happened; its bodies are what happened, in the form
//! of the journal. Within a block the events of the topic follow one another: what they count along (their number in the
//! topic, the bytes so far) is written once. The form is that of a released file: what one build has written, later ones
//! read.
//!
//! ```text
//! heads, for each event   number and time as steps from the event before, size, key, length of the body: varints
//! heads, at their end     0 form   1 how many   5 number in the topic of the first   13 bytes of the topic before it
//!                         21 CRC-32 of the bodies   25 CRC-32 of the key (first number, topic) and the heads before this
//! ```

mod ids;
mod merge;

use std::sync::Arc;

use mainstay_core::{
    Timestamp,
    engine::change::{EventMeta, TopicId},
    event::Event,
};

use crate::codec::{decode::Nonsense, parts};
pub use ids::{IDS_OF_A_BLOCK, KnownId, ids, put_ids};
pub use merge::Merge;

type Result<T> = std::result::Result<T, Nonsense>;

/// The form this build writes, and the only one it reads.
const FORM: u8 = 1;
/// Bytes at the end of the heads.
const END: usize = 29;
/// A block is full at this many bytes of bodies, or as many events.
const FULL_BYTES: usize = 64 << 10;
const FULL_EVENTS: u32 = 1_024;

/// A block in the making.
#[derive(Default)]
pub struct Builder {
    topic: u32,
    count: u32,
    first: u64,
    /// Of the first event.
    ord: u64,
    before: u64,
    /// Of the last.
    last: Option<EventMeta>,
    heads: Vec<u8>,
    bodies: Vec<u8>,
}

/// A block as a row.
pub struct Row<'b> {
    pub first: u64,
    pub topic: u32,
    pub last: u64,
    pub count: u32,
    pub heads: &'b [u8],
    pub bodies: &'b [u8],
}

impl Builder {
    /// Whether an event can follow here.
    pub fn takes(&self, meta: &EventMeta) -> bool {
        let Some(last) = &self.last else { return true };
        let follows = meta.topic == last.topic
            && meta.seq > last.seq
            && meta.ord == last.ord.wrapping_add(1)
            && meta.total == last.total.wrapping_add(u64::from(meta.size));
        follows && self.count < FULL_EVENTS && self.bodies.len() < FULL_BYTES
    }

    /// Adds an event that it takes. Answers how many bytes it has become longer.
    pub fn push(&mut self, meta: &EventMeta, event: &Event) -> usize {
        let (seq, at) = match &self.last {
            Some(last) => (last.seq, last.at.0),
            None => {
                (self.topic, self.first, self.ord) = (meta.topic.0, meta.seq, meta.ord);
                self.before = meta.total.wrapping_sub(u64::from(meta.size));
                (meta.seq, 0)
            }
        };
        let was = self.bodies.len();
        parts::put_event(&mut self.bodies, event);
        let body = self.bodies.len() - was;
        for number in
            [meta.seq - seq, zigzag(meta.at.0.wrapping_sub(at)), u64::from(meta.size), meta.key, body as u64]
        {
            put_varint(&mut self.heads, number);
        }
        self.count += 1;
        self.last = Some(*meta);
        body
    }

    /// The number of its first event.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The row, if there is anything in it.
    pub fn finish(&mut self) -> Option<Row<'_>> {
        let last = self.last?.seq;
        let (first, topic) = (self.first, self.topic);
        self.heads.push(FORM);
        self.heads.extend(self.count.to_le_bytes());
        self.heads.extend(self.ord.to_le_bytes());
        self.heads.extend(self.before.to_le_bytes());
        self.heads.extend(crc32fast::hash(&self.bodies).to_le_bytes());
        let crc = checksum(first, topic, &self.heads);
        self.heads.extend(crc.to_le_bytes());
        Some(Row { first, topic, last, count: self.count, heads: &self.heads, bodies: &self.bodies })
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        (self.count, self.last) = (0, None);
        self.heads.clear();
        self.bodies.clear();
    }
}

/// A block that was read.
pub struct Block {
    /// Its events, in order.
    pub metas: Vec<EventMeta>,
    /// Where the body of each ends.
    ends: Vec<u32>,
    crc: u32,
    bodies: Vec<u8>,
}

impl Block {
    /// The heads of the block with this key.
    pub fn of_heads(first: u64, topic: TopicId, heads: &[u8]) -> Result<Block> {
        let (rest, end) =
            heads.len().checked_sub(END).and_then(|at| heads.split_at_checked(at)).ok_or("is too short")?;
        let u32_at = |at: usize| u32::from_le_bytes(end[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(end[at..at + 8].try_into().expect("eight bytes"));
        if checksum(first, topic.0, &heads[..heads.len() - 4]) != u32_at(25) {
            return Err("its checksum does not fit");
        }
        if end[0] != FORM {
            return Err("is of a form that this build does not know");
        }
        let (count, mut ord, mut total) = (u32_at(1) as usize, u64_at(5), u64_at(13));
        let (mut seq, mut at, mut body) = (first, 0_i64, 0_u32);
        let mut rest = Varints(rest);
        let mut block = Block {
            metas: Vec::with_capacity(count.min(FULL_EVENTS as usize)),
            ends: Vec::with_capacity(count.min(FULL_EVENTS as usize)),
            crc: u32_at(21),
            bodies: Vec::new(),
        };
        for _ in 0..count {
            seq = seq.wrapping_add(rest.next()?);
            at = at.wrapping_add(unzigzag(rest.next()?));
            let size = u32::try_from(rest.next()?).map_err(|_| "has a size out of range")?;
            let key = rest.next()?;
            let length = u32::try_from(rest.next()?).map_err(|_| "has a length out of range")?;
            body = body.checked_add(length).ok_or("has a length out of range")?;
            total = total.wrapping_add(u64::from(size));
            block.metas.push(EventMeta { seq, topic, size, ord, total, at: Timestamp(at), key });
            block.ends.push(body);
            ord = ord.wrapping_add(1);
        }
        if block.metas.is_empty() || !rest.0.is_empty() {
            return Err("does not have as many events as it says");
        }
        Ok(block)
    }

    /// Adds its bodies.
    pub fn with_bodies(mut self, bodies: &[u8]) -> Result<Block> {
        if self.ends.last().map(|end| *end as usize) != Some(bodies.len()) {
            return Err("is not as long as its heads say");
        }
        if crc32fast::hash(bodies) != self.crc {
            return Err("its checksum does not fit");
        }
        self.bodies = bodies.to_vec();
        Ok(self)
    }

    /// Where the event with this number is.
    pub fn find(&self, seq: u64) -> Option<usize> {
        self.metas.binary_search_by_key(&seq, |meta| meta.seq).ok()
    }

    /// What happened, of one of a block with bodies. Texts that are the same as in `like` are shared with it.
    pub fn event(&self, at: usize, like: Option<&Event>) -> Result<Arc<Event>> {
        let from = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let body = self.ends.get(at).and_then(|end| self.bodies.get(from..*end as usize));
        parts::event_like(body.ok_or("has no such event")?, like).map(Arc::new)
    }
}

/// Of the key and the heads, so that a block in the place of another is noticed.
fn checksum(first: u64, topic: u32, heads: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&first.to_le_bytes());
    crc.update(&topic.to_le_bytes());
    crc.update(heads);
    crc.finalize()
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What has not been read yet.
struct Varints<'b>(&'b [u8]);

impl Varints<'_> {
    fn next(&mut self) -> Result<u64> {
        let mut number = 0;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(number);
            }
        }
        Err("has a number without an end")
    }
}

/// Small numbers of either sign as small ones.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use mainstay_core::TopicName;
    use proptest::prelude::*;

    use super::*;

    fn meta(seq: u64, at: i64, size: u32, ord: u64, total: u64, key: u64) -> EventMeta {
        EventMeta { seq, topic: TopicId(7), size, ord, total, at: Timestamp(at), key }
    }

    fn event(text: &str) -> Event {
        Event::new(text, &TopicName::new("a.b").unwrap(), &format!("\"{text}\""))
    }

    /// A block of events with these steps, times, sizes and keys.
    fn built(steps: &[(u64, i64, u32, u64)]) -> (Builder, Vec<(EventMeta, Event)>) {
        let (mut builder, mut all) = (Builder::default(), vec![]);
        let (mut seq, mut total) = (u64::MAX / 2, u64::MAX - 3);
        for (i, (step, at, size, key)) in steps.iter().enumerate() {
            seq += u64::from(*step as u32) + 1;
            total = total.wrapping_add(u64::from(*size));
            let meta = meta(seq, *at, *size, 41 + i as u64, total, *key);
            let event = event(&i.to_string());
            assert!(builder.takes(&meta));
            builder.push(&meta, &event);
            all.push((meta, event));
        }
        (builder, all)
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(steps: Vec<(u64, i64, u32, u64)>) {
            let (mut builder, all) = built(&steps);
            let Some(row) = builder.finish() else {
                prop_assert!(all.is_empty());
                return Ok(());
            };
            let block = Block::of_heads(row.first, TopicId(row.topic), row.heads).unwrap();
            let block = block.with_bodies(row.bodies).unwrap();
            prop_assert_eq!((row.count as usize, row.last), (all.len(), all[all.len() - 1].0.seq));
            let mut like = None;
            for (i, (meta, event)) in all.iter().enumerate() {
                prop_assert_eq!(block.metas[i], *meta);
                prop_assert_eq!(block.find(meta.seq), Some(i));
                let read = block.event(i, like.as_deref()).unwrap();
                prop_assert_eq!(&*read, event);
                like = Some(read);
            }
            prop_assert!(block.event(all.len(), None).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_and_a_block_in_anothers_place_too() {
        let (mut builder, _) = built(&[(1, 5, 3, 0), (0, -5, 4, u64::MAX)]);
        let row = builder.finish().unwrap();
        let read = |first, topic, heads: &[u8], bodies: &[u8]| {
            Block::of_heads(first, TopicId(topic), heads)
                .and_then(|block| block.with_bodies(bodies))
                .map(|block| block.metas.len())
        };
        assert_eq!(read(row.first, row.topic, row.heads, row.bodies), Ok(2));
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..row.heads.len() * 8 {
            assert!(read(row.first, row.topic, &flipped(row.heads, bit), row.bodies).is_err(), "heads {bit}");
        }
        for bit in 0..row.bodies.len() * 8 {
            assert!(
                read(row.first, row.topic, row.heads, &flipped(row.bodies, bit)).is_err(),
                "bodies {bit}"
            );
        }
        for length in 0..row.heads.len() {
            assert!(read(row.first, row.topic, &row.heads[..length], row.bodies).is_err(), "{length} bytes");
        }
        assert!(read(row.first + 1, row.topic, row.heads, row.bodies).is_err());
        assert!(read(row.first, row.topic + 1, row.heads, row.bodies).is_err());
    }

    #[test]
    fn what_cannot_be_said_by_counting_along_begins_another_block() {
        let (builder, all) = built(&[(1, 1, 10, 0)]);
        let last = all[0].0;
        let next =
            EventMeta { seq: last.seq + 5, ord: last.ord + 1, total: last.total.wrapping_add(10), ..last };
        assert!(builder.takes(&next));
        assert!(!builder.takes(&EventMeta { seq: last.seq, ..next }));
        assert!(!builder.takes(&EventMeta { ord: last.ord + 2, ..next }));
        assert!(!builder.takes(&EventMeta { total: last.total, ..next }));
        assert!(!builder.takes(&EventMeta { topic: TopicId(8), ..next }));
    }

    #[test]
    fn a_full_block_takes_no_more_and_an_emptied_one_begins_anew() {
        let mut builder = Builder::default();
        let long =
            Event { data: mainstay_core::event::EventData::Binary(vec![1; FULL_BYTES].into()), ..event("x") };
        let one = meta(1, 1, 10, 1, 10, 0);
        builder.push(&one, &long);
        let two = meta(2, 1, 10, 2, 20, 0);
        assert!(!builder.takes(&two));
        builder.clear();
        assert!(builder.takes(&two) && builder.finish().is_none());
        builder.push(&two, &event("y"));
        let row = builder.finish().unwrap();
        assert_eq!((row.first, row.last, row.count), (2, 2, 1));
    }
}
