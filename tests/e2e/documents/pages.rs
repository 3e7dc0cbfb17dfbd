//! The Markdown files keep what they say: links and paths lead somewhere, `docs/model-yaml.md` has every key,
//! clients get answers.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use predictd::model::bundle::declaration::Declaration;
use serde_json::Value;

use crate::documents::gallery::{blocks, run_page};
use crate::support::harness::{REQUESTS, RESPONSES, World, repository, skip};

/// The Markdown files of the repository, relative to it.
fn pages() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().map(PathBuf::from).filter(|page| repository().join(page).exists()).collect()
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(repository().join(page)).unwrap_or_else(|error| panic!("{page:?}: {error}"))
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    text.lines().filter(is_prose).collect()
}

/// Text in backticks; and the text without it.
fn spans(text: &str) -> (Vec<&str>, String) {
    let parts: Vec<&str> = text.split('`').collect();
    let code = parts.iter().skip(1).step_by(2).copied().collect();
    (code, parts.iter().step_by(2).copied().collect())
}

/// The names under which GitHub finds a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut all = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = seen.entry(name.clone()).or_default();
        all.insert(if *count == 0 { name } else { format!("{name}-{count}") });
        *count += 1;
    }
    all
}

#[test]
fn every_link_and_anchor_exists() {
    let pages = pages();
    assert!(pages.len() >= 20, "{pages:?}");
    let (mut links, mut broken) = (0, Vec::new());
    for page in &pages {
        let text = read(page);
        let (_, plain) = spans(&prose(&text).join("\n"));
        for target in plain.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let exists = repository().join(&linked).exists();
            if !exists || (!anchor.is_empty() && !anchors(&read(&linked)).contains(anchor)) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links >= 150, "only {links} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let folders = ["src/", "docs/", "tests/", "scripts/", "config/", "terraform/", "fuzz/", "benches/"];
    let (mut paths, mut missing) = (0, Vec::new());
    for page in pages() {
        let text = prose(&read(&page)).join("\n");
        for path in spans(&text).0 {
            let is_path = folders.iter().any(|folder| path.starts_with(folder))
                && path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
            if !is_path {
                continue;
            }
            paths += 1;
            if !repository().join(path).exists() {
                missing.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(paths >= 50, "only {paths} paths");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every page of `docs` is reached from the README.
#[test]
fn the_readme_links_every_page() {
    let readme = read(Path::new("README.md"));
    let pages = pages().into_iter().filter(|page| page.starts_with("docs"));
    let unlinked: Vec<PathBuf> =
        pages.filter(|page| !readme.contains(&format!("]({})", page.display()))).collect();
    assert!(unlinked.is_empty(), "{unlinked:?}");
}

#[test]
fn one_rust_version_is_named_everywhere() {
    let manifest = read(Path::new("Cargo.toml"));
    let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
    let version = rest.split('"').next().unwrap();
    for (file, says) in [
        ("Dockerfile", format!("ARG RUST={version}\n")),
        ("README.md", format!("Rust {version}")),
        ("CONTRIBUTING.md", format!("Rust {version}")),
        (".github/workflows/test.yml", format!("rustup toolchain install {version}")),
        (".github/workflows/release.yml", format!("rustup toolchain install {version}")),
        (".github/workflows/wheel.yml", format!("rustup toolchain install {version}")),
    ] {
        assert!(read(Path::new(file)).contains(&says), "{file} does not say {says:?}");
    }
}

/// Adds each key of `schema` that no example has.
fn add_missing(schema: &Value, root: &Value, place: &str, examples: &[&Value], missing: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = root.pointer(name.trim_start_matches('#')).unwrap();
        return add_missing(definition, root, place, examples, missing);
    }
    for choices in ["anyOf", "oneOf"] {
        for choice in schema[choices].as_array().into_iter().flatten() {
            add_missing(choice, root, place, examples, missing);
        }
    }
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let examples: Vec<&Value> = examples.iter().filter_map(|example| example.get(name)).collect();
        if examples.is_empty() {
            missing.push(place.clone());
        }
        add_missing(key, root, &place, &examples, missing);
    }
    if schema["items"].is_object() {
        let lists = examples.iter().filter_map(|example| example.as_array());
        add_missing(&schema["items"], root, place, &lists.flatten().collect::<Vec<_>>(), missing);
    }
}

/// The words that a key may be.
fn choices(schema: &Value) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for definition in schema["$defs"].as_object().unwrap().values() {
        for choice in definition["oneOf"].as_array().into_iter().flatten() {
            all.extend(choice["const"].as_str());
            all.extend(choice["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
        }
    }
    all
}

#[test]
fn the_page_of_model_yaml_has_an_example_of_every_key() {
    let page = read(Path::new("docs/model-yaml.md"));
    let schema: Value = serde_json::from_str(&read(Path::new("config/model.schema.json"))).unwrap();
    let examples: Vec<Value> = blocks(&page, "yaml")
        .into_iter()
        .map(|block| {
            Declaration::parse(block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
            serde_saphyr::from_str(block).unwrap()
        })
        .collect();
    let mut missing = Vec::new();
    add_missing(&schema, &schema, "", &examples.iter().collect::<Vec<_>>(), &mut missing);
    assert!(missing.is_empty(), "no example of {missing:?}");
    let choices = choices(&schema);
    assert!(choices.len() >= 20, "{choices:?}");
    let unnamed: Vec<&str> =
        choices.into_iter().filter(|choice| !page.contains(&format!("`{choice}`"))).collect();
    assert!(unnamed.is_empty(), "the page does not name {unnamed:?}");
}

/// The first Python that can import these modules.
fn python_with(modules: &str) -> Option<PathBuf> {
    let can_import = |python: &PathBuf| {
        let import = format!("import {modules}");
        let tried = Command::new(python).args(["-c", &import]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let own = [".cache/clients/bin/python", ".cache/bench-venv/bin/python"];
    own.map(|path| repository().join(path)).into_iter().chain(["python3".into()]).find(can_import)
}

const HOW_TO_INSTALL: &str = "scripts/examples/README.md says how to install it";

/// The clients of the README and of `docs/clients.md` publish to the worker, and print its answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_clients_print_their_answers() {
    let Some(python) = python_with("google.cloud.pubsub_v1") else {
        return skip(&format!("the Python clients: google-cloud-pubsub is missing; {HOW_TO_INSTALL}"));
    };
    let world = World::start_with(|builder| {
        builder
            .subscription("projects/demo/subscriptions/prediction-requests", REQUESTS)
            .subscription("projects/demo/subscriptions/prediction-responses", RESPONSES)
    })
    .await;
    world.upload_version("wine/2", "wine", "2");
    let _worker = world.ready_worker(&[]).await;
    for page in ["README.md", "docs/clients.md"] {
        let text = read(Path::new(page));
        let code = blocks(&text, "python").into_iter().find(|code| code.contains("pubsub_v1")).unwrap();
        let (_, after) = text.split_once(code).unwrap();
        let expected = blocks(after, "").into_iter().nth(1).unwrap();
        let mut client = Command::new(&python);
        client.args(["-c", code]).env("PUBSUB_EMULATOR_HOST", world.server.host());
        let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected, "{page}");
    }
}

/// An MLflow server of its own; its whole process group ends with it.
struct MlflowServer {
    process: Child,
    address: String,
}

impl MlflowServer {
    fn start(python: &Path, folder: &Path) -> Self {
        let mut command = Command::new(python);
        command
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "0", "--workers", "1"])
            .arg(format!("--backend-store-uri=sqlite:///{}/mlflow.db", folder.display()))
            .arg(format!("--artifacts-destination={}/artifacts", folder.display()))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut log = Vec::new();
        let address = lines.find_map(|line| {
            let found = line.split("running on ").nth(1).and_then(|rest| rest.split(' ').next());
            let found = found.map(str::to_owned);
            log.push(line);
            found
        });
        // It writes more, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("the server does not start:\n{}", log.join("\n")));
        Self { process, address }
    }
}

impl Drop for MlflowServer {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mlflows_registry_names_is_pushed_and_asked() {
    let Some(python) = python_with("mlflow.server, flask, skl2onnx, sklearn, pandas") else {
        return skip(&format!("MLflow's registry: mlflow is missing; {HOW_TO_INSTALL}"));
    };
    let world = World::start_with(|builder| builder.bucket("my-models")).await;
    let host = world.server.host().to_string();
    let registry = move || {
        let folder = tempfile::tempdir().unwrap();
        let server = MlflowServer::start(&python, folder.path());
        let page = read(Path::new("docs/mlflow.md"));
        let code = blocks(&page, "python").remove(0);
        let logged = Command::new(&python)
            .args(["-W", "ignore", "-c", code])
            .env("MLFLOW_TRACKING_URI", &server.address)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(logged.status.success(), "{}", String::from_utf8_lossy(&logged.stderr));
        let tools = python.parent().unwrap().display().to_string();
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
        let variables =
            [("STORAGE_EMULATOR_HOST", &*host), ("MLFLOW_TRACKING_URI", &server.address), ("PATH", &path)];
        run_page("docs/mlflow.md", &variables, |_, _| {});
    };
    tokio::task::spawn_blocking(registry).await.unwrap();
}
