//! The programs that the READMEs show are the ones that are compiled and run.

use std::path::Path;

/// The Rust blocks of a README.
fn shown(readme: &str) -> Vec<String> {
    let text = read(readme);
    let blocks = text.split("```rust\n").skip(1);
    blocks.map(|after| after.split_once("\n```").expect("the block ends").0.to_owned()).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program says, however it is laid out and commented.
fn said(code: &str) -> String {
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let dense: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    // What rustfmt adds when it breaks a list into lines.
    dense.replace(",}", "}").replace(",)", ")")
}

#[test]
fn the_project_readme_shows_what_the_example_does() {
    let (readme, example) = (said(&shown("../../README.md")[0]), said(&read("examples/shop.rs")));
    assert!(
        example.contains(&readme),
        "the service in README.md is not the one in crates/mainstay/examples/shop.rs:\n{readme}\n\n{example}"
    );
}

#[test]
fn the_crate_readme_is_its_example_word_for_word_and_short() {
    let (blocks, example) = (shown("README.md"), said(&read("examples/readme.rs")));
    for block in &blocks {
        let block = said(block);
        assert!(
            example.contains(&block),
            "README.md has what examples/readme.rs has not:\n{block}\n\n{example}"
        );
    }
    let all: usize = blocks.iter().map(|block| said(block).len()).sum();
    assert_eq!(all, example.len(), "examples/readme.rs has what README.md has not");

    let service = blocks[0].lines().filter(|line| !line.trim().is_empty()).count();
    assert!(service <= 40, "the service has {service} lines; a complete one must fit into 40");
}
