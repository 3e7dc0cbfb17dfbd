//! Fault 20: what requests refer to.

use crate::requests::references::{ALLOWED, asked_of_storage, notification, refer, store, wine_world};
use crate::support::harness::World;
use crate::support::oracle::{Allowed, End, wine};

use super::Trial;

/// Objects that must not be read.
fn stored(world: &World) {
    for (bucket, name) in [("secret", "a"), ("shared", "inner/a"), ("shared", "a"), ("inputs", "results/1")] {
        store(world, bucket, name, wine().request(&[1]), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_what_is_not_allowed_is_not_even_asked_for() {
    let world = wine_world().await;
    stored(&world);
    let injected = "18 references and notifications of objects outside of the allowed buckets";
    let mut trial = Trial::of(world, 20, injected, "INPUT_FORBIDDEN, no request to storage");
    let variables = [ALLOWED, ("PREDICTD_RESPONSES__BUCKET", "gs://inputs/results")];
    let worker = trial.world.ready_worker(&variables).await;
    let forbidden = End::Code("INPUT_FORBIDDEN");
    for address in [
        "gs://secret/a",
        "gs://shared/inner/a",
        "gs://shared/a",
        "gs://shared/in/../a",
        "gs://inputs-2/a",
        "gs://models/models/wine/2/model.onnx",
        "https://example.com/a",
        "file:///etc/passwd",
    ] {
        trial.request(refer(address), &[], forbidden.clone());
        trial.request("", &[("dataref", address)], forbidden.clone());
    }
    // predictd's own results would go round for ever.
    for (bucket, name) in [("secret", "a"), ("inputs", "results/1")] {
        let attributes = notification(bucket, name, 1, &[]);
        let attributes: Vec<(&str, &str)> =
            attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        trial.request("", &attributes, forbidden.clone());
    }
    trial.wines(20);
    trial.judge(&worker, Allowed::default(), "storage was not asked").await;
    assert_eq!(trial.world.server.history.with(asked_of_storage), [] as [String; 0]);
    trial.each_was_delivered_once();
    // The history would have told: what is allowed shows there, whether it exists or not.
    store(&trial.world, "shared", "in/a", wine().request(&[1]), "");
    trial.ask(refer("gs://shared/in/a"), &[], End::Wine(vec![1])).await;
    trial.ask(refer("gs://shared/in/none"), &[], End::Code("INVALID_INPUT")).await;
    trial.verdict(&worker, Allowed::default()).await;
    let asked = trial.world.server.history.with(asked_of_storage);
    assert!(asked.len() == 2 && asked[0] == "shared/in/a" && asked[1].starts_with("storage."), "{asked:?}");
}
