//! `check` and `ready`: what holds, and what a worker says of itself.

use crate::support::command::predictd;
use crate::support::harness::{REQUEST_SUBSCRIPTION, REQUESTS, World, model_file, outcome, repository};

const WORKER: &str = "serviceAccount:predictd@demo.iam.gserviceaccount.com";
const BATCHES: &str = "projects/demo/topics/batches";
const BATCH_SUBSCRIPTION: &str = "projects/demo/subscriptions/batches";

#[test]
fn check_prints_what_a_good_configuration_comes_to() {
    for file in ["config/predictd.yaml", "config/local.yaml"] {
        let (code, stdout, stderr) = outcome(predictd(&["check", "--config", file]), "");
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("max_rows: 128"), "{stdout}");
        assert!(stdout.contains(&format!("/topics/prediction-responses # {file}")), "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_servers_when_told_to() {
    let world = World::start().await;
    world.upload("models/wine/1/model.onnx", model_file("wine/1", "model.onnx"));
    let check = async |variables: &[(&str, &str)]| {
        let mut command = world.command();
        command.args(["check", "--connect", "--config", "config/local.yaml"]);
        command.current_dir(repository()).envs(variables.iter().copied());
        tokio::task::spawn_blocking(|| outcome(command, "")).await.unwrap()
    };
    let (code, stdout, stderr) = check(&[]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("project: demo") && stderr.lines().all(|line| line.starts_with("ok ")));
    for said in [
        "credentials: not needed with PUBSUB_EMULATOR_HOST",
        "requests.subscription: projects/demo/subscriptions/prediction-requests\n",
        "responses.topic: projects/demo/topics/prediction-responses\n",
        "models.updates: projects/demo/subscriptions/model-updates\n",
        "models.source: projects/_/buckets/models\n",
        "models.source: gs://models/models has wine\n",
    ] {
        assert!(stderr.contains(&format!("ok       {said}")), "{said:?} is missing in {stderr}");
    }
    let (code, _, stderr) = check(&[
        ("PREDICTD_REQUESTS__SUBSCRIPTION", "no-requests"),
        ("PREDICTD_RESPONSES__TOPIC", "no-responses"),
        ("PREDICTD_RESPONSES__BUCKET", "gs://no-results"),
        ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "no-images"),
        ("PREDICTD_MODELS__DEFAULT", "beer"),
    ])
    .await;
    assert_eq!(code, 1, "{stderr}");
    for said in [
        "requests.subscription: projects/demo/subscriptions/no-requests: it does not exist\n  try: create it",
        "responses.topic: projects/demo/topics/no-responses: it does not exist\n  try: create it, or correct",
        "responses.bucket: projects/_/buckets/no-results: it does not exist",
        "requests.allowed_buckets: projects/_/buckets/no-images: it does not exist",
        "models.source: gs://models/models: the default model \"beer\" is not among wine",
    ] {
        assert!(stderr.contains(&format!("problem  {said}")), "{said:?} is missing in {stderr}");
    }
    assert!(stderr.contains("error: 5 of 8 checks failed\nhint: "), "{stderr}");
    assert!(stderr.contains("ok       models.updates"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_for_what_batches_need() {
    let world = World::start_with(|builder| {
        builder
            .enforce_iam()
            .calls_as(WORKER, None)
            .subscription(REQUEST_SUBSCRIPTION, REQUESTS)
            .topic(BATCHES)
            .subscription(BATCH_SUBSCRIPTION, BATCHES)
            .bucket("tables")
            .bucket("predictions")
    })
    .await;
    let grant = |role, resource| world.server.grant(role, resource, WORKER).unwrap();
    let check = async |buckets: &str| {
        let host = world.server.host_as(WORKER).unwrap();
        let mut command = world.command();
        command.args(["check", "--connect", "--config", "config/local.yaml"]).current_dir(repository());
        command.env("PUBSUB_EMULATOR_HOST", &host).env("STORAGE_EMULATOR_HOST", &host);
        command
            .env("PREDICTD_FILES__SUBSCRIPTION", "batches")
            .env("PREDICTD_FILES__ALLOWED_BUCKETS", buckets);
        let (_, _, stderr) = tokio::task::spawn_blocking(|| outcome(command, "")).await.unwrap();
        stderr.lines().filter(|line| line.contains("  files.")).map(str::to_owned).collect::<Vec<_>>()
    };
    let subscription = format!("files.subscription: {BATCH_SUBSCRIPTION}");
    let topic = format!("files.subscription: {BATCHES}");
    let buckets =
        ["tables", "predictions"].map(|it| format!("files.allowed_buckets: projects/_/buckets/{it}"));

    let said = check("tables,predictions/daily").await;
    let missing = "it does not exist, or the right pubsub.subscriptions.consume and pubsub.subscriptions.get";
    assert!(said[0].starts_with(&format!("problem  {subscription}: {missing}")), "{said:#?}");
    let missing = "it does not exist, or the right storage.objects.list and storage.objects.get is missing";
    assert!(said[1].starts_with(&format!("problem  {}: {missing}", buckets[0])), "{said:#?}");
    assert!(said[2].starts_with(&format!("unknown  {}: ", buckets[1])), "a part of a bucket: {said:#?}");

    grant("roles/pubsub.subscriber", BATCH_SUBSCRIPTION);
    grant("roles/pubsub.viewer", BATCH_SUBSCRIPTION);
    grant("roles/storage.objectViewer", "projects/_/buckets/tables");
    grant("roles/storage.objectUser", "projects/_/buckets/predictions");
    let said = check("tables,predictions").await;
    let missing = "it does not exist, or the right pubsub.topics.publish is missing";
    assert!(said.contains(&format!("problem  {topic}: {missing}")), "{said:#?}");

    grant("roles/pubsub.publisher", BATCHES);
    let fine: Vec<String> =
        [&subscription, &buckets[0], &buckets[1], &topic].iter().map(|it| format!("ok       {it}")).collect();
    assert_eq!(check("tables,predictions").await, fine);

    world.server.pubsub.delete_topic(BATCHES).unwrap();
    let said = check("tables,predictions").await;
    let deleted = "problem  files.subscription: _deleted-topic_: the topic of the subscription was deleted";
    assert!(said.iter().any(|line| line == deleted), "{said:#?}");
}

#[test]
fn credentials_that_are_not_there_are_the_one_problem() {
    let mut command = predictd(&["check", "--connect", "--config", "config/local.yaml"]);
    command.env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
    let (code, _, stderr) = outcome(command, "");
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.starts_with("problem  credentials: Application Default Credentials: no token: "),
        "{stderr}"
    );
    assert!(stderr.contains("GOOGLE_APPLICATION_CREDENTIALS") && stderr.contains("1 of 1"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_what_the_worker_says() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.worker(&[]);
    let address = worker.address().await;
    let ask = move |address: String| async move {
        let command = predictd(&["ready", "--address", &address]);
        tokio::task::spawn_blocking(move || outcome(command, "")).await.unwrap()
    };
    worker.until_ready().await;
    let (code, stdout, stderr) = ask(address.clone()).await;
    assert_eq!((code, stdout.as_str()), (0, "ready\n"), "{stderr}");
    world.server.pubsub.delete_subscription(REQUEST_SUBSCRIPTION).unwrap();
    worker.until_not_ready("NOT_FOUND").await;
    let (code, stdout, stderr) = ask(address.clone()).await;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("not ready: ") && stderr.contains("NOT_FOUND"), "{stderr}");
    drop(worker);
    let (code, _, stderr) = ask(address.clone()).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("cannot ask the worker at {address}")), "{stderr}");
    assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
}
