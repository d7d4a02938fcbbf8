//! Job ids: UUIDv7 whose random part carries 16 bits of the partition's hash.
//!
//! Layout after RFC 9562, section 5.7: 48 bits of Unix milliseconds, version, a 12-bit counter, variant, 10 more bits
//! of counter, then (ours) 16 bits of partition hash, and 36 random bits. The counter stands before the hash and
//! keeps the order of ids made in one millisecond, whatever their queues; the hash lets a sharded store route a call
//! that has nothing but an id.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;

/// The id of a job: a UUIDv7. Ordered by the time it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId([u8; 16]);

/// The text is not the id of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id is a UUIDv7 such as 0192f7c6-5f2a-7000-8000-000000000000")]
pub struct InvalidJobId;

impl JobId {
    /// Above every id: the end of a range, never of a job.
    pub const MAX: JobId = JobId([0xff; 16]);
    /// Below every id: the begin of a range, never of a job.
    pub const MIN: JobId = JobId([0; 16]);

    /// Reads an id in the hyphenated form; other versions than 7 are refused.
    pub fn parse(text: &str) -> Result<JobId, InvalidJobId> {
        if text.len() != 36 {
            return Err(InvalidJobId);
        }
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidJobId)?;
        JobId::from_bytes(uuid.into_bytes())
    }

    /// An id from its 16 bytes; other versions than 7 are refused.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<JobId, InvalidJobId> {
        let uuid = Uuid::from_bytes(bytes);
        let rfc_variant = bytes[8] & 0xc0 == 0x80;
        if uuid.get_version_num() == 7 && rfc_variant { Ok(JobId(bytes)) } else { Err(InvalidJobId) }
    }

    /// The 16 bytes, big-endian: their order is the order of ids.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 16 bits of partition hash of an id made by [`JobIds`]; arbitrary in an id made by a caller.
    pub fn partition_hash(&self) -> u16 {
        let low = u64::from_be_bytes(self.0[8..16].try_into().expect("eight bytes"));
        (low >> 36) as u16
    }
}

/// Makes ids in strictly increasing order. Time and chance are handed in, so it stays pure.
#[derive(Clone, Debug, Default)]
pub struct JobIds {
    last_ms: u64,
    counter: u32,
}

/// The counter has 22 bits; past that the clock is pushed ahead instead of wrapping.
const COUNTER_LIMIT: u32 = 1 << 22;

impl JobIds {
    /// The next id for a job of `queue`: at wall time `wall_ms`, with 64 random bits.
    pub fn next(&mut self, wall_ms: i64, queue: &Name, random: u64) -> JobId {
        let wall_ms = wall_ms.max(0) as u64 & 0xffff_ffff_ffff;
        if wall_ms > self.last_ms {
            self.last_ms = wall_ms;
            self.counter = 0;
        } else {
            // Same millisecond, or the wall clock was stepped back: order matters more than the time in the id.
            self.counter += 1;
            if self.counter == COUNTER_LIMIT {
                self.last_ms += 1;
                self.counter = 0;
            }
        }
        let high = self.last_ms << 16 | 0x7000 | u64::from(self.counter >> 10);
        let low = 0b10 << 62
            | u64::from(self.counter & 0x3ff) << 52
            | u64::from(partition_hash(queue.partition())) << 36
            | random & 0xf_ffff_ffff;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        JobId(bytes)
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits folded to 16. Part of the id format: it can never change.
pub fn partition_hash(partition: &str) -> u16 {
    let hash = partition
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;
    fn try_from(text: String) -> Result<JobId, InvalidJobId> {
        JobId::parse(&text)
    }
}
impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.to_string()
    }
}
impl std::str::FromStr for JobId {
    type Err = InvalidJobId;
    fn from_str(text: &str) -> Result<JobId, InvalidJobId> {
        JobId::parse(text)
    }
}
impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = Uuid::encode_buffer();
        f.write_str(Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut buffer))
    }
}
impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_a_millisecond_and_when_the_clock_steps_back() {
        let queues = ["mail", "report", "acme:mail"].map(|queue| Name::new(queue).unwrap());
        let mut ids = JobIds::default();
        let mut last = ids.next(1_000, &queues[0], u64::MAX);
        for i in 0..3_000_u64 {
            let queue = &queues[i as usize % 3];
            let next = ids.next(1_000 - (i % 3) as i64, queue, i.wrapping_mul(0x9e37_79b9));
            assert!(next > last, "{next} after {last}");
            assert_eq!(JobId::parse(&next.to_string()), Ok(next));
            last = next;
        }
    }

    #[test]
    fn an_id_carries_its_partition() {
        let queue = Name::new("acme:mail").unwrap();
        let id = JobIds::default().next(1_700_000_000_000, &queue, 0x0123_4567_89ab_cdef);
        assert_eq!(id.partition_hash(), partition_hash("acme"));
    }

    #[test]
    fn only_uuid_v7_is_a_job_id() {
        assert!(JobId::parse("00000000-0000-4000-8000-000000000000").is_err());
        assert!(JobId::parse("0192f7c65f2a70008000000000000000").is_err());
        assert!(JobId::parse("0192f7c6-5f2a-7000-8000-000000000000").is_ok());
    }
}
