//! What is done to a body that would have been right.

use serde_json::{Map, Value, json};

use super::world::Chance;

/// Changes one thing somewhere in it.
pub fn spoil(value: &mut Value, chance: &mut Chance) {
    match value {
        // Mostly further down: there is more there.
        Value::Object(members) if !members.is_empty() && !chance.once_in(4) => {
            let at = chance.below(members.len());
            if let Some((_, inner)) = members.iter_mut().nth(at) {
                spoil(inner, chance);
            }
        }
        Value::Array(items) if !items.is_empty() && !chance.once_in(4) => {
            let at = chance.below(items.len());
            spoil(&mut items[at], chance);
        }
        Value::Object(members) => spoil_object(members, chance),
        other => *other = odd(chance),
    }
}

fn spoil_object(members: &mut Map<String, Value>, chance: &mut Chance) {
    let names: Vec<String> = members.keys().cloned().collect();
    let name = chance.one_of(&names).cloned().unwrap_or_default();
    match chance.below(3) {
        0 => drop(members.remove(&name)),
        1 => drop(members.insert(odd_text(chance), odd(chance))),
        _ => drop(members.insert(name, odd(chance))),
    }
}

/// A value that hardly anything expects.
pub fn odd(chance: &mut Chance) -> Value {
    match chance.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(9_007_199_254_740_993_u64),
        7 => json!(0.5),
        8 => json!([]),
        9 => json!({}),
        10 => json!([[[[[[[[[[1]]]]]]]]]]),
        11 => json!({ "a": { "b": [odd_text(chance)] } }),
        _ => json!(odd_text(chance)),
    }
}

/// Text that hardly anything expects.
pub fn odd_text(chance: &mut Chance) -> String {
    let all = [
        "",
        " ",
        "a b",
        "-",
        ".",
        "..",
        "a..b",
        "*",
        ">",
        "a.>.b",
        "\u{0}",
        "\u{202e}",
        "é",
        "😀",
        "0",
        "-0",
        "1e400",
        "null",
        "__proto__",
        "9999-12-31T23:59:59.999999999Z",
        "0000-01-01T00:00:00Z",
        "2027-02-30T00:00:00Z",
        "00000000-0000-7000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "0 0 30 2 *",
        "99 * * * *",
        "Europe/Nowhere",
        "' OR 1=1 --",
        "%00",
        "\r\nx-header: 1",
    ];
    match chance.below(6) {
        0 => "x".repeat([64, 65, 255, 256, 257, 4_097][chance.below(6)]),
        _ => chance.one_of(&all).copied().unwrap_or_default().to_owned(),
    }
}

/// Changes bytes, whatever they mean.
pub fn spoil_bytes(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(3) {
        if bytes.is_empty() {
            return bytes.push(chance.next() as u8);
        }
        let at = chance.below(bytes.len());
        match chance.below(5) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"{}[]\",:\\\0\xff"[chance.below(10)]),
            3 => bytes.truncate(at),
            _ => {
                // Twice the same: keys that stand there two times, values without a comma.
                let until = (at + 1 + chance.below(40)).min(bytes.len());
                let piece = bytes[at..until].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}
