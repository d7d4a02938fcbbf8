//! W3C Trace Context: the `traceparent`.

use crate::clock::quick_random as random;

/// A place in a distributed trace, as the W3C's `traceparent` carries it from service to service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Trace {
    /// The whole trace; never 0.
    pub trace_id: u128,
    /// This part of it; never 0.
    pub span_id: u64,
    /// The part that called this one; `None` if the trace begins here.
    pub parent_id: Option<u64>,
    /// Bit 0: the trace is recorded. Bit 1: the trace id is random. Others are not known, and not passed on.
    pub flags: u8,
}

/// The flags that are defined, by the W3C's level 2.
const KNOWN_FLAGS: u8 = 0b11;

impl Trace {
    /// A new trace, to be recorded.
    pub fn root() -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id: trace_id.max(1), span_id: new_span_id(), parent_id: None, flags: 1 }
    }

    /// A part of the same trace that this one calls.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: new_span_id(), parent_id: Some(self.span_id), ..*self }
    }

    /// Continues a caller's `traceparent`: the answer is its child. `None` if it is not valid.
    pub fn continuing(traceparent: &str) -> Option<Self> {
        Self::parse(traceparent).map(|caller| caller.child())
    }

    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`. A later version may have more after that, which is not read.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        // `from_str_radix` takes capitals and signs, the standard does not.
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        if !lengths || !known || ![version, trace, span, flags].into_iter().all(hex) {
            return None;
        }
        Some(Self {
            trace_id: u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?,
            span_id: u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?,
            parent_id: None,
            flags: u8::from_str_radix(flags, 16).ok()? & KNOWN_FLAGS,
        })
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// As a `traceparent`, in ASCII.
    pub(super) fn text(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(self.trace_id, &mut text[3..35]);
        hex(self.span_id.into(), &mut text[36..52]);
        hex((self.flags & KNOWN_FLAGS).into(), &mut text[53..]);
        text
    }

    /// The trace's id in hexadecimal, as log lines and tracing systems show it.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// As a `traceparent` for whoever is called next.
impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

fn new_span_id() -> u64 {
    random().max(1)
}

/// The lowest digits of a number, as many as there is room for.
pub(super) fn hex(mut number: u128, into: &mut [u8]) {
    for digits in into.rchunks_mut(8) {
        let eight = eight_digits(number as u32);
        digits.copy_from_slice(&eight[8 - digits.len()..]);
        number >>= 32;
    }
}

/// All digits at once, because a request has 96 of them: each half byte is moved into a byte of its own, and those
/// above nine are moved on to the letters.
fn eight_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut halves = u64::from(number);
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & (ONES * 0x0f);
    let letters = (halves + ONES * 6) >> 4 & ONES;
    (halves + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn digits_are_those_of_the_standard_library(number: u128, small: u8) {
            for number in [number, small.into(), 0, u128::MAX] {
                let mut all = [0; 32];
                hex(number, &mut all);
                proptest::prop_assert_eq!(std::str::from_utf8(&all), Ok(&*format!("{number:032x}")));
                let mut last = [0; 2];
                hex(number, &mut last);
                proptest::prop_assert_eq!(&last, &all[30..]);
            }
        }
    }
}
