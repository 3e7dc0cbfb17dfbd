//! Dashboards and alerts name metrics, labels and log lines that exist. Both sides are read as they are: the
//! worker's own `/metrics` text, the sources' log lines, the dashboard's JSON and Terraform's files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use predictd::ops::metrics::Metrics;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` with that extension, as one text.
fn read_all(folder: &Path, extension: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &read_all(&path, extension);
        } else if path.extension().is_some_and(|found| found == extension) {
            text += &read(&path);
        }
    }
    text
}

/// The names of the series and of the labels that a worker with one model has.
fn exposed() -> (BTreeSet<String>, BTreeSet<String>) {
    let metrics = Metrics::new();
    let of_version = metrics.for_version("wine", "1");
    of_version.answered(Ok(()), std::time::Duration::from_millis(100), None);
    metrics.reloaded("wine", "serving");
    metrics.http_responded(200);
    metrics.file_rows("wine").add(1, 0);
    metrics.file_shard("computed");
    metrics.file_job("finished");
    let (mut series, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in metrics.render().lines().filter(|line| !line.starts_with('#')) {
        let name = words(line).next().expect("a line begins with its series").to_owned();
        if let Some((inside, _)) = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
            labels.extend(
                inside.split(',').filter_map(|pair| pair.split_once('=')).map(|(label, _)| label.to_owned()),
            );
        }
        series.insert(name);
    }
    (series, labels)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The series that a PromQL text names.
fn series_in(text: &str) -> BTreeSet<String> {
    words(text).filter(|word| word.starts_with("predictd_")).map(str::to_owned).collect()
}

/// The labels that a PromQL text groups by or selects on.
fn labels_in(query: &str) -> BTreeSet<String> {
    let grouped =
        query.split("by (").skip(1).filter_map(|rest| rest.split_once(')')).flat_map(|(list, _)| words(list));
    let selected = query
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .flat_map(|(list, _)| list.split(',').filter_map(|pair| words(pair).next()));
    grouped.chain(selected).map(str::to_owned).collect()
}

/// Every string under one of `keys`, wherever it stands.
fn strings<'a>(value: &'a serde_json::Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                match value {
                    serde_json::Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    _ => strings(value, keys, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, keys, found)),
        _ => {}
    }
}

#[test]
fn every_panel_of_the_grafana_dashboard_has_data() {
    let (series, mut labels) = exposed();
    // Prometheus adds who was scraped.
    labels.insert("instance".to_owned());
    let dashboard: serde_json::Value =
        serde_json::from_str(&read(&root().join("config/grafana/predictd.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        let mut queries = Vec::new();
        strings(panel, &["expr"], &mut queries);
        assert!(!queries.is_empty(), "{} asks for nothing", panel["title"]);
        for query in queries {
            let unknown: Vec<_> = series_in(query).difference(&series).cloned().collect();
            assert!(unknown.is_empty(), "{}: no such series: {unknown:?}", panel["title"]);
            assert!(!series_in(query).is_empty(), "{}: {query}", panel["title"]);
            let unknown: Vec<_> = labels_in(query).difference(&labels).cloned().collect();
            assert!(unknown.is_empty(), "{}: no such label: {unknown:?}", panel["title"]);
        }
    }
    let mut variables = Vec::new();
    strings(&dashboard["templating"], &["query"], &mut variables);
    let unknown: Vec<_> = series_in(&variables.join(" ")).difference(&series).cloned().collect();
    assert!(unknown.is_empty(), "variables: no such series: {unknown:?}");
}

#[test]
fn the_grafana_dashboard_shows_every_metric() {
    let (series, _) = exposed();
    let shown = series_in(&read(&root().join("config/grafana/predictd.json")));
    let unseen: Vec<_> = series
        .iter()
        // One series of a histogram is enough.
        .filter(|name| {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            !shown.iter().any(|seen| seen == *name || family.is_some_and(|family| seen.starts_with(family)))
        })
        .collect();
    assert!(unseen.is_empty(), "on no panel: {unseen:?}");
}

/// docs/operating.md has each metric, a histogram by its own name.
#[test]
fn the_page_of_metrics_has_every_metric() {
    let (series, _) = exposed();
    let metric = |name: &String| {
        let kinds = ["_bucket", "_sum", "_count"];
        kinds.iter().find_map(|kind| name.strip_suffix(kind)).unwrap_or(name).to_owned()
    };
    assert_eq!(series_in(&read(&root().join("docs/operating.md"))), series.iter().map(metric).collect());
}

#[test]
fn terraforms_alerts_and_charts_name_series_that_exist() {
    let (series, _) = exposed();
    let named = series_in(&read_all(&root().join("terraform/modules/observability"), "tf"));
    assert!(named.contains("predictd_requests_total"), "{named:?}");
    let unknown: Vec<_> = named.difference(&series).collect();
    assert!(unknown.is_empty(), "no such series: {unknown:?}");
}

/// The log lines that the pages name are written: phrases in backticks that are no commands.
#[test]
fn the_log_lines_that_a_person_looks_for_are_written() {
    let sources = read_all(&root().join("src"), "rs");
    let pages = ["terraform/modules/observability/ALERTS.md", "docs/troubleshooting.md"];
    let pages = pages.map(|page| read(&root().join(page))).join("\n");
    let quoted: Vec<&str> = pages.split('`').skip(1).step_by(2).collect();
    let commands = ["curl ", "gcloud ", "predictd ", "terraform "];
    let phrases = quoted
        .into_iter()
        .filter(|phrase| phrase.contains(' ') && !commands.iter().any(|command| phrase.starts_with(command)));
    let missing: Vec<&str> = phrases.filter(|phrase| !sources.contains(*phrase)).collect();
    assert!(missing.is_empty(), "no log line says {missing:?}");
}

#[test]
fn the_log_lines_that_alerts_wait_for_are_written() {
    let sources = read_all(&root().join("src"), "rs");
    let module = read(&root().join("terraform/modules/observability/main.tf"));
    let messages: Vec<&str> = module
        .lines()
        .filter_map(|line| line.trim().strip_prefix("messages = [")?.strip_suffix(']'))
        .flat_map(|list| list.split('"').skip(1).step_by(2))
        .collect();
    assert!(messages.len() >= 3, "{messages:?}");
    for message in messages {
        assert!(sources.contains(&format!("\"{message}\"")), "no log line says {message:?}");
    }
}
