//! tests/GUARANTEES.md names a test for each of its lines, and the tests are there.

use std::collections::BTreeSet;

use crate::support::harness::repository;

/// The named tests of a text, as name and file beside tests/GUARANTEES.md: links whose text is code.
fn named(text: &str) -> Vec<(&str, &str)> {
    let links = text.split("[`").skip(1).filter_map(|rest| rest.split_once(')'));
    links.filter_map(|(link, _)| link.split_once("`](")).collect()
}

/// The numbered lines and those with a dash, each with what it goes on with.
fn promises(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let begins =
            line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        is_open = begins || is_open && line.starts_with(' ');
        match all.last_mut() {
            Some(last) if is_open && !begins => last.push_str(line),
            _ if begins => all.push(line.to_owned()),
            _ => {}
        }
    }
    all
}

#[test]
fn every_guarantee_and_limit_names_a_test_that_exists() {
    let page = std::fs::read_to_string(repository().join("tests/GUARANTEES.md")).unwrap();
    let tests = named(&page);
    for (name, file) in &tests {
        let source = std::fs::read_to_string(repository().join("tests").join(file));
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
    }
    let faults = tests.iter().filter_map(|(name, _)| name.strip_prefix("fault_")?.get(..2)?.parse().ok());
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(' ')?.0.parse().ok());
    let rows: BTreeSet<u8> = rows.collect();
    assert_eq!(rows, (1..=67).collect());
    assert_eq!(faults.collect::<BTreeSet<u8>>(), rows);
    let promises = promises(&page);
    assert!(promises.len() >= 15, "{promises:#?}");
    for promise in promises {
        assert!(!named(&promise).is_empty() || promise.contains("*Fault"), "no test is named: {promise}");
    }
}
