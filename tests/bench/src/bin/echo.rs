//! The bare client: pull, publish, ack, nothing else. What any worker on this client can at best reach.
//!
//! `echo PER_CALL [attributes]`: messages a publish call; 1 publishes each at once, which is the floor of the
//! latency. With `attributes` each response carries those that predictd's contract asks for, which shows what
//! they alone cost.

use bench::Clients;
use google_cloud_pubsub::model::Message;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let per_call: u32 = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let with_attributes = std::env::args().nth(2).is_some_and(|text| text == "attributes");
    let clients = Clients::connect().await?;
    let publisher = clients.responses.set_message_count_threshold(per_call).build().await?;
    let mut stream = clients.requests.build();
    // One task acknowledges in order: a task a message would cost more than the echo itself.
    let (sent, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((response, handler)) = accepted.recv().await {
            let response: google_cloud_pubsub::publisher::PublishFuture = response;
            let handler: google_cloud_pubsub::subscriber::handler::Handler = handler;
            if response.await.is_ok() {
                handler.ack();
            }
        }
    });
    while let Some(delivery) = stream.next().await {
        let (mut message, handler) = delivery?;
        if with_attributes {
            let id = message.message_id.as_str();
            let own = [
                ("request_id", id),
                ("request_message_id", id),
                ("content-type", "application/json"),
                ("model", "wine"),
                ("model_version", "2"),
                ("status", "ok"),
            ];
            message.attributes.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        let response = Message::new().set_data(message.data).set_attributes(message.attributes);
        sent.send((publisher.publish(response), handler))?;
    }
    Ok(())
}
