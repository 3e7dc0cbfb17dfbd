//! Faults 53 and 54: a directory with what cannot be read or never ends, and files that change while they are
//! served; models that are gone.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use local_gcp::faults::Fault;

use super::*;
use crate::faults::until;

fn copy(root: &Path, from: &str, to: &str, files: &[&str]) {
    let folder = root.join(to);
    std::fs::create_dir_all(&folder).unwrap();
    for file in files {
        std::fs::write(folder.join(file), model_file(from, file)).unwrap();
    }
}

/// Takes the right to read it, which root has all the same.
fn close(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o000)).unwrap();
}

fn open(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A worker that has no more rights than its user: root's are void in a user namespace that does not know the
/// files' owner. `None` where root may not make one.
fn unprivileged(world: &World, closed: &Path, variables: &[(&str, &str)]) -> Option<Worker> {
    if std::fs::read_dir(closed).is_err() {
        return Some(world.worker(variables));
    }
    let may = Command::new("unshare").args(["--user", "ls"]).arg(closed).output().unwrap();
    if !String::from_utf8_lossy(&may.stderr).contains("Permission denied") {
        skip("fault 53: this system does not let a test of root's have a folder that it cannot read");
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--user", env!("CARGO_BIN_EXE_predictd"), "run", "--config"])
        .arg(repository().join("config/local.yaml"))
        .env("ORT_DYLIB_PATH", crate::support::harness::onnxruntime())
        .env("PUBSUB_EMULATOR_HOST", world.server.host())
        .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0")
        .envs(variables.iter().copied());
    Some(Worker::spawn(command))
}

/// Until the source was listed once more: something new in it is named.
async fn listed_again(worker: &Worker, root: &Path, name: &str) {
    std::fs::write(root.join(name), b"").unwrap();
    let has = |info: &serde_json::Value| info["ignored"].to_string().contains(name);
    worker.until_info("another listing", has).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_53_a_directory_that_misbehaves() {
    let injected = "a folder that cannot be read, links to themselves and upwards, a pipe; weights overwritten and truncated in place";
    let promise = "passed over by name; what serves does not change with its files";
    let mut trial = Trial::of(World::start().await, 53, injected, promise);
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    copy(root.path(), "wine/1", "wine/1", &["MLmodel", "model.onnx"]);
    trial.world.contents.placed("wine", "1", &model_file("wine/1", "model.onnx"));
    copy(root.path(), "faults/external-subgraph/1", "add/1", &["model.onnx", "branches.bin"]);
    trial.world.contents.placed("add", "1", &model_file("faults/external-subgraph/1", "model.onnx"));
    std::fs::create_dir(at("lost+found")).unwrap();
    close(&at("lost+found"));
    symlink("self", at("self")).unwrap();
    symlink("nowhere", at("wine/2")).unwrap();
    symlink("..", at("wine/1/up")).unwrap();
    std::fs::create_dir(at("wine/3")).unwrap();
    assert!(Command::new("mkfifo").arg(at("wine/3/model.onnx")).status().unwrap().success());
    let source = root.path().to_str().unwrap();
    let variables = [
        ("PREDICTD_MODELS__SOURCE", source),
        ("PREDICTD_MODELS__DEFAULT", "wine"),
        ("PREDICTD_MODELS__POLL_INTERVAL", "100ms"),
    ];
    let Some(mut worker) = unprivileged(&trial.world, &at("lost+found"), &variables) else { return };
    worker.until_ready().await;
    trial.serves(&worker, "1").await;
    let info = worker.info().await;
    for (path, words) in [
        ("lost+found", "expected something that can be read: Permission denied"),
        ("self", "expected a link to something that is there: Too many levels of symbolic links"),
        ("wine/2", "expected a link to something that is there: No such file"),
        ("wine/1/up", "found a link to one that it lies in"),
        ("wine/3/model.onnx", "expected a file or a folder"),
    ] {
        let path = at(path).display().to_string();
        let ignored = info["ignored"].as_array().unwrap().iter().find(|ignored| ignored["path"] == *path);
        let expected =
            ignored.unwrap_or_else(|| panic!("{path} is not in {info}"))["expected"].as_str().unwrap();
        assert!(expected.contains(words), "{path}: {expected}");
        assert_eq!(worker.log().matches(&format!("\"path\":\"{path}\"")).count(), 1, "said once: {path}");
    }

    // Its model's folder cannot be read for a while: nothing changes.
    close(&at("wine"));
    for name in ["once", "twice"] {
        // Two listings count where they are a second apart.
        tokio::time::sleep(Duration::from_secs(1)).await;
        listed_again(&worker, root.path(), name).await;
    }
    trial.serves(&worker, "1").await;
    let warning = |info: &serde_json::Value| info["models"]["wine"]["warning"].to_string();
    worker.until_info("a warning", |info| warning(info).contains("cannot be read: version 1 stays")).await;
    open(&at("wine"));
    worker.until_info("no warning", |info| warning(info) == "null").await;
    trial.weigh(&worker);
    worker.signal("-TERM");
    assert!(worker.end().await.success());
    open(&at("lost+found"));

    // A worker that does not look again, while the weights of `add` change: from 7 to 8, then to nothing.
    let weights = at("add/1/branches.bin");
    let add = |weight: i64| {
        // Written in place: the inode stays.
        let file = std::fs::File::options().write(true).open(&weights).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &weight.to_le_bytes(), 0).unwrap();
    };
    let cut = |length: u64| {
        std::fs::File::options().write(true).open(&weights).unwrap().set_len(length).unwrap();
    };
    let once = [variables[0], variables[1], ("PREDICTD_MODELS__POLL_INTERVAL", "1h")];
    let mut worker = trial.world.ready_worker(&once).await;
    let answers = |sum: i64| End::Contains(format!("[{sum}]"));
    trial.ask("{\"instances\": [1]}", &[("model", "add")], answers(8)).await;
    add(8);
    trial.ask("{\"instances\": [1]}", &[("model", "add")], answers(8)).await;
    cut(0);
    trial.ask("{\"instances\": [1]}", &[("model", "add")], answers(8)).await;
    worker.signal("-TERM");
    assert!(worker.end().await.success());

    // One that looks: a change is another version of the files, checked like any other.
    cut(16);
    add(7);
    let cache = tempfile::tempdir().unwrap();
    let looking = [&variables[..], &[("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap())]].concat();
    let worker = trial.world.ready_worker(&looking).await;
    worker.until_serving("add", "1").await;
    let loaded_at = async || worker.info().await["models"]["add"]["serving"]["loaded_at"].to_string();
    let first = loaded_at().await;
    add(8);
    let is_new = || async { (loaded_at().await != first).then_some(()) };
    worker.until("the version with other weights", is_new).await;
    trial.ask("{\"instances\": [1]}", &[("model", "add")], answers(9)).await;
    cut(0);
    let warning = |info: &serde_json::Value| info["models"]["add"]["warning"].to_string();
    let has_refused = |info: &serde_json::Value| warning(info).contains("what the source has of it now");
    worker.until_info("a refusal of what is truncated", has_refused).await;
    trial.ask("{\"instances\": [1]}", &[("model", "add")], answers(9)).await;
    assert_eq!(
        found(cache.path(), ".partial-"),
        Vec::<PathBuf>::new(),
        "copies are gone once they are loaded"
    );
    let happened = "each named once in the log and /info; what served answered the same while its files were overwritten and truncated; \
                    overwritten weights served once they were checked, truncated ones never";
    trial.judge(&worker, Allowed::default(), happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_54_a_model_that_is_gone() {
    let injected =
        "a model deleted while the source cannot be listed, and then while it can; all models deleted";
    let mut trial =
        trial(54, injected, "retired after two listings; what cannot be listed changes nothing").await;
    trial.world.upload_version("types/int64/1", "numbers", "1");
    let variables = [
        ("PREDICTD_MODELS__DEFAULT", "wine"),
        ("PREDICTD_MODELS__UPDATES", ""),
        ("PREDICTD_MODELS__POLL_INTERVAL", "200ms"),
    ];
    let worker = trial.world.ready_worker(&variables).await;
    let ask = "{\"instances\": [[1, 2, 3]]}";
    let numbers = [("model", "numbers")];
    trial.ask(ask, &numbers, End::Contains("[1,2,3]".to_owned())).await;
    worker.until_metric("predictd_models_serving", 2.0).await;
    trial.inject("ListObjects", Fault::Fail("UNAVAILABLE".to_owned()), 100_000);
    trial.world.delete("models/numbers/1/model.onnx");
    let failed = || worker.log().matches("cannot look for new model versions").count();
    until("five looks that fail", || failed() >= 1 && trial.met("ListObjects", 100_000) >= 5).await;
    trial.ask(ask, &numbers, End::Contains("[1,2,3]".to_owned())).await;
    trial.world.server.faults.clear();
    worker.until_log("model retired").await;
    worker.until_metric("predictd_models_serving", 1.0).await;
    assert!(worker.info().await["models"]["numbers"].is_null());
    trial.ask(ask, &numbers, End::Code("MODEL_NOT_FOUND")).await;
    trial.serves(&worker, "1").await;
    // It may come back.
    trial.world.upload_version("types/int64/1", "numbers", "2");
    worker.until_serving("numbers", "2").await;
    trial.ask(ask, &numbers, End::Contains("[1,2,3]".to_owned())).await;
    for object in ["numbers/2/model.onnx", "wine/1/model.onnx", "wine/1/MLmodel"] {
        trial.world.delete(&format!("models/{object}"));
    }
    worker.until_not_ready("no model is serving any more").await;
    trial.ask(wine().request(&[1]), &[], End::Code("MODEL_NOT_FOUND")).await;
    trial.world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    worker.until_ready().await;
    trial.serves(&worker, "2").await;
    let happened = "served while the source could not be listed, then retired: reported, MODEL_NOT_FOUND; \
                    without any model not ready, and ready with the next";
    trial.judge(&worker, Allowed::default(), happened).await;
}
