//! Every form of input and of results, on this machine.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use super::{Local, assert_wine, files, json_lines, named, texts, wine_columns, wine_lines, wine_row};
use crate::support::harness::{model_file, repository};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lines_of_json_give_vertex_ais_files() {
    let job = Local::new();
    let input = job.write("wines.jsonl", wine_lines(300));
    let printed = job.ends(0, "wine/2", &input, &[]);
    let line = "300 rows, 300 predicted, 0 failed";
    assert!(printed.contains(line), "{printed}");
    let names: Vec<String> = files(&job.out()).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "_SUCCESS",
        "job.json",
        "prediction.errors_stats-00000-of-00001",
        "prediction.results-00000-of-00001",
        "summary.json",
    ];
    assert_eq!(names, expected);
    let results = job.results();
    assert_eq!(results.len(), 300);
    for (number, line) in results.iter().enumerate() {
        assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["instance", "prediction"]);
        assert_eq!(line["instance"], *wine_row(number));
        assert_wine("2", number, &line["prediction"]);
    }
    let stats = texts(&job.out(), "prediction.errors_stats-");
    assert_eq!(json_lines(&stats), [json!({"stats": {"successful": 300, "failed": 0}})]);
    let summary = job.summary();
    assert_eq!(summary["model_version"], "2");
    assert_eq!((&summary["rows"], &summary["shards"]), (&json!(300), &json!(1)));
    assert_eq!(summary["inputs"][0]["address"], *input);
}

#[test]
fn a_table_gives_a_table_with_its_columns_in_any_order() {
    let job = Local::new();
    let columns = wine_columns();
    // The columns from the last to the first, an own one in the middle with all that a cell may have.
    let mut table: Vec<&str> = columns.iter().rev().map(String::as_str).collect();
    table.insert(5, "note");
    let mut text = format!("\u{feff}{}\r\n", table.join(","));
    for number in 0..50 {
        let mut cells: Vec<String> =
            wine_row(number).as_array().unwrap().iter().rev().map(Value::to_string).collect();
        cells.insert(5, format!("\"bottle {number},\nsays \"\"good\"\"\""));
        text += &format!("{}\r\n", cells.join(","));
    }
    let input = job.write("wines.csv", &text);
    let more = ["--key-field", "note", "--output-format", "csv"];
    job.ends(0, "wine/2", &input, &more);
    let table = texts(&job.out(), "prediction.results-00000-of-00001.csv");
    let rows: Vec<&str> = table.split_terminator("]\"\n").collect();
    assert_eq!(rows.len(), 50);
    assert!(rows[0].starts_with("note,label,probabilities\n"), "{}", rows[0]);
    for (number, row) in rows.iter().enumerate() {
        let row = row.trim_start_matches("note,label,probabilities\n");
        let rest = row.strip_prefix(&*format!("\"bottle {number},\nsays \"\"good\"\"\",")).unwrap();
        let (label, probabilities) = rest.split_once(",\"[").unwrap();
        let probabilities: Value = serde_json::from_str(&format!("[{probabilities}]")).unwrap();
        let label: Value = serde_json::from_str(label).unwrap();
        assert_wine("2", number, &json!({"label": label, "probabilities": probabilities}));
    }
}

#[test]
fn a_table_gives_lines_with_its_cells_as_they_are_written() {
    let job = Local::new();
    let mut table = wine_columns().join(",") + ",id\n";
    for number in 0..20 {
        let cells: Vec<String> = wine_row(number).as_array().unwrap().iter().map(Value::to_string).collect();
        table += &format!("{},\"00{number}\"\n", cells.join(","));
    }
    let input = job.write("wines.csv", &table);
    job.ends(0, "wine/2", &input, &["--exclude", "id"]);
    for (number, line) in job.results().iter().enumerate() {
        let mut expected = named(number);
        expected.insert("id".to_owned(), json!(format!("00{number}")));
        assert_eq!(line["instance"], Value::Object(expected));
        assert_wine("2", number, &line["prediction"]);
    }
}

#[test]
fn fields_are_chosen_left_out_added_and_name_the_row() {
    let lines = |change: &dyn Fn(usize, &mut serde_json::Map<String, Value>)| -> String {
        let row = |number| {
            let mut row = named(number);
            change(number, &mut row);
            format!("{}\n", Value::Object(row))
        };
        (0..20).map(row).collect()
    };
    let columns = wine_columns();
    // The last column is the same for all: it comes from the command.
    let (last, chosen) = columns.split_last().unwrap();
    let same: Value = named(7)[last].clone();
    let parameters = json!({last: same, "hue": 1e9}).to_string();
    let included = chosen.join(",");
    for more in [
        vec!["--parameters", &*parameters, "--key-field", "id", "--exclude", "note"],
        vec!["--parameters", &*parameters, "--key-field", "id", "--include", &*included],
    ] {
        let job = Local::new();
        let input = job.write(
            "wines.jsonl",
            lines(&|number, row| {
                row.remove(last);
                row.insert("note".to_owned(), json!("corked"));
                row.insert("id".to_owned(), json!({"bottle": number}));
            }),
        );
        job.ends(0, "wine/2", &input, &more);
        let results = job.results();
        // The same rows whole.
        let whole = Local::new();
        let input = whole.write("wines.jsonl", lines(&|_, row| drop(row.insert(last.clone(), same.clone()))));
        whole.ends(0, "wine/2", &input, &[]);
        assert_eq!(results.len(), 20);
        for (number, (line, expected)) in results.iter().zip(whole.results()).enumerate() {
            assert_eq!(line["key"], json!({"bottle": number}), "{more:?}");
            assert_eq!(line.get("instance"), None);
            assert_eq!(line["prediction"], expected["prediction"], "{more:?}");
        }
    }
}

#[test]
fn several_files_and_compressed_ones_are_read_in_the_order_of_their_names() {
    let job = Local::new();
    let lines = wine_lines(90);
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    // Several members behind each other are one file, too.
    let members = [gzip(&lines[30..40].concat()), gzip(&lines[40..60].concat())].concat();
    job.write("in/b.jsonl.gz", members);
    job.write("in/c.jsonl", lines[60..].concat().trim_end());
    job.write("in/a.jsonl", lines[..30].concat());
    job.write("in/.hidden", "no JSON");
    for input in ["in", "in/*"] {
        let job = Local { folder: tempfile::tempdir_in(job.folder.path()).unwrap() };
        let input = format!("{}/../{input}", job.path(""));
        let input = input.replace("/*", "/*.jsonl*");
        job.ends(0, "wine/2", &input, &[]);
        let results = job.results();
        assert_eq!(results.len(), 90, "{input}");
        for (number, line) in results.iter().enumerate() {
            assert_eq!(line["instance"], *wine_row(number), "{input}");
        }
        assert_eq!(job.summary()["shards"], 3);
    }
}

#[test]
fn images_of_a_folder_of_a_list_and_of_a_pattern_get_the_same_predictions() {
    let job = Local::new();
    let model = repository().join("tests/models/zoo/torch-conv/model.onnx");
    fs::create_dir(job.folder.path().join("model")).unwrap();
    fs::copy(model, job.folder.path().join("model/model.onnx")).unwrap();
    job.write("model/model.yaml", "image: {resize: {width: 32, height: 32}}");
    let names = ["gray.jpg", "lossy.webp", "photo-420.jpg", "photo-444.jpg", "rgb.png"];
    for name in names {
        job.write(&format!("images/{name}"), model_file("images", name));
    }
    let list: String =
        names.iter().map(|name| format!("{}\n", job.path(&format!("images/{name}")))).collect();
    job.write("list.txt", list.replace('\n', "\r\n"));
    let model = job.path("model");
    let mut all = Vec::new();
    for input in ["images", "images/*.*", "list.txt"] {
        let input = job.path(input);
        let own = Local { folder: tempfile::tempdir_in(job.folder.path()).unwrap() };
        own.ends(0, &model, &input, &[]);
        all.push(own.results());
    }
    assert_eq!(all[0].len(), names.len());
    for (line, name) in all[0].iter().zip(names) {
        assert_eq!(line["instance"], *job.path(&format!("images/{name}")));
        assert_eq!(line["prediction"].as_array().unwrap().len(), 10);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn a_job_without_rows_ends_well_and_says_so() {
    for (name, content) in
        [("a.jsonl", ""), ("a.jsonl", "\n \r\n"), ("a.csv", ""), ("a.csv", "a,b\n"), ("a.txt", "")]
    {
        let job = Local::new();
        let input = job.write(name, content);
        let printed = job.ends(0, "wine/2", &input, &[]);
        assert!(printed.contains("0 rows") && printed.contains("the input has no rows"), "{printed}");
        assert_eq!((job.results(), job.errors()), (vec![], vec![]));
        assert!(job.out().join("_SUCCESS").exists());
    }
}
