//! Models of every kind give for each row of a file the same as `predictd predict` for the row alone.

use std::path::Path;

use serde_json::{Value, json};

use super::{Local, assert_wine, wine_row};
use crate::support::command::predictd;
use crate::support::harness::{outcome, repository};

/// The answer of `predictd predict` for one instance, which is its first prediction, or its error's code.
fn alone(model: &Path, instance: &Value) -> Result<Value, Value> {
    let command = predictd(&["predict", "--model", model.to_str().unwrap()]);
    let (_, stdout, stderr) = outcome(command, &json!({"instances": [instance]}).to_string());
    let body: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    match body.get("predictions") {
        Some(predictions) => Ok(predictions[0].clone()),
        None => Err(body["error"]["code"].clone()),
    }
}

/// A model of tests/models, and instances for it, good and bad.
fn cases() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("rows/length/1", vec![json!([1, 2]), json!([3]), json!([0, 0, 1]), json!("no"), json!([1, 2])]),
        ("rows/vector/1", vec![json!([1, 2, 3, 4]), json!([1, 2]), json!([0, 0, 0, 0])]),
        (
            "rows/matrix/1",
            vec![json!([[1, 2], [3, 4], [5, 6]]), json!([[1, 2]]), json!([[9, 2], [3, 4], [5, 6]])],
        ),
        ("rows/weighted/1", vec![json!([[1, 1], [1, 1], [1, 1]]), json!([[1, 1]])]),
        ("rows/twice/1", vec![json!(1), json!(2.5), json!([1]), json!(3)]),
        ("rows/detections/1", vec![json!([0, 1, 1]), json!([0, 0, 0]), json!([1, 1, 1]), json!([1, 1])]),
        ("rows/centred/1", vec![json!([1, 2]), json!([3, 5]), json!([1, 2])]),
        ("rows/renamed/1", vec![json!([1, 2]), json!([3, 4])]),
        ("types/no-batch/1", vec![json!([1, 2, 3]), json!([4, 5, 6]), json!([7])]),
        ("types/fixed-batch/1", vec![json!([1, 2, 3]), json!([4, 5, 6]), json!([7])]),
        ("types/strings/1", vec![json!(["a", "é"]), json!(["\u{1f377}", ""]), json!([1, 2])]),
        ("rows/zipmap-1/1", vec![json!([1, 2, 3, 4]), json!([4, 3, 2, 1])]),
        (
            "types/multi/1",
            vec![
                json!({"matrix": [[1, 2], [3, 4]], "count": 5, "flag": [true]}),
                json!({"matrix": [[1, 2], [3, 4]], "count": 5}),
                json!({"matrix": [[0, 2], [3, 4]], "count": -5, "flag": [false]}),
            ],
        ),
        ("gallery/reviews", vec![json!("a great film"), json!("terrible"), json!(7)]),
        (
            "gallery/passengers",
            vec![
                json!({"sex": "female", "age": 30, "fare": 80}),
                json!({"sex": "male", "age": 60, "fare": 5.5}),
                json!({"sex": "male", "age": "old", "fare": 5.5}),
            ],
        ),
    ]
}

#[test]
fn each_row_gets_what_it_gets_alone() {
    for (model, instances) in cases() {
        let job = Local::new();
        // Many times, so that rows could meet in a call.
        let rows: Vec<&Value> = instances.iter().cycle().take(instances.len() * 40).collect();
        let input = job.write("rows.jsonl", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        let folder = repository().join("tests/models").join(model);
        let expected: Vec<_> = instances.iter().map(|instance| alone(&folder, instance)).collect();
        let (code, _, stderr) = job.run(model, &input, &[]);
        let has_errors = expected.iter().any(Result::is_err);
        assert_eq!(code, if has_errors { 3 } else { 0 }, "{model}: {stderr}");
        let (mut results, mut errors) = (job.results().into_iter(), job.errors().into_iter());
        for (number, row) in rows.iter().enumerate() {
            match &expected[number % instances.len()] {
                Ok(prediction) => {
                    let line = results.next().unwrap_or_else(|| panic!("{model}: no result for {row}"));
                    assert_eq!(line["instance"], **row, "{model}");
                    assert_eq!(line["prediction"], *prediction, "{model}: {row}");
                }
                Err(code) => {
                    let line = errors.next().unwrap_or_else(|| panic!("{model}: no error for {row}"));
                    assert_eq!(
                        (&line["line"], &line["error"]["code"]),
                        (&json!(number + 1), code),
                        "{model}"
                    );
                }
            }
        }
        assert_eq!((results.next(), errors.next()), (None, None), "{model}");
    }
}

#[test]
fn a_line_may_be_the_body_of_a_whole_request() {
    let job = Local::new();
    let mut text = String::new();
    for number in 0..40 {
        let rows = [wine_row(number), wine_row(number + 1)];
        text += &match number % 4 {
            0 => format!("{}\n", rows[0]),
            1 => json!({"instances": rows}).to_string() + "\n",
            2 => json!({"inputs": rows}).to_string() + "\n",
            _ => json!({"instances": [rows[0]]}).to_string() + "\n",
        };
    }
    let input = job.write("bodies.jsonl", text);
    job.ends(0, "wine/2", &input, &[]);
    let results = job.results();
    assert_eq!(results.len(), 40);
    for (number, line) in results.iter().enumerate() {
        let prediction = &line["prediction"];
        match number % 4 {
            0 => assert_wine("2", number, prediction),
            2 => {
                assert_eq!(prediction["outputs"]["label"].as_array().map(Vec::len), Some(2), "{prediction}");
            }
            _ => {
                let predictions = prediction["predictions"].as_array().unwrap();
                assert_eq!(predictions.len(), if number % 4 == 1 { 2 } else { 1 });
                for (next, prediction) in predictions.iter().enumerate() {
                    assert_wine("2", number + next, prediction);
                }
            }
        }
    }
}

#[test]
fn a_file_is_a_request_of_its_own_also_for_texts() {
    let job = Local::new();
    let texts = ["a great film", "a terrible film"];
    for (number, text) in texts.iter().enumerate() {
        job.write(&format!("in/{number}.json"), json!({"instances": [text]}).to_string());
    }
    let input = job.path("in/*.json");
    job.ends(0, "gallery/reviews", &input, &["--input-format", "files"]);
    for (line, text) in job.results().iter().zip(texts) {
        let expected = alone(&repository().join("tests/models/gallery/reviews"), &json!(text));
        let prediction = line["prediction"].get("predictions").map_or(&line["prediction"], |all| &all[0]);
        assert_eq!(Ok(prediction), expected.as_ref(), "{line}");
    }
}
