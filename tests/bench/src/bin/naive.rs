//! The worker that a Rust developer would write first: a task a message, `serde_json::Value`, a call a request,
//! no batches, no attributes of its own, and no promise kept beyond the usual case. For models that take one
//! float32 input `[rows, columns]`.
//!
//! `naive MODEL.onnx`

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bench::{Clients, session};
use google_cloud_pubsub::model::Message;
use ort::session::Session;
use ort::value::TensorRef;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let model = std::env::args().nth(1).context("expected the path of a model")?;
    let session = Arc::new(Mutex::new(session(Path::new(&model))?));
    let clients = Clients::connect().await?;
    let publisher = clients.responses.set_message_count_threshold(1000).build().await?;
    let mut stream = clients.requests.build();
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
