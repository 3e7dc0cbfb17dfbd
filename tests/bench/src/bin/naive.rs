//! The worker that a Rust developer would write first: a task a message, `serde_json::Value`, a call a request,
//! no batches, no attributes of its own, and no promise kept beyond the usual case. For models that take one
//! float32 input `[rows, columns]`.
//!
//! `naive MODEL.onnx`

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use google_cloud_auth::credentials::anonymous::Builder as Anonymous;
use google_cloud_pubsub::client::{Publisher, Subscriber};
use google_cloud_pubsub::model::Message;
use ort::session::Session;
use ort::value::TensorRef;
use serde_json::{Value, json};

/// The same as predictd has, so that the comparison is fair.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let model = std::env::args().nth(1).context("expected the path of a model")?;
    let session = Arc::new(Mutex::new(open(&model)?));
    let endpoint = format!("http://{}", std::env::var("PUBSUB_EMULATOR_HOST")?);
    let subscriber = Subscriber::builder()
        .with_endpoint(&endpoint)
        .with_credentials(Anonymous::new().build())
        .build()
        .await?;
    let publisher = Publisher::builder("projects/demo/topics/prediction-responses")
        .with_endpoint(&endpoint)
        .with_credentials(Anonymous::new().build())
        .set_message_count_threshold(1000)
        .set_delay_threshold(Duration::from_millis(2))
        .build()
        .await?;
    let mut stream = subscriber
        .subscribe("projects/demo/subscriptions/prediction-requests")
        .set_max_outstanding_messages(10_000)
        .build();
    while let Some(delivery) = stream.next().await {
        let (message, handler) = delivery?;
        let (session, publisher) = (Arc::clone(&session), publisher.clone());
        tokio::spawn(async move {
            let answer = predict(&session, &message.data);
            let body = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }).to_string());
            if publisher.publish(Message::new().set_data(body)).await.is_ok() {
                handler.ack();
            }
        });
    }
    Ok(())
}

fn open(model: &str) -> anyhow::Result<Session> {
    let library = std::env::var("ORT_DYLIB_PATH").context("ORT_DYLIB_PATH is not set")?;
    let environment = ort::init_from(library).map_err(|error| anyhow!("{error}"))?.build();
    let environment = environment.map_err(|error| anyhow!("{error}"))?;
    let builder = Session::builder(&environment)?.with_intra_threads(1);
    Ok(builder.map_err(|error| anyhow!("{error}"))?.commit_from_file(model)?)
}

fn predict(session: &Mutex<Session>, body: &[u8]) -> anyhow::Result<String> {
    let request: Value = serde_json::from_slice(body)?;
    let rows = request["instances"].as_array().context("expected \"instances\"")?;
    let mut values = Vec::new();
    for row in rows {
        for value in row.as_array().context("expected rows")? {
            values.push(value.as_f64().context("expected numbers")? as f32);
        }
    }
    let shape = [rows.len(), values.len() / rows.len().max(1)];
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, &values[..]))?])?;
    let (_, labels) = outputs[0].try_extract_tensor::<i64>()?;
    let (_, probabilities) = outputs[1].try_extract_tensor::<f32>()?;
    let width = probabilities.len() / labels.len().max(1);
    let predictions = labels.iter().zip(probabilities.chunks(width.max(1)));
    let predictions: Vec<Value> =
        predictions.map(|(label, row)| json!({ "label": label, "probabilities": row })).collect();
    Ok(json!({ "predictions": predictions }).to_string())
}
