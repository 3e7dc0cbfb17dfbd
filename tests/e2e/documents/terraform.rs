//! Terraform can set every key of the configuration.

use std::collections::BTreeSet;

use predictd::config::keys::KEYS;

use crate::support::harness::repository;

/// Keys of an HCL map: quoted between `begin` and `end`, and followed by an equal sign.
fn keys_of(text: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let (_, after) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
    let (map, _) = after.split_once(end).unwrap_or_else(|| panic!("{begin:?} has no end"));
    let pieces: Vec<&str> = map.split('"').collect();
    let is_key =
        |pair: &&[&str]| pair[1].trim_start().starts_with('=') && !pair[1].trim_start().starts_with("==");
    pieces[1..].windows(2).step_by(2).filter(is_key).map(|pair| pair[0].to_owned()).collect()
}

#[test]
fn terraform_sets_every_key() {
    let read = |file: &str| std::fs::read_to_string(repository().join("terraform/modules/worker").join(file));
    let own = keys_of(&read("main.tf").unwrap(), "settings = merge(", "var.settings,");
    let others = keys_of(&read("variables.tf").unwrap(), "setting_forms = {", "\n  }\n");
    let all: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    let set: BTreeSet<String> = own.union(&others).cloned().collect();
    assert_eq!(set, all, "a variable of the worker module or its setting_forms must name each key");
    // Given by a variable and by `settings`, the latter would win: only what no grant and no probe rests on
    // may be both.
    let both: Vec<_> = own.intersection(&others).collect();
    assert_eq!(both, ["inference.providers", "shutdown.grace"]);
}

#[test]
fn the_example_for_kubernetes_names_every_key_that_needs_a_grant() {
    let example = std::fs::read_to_string(repository().join("config/kubernetes/base/predictd.yaml")).unwrap();
    for key in ["subscription:", "topic:", "source:", "updates:", "allowed_buckets:", "bucket:"] {
        assert!(example.contains(key), "{key}");
    }
}
