//! Writes first inputs: a folder for each target, in the one that SEEDS names. It is linked as a target is, for what is
//! instrumented needs the fuzzer's runtime, but ends before anything is fuzzed.
#![no_main]

use std::{fs, path::Path};

use mainstay_core::{
    Timestamp,
    engine::change::{EventMeta, TopicId},
    event::Event,
    topic::TopicName,
};
use mainstay_fuzz::{END, killed::Killed, texts};

libfuzzer_sys::fuzz_target!(
    init: {
        let Some(folder) = std::env::var_os("SEEDS") else {
            eprintln!("seeds: SEEDS must name a folder");
            std::process::exit(2);
        };
        write(Path::new(&folder));
        std::process::exit(0);
    },
    |_input: &[u8]| {}
);

fn write(folder: &Path) {
    let put = |target: &str, inputs: Vec<Vec<u8>>| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (number, input) in inputs.into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), input).expect("written");
        }
    };
    let with = |first: u8, rest: &[u8]| [&[first], rest].concat();

    put("cron", texts::HARD_CRON.iter().map(|text| text.as_bytes().to_vec()).collect());
    let filters = ["a.b", "a.*", "a.>", "*.b.*", ">", "orders.paid", "a..b", ".a", "a.>.b"];
    put(
        "filter",
        filters.iter().map(|one| [one.as_bytes(), &[END], b"a.b", &[END], b"*.b"].concat()).collect(),
    );
    put("config", texts::HARD_CONFIG.iter().map(|text| text.as_bytes().to_vec()).collect());

    let killed = Killed::new();
    put("codec", killed.records().iter().map(|record| with(0, record)).collect());
    put("store", (0..8).map(|file| vec![file & 1, file / 2, 80, 1, 0, 1 << file]).collect());

    let sent = b": ping\n\nid: 7\ndata: {\"topic\":\"t\",\"seq\":7,\"event\":{}}\n\nevent: lagged\ndata: {\"skipped\":2,\"next\":9}\n\nevent: drain\ndata: {}\n\n";
    put("stream", vec![with(1, sent), with(200, sent)]);

    let bodies: [(u8, &str); 10] = [
        (
            0,
            r#"{"kind":"k","payload":{"a":1},"priority":3,"max_attempts":5,"backoff":{"base_ms":10,"factor":2}}"#,
        ),
        (1, r#"{"jobs":[{"kind":"k"},{"kind":"l","run_at":"2027-01-15T08:00:00Z"}]}"#),
        (2, r#"{"worker":"w","limit":10,"lease_ms":30000,"wait_ms":0}"#),
        (
            8,
            r#"{"ops":[{"op":"enqueue","queue":"q","job":{"kind":"k"}}],"require":[{"lock":"a","token":1}]}"#,
        ),
        (9, r#"{"owner":"w-1","ttl_ms":10000,"mode":"exclusive","wait_ms":0}"#),
        (14, r#"{"topics":["orders.>"],"start":"earliest","ack_wait_ms":1000}"#),
        (22, r#"{"cron":"0 9 * * *","timezone":"UTC","queue":"q","job":{"kind":"k"}}"#),
        (26, r#"[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}]"#),
        (27, "ce-id: 1\nce-type: t\nce-source: /s\ncontent-type: application/json\n\n{}"),
        (
            29,
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2027-01-15T08:00:00Z","data_base64":"AAE="}"#,
        ),
    ];
    put("wire", bodies.iter().map(|(kind, body)| with(*kind, body.as_bytes())).collect());
    // What is chosen, of everything something.
    put(
        "http_made",
        (0..32_u8)
            .map(|n| (0..160_u8).map(|m| n.wrapping_mul(37).wrapping_add(m.wrapping_mul(n))).collect())
            .collect(),
    );

    let mut blocks = mainstay_writer::block::Builder::default();
    put("block", block(&mut blocks).into_iter().collect());
}

/// A block as its target reads it.
fn block(builder: &mut mainstay_writer::block::Builder) -> Option<Vec<u8>> {
    let topic = TopicName::new("orders.paid").ok()?;
    let mut total = 0;
    for seq in 1..=3_u64 {
        let event = Event::new(&seq.to_string(), &topic, "{\"n\":1}");
        let size = event.size() as u32;
        total += u64::from(size);
        let meta = EventMeta {
            seq,
            topic: TopicId(1),
            size,
            ord: seq,
            total,
            at: Timestamp(1_800_000_000_000),
            key: 0,
        };
        builder.push(&meta, &event);
    }
    let row = builder.finish()?;
    let mut input = row.first.to_le_bytes().to_vec();
    input.extend(row.topic.to_le_bytes());
    input.extend((row.heads.len() as u16).to_le_bytes());
    input.extend(row.heads);
    input.extend(row.bodies);
    Some(input)
}
