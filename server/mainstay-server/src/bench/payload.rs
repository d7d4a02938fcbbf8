//! Payloads that do not compress.

/// A generator that is quick and needs to be no better (splitmix64, public domain constants).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Appends a JSON string of `bytes` bytes, quotes included.
pub(super) fn write_json(random: &mut Random, bytes: usize, into: &mut String) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    into.push('"');
    let mut left = bytes.saturating_sub(2);
    while left > 0 {
        let mut bits = random.next();
        for _ in 0..left.min(10) {
            into.push(char::from(LETTERS[(bits & 63) as usize]));
            bits >>= 6;
        }
        left -= left.min(10);
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_exactly_the_size_and_never_the_same() {
        let mut random = Random::new(1);
        let [mut a, mut b] = [String::new(), String::new()];
        for text in [&mut a, &mut b] {
            write_json(&mut random, 256, text);
            assert_eq!(text.len(), 256);
            assert!(serde_json::from_str::<String>(text).is_ok());
        }
        assert_ne!(a, b);
    }
}
