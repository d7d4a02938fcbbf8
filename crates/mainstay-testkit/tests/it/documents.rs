//! What the guide to jobs says of its tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of all functions in the tests of the repository, and in the conformance suite.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let named = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            names.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_guide_to_jobs_names_is_there() {
    let mut known = BTreeSet::new();
    for folder in ["crates", "backends", "server"] {
        functions(&root().join(folder), &mut known);
    }
    let guide = fs::read_to_string(root().join("docs/jobs.md")).expect("the guide");
    let (_, tables) = guide.split_once("## What others got wrong").expect("its tables");
    let rows = tables.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    // Shorter words in backticks are files and groups of tests.
    let names =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|word| word.matches('_').count() > 2);
    let names: Vec<_> = names.collect();
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !known.contains(**name)).collect();
    assert!(missing.is_empty(), "the guide names tests that are not there: {missing:?}");
}
