//! A job that was interrupted goes on with the same command, to the same bytes.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Local, assert_wine, files, wine_lines};
use crate::support::command::predictd;
use crate::support::harness::{PATIENCE, model_file, outcome};

const ROWS: usize = 30_000;
/// Some 80 shards.
const SHARDS: [&str; 2] = ["--shard-size", "32KiB"];

/// Waits for a number of finished shards.
fn finished(out: &Path) -> usize {
    let Ok(entries) = fs::read_dir(out) else { return 0 };
    let is_result =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("prediction.results-");
    entries.flatten().filter(is_result).count()
}

/// Starts a job and waits until so many shards are finished, or the job is.
fn interruptible(mut command: Command, out: &Path, shards: usize) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while finished(out) < shards && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "shard {shards} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn signal(child: &Child, signal: &str) {
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
}

/// The output of a job that nobody disturbed.
fn undisturbed(lines: &str) -> Vec<(String, Vec<u8>)> {
    let job = Local::new();
    let input = job.write("wines.jsonl", lines);
    job.ends(0, "wine/2", &input, &SHARDS);
    job.output()
}

/// Names of the files that differ: their contents would fill the screen.
fn assert_same(got: &[(String, Vec<u8>)], expected: &[(String, Vec<u8>)]) {
    let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(got), names(expected));
    for (got, expected) in got.iter().zip(expected) {
        assert!(got == expected, "{} differs from the one of an undisturbed run", got.0);
    }
}

#[test]
fn a_job_that_is_killed_at_any_moment_ends_with_the_same_bytes() {
    let lines = wine_lines(ROWS);
    let expected = undisturbed(&lines);
    let job = Local::new();
    let input = job.write("wines.jsonl", lines);
    let mut kills = 0;
    // Each run has other shards; the last two are interrupted while they plan, or just begin.
    for shards in [0, 1, 4, 5, 17, 30, 48, 66] {
        let mut child = interruptible(job.command("wine/2", &input, &SHARDS), &job.out(), shards);
        signal(&child, "-KILL");
        kills += usize::from(!child.wait().unwrap().success());
    }
    assert!(kills > 4, "only {kills} runs were killed");
    let before = finished(&job.out());
    assert!(before >= 40, "{before}");
    job.ends(0, "wine/2", &input, &SHARDS);
    assert_same(&job.output(), &expected);
}

#[test]
fn a_job_that_is_stopped_says_how_to_go_on_and_does() {
    let lines = wine_lines(ROWS);
    let expected = undisturbed(&lines);
    let job = Local::new();
    let input = job.write("wines.jsonl", lines);
    for (name, shards) in [("-INT", 3), ("-TERM", 20)] {
        let child = interruptible(job.command("wine/2", &input, &SHARDS), &job.out(), shards);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("the job was stopped before its end"), "{stderr}");
        assert!(stderr.contains("hint: the same command goes on with it"), "{stderr}");
        let left = files(&job.out()).into_iter().find(|(name, _)| name.starts_with('.'));
        assert_eq!(left.map(|(name, _)| name), None);
    }
    let before: Vec<_> = (0..20)
        .map(|shard| results_of(&job, shard).map(|path| fs::metadata(path).unwrap().modified().unwrap()))
        .collect();
    assert!(before.iter().flatten().count() >= 20);
    job.ends(0, "wine/2", &input, &SHARDS);
    assert_same(&job.output(), &expected);
    // A finished shard is not written again.
    for (shard, before) in before.into_iter().enumerate() {
        let after = fs::metadata(results_of(&job, shard).unwrap()).unwrap().modified().unwrap();
        assert_eq!(Some(after), before, "shard {shard}");
    }
}

fn results_of(job: &Local, shard: usize) -> Option<std::path::PathBuf> {
    let begin = format!("prediction.results-{shard:05}-of-");
    let entries = fs::read_dir(job.out()).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&begin))
}

/// A shard without output is computed; a finished one is neither computed nor even read.
#[test]
fn a_finished_shard_is_taken_as_it_is() {
    let job = Local::new();
    let input = job.write("wines.jsonl", wine_lines(2000));
    let more = ["--shard-size", "16KiB"];
    job.ends(0, "wine/2", &input, &more);
    let expected = job.output();
    let [second, third] = [1, 2].map(|shard| results_of(&job, shard).unwrap());
    fs::write(&second, "marked\n").unwrap();
    let whole = fs::read(&third).unwrap();
    // The state after a kill between the errors and the results of a shard.
    fs::remove_file(&third).unwrap();
    fs::remove_file(job.out().join("summary.json")).unwrap();
    fs::remove_file(job.out().join("_SUCCESS")).unwrap();
    job.ends(0, "wine/2", &input, &more);
    assert_eq!(fs::read_to_string(&second).unwrap(), "marked\n");
    assert_eq!(fs::read(&third).unwrap(), whole);
    assert_eq!(job.output().len(), expected.len());
    assert_eq!(job.summary()["successful"], 2000);
    // A finished job computes nothing, and says the same.
    let printed = job.ends(0, "wine/2", &input, &more);
    assert!(printed.contains("2000 rows, 2000 predicted"), "{printed}");
}

#[test]
fn an_input_that_has_changed_is_refused_by_its_name() {
    let job = Local::new();
    let first = job.write("in/a.jsonl", wine_lines(100));
    let second = job.write("in/b.jsonl", wine_lines(100));
    let input = job.path("in");
    let more = ["--shard-size", "1KiB", "--max-errors", "0"];
    job.write("in/b.jsonl", format!("{{}}\n{}", wine_lines(100)));
    job.ends(1, "wine/2", &input, &more);
    let refused = |says: &[&str]| {
        let printed = job.ends(1, "wine/2", &input, &more);
        for says in says {
            assert!(printed.contains(says), "{says:?}: {printed}");
        }
        assert!(printed.trim_end().lines().last().unwrap().starts_with("hint: "), "{printed}");
    };
    let original = fs::read(&second).unwrap();
    fs::write(&second, wine_lines(100)).unwrap();
    refused(&["the input has changed", &second, "is not what the job was planned with"]);
    fs::remove_file(&second).unwrap();
    refused(&[&second, "is gone"]);
    fs::write(&second, original).unwrap();
    let another = job.write("in/c.jsonl", "");
    refused(&["the input has changed"]);
    fs::remove_file(another).unwrap();
    fs::remove_file(&first).unwrap();
    refused(&["the input has changed"]);
}

#[test]
fn another_job_in_the_folder_is_refused_by_its_difference() {
    let job = Local::new();
    let input = job.write("wines.jsonl", wine_lines(10));
    job.ends(0, "wine/2", &input, &[]);
    let before = files(&job.out());
    for (model, more, says) in [
        ("wine/2", &["--output-format", "csv"][..], "output_format"),
        ("wine/2", &["--key-field", "id"], "key_field"),
        ("wine/2", &["--exclude", "hue"], "exclude"),
        ("wine/2", &["--parameters", r#"{"hue": 1}"#], "parameters"),
        ("wine/1", &[], "model"),
    ] {
        let printed = job.ends(1, model, &input, more);
        assert!(printed.contains("holds the results of another job"), "{printed}");
        assert!(
            printed.contains(&format!("{says:?}")) || printed.contains(&format!("\"{says}\"")),
            "{printed}"
        );
    }
    // The size of shards changes nothing of what the rows get.
    job.ends(0, "wine/2", &input, &["--shard-size", "1KiB"]);
    let other = job.write("others.jsonl", wine_lines(10));
    let printed = job.ends(1, "wine/2", &other, &[]);
    assert!(printed.contains("others.jsonl"), "{printed}");
    assert_eq!(files(&job.out()), before);
}

#[test]
fn a_new_version_of_the_model_does_not_join_a_job_that_is_on_its_way() {
    let job = Local::new();
    let model = |version: &str| {
        for file in ["model.onnx", "MLmodel"] {
            job.write(&format!("model/{version}/{file}"), model_file(&format!("wine/{version}"), file));
        }
    };
    model("1");
    let input = job.write("wines.jsonl", format!("{}{{}}\n{}", wine_lines(1000), wine_lines(1000)));
    let folder = job.path("model");
    job.ends(1, &folder, &input, &["--shard-size", "16KiB", "--max-errors", "0"]);
    let before = finished(&job.out());
    assert!(before > 0);
    model("2");
    job.ends(3, &folder, &input, &["--shard-size", "16KiB"]);
    assert_eq!(job.summary()["model_version"], "1");
    let results = job.results();
    assert_eq!(results.len(), 2000);
    for (number, line) in results.iter().enumerate() {
        assert_wine("1", number % 1000, &line["prediction"]);
    }
    // A new job has the newest one, or the one that is asked for.
    for (more, version) in [(&[][..], "2"), (&["--model-version", "1"], "1")] {
        let new = Local::new();
        new.ends(3, &folder, &input, more);
        assert_eq!(new.summary()["model_version"], version);
        assert_wine(version, 5, &new.results()[5]["prediction"]);
    }
    fs::remove_dir_all(job.folder.path().join("model/1")).unwrap();
    fs::remove_file(job.out().join("summary.json")).unwrap();
    let printed = job.ends(1, &folder, &input, &["--shard-size", "16KiB"]);
    assert!(printed.contains('1') && printed.contains("version"), "{printed}");
}

#[test]
fn commands_that_cannot_be_jobs_are_refused() {
    let job = Local::new();
    let input = job.write("wines.jsonl", wine_lines(1));
    for (model, input, more, code, says) in [
        ("wine/2", &*job.path("none*.jsonl"), &[][..], 1, "no file matches"),
        ("wine/2", &*job.write("rows.dat", "[1]"), &[], 1, "--input-format"),
        ("wine/2", &*input, &["--input", "gs://b/x.jsonl"], 1, "all in Cloud Storage or all on this machine"),
        ("wine/2", &*input, &["--parameters", "[1]"], 2, "expected a JSON object"),
        ("wine/2", &*input, &["--shard-size", "0"], 2, "expected a size"),
        ("wine/2", &*input, &["--include", "a", "--exclude", "b"], 2, "cannot be used with"),
        ("no-such-model", &*input, &[], 1, "no-such-model"),
        (
            "wine/2",
            &*job.write("t.csv", "a,b\n1,2\n"),
            &["--key-field", "id"],
            1,
            "expected a column \"id\", got a, b",
        ),
    ] {
        let printed = job.ends(code, model, input, more);
        assert!(printed.contains(says), "{says:?}: {printed}");
        assert!(finished(&job.out()) == 0 && !job.out().join("job.json").exists(), "{says}");
    }
}

#[test]
fn the_status_of_a_local_job_is_told() {
    let job = Local::new();
    let out = job.path("out");
    let status = |more: &[&str]| outcome(predictd(&[&["batch", "status", &*out], more].concat()), "");
    let (code, _, stderr) = status(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no job in"), "{stderr}");
    let input = job.write("wines.jsonl", format!("{}{{}}\n", wine_lines(500)));
    job.ends(1, "wine/2", &input, &["--shard-size", "16KiB", "--max-errors", "0"]);
    let (_, stdout, _) = status(&["--json"]);
    let running: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&running["rows"], &running["state"]), (&json!(501), &json!("stopped")), "{running}");
    assert!(running["finished_shards"].as_u64().unwrap() < running["shards"].as_u64().unwrap(), "{running}");
    job.ends(3, "wine/2", &input, &["--shard-size", "16KiB"]);
    let (_, stdout, _) = status(&["--json"]);
    let done: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&done["state"], &done["successful"], &done["failed"]),
        (&json!("finished"), &json!(500), &json!(1))
    );
    let (code, stdout, _) = status(&[]);
    assert_eq!(code, 3);
    assert!(stdout.contains("500 predicted, 1 failed"), "{stdout}");
}
