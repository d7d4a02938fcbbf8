//! A record of the journal: a header, the counters and changes of one group, and zeros up to the next place where a
//! record may begin.
//!
//! ```text
//! 0  "mnst"   4  version (1 byte)   5  whole pages of 4,096 bytes that its segment has (3 bytes)   8  bytes behind the
//! header   12  CRC-32 of everything else, without the padding
//! 16 epoch   24  number   32  everything up to this number was known to be on the disk when this was written
//! ```

/// The form of records this build writes, and the only one it reads.
pub(crate) const VERSION: u8 = 1;
/// Records begin at multiples of this, so that one that follows damage can be found.
pub(crate) const ALIGN: usize = 64;
pub(crate) const HEADER: usize = 40;
const MAGIC: [u8; 4] = *b"mnst";
const PAGE: u64 = 4_096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    crc: u32,
    /// Drawn anew each time the store is opened; records of another are left over from an earlier time.
    pub(crate) epoch: u64,
    /// Grows by one from group to group, over all epochs.
    pub(crate) lsn: u64,
    /// An unreadable record up to here is damage; one above may simply not have been written in time.
    pub(crate) synced: u64,
    /// Its segment had at least so many bytes when this was written. 0 in journals of before this was noted.
    pub(crate) of_bytes: u64,
}

/// Leaves room for a header.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER, 0);
}

/// Fills the header in and pads. The record goes into a segment of `of_bytes`.
pub(crate) fn end(out: &mut Vec<u8>, epoch: u64, lsn: u64, synced: u64, of_bytes: u64) {
    let length = (out.len() - HEADER) as u32;
    out[..4].copy_from_slice(&MAGIC);
    let pages = (of_bytes / PAGE).min(0xff_ffff) as u32;
    out[4..8].copy_from_slice(&(u32::from(VERSION) | pages << 8).to_le_bytes());
    out[8..12].copy_from_slice(&length.to_le_bytes());
    out[16..24].copy_from_slice(&epoch.to_le_bytes());
    out[24..32].copy_from_slice(&lsn.to_le_bytes());
    out[32..40].copy_from_slice(&synced.to_le_bytes());
    let crc = checksum(out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out.resize(padded(out.len()), 0);
}

/// Where the next record begins.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// The header at the beginning of `bytes`; `None`: there is none of this version.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.get(..HEADER)?;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (bytes[..4] == MAGIC && bytes[4] == VERSION).then(|| Header {
        of_bytes: u64::from(u32_at(4) >> 8) * PAGE,
        length: u32_at(8) as usize,
        crc: u32_at(12),
        epoch: u64_at(16),
        lsn: u64_at(24),
        synced: u64_at(32),
    })
}

/// The content of the record at the beginning of `bytes`, if it is whole.
pub(crate) fn content<'b>(bytes: &'b [u8], header: &Header) -> Option<&'b [u8]> {
    let record = bytes.get(..HEADER + header.length)?;
    (checksum(record) == header.crc).then(|| &record[HEADER..])
}

/// Of a record but its checksum.
fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..12]);
    crc.update(&record[16..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        begin(&mut out);
        out.extend(content);
        end(&mut out, 7, 8, 6, 1 << 20);
        out
    }

    #[test]
    fn a_record_comes_back_and_a_flipped_bit_anywhere_is_noticed() {
        let whole = record(b"some changes");
        assert_eq!(whole.len() % ALIGN, 0);
        let read = header(&whole).unwrap();
        assert_eq!((read.epoch, read.lsn, read.synced, read.of_bytes), (7, 8, 6, 1 << 20));
        assert_eq!(content(&whole, &read).unwrap(), b"some changes");
        for bit in 0..(HEADER + read.length) * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = header(&damaged).and_then(|header| content(&damaged, &header).map(<[u8]>::to_vec));
            assert_eq!(found, None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_was_cut_short_is_none() {
        let whole = record(&[1; 500]);
        for length in 0..HEADER + 500 {
            let cut = &whole[..length];
            assert_eq!(header(cut).and_then(|header| content(cut, &header)), None, "{length}");
        }
    }
}
