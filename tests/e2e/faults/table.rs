//! The table that a person reads: a row each test, printed by scripts/faults.

use crate::support::harness::repository;

/// Notes what happened in the test that runs, by the number of its fault.
pub(crate) fn row(number: u8, injected: &str, promise: &str, happened: &str) {
    let folder = repository().join("target/faults");
    std::fs::create_dir_all(&folder).unwrap();
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap().to_owned();
    let row = format!("| {number} | {injected} | {promise} | {happened} |\n");
    std::fs::write(folder.join(format!("{number:02}-{test}.md")), row).unwrap();
}
