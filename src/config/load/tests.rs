use std::fs;
use std::io::Write;

use tempfile::NamedTempFile;

use super::*;
use crate::config::keys::KEYS;
use crate::config::{Cache, MAX_ROWS, Provider, Source};

const LEAST: &str = "\
project: demo
requests: {subscription: requests}
responses: {topic: responses}
models: {source: ./models}
";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load_all(files: &[&str], variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let files: Vec<NamedTempFile> = files.iter().map(|text| file(text)).collect();
    let paths: Vec<&Path> = files.iter().map(|file| file.path()).collect();
    load(&paths, variables.iter().map(|(name, value)| (name.into(), value.into())))
}

fn good(files: &[&str], variables: &[(&str, &str)]) -> Config {
    load_all(files, variables).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// The problems' keys, in order.
fn bad(files: &[&str], variables: &[(&str, &str)]) -> Vec<Problem> {
    load_all(files, variables).map(|loaded| panic!("accepted as {:?}", loaded.config)).unwrap_err().0
}

fn wrong_keys(files: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    bad(files, variables).into_iter().map(|problem| problem.key.unwrap_or_default()).collect()
}

#[test]
fn defaults_complete_the_least_configuration() {
    let config = good(&[LEAST], &[]);
    let expected = Config {
        project: "demo".into(),
        requests: Requests {
            subscription: "projects/demo/subscriptions/requests".into(),
            max_outstanding_messages: 10_000,
            max_outstanding_bytes: 128 << 20,
            allowed_buckets: vec![],
        },
        responses: Responses {
            topic: "projects/demo/topics/responses".into(),
            bucket: None,
            inline_limit: 9 << 20,
        },
        models: Models {
            source: Source::Directory("./models".into()),
            default: None,
            updates: None,
            poll_interval: Duration::from_secs(60),
            load_timeout: Duration::from_secs(600),
            cache: Cache::default(),
        },
        batching: Batching { max_rows: 128, max_wait: Duration::ZERO },
        inference: Inference {
            library: None,
            providers: vec![Provider::Cpu],
            // These depend on the machine; see below.
            threads: config.inference.threads,
            call_threads: config.inference.call_threads,
        },
        http: Http {
            listen: "127.0.0.1:8080".parse().unwrap(),
            predictions: true,
            max_body: 32 << 20,
            timeout: Duration::from_secs(30),
            tokens_file: None,
            console: true,
        },
        files: Files { subscription: None, allowed_buckets: vec![] },
        shutdown: Shutdown { grace: Duration::from_secs(10) },
    };
    assert_eq!(config, expected);
    assert_eq!(config.batching.max_rows, MAX_ROWS, "of commands that read no configuration");
}

#[test]
fn threads_are_resolved() {
    let of = |number| {
        let Inference { threads, call_threads, .. } = Inference::default().with_threads(number);
        (threads, call_threads)
    };
    let (threads, call_threads) = of(0);
    assert!(threads >= 1 && (call_threads == threads || call_threads == threads + 1));
    assert_eq!(of(3), (3, 3));
    assert_eq!(good(&[LEAST], &[("PREDICTD_INFERENCE__THREADS", "5")]).inference.threads, 5);
}

#[test]
fn later_files_win_key_by_key_and_variables_over_all() {
    let first = format!("{LEAST}batching: {{max_rows: 1, max_wait: 1ms}}\nshutdown: {{grace: 1s}}\n");
    let second = "batching:\n  max_rows: 2\nshutdown:\n  grace: 2s\n";
    let config = good(&[&first, second], &[("PREDICTD_SHUTDOWN__GRACE", "3s")]);
    assert_eq!(config.batching.max_rows, 2);
    assert_eq!(config.batching.max_wait, Duration::from_millis(1), "a section is merged, not replaced");
    assert_eq!(config.shutdown.grace, Duration::from_secs(3));
}

#[test]
fn variables_alone_are_enough() {
    let config = good(
        &[],
        &[
            ("PREDICTD_PROJECT", "demo"),
            ("PREDICTD_REQUESTS__SUBSCRIPTION", "projects/other/subscriptions/requests"),
            ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "images, tables/daily"),
            ("PREDICTD_RESPONSES__TOPIC", "responses"),
            ("PREDICTD_MODELS__SOURCE", "gs://models/a/b/"),
            ("PREDICTD_INFERENCE__PROVIDERS", "cuda,cpu"),
        ],
    );
    let place = |bucket: &str, prefix: &str| Location { bucket: bucket.into(), prefix: prefix.into() };
    assert_eq!(config.requests.subscription, "projects/other/subscriptions/requests");
    assert_eq!(config.requests.allowed_buckets, [place("images", ""), place("tables", "daily")]);
    assert_eq!(config.models.source, Source::Bucket { bucket: "models".into(), prefix: "a/b".into() });
    assert_eq!(config.inference.providers, [Provider::Cuda, Provider::Cpu]);
}

#[test]
fn an_empty_variable_is_given() {
    let files = [LEAST, "models: {default: wine}\nrequests: {allowed_buckets: [images]}\n"];
    let config =
        good(&files, &[("PREDICTD_MODELS__DEFAULT", ""), ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "")]);
    assert_eq!(config.models.default, None);
    assert_eq!(config.requests.allowed_buckets, []);
    assert_eq!(wrong_keys(&[LEAST], &[("PREDICTD_PROJECT", "")]), ["project"]);
    assert_eq!(wrong_keys(&[LEAST], &[("PREDICTD_INFERENCE__PROVIDERS", "")]), ["inference.providers"]);
}

#[test]
fn keys_and_sections_without_value_are_not_given() {
    let config =
        good(&[LEAST, "requests:\nbatching:\n  max_rows:\n# all commented out\n", "", "# nothing\n"], &[]);
    assert_eq!(config.requests.subscription, "projects/demo/subscriptions/requests");
    assert_eq!(config.batching.max_rows, 128);
}

#[test]
fn variables_of_others_are_left_alone() {
    let config = good(
        &[LEAST],
        &[
            ("PREDICTD_LOG", "debug"),
            ("PREDICTD_SERVICE_HOST", "10.0.0.1"),
            ("PREDICTD_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("PREDICTD_PORT", "tcp://10.0.0.1:8080"),
            ("OTHER_PROJECT", "no"),
        ],
    );
    assert_eq!(config.project, "demo");
}

#[test]
fn every_wrong_value_is_refused_in_a_file() {
    for (key, value) in [
        ("project", "My Project"),
        ("project", "{id: demo}"),
        ("project", "[demo]"),
        ("project", "true"),
        ("requests.subscription", "projects/demo/topics/requests"),
        ("requests.max_outstanding_messages", "0"),
        ("requests.max_outstanding_messages", "1000001"),
        ("requests.max_outstanding_messages", "-1"),
        ("requests.max_outstanding_messages", "many"),
        ("requests.max_outstanding_bytes", "128mib"),
        ("requests.max_outstanding_bytes", "1023"),
        ("requests.max_outstanding_bytes", "2TiB"),
        ("requests.allowed_buckets", "[gs://images]"),
        ("requests.allowed_buckets", "[images, {a: b}]"),
        ("requests.allowed_buckets", "{a: b}"),
        ("responses.topic", "goog-responses"),
        ("models.source", "s3://models"),
        ("models.default", "wine/3"),
        ("models.default", "1.10"),
        ("models.updates", "ab"),
        ("models.poll_interval", "60"),
        ("models.poll_interval", "9ms"),
        ("models.poll_interval", "25h"),
        ("batching.max_rows", "0"),
        ("batching.max_rows", "1.5"),
        ("batching.max_wait", "61s"),
        ("inference.library", "[a]"),
        ("inference.providers", "[]"),
        ("inference.providers", "[cpu, cpu]"),
        ("inference.providers", "[tpu]"),
        ("inference.threads", "1025"),
        ("http.listen", "localhost:8080"),
        ("http.listen", "8080"),
        ("files.subscription", "projects/demo/topics/batches"),
        ("files.allowed_buckets", "[gs://tables]"),
        ("shutdown.grace", "2h"),
    ] {
        let text = match key.split_once('.') {
            Some((section, name)) => format!("{section}: {{{name}: {value}}}"),
            None => format!("{key}: {value}"),
        };
        let problems = bad(&[LEAST, &text], &[]);
        assert_eq!(problems.len(), 1, "{key}: {value}: {problems:?}");
        let problem = &problems[0];
        assert_eq!(problem.key.as_deref(), Some(key), "{value}");
        assert!(problem.value.is_some() && !problem.hint.is_empty(), "{problem:?}");
        assert!(matches!(problem.origin, Origin::File(_)), "{problem:?}");
    }
}

#[test]
fn limits_themselves_are_allowed() {
    for (name, value) in [
        ("PREDICTD_BATCHING__MAX_ROWS", "1"),
        ("PREDICTD_BATCHING__MAX_ROWS", "1000000"),
        ("PREDICTD_BATCHING__MAX_WAIT", "1m"),
        ("PREDICTD_MODELS__POLL_INTERVAL", "24h"),
        ("PREDICTD_MODELS__POLL_INTERVAL", "10ms"),
        ("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "1KiB"),
        ("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "1TiB"),
        ("PREDICTD_SHUTDOWN__GRACE", "0"),
        ("PREDICTD_HTTP__LISTEN", "[::1]:0"),
    ] {
        good(&[LEAST], &[(name, value)]);
    }
}

#[test]
fn nothing_given_names_every_required_key() {
    let required: Vec<_> = KEYS.iter().filter(|key| key.default.is_none()).map(|key| key.path).collect();
    assert_eq!(required, ["project", "requests.subscription", "responses.topic", "models.source"]);
    assert_eq!(wrong_keys(&["# nothing\n"], &[]), required);
}

#[test]
fn a_problem_is_reported_once_and_hides_no_other() {
    let text = "project: Bad\nrequests: 5\nbatching: {max_rows: no, max_wait: 1}\nextra: {a: {b: 1}}\n";
    let keys = wrong_keys(&[text], &[("PREDICTD_HTTP_LISTEN", "127.0.0.1:1")]);
    assert_eq!(
        keys,
        [
            "extra",
            "requests",
            "http_listen",
            "project",
            "requests.subscription",
            "responses.topic",
            "models.source",
            "batching.max_rows",
            "batching.max_wait",
        ]
    );
}

#[test]
fn unknown_keys_get_a_hint_in_their_own_spelling() {
    let hint = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.hint).collect::<Vec<_>>();
    assert_eq!(hint(bad(&[LEAST, "max_rows: 1"], &[])), ["did you mean `batching.max_rows`?"]);
    assert_eq!(
        hint(bad(&[LEAST], &[("PREDICTD_REQUESTS_SUBSCRIPTION", "requests")])),
        ["did you mean `PREDICTD_REQUESTS__SUBSCRIPTION`?"]
    );
    assert_eq!(hint(bad(&[LEAST, "batching: {speed: 1}"], &[])), ["`batching` has max_rows, max_wait"]);
    assert_eq!(
        hint(bad(&[LEAST, "batching.max_rows: 1"], &[])),
        ["write `batching:` and, indented below it, `max_rows:`"]
    );
}

#[test]
fn a_bad_file_hides_no_other_problem() {
    for (text, expected) in [
        ("a: b: c\n", "line 1"),
        ("project: demo\n\tresponses: x\n", "found a tab"),
        ("project: demo\nproject: other\n", "line 2"),
        ("- a list\n", "mapping"),
        ("a: 1\n---\nb: 2\n", "expected one YAML document, got several"),
    ] {
        let problems = bad(&[text, LEAST, "batching: {max_rows: 0}"], &[]);
        let [file, value] = &problems[..] else { panic!("{problems:?}") };
        assert!(file.key.is_none() && file.message.contains(expected), "{text:?}: {file:?}");
        assert!(file.message.contains(": line ") && !file.message.contains('\n'), "{text:?}: {file:?}");
        assert_eq!(value.key.as_deref(), Some("batching.max_rows"));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.yaml");
    let Problems(problems) = load(&[&missing], []).unwrap_err();
    assert_eq!(problems[0].origin, Origin::File(missing));
    assert!(problems[0].message.starts_with("the file cannot be read"), "{:?}", problems[0]);
    assert_eq!(problems.len(), 1, "the file may give the required keys: {problems:?}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![b'a', 0xff]);
    let least = file(LEAST);
    let Problems(problems) =
        load(&[least.path()], [("PREDICTD_INFERENCE__LIBRARY".into(), value)]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key.as_deref(), Some("inference.library"));
}

#[test]
fn updates_must_not_take_requests() {
    let same = "models: {updates: projects/demo/subscriptions/requests}";
    assert_eq!(wrong_keys(&[LEAST, same], &[]), ["models.updates"]);
    let updates = good(&[LEAST, "models: {updates: updates}"], &[]).models.updates;
    assert_eq!(updates.as_deref(), Some("projects/demo/subscriptions/updates"));
}

#[test]
fn batches_need_a_subscription_of_their_own_and_buckets() {
    let buckets = "files: {allowed_buckets: [tables/daily, predictions]}\nmodels: {updates: updates}\n";
    let batches = |subscription: &str| format!("files: {{subscription: {subscription}}}");
    let files = good(&[LEAST, buckets, &batches("batches")], &[]).files;
    assert_eq!(files.subscription.as_deref(), Some("projects/demo/subscriptions/batches"));
    assert_eq!(files.allowed_buckets, ["tables/daily", "predictions"].map(|it| Location::parse(it).unwrap()));
    assert_eq!(good(&[LEAST, buckets], &[]).files.subscription, None, "buckets alone are no problem");
    for taken in ["requests", "projects/demo/subscriptions/requests", "updates"] {
        assert_eq!(wrong_keys(&[LEAST, buckets, &batches(taken)], &[]), ["files.subscription"], "{taken}");
    }
    let problems = bad(&[LEAST], &[("PREDICTD_FILES__SUBSCRIPTION", "batches")]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.key.as_deref(), Some("files.subscription"));
    assert!(problem.message.starts_with("jobs could read and write nothing"), "{problem:?}");
}

#[test]
fn the_effective_configuration_reads_back() {
    let text = format!(
        "{LEAST}inference: {{library: \"/a b/#c: d\", providers: [cuda, cpu]}}\nhttp: {{listen: \"[::1]:0\"}}\n\
         files: {{subscription: batches, allowed_buckets: [tables/a b, predictions]}}\n"
    );
    for default in ["true", "1.10", "007", "null", "~", "a'b\"c", "# no", "é", "0x1F", "-", "- a", "[x]"] {
        let first = load_all(&[&text], &[("PREDICTD_MODELS__DEFAULT", default)]).unwrap();
        assert_eq!(first.config.models.default.as_deref(), Some(default));
        assert_eq!(good(&[&first.effective.to_string()], &[]), first.config);
    }
}

#[test]
fn the_documented_configuration_has_every_key_with_its_default() {
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/predictd.yaml");
    let everything = load(&[&documented], []).unwrap_or_else(|problems| panic!("{problems}"));
    let text = fs::read_to_string(&documented).unwrap();
    let mut layers = Layers::default();
    layers.add_file(&documented);
    for key in KEYS {
        let Some(given) = layers.given.get(key.path) else { panic!("{} is not documented", key.path) };
        if let Some(default) = key.default {
            assert_eq!(given.texts, Some(split(key, default.into())), "{}", key.path);
        }
    }
    assert_eq!(layers.given.len(), KEYS.len());
    for line in text.lines().filter(|line| line.contains("# *")) {
        assert!(line.trim_start().starts_with("# * "), "a starred key is marked alike: {line}");
    }
    let starred = text.lines().filter(|line| line.trim_start().starts_with("# * ")).count();
    assert_eq!(starred, KEYS.iter().filter(|key| key.default.is_none()).count());
    assert_eq!(everything.config.batching.max_rows, 128);
}

#[test]
fn the_local_configuration_is_the_demonstrations() {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/local.yaml");
    let config = load(&[&local], []).unwrap_or_else(|problems| panic!("{problems}")).config;
    assert_eq!(config.requests.subscription, "projects/demo/subscriptions/prediction-requests");
    assert_eq!(config.responses.topic, "projects/demo/topics/prediction-responses");
    assert_eq!(config.models.updates.as_deref(), Some("projects/demo/subscriptions/model-updates"));
    assert_eq!(config.models.source, Source::Bucket { bucket: "models".into(), prefix: "models".into() });
}

#[test]
fn without_a_file_the_option_is_named_once() {
    let problems = bad(&[], &[]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    let keys = "`project`, `requests.subscription`, `responses.topic`, `models.source`";
    assert_eq!(problem.message, format!("no file is given with --config, and no variable gives {keys}"));
    assert!(problem.hint.contains("`--config FILE`"), "{problem:?}");
    let some = bad(&[], &[("PREDICTD_PROJECT", "demo"), ("PREDICTD_BATCHING__MAX_ROWS", "0")]);
    assert_eq!(some[0].key.as_deref(), Some("batching.max_rows"), "what is given is checked all the same");
    assert!(some.len() == 2 && !some[1].message.contains("`project`"), "{some:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_the_one_problem() {
    assert_eq!(bad(&["project: here: there\n"], &[]).len(), 1);
    let wrong = bad(&["project: here: there\n"], &[("PREDICTD_BATCHING__MAX_ROWS", "0")]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn the_project_of_the_template_is_warned_about() {
    assert_eq!(good(&[LEAST], &[]).warnings(), Vec::<String>::new());
    let warnings = good(&[LEAST], &[("PREDICTD_PROJECT", "my-project")]).warnings();
    assert!(warnings.len() == 1 && warnings[0].starts_with("project: \"my-project\" is"), "{warnings:?}");
    let template = std::fs::read_to_string("config/predictd.yaml").unwrap();
    assert_eq!(good(&[&template], &[]).warnings(), warnings);
}
