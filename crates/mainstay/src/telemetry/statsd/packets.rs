//! Lines into as few packets as they fit in.

pub(super) struct Packets {
    limit: usize,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// Lines that fit into none.
    too_long: u64,
}

impl Packets {
    pub fn new(limit: usize) -> Self {
        Self { limit, full: Vec::new(), open: Vec::new(), too_long: 0 }
    }

    /// `line` is without its end.
    pub fn add(&mut self, line: &str) {
        if line.len() > self.limit {
            self.too_long += 1;
            return;
        }
        if self.open.len() + 1 + line.len() > self.limit && !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
        if !self.open.is_empty() {
            self.open.push(b'\n');
        }
        self.open.extend_from_slice(line.as_bytes());
    }

    /// The packets, and how many lines fitted into none.
    pub fn finish(mut self) -> (Vec<Vec<u8>>, u64) {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        (self.full, self.too_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_share_packets_and_none_is_cut() {
        let mut packets = Packets::new(10);
        for line in ["aaaa", "bbbbb", "c", "0123456789", "01234567890", "d"] {
            packets.add(line);
        }
        let (packets, too_long) = packets.finish();
        let texts: Vec<_> = packets.iter().map(|packet| std::str::from_utf8(packet).unwrap()).collect();
        assert_eq!(texts, ["aaaa\nbbbbb", "c", "0123456789", "d"]);
        assert_eq!(too_long, 1);
    }
}
