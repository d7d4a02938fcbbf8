//! Time stamps, made quickly: a second's text is the same for all lines in it.

use std::cell::RefCell;
use std::time::Duration;

use crate::time::rfc3339;

thread_local! {
    static LAST: RefCell<(u64, [u8; 24])> = const { RefCell::new((u64::MAX, [0; 24])) };
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn push(out: &mut String, at: Duration) {
    let made = LAST.try_with(|last| {
        let Ok(mut last) = last.try_borrow_mut() else { return false };
        let (second, text) = &mut *last;
        if *second != at.as_secs() {
            let whole = rfc3339(at);
            let Ok(bytes) = <[u8; 24]>::try_from(whole.as_bytes()) else { return false };
            (*second, *text) = (at.as_secs(), bytes);
        }
        let ms = at.subsec_millis();
        for (place, digit) in text[20..23].iter_mut().zip([ms / 100, ms / 10 % 10, ms % 10]) {
            *place = b'0' + digit as u8;
        }
        std::str::from_utf8(text).map(|text| out.push_str(text)).is_ok()
    });
    if !made.unwrap_or(false) {
        out.push_str(&rfc3339(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::millis;

    #[test]
    fn they_are_the_same_as_made_slowly() {
        for ms in [0, 1, 999, 1000, 1007, 999, 1_795_392_000_120, 253_402_300_800_000] {
            let mut out = String::new();
            push(&mut out, millis(ms));
            assert_eq!(out, rfc3339(millis(ms)));
        }
    }
}
