//! What a lock protects: a register that accepts a write only with a token at least as high as the last.

/// A register guarded by fencing tokens.
#[derive(Clone, Debug, Default)]
pub struct Register {
    highest: u64,
    accepted: u64,
    refused: u64,
}

impl Register {
    /// Writes with a token; `false`: a higher one was here before.
    pub fn write(&mut self, token: u64) -> bool {
        let fits = token >= self.highest;
        if fits {
            self.highest = token;
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        fits
    }

    /// How many writes were accepted, and how many were refused.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted, self.refused)
    }
}
