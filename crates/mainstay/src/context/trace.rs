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
    // Sixteen at a time, because a shift of 128 bits is several.
    for digits in into.rchunks_mut(16) {
        let mut half = number as u64;
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(half & 15) as usize];
            half >>= 4;
        }
        number >>= 64;
    }
}
