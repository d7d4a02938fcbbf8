//! What `docs/locks.md` says is tested, is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names in the last column of the page's tables of tests.
fn claimed() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/locks.md")).unwrap();
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in page.lines() {
        in_table = line.ends_with("| test |") || (in_table && line.starts_with('|'));
        if let Some(cell) = line.trim_end_matches('|').rsplit('|').next().filter(|_| in_table) {
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_row_of_the_page_on_locks_has_its_tests() {
    let names = claimed();
    assert!(names.len() > 25, "{names:?}");
    let mut all = String::new();
    for folder in ["crates", "server/mainstay-server/tests", "backends"] {
        sources(&root().join(folder), &mut all);
    }
    let missing: Vec<_> = names.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/locks.md names tests that do not exist: {missing:#?}");
}
