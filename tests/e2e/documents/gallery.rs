//! The documents' blocks, run as they stand: what Python exports is pushed to a bucket, and answers from
//! there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::command::predictd;
use crate::support::harness::{Worker, World, onnxruntime, repository, skip};

/// Folder that the blocks write to, and the copy of their output for machines without their packages.
const WRITTEN: &str = "target/gallery/";
const KEPT: &str = "tests/models/gallery/";
/// Documents whose commands need nothing but predictd, with the number of blocks that export a model.
const PAGES: [(&str, usize); 6] = [
    ("README.md", 2),
    ("docs/gallery.md", 8),
    ("docs/models.md", 0),
    ("docs/requests.md", 0),
    ("docs/http.md", 0),
    ("docs/batch.md", 0),
];

/// A part of a document, in order.
pub(crate) enum Part {
    /// Prose, and everything else that is not run.
    Line(String),
    /// A block that exports a model.
    Python(String),
    Command(String),
}

/// A document's parts without the answers of its commands.
pub(crate) fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut block, mut code) = ("", String::new());
    for line in page.lines() {
        match (block, line) {
            ("", "```console" | "```python") => block = &line[3..],
            ("", _) => {}
            ("python", "```") => {
                let code = std::mem::take(&mut code);
                // Others, such as clients, have tests of their own.
                let is_export = code.contains(WRITTEN);
                let part =
                    if is_export { Part::Python(code) } else { Part::Line(code.trim_end().to_owned()) };
                parts.push(part);
                block = "";
            }
            (_, "```") => block = "",
            ("python", _) => {
                code += line;
                code.push('\n');
                continue;
            }
            _ => {
                parts.extend(line.strip_prefix("$ ").map(|command| Part::Command(command.to_owned())));
                continue;
            }
        }
        parts.push(Part::Line(line.to_owned()));
    }
    parts
}

/// The blocks of code in one language.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    let after = text.split(&begin).skip(1);
    after.map(|rest| rest.split_once("\n```").map_or(rest, |(block, _)| block)).collect()
}

/// The bundles that a block of Python writes.
fn bundles(code: &str) -> Vec<&str> {
    let mut names: Vec<&str> = code
        .split(WRITTEN)
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap())
        .collect();
    names.dedup();
    names
}

/// UPDATE_SNAPSHOTS=1 writes what comes out into the documents, and what the blocks export into
/// `tests/models/gallery`.
#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_documents_says_what_comes_out() {
    let _ = std::fs::remove_dir_all(repository().join(WRITTEN));
    for (page, _) in PAGES {
        let world = World::start_with(|builder| builder.bucket("my-models")).await;
        let host = world.server.host().to_string();
        let (_server, curl) = serve(page).await.unzip();
        let curl_home = curl.as_ref().map_or(String::new(), |home| home.path().display().to_string());
        tokio::task::spawn_blocking(move || {
            run_page(page, &[("STORAGE_EMULATOR_HOST", &host), ("CURL_HOME", &curl_home)], export)
        })
        .await
        .unwrap();
    }
}

/// The server that a page starts by a line `predictd serve …` of a block of the shell, on a free port, and the
/// settings with which the page's `curl` finds it there. The lines before it are run first.
async fn serve(page: &str) -> Option<(Worker, tempfile::TempDir)> {
    let text = std::fs::read_to_string(repository().join(page)).unwrap();
    let starts = |block: &&str| block.lines().any(|line| line.starts_with("predictd serve "));
    let block = blocks(&text, "sh").into_iter().find(starts)?;
    let (before, line) = block.split_once("predictd serve ").unwrap();
    run(before, &[]);
    let line = line.split('#').next().unwrap();
    let mut command = predictd(&["serve"]);
    command.args(line.split_whitespace());
    command.env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0");
    let server = Worker::spawn(command);
    let models = line.split_whitespace().last().unwrap();
    for model in ["wine", "digits"].into_iter().filter(|model| repository().join(models).join(model).exists())
    {
        let is_served = |info: &serde_json::Value| info["models"][model]["serving"]["version"].is_string();
        server.until_info(&format!("{model} in service"), is_served).await;
    }
    let home = tempfile::tempdir().unwrap();
    let settings = format!("silent\nconnect-to = \"localhost:8080:{}\"\n", server.address().await);
    std::fs::write(home.path().join(".curlrc"), settings).unwrap();
    Some((server, home))
}

/// Runs what is in a document, and compares what comes out with what stands there.
pub(crate) fn run_page(page: &str, variables: &[(&str, &str)], export: impl Fn(&str, bool)) {
    let path = repository().join(page);
    let updates = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mut written = String::new();
    let mut commands = 0;
    for part in parts(&std::fs::read_to_string(&path).unwrap()) {
        match part {
            Part::Line(line) => written += &format!("{line}\n"),
            // Its closing fence is the next line.
            Part::Python(code) => {
                export(&code, updates);
                written += &code;
            }
            Part::Command(command) => {
                commands += 1;
                written += &format!("$ {command}\n{}", run(&command, variables));
            }
        }
    }
    assert!(commands >= 3, "{page}: only {commands} commands");
    if updates {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    similar(&written, &expected);
}

/// Runs a block of Python where its packages are installed; otherwise puts in place what it wrote once.
fn export(code: &str, updates: bool) {
    let names = bundles(code);
    match python_for(code) {
        Ok(python) => {
            let output = Command::new(&python)
                .args(["-W", "ignore", "-c", code])
                .env("CUDA_VISIBLE_DEVICES", "-1")
                .current_dir(repository())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}:\n{}", python.display(), errors(&output));
            for name in names {
                let model = repository().join(WRITTEN).join(name).join("model.onnx");
                assert!(model.is_file(), "the block did not write {}", model.display());
                if updates {
                    copy_bundle(WRITTEN, KEPT, name);
                    forget_the_machine(&python, name);
                }
            }
        }
        Err(missing) => {
            skip(&format!("the gallery's training and export of {names:?}: {missing}"));
            for name in names {
                copy_bundle(KEPT, WRITTEN, name);
            }
        }
    }
}

/// A Python that has the versions that the block's family is pinned to; or what is missing.
fn python_for(code: &str) -> Result<PathBuf, String> {
    let family = match () {
        () if code.contains("import torch") => "pytorch",
        () if code.contains("import tensorflow") => "keras_tf",
        () if code.contains("import onnxmltools") => "boosted",
        () => "scikit",
    };
    const HAS_ALL: &str = "
import importlib.metadata, sys
for line in open(sys.argv[1]):
    name, _, version = line.split('#')[0].strip().partition('==')
    if name and importlib.metadata.version(name).split('+')[0] != version:
        sys.exit(1)";
    let requirements = format!("scripts/examples/zoo/requirements-{family}.txt");
    let own = repository().join(format!(".cache/zoo-{family}/bin/python"));
    let has_all = |python: &PathBuf| {
        let check = Command::new(python)
            .args(["-c", HAS_ALL, &requirements])
            .current_dir(repository())
            .stderr(Stdio::null())
            .status();
        check.is_ok_and(|status| status.success())
    };
    [own, "python3".into()].into_iter().find(has_all).ok_or_else(|| {
        format!("no Python with {requirements}; scripts/examples/zoo/README.md says how to install it")
    })
}

/// The bundle's own files: MLflow writes more than that.
fn copy_bundle(from: &str, to: &str, name: &str) {
    let (from, to) = (repository().join(from).join(name), repository().join(to).join(name));
    std::fs::create_dir_all(&to).unwrap();
    for file in ["model.onnx", "model.onnx.data", "model.yaml", "MLmodel", "tokenizer.json"] {
        if from.join(file).is_file() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

/// Takes the stack traces out of a kept model, which hold paths of the machine that exported it.
fn forget_the_machine(python: &Path, name: &str) {
    const FORGET: &str = "
import onnx, sys
model = onnx.load(sys.argv[1], load_external_data=False)
for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
    for entry in [each for each in node.metadata_props if each.key.endswith('stack_trace')]:
        node.metadata_props.remove(entry)
onnx.save(model, sys.argv[1])";
    let model = repository().join(KEPT).join(name).join("model.onnx");
    let status = Command::new(python).args(["-c", FORGET]).arg(model).status().unwrap();
    assert!(status.success());
}

fn run(command: &str, variables: &[(&str, &str)]) -> String {
    let predictd = Path::new(env!("CARGO_BIN_EXE_predictd")).parent().unwrap();
    let given = variables.iter().find(|(name, _)| *name == "PATH").map(|(_, path)| (*path).to_owned());
    let path = given.unwrap_or_else(|| std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {command}")])
        .env("ORT_DYLIB_PATH", onnxruntime())
        .envs(variables.iter().copied())
        .env("PATH", format!("{}:{path}", predictd.display()))
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", errors(&output));
    let mut text = String::from_utf8(output.stdout).unwrap();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A line without the seconds at its end.
fn without_time(line: &str) -> &str {
    let time = line.strip_suffix(" s").and_then(|rest| rest.rsplit_once(", "));
    time.filter(|(_, seconds)| seconds.parse::<f64>().is_ok()).map_or(line, |(rest, _)| rest)
}

/// The text of a line, and its numbers.
fn apart(line: &str) -> (String, Vec<f64>) {
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = line.split(|c| !is_digit(c)).filter_map(|number| number.parse().ok());
    (line.replace(is_digit, ""), numbers.collect())
}

/// Line by line; numbers may differ in their last digits from machine to machine, and times.
fn similar(got: &str, expected: &str) {
    assert_eq!(got.lines().count(), expected.lines().count(), "expected:\n{expected}\ngot:\n{got}");
    for (got, expected) in got.lines().zip(expected.lines()) {
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line);
        match (parse(got), parse(expected)) {
            (Ok(a), Ok(b)) => {
                assert!(crate::requests::zoo::equal(&a, &b, 1e-4), "expected {expected}\ngot {got}")
            }
            _ => {
                let ((text, numbers), (expected_text, others)) =
                    (apart(without_time(got)), apart(without_time(expected)));
                let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
                let are_close = numbers.len() == others.len() && numbers.iter().zip(&others).all(is_close);
                assert!(text == expected_text && are_close, "expected {expected}\ngot {got}");
            }
        }
    }
}

/// Without any package: the blocks are Python, and every bundle that they write is pushed and asked in the
/// same section.
#[test]
fn every_export_is_python_and_what_it_writes_is_used() {
    for (page, exports) in PAGES {
        let parts = parts(&std::fs::read_to_string(repository().join(page)).unwrap());
        let sections: Vec<usize> =
            (0..parts.len()).filter(|&n| matches!(parts[n], Part::Python(_))).collect();
        assert_eq!(sections.len(), exports, "blocks of {page} that export a model");
        for (number, &begin) in sections.iter().enumerate() {
            let Part::Python(code) = &parts[begin] else { unreachable!("found as one") };
            let end = sections.get(number + 1).copied().unwrap_or(parts.len());
            is_used(code, &parts[begin..end]);
        }
    }
}

/// The block is Python, and what follows it pushes and asks each of its bundles.
fn is_used(code: &str, following: &[Part]) {
    let parsed = Command::new("python3")
        .args(["-c", "import ast, sys; ast.parse(sys.argv[1])", code])
        .output()
        .unwrap();
    assert!(parsed.status.success(), "{}\n{code}", errors(&parsed));
    let commands: Vec<&str> = following
        .iter()
        .filter_map(|part| if let Part::Command(command) = part { Some(command.as_str()) } else { None })
        .collect();
    assert!(!bundles(code).is_empty(), "the block writes nothing under {WRITTEN}:\n{code}");
    for name in bundles(code) {
        let push = format!("predictd push {WRITTEN}{name} gs://my-models/models/{name}/1");
        let asked = format!("predict --model gs://my-models/models/{name}");
        assert!(commands.contains(&push.as_str()), "{push:?} is missing in {commands:?}");
        let asks = |command: &&str| {
            command.split_once(&asked).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '))
        };
        assert!(commands.iter().any(asks), "{asked:?} is missing in {commands:?}");
    }
}
