//! What is behind a checksum that fits and still may make no sense: records of the journal, and the parts of rows.
//! Nothing panics; what is read is written as it was understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_writer::{
    block,
    codec::{decode, encode, parts},
};

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 6 {
        0 => {
            let Ok((counters, changes)) = decode::group(bytes) else { return };
            let mut again = Vec::new();
            encode::counters(&mut again, &counters);
            changes.iter().for_each(|change| encode::change(&mut again, change));
            let read = decode::group(&again).expect("what was written is read");
            assert_eq!(read.0, counters);
            assert_eq!(format!("{:?}", read.1), format!("{changes:?}"));
        }
        1 => {
            let Ok(change) = decode::one(bytes) else { return };
            let mut again = Vec::new();
            encode::change(&mut again, &change);
            let read = decode::one(&again).expect("what was written is read");
            assert_eq!(format!("{read:?}"), format!("{change:?}"));
        }
        2 => {
            let Ok(body) = parts::body_of(bytes) else { return };
            assert_eq!(parts::body_of(&parts::body(&body)).as_ref(), Ok(&body));
        }
        3 => {
            let Ok(meta) = parts::meta_of(bytes) else { return };
            assert_eq!(parts::meta_of(&parts::meta(&meta)), Ok(meta));
        }
        4 => {
            let Ok(event) = parts::event_of(bytes) else { return };
            let read = parts::event_of(&parts::event(&event)).expect("what was written is read");
            assert_eq!(format!("{read:?}"), format!("{event:?}"));
        }
        _ => {
            let Ok(ids) = block::ids(7, bytes) else { return };
            let mut again = Vec::new();
            block::put_ids(&mut again, 7, &ids);
            let read = block::ids(7, &again).expect("what was written is read");
            assert_eq!(read.len(), ids.len());
        }
    }
});
