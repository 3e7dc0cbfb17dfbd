//! Responses keep the ordering key and the order of their requests.

use local_gcp::history::What;
use local_gcp::pubsub::wire::{PubsubMessage, Subscription};

use crate::support::harness::{REQUESTS, RESPONSES, World};
use crate::support::oracle::wine;

#[tokio::test(flavor = "multi_thread")]
async fn the_ordering_key_stays() {
    let ordered = Subscription {
        name: "projects/demo/subscriptions/prediction-requests".to_owned(),
        topic: REQUESTS.to_owned(),
        enable_message_ordering: true,
        ..Subscription::default()
    };
    let world = World::start_with(|builder| builder.subscription_with(ordered)).await;
    world.upload_version("wine/1", "wine", "1");
    let _worker = world.ready_worker(&[]).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let message = PubsubMessage {
            data: wine().request(&[n]).into(),
            ordering_key: format!("key-{}", n % 4),
            ..Default::default()
        };
        ids.extend(world.server.pubsub.publish(REQUESTS, vec![message]).unwrap());
    }
    let responses = world.responses(&ids).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(responses[id].ordering_key, format!("key-{}", n % 4));
        wine().check(&[n], &responses[id]);
    }
    // Within a key, responses come in the order of the requests.
    let order: Vec<(String, usize)> = world.server.history.with(|events| {
        let published = events.iter().filter_map(|event| match &event.what {
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                let message = &stored.message;
                let id = &message.attributes["request_message_id"];
                Some((message.ordering_key.clone(), ids.iter().position(|known| known == id).unwrap()))
            }
            _ => None,
        });
        published.collect()
    });
    for key in 0..4 {
        let of_key: Vec<usize> =
            order.iter().filter(|(k, _)| *k == format!("key-{key}")).map(|(_, n)| *n).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}
