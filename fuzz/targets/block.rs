//! Blocks of events, with checksums that fit whatever they say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_core::engine::change::TopicId;
use mainstay_writer::block::Block;

/// Of the checksum of the bodies, from the end of the heads; then that of the heads.
const CHECKSUMS: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_at_checked(14) else { return };
    let first = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
    let topic = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
    let at = usize::from(u16::from_le_bytes([head[12], head[13]])).min(rest.len());
    let (heads, bodies) = rest.split_at(at);
    let raw = Block::of_heads(first, TopicId(topic), heads);
    drop(raw.and_then(|block| block.with_bodies(bodies)));

    let mut heads = heads[..heads.len().saturating_sub(CHECKSUMS)].to_vec();
    heads.extend(crc32fast::hash(bodies).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&first.to_le_bytes());
    crc.update(&topic.to_le_bytes());
    crc.update(&heads);
    heads.extend(crc.finalize().to_le_bytes());
    let Ok(block) = Block::of_heads(first, TopicId(topic), &heads) else { return };
    for meta in &block.metas {
        let _ = block.find(meta.seq);
    }
    let Ok(block) = block.with_bodies(bodies) else { return };
    let mut before = None;
    for at in 0..=block.metas.len() {
        if let Ok(event) = block.event(at, before.as_deref()) {
            before = Some(event);
        }
    }
});
