//! The programs that the READMEs show are the ones that are compiled and run.

use std::path::Path;

/// The first Rust block of a README.
fn shown(readme: &str) -> String {
    let text = read(readme);
    let (_, after) = text.split_once("```rust\n").unwrap_or_else(|| panic!("{readme} shows no Rust"));
    after.split_once("\n```").expect("the block ends").0.to_owned()
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
    let (readme, example) = (said(&shown("../../README.md")), said(&read("examples/shop.rs")));
    assert!(
        example.contains(&readme),
        "the service in README.md is not the one in crates/mainstay/examples/shop.rs:\n{readme}\n\n{example}"
    );
}
