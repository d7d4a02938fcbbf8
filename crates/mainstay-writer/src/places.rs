//! How far the journal has come, how far the tables are, and how much of the journal that makes necessary.
//!
//! A batch counts for what it holds, and may hold next to nothing of a long journal: what came and went. So the
//! journal has a bound of its own. A third of it without a write of the tables makes one due; if two thirds are not
//! durable in the tables when one begins, that one is synced by itself, whatever checkpoints do. So a journal that is
//! full always has something to write, and that makes room.

/// The journal may be so many times longer than what the tables lack may be large.
const TIMES: u64 = 3;

/// A place in the journal: behind a group, and behind so many bytes since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub lsn: u64,
    bytes: u64,
}

impl Place {
    fn bytes_since(self, earlier: Place) -> u64 {
        self.bytes - earlier.bytes
    }
}

/// Each is at or behind the one before it.
pub struct Places {
    handed: Place,
    /// What a batch was last begun to be written with.
    taken: Place,
    applied: Place,
    /// What is durable in the tables: the journal is needed from here on.
    floor: Place,
    most: u64,
}

impl Places {
    /// The journal of a store whose tables may lack `behind` bytes, in segments of `segment`: less than two would be
    /// no bound of a file.
    pub fn bound(behind: usize, segment: u64) -> u64 {
        (behind as u64).saturating_mul(TIMES).max(segment.saturating_mul(2)).max(2)
    }

    pub fn new(lsn: u64, most: u64) -> Places {
        let here = Place { lsn, bytes: 0 };
        Places { handed: here, taken: here, applied: here, floor: here, most }
    }

    pub fn hand_over(&mut self, lsn: u64, bytes: u64) {
        self.handed = Place { lsn, bytes: self.handed.bytes + bytes };
    }

    /// All there is goes into the tables.
    pub fn take(&mut self) {
        self.taken = self.handed;
    }

    /// What was taken is in the tables; answers the bytes of it.
    pub fn applied(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.applied, self.taken);
        self.applied.bytes_since(before)
    }

    pub fn in_tables(&self) -> Place {
        self.applied
    }

    /// All before it is durable in the tables.
    pub fn set_floor(&mut self, place: Place) {
        if place.bytes > self.floor.bytes || place.lsn > self.floor.lsn {
            self.floor = place;
        }
    }

    /// Bytes that the tables lack.
    pub fn behind(&self) -> u64 {
        self.handed.bytes_since(self.applied)
    }

    /// The writer has to wait.
    pub fn are_full(&self) -> bool {
        self.handed.bytes_since(self.floor) >= self.most
    }

    /// It will have to, soon.
    pub fn are_nearly_full(&self) -> bool {
        self.handed.bytes_since(self.floor) >= self.most / 4 * 3
    }

    /// A batch is to be written, for the journal's sake.
    pub fn are_due(&self) -> bool {
        self.handed.bytes_since(self.taken) >= self.most / 3
    }

    /// The batch that was taken is to be synced by itself.
    pub fn want_sync(&self) -> bool {
        self.taken.bytes_since(self.floor) >= self.most - self.most / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_has_something_to_write_and_that_makes_room() {
        // Groups of any length, and checkpoints that come never, always, or now and then.
        for (record, checkpoint_every) in [(1, 0), (30, 0), (49, 3), (51, 1), (99, 2), (500, 0), (7, 5)] {
            let mut places = Places::new(3, 99);
            for lsn in 4..400 {
                if places.are_full() {
                    assert!(places.are_due(), "{record} {lsn}: nothing to write");
                }
                if places.are_due() {
                    places.take();
                    let sync = places.want_sync();
                    assert!(places.applied() >= 33);
                    if sync {
                        places.set_floor(places.in_tables());
                    }
                    assert!(!places.are_full() && !places.are_due(), "{record} {lsn}");
                }
                if checkpoint_every > 0 && lsn % checkpoint_every == 0 {
                    places.set_floor(places.in_tables());
                }
                places.hand_over(lsn, record);
                assert!(places.behind() < 33 + record);
                assert!(places.handed.bytes_since(places.floor) < 99 + record);
            }
        }
    }

    #[test]
    fn a_checkpoint_that_began_earlier_takes_nothing_back() {
        let mut places = Places::new(0, 100);
        let began = places.in_tables();
        places.hand_over(1, 60);
        places.take();
        places.applied();
        places.set_floor(places.in_tables());
        places.set_floor(began);
        assert_eq!(places.floor, Place { lsn: 1, bytes: 60 });
    }

    #[test]
    fn a_bound_is_never_less_than_two_segments() {
        assert_eq!((Places::bound(1, 16), Places::bound(100, 16), Places::bound(0, 0)), (32, 300, 2));
    }
}
