//! A bad row fails alone, by its name; its neighbours get their results.

use std::fs;

use serde_json::{Value, json};

use super::{Local, assert_wine, wine_columns, wine_lines, wine_row};
use crate::support::harness::model_file;

/// A line of input, and the code and a part of the message of its error; none: it is the wine of its number.
type Line = (Vec<u8>, Option<(&'static str, &'static str)>);

/// Good rows with each of these behind one of them.
fn between(good: impl Fn(usize) -> Vec<u8>, bad: Vec<Line>) -> Vec<Line> {
    let mut lines = vec![(good(0), None)];
    for bad in bad {
        lines.push(bad);
        lines.push((good(lines.len()), None));
    }
    lines
}

/// The results are the good lines', in order, and the errors name the others, in order.
fn assert_each_fails_alone(job: &Local, input: &str, first_line: usize, lines: &[Line]) {
    let (mut results, mut errors) = (job.results().into_iter(), job.errors().into_iter());
    let mut at = first_line;
    for (number, (line, fails)) in lines.iter().enumerate() {
        match fails {
            None => {
                let result = results.next().unwrap_or_else(|| panic!("line {at} has no result"));
                assert_wine("2", number, &result["prediction"]);
            }
            Some((code, message)) => {
                let error = errors.next().unwrap_or_else(|| panic!("line {at} has no error"));
                let place = (&error["source"], &error["line"]);
                assert_eq!(place, (&json!(input), &json!(at)), "{error}");
                assert_eq!(error["error"]["code"], *code, "{error}");
                assert!(
                    error["error"]["message"].as_str().unwrap().contains(message),
                    "{message:?}: {error}"
                );
                assert!(!error["instance"].is_null() || line == b"null", "{error}");
            }
        }
        at += 1 + line.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!((results.next(), errors.next()), (None, None));
}

fn text_of(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|(line, _)| [line, &b"\n"[..]].concat()).collect()
}

#[test]
fn a_bad_line_of_json_fails_alone() {
    let invalid = |line: &[u8], message| (line.to_vec(), Some(("INVALID_INPUT", message)));
    let row = wine_row(9).to_string();
    let (begin, end) = row.split_at(row.find("98").unwrap());
    let texts = json!(vec!["a"; 13]).to_string();
    let two = format!("{row} {row}");
    let listed = format!("{row},{row}");
    let nan = row.replacen("16.0", "NaN", 1);
    let open = format!("{{\"instances\": [{row}");
    let lines = between(
        |number| wine_row(number).to_string().into_bytes(),
        vec![
            invalid(b"{no json", "expected a key in double quotes"),
            invalid(b"[1, 2]", "expected 13 values"),
            invalid(texts.as_bytes(), "expected a number, got a string"),
            invalid(b"{\"alcohol\": \"\xff\xfe\"}", "expected UTF-8"),
            invalid(b"\xff", "got"),
            invalid(begin.as_bytes(), "got the end of the body"),
            invalid(end.as_bytes(), "got a number"),
            invalid(two.as_bytes(), "expected the end of the line"),
            invalid(listed.as_bytes(), "expected the end of the line"),
            invalid(nan.as_bytes(), "NaN"),
            invalid(b"null", "expected an array of 13 values"),
            invalid(b"{}", "got none for \"alcohol\""),
            invalid(b"[]", "expected 13 values"),
            invalid(b"]", "got `]`"),
            invalid(b"\0", "got"),
            invalid(b"{\"instances\": []}", "at least one row"),
            invalid(open.as_bytes(), "end of the body"),
            (vec![b'['; 17 << 20], Some(("INPUT_TOO_LARGE", "expected a record of at most"))),
        ],
    );
    let job = Local::new();
    let input = job.write("bad.jsonl", text_of(&lines));
    let printed = job.ends(3, "wine/2", &input, &[]);
    let failed = lines.iter().filter(|(_, fails)| fails.is_some()).count();
    assert!(printed.contains(&format!("{failed} failed")), "{printed}");
    assert!(printed.contains(&format!("the first: {input}, line 2: expected a key")), "{printed}");
    assert_each_fails_alone(&job, &input, 1, &lines);
}

#[test]
fn a_bad_row_of_a_table_fails_alone() {
    let cells = |number| wine_row(number).to_string().replace(['[', ']'], "");
    let invalid = |line: &str, message| (line.as_bytes().to_vec(), Some(("INVALID_INPUT", message)));
    let row = cells(9);
    let lines = between(
        |number| cells(number).into_bytes(),
        vec![
            invalid("1,2", "expected 13 cells, one a column, got 2"),
            invalid(&format!("{row},7"), "expected 13 cells"),
            invalid(&row.replacen("16.0", "sweet", 1), "expected a number, got \"sweet\""),
            invalid(&row.replacen("16.0", "\"16,0\n\"", 1), "expected a number"),
            invalid(&format!("{row}\r{row}"), "got CR alone"),
            invalid("\"\"", "expected 13 cells"),
            (b"\xff,2,3,4,5,6,7,8,9,10,11,12,13".to_vec(), Some(("INVALID_INPUT", "expected UTF-8"))),
            // More text behind the next quote, many rows below: it does not close this cell.
            invalid(&format!("\"{row}"), "quote"),
            invalid(&format!("{row}, \"7"), "expected 13 cells"),
            invalid(&format!("\"{row}"), "quote"),
        ],
    );
    let job = Local::new();
    let text = [format!("{}\n", wine_columns().join(",")).into_bytes(), text_of(&lines)].concat();
    let input = job.write("bad.csv", text);
    job.ends(3, "wine/2", &input, &[]);
    assert_each_fails_alone(&job, &input, 2, &lines);
}

#[test]
fn a_missing_and_a_bad_file_of_a_list_fail_alone() {
    let job = Local::new();
    let good = job.write("good.png", model_file("zoo", "image.png"));
    let bad = job.write("bad.png", &model_file("zoo", "image.png")[..100]);
    let missing = job.path("missing.png");
    let folder = job.path("");
    let list = [&good, &missing, &good, &bad, &good, &folder, &good].map(|name| format!("{name}\n")).concat();
    let input = job.write("images.list", list);
    fs::create_dir(job.folder.path().join("model")).unwrap();
    job.write("model/model.onnx", model_file("zoo/torch-conv", "model.onnx"));
    job.write("model/model.yaml", "image: {}");
    job.ends(3, &job.path("model"), &input, &["--input-format", "file-list"]);
    let results = job.results();
    assert_eq!(results.len(), 4);
    assert!(results.iter().all(|line| *line == results[0]), "{results:?}");
    let errors = job.errors();
    let seen: Vec<_> = errors.iter().map(|error| (&error["line"], &error["instance"])).collect();
    let expected = [(json!(2), json!(missing)), (json!(4), json!(bad)), (json!(6), json!(folder))];
    assert_eq!(seen, expected.iter().map(|(line, name)| (line, name)).collect::<Vec<_>>());
    assert!(errors[0]["error"]["message"].as_str().unwrap().ends_with("does not exist"), "{errors:?}");
    assert!(errors.iter().all(|error| error["source"] == *input), "{errors:?}");
}

#[test]
fn a_row_that_fails_inside_the_model_fails_alone() {
    // One knows 0 to 3 only, and its rows share calls; the other one 100 to 102, and none do.
    for (model, rows) in
        [("types/fragile/1", [0, 1, 7, 2, 3, -5, 1]), ("rows/lookup/1", [100, 101, 7, 102, 100, -1, 101])]
    {
        let job = Local::new();
        let input = job.write("rows.jsonl", rows.map(|row| format!("{row}\n")).concat());
        job.ends(3, model, &input, &[]);
        let instances: Vec<Value> = job.results().iter().map(|line| line["instance"].clone()).collect();
        assert_eq!(instances, [0, 1, 3, 4, 6].map(|row| Value::from(rows[row])));
        let errors = job.errors();
        let seen: Vec<_> = errors.iter().map(|error| (&error["line"], &error["error"]["code"])).collect();
        assert_eq!(seen, [(&json!(3), &json!("INFERENCE_FAILED")), (&json!(6), &json!("INFERENCE_FAILED"))]);
    }
}

#[test]
fn too_many_errors_stop_a_job_and_a_higher_limit_goes_on_with_it() {
    let job = Local::new();
    let mut text = wine_lines(600);
    text.insert_str(0, "{}\n");
    text += "[1]\n[2]\n[3]\n";
    let input = job.write("rows.jsonl", text);
    let limited = |most: &'static str| vec!["--max-errors", most, "--shard-size", "4KiB"];
    let printed = job.ends(1, "wine/2", &input, &limited("0"));
    assert!(printed.contains("expected at most 0 failed rows, got 1"), "{printed}");
    assert!(printed.contains("hint: raise --max-errors, and the same command goes on"), "{printed}");
    assert!(!job.out().join("_SUCCESS").exists());
    let printed = job.ends(1, "wine/2", &input, &limited("3"));
    assert!(printed.contains("expected at most 3 failed rows, got 4"), "{printed}");
    job.ends(3, "wine/2", &input, &limited("4"));
    let summary = job.summary();
    assert_eq!((&summary["successful"], &summary["failed"]), (&json!(600), &json!(4)));
    assert_eq!((job.results().len(), job.errors().len()), (600, 4));
}
