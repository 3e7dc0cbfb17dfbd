//! The bare HTTP server: axum answers with the bytes of a prediction, whatever it is asked. What any server on
//! this library can at best reach. `http_echo ADDRESS`.

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;

const ANSWER: &str = "{\"predictions\":[{\"label\":0,\"probabilities\":[0.9993232,0.00067613635,0.0]}],\
                      \"model\":\"wine\",\"model_version\":\"2\"}";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let echo = post(async |body: Bytes| {
        assert!(!body.is_empty());
        ([(CONTENT_TYPE, "application/json")], ANSWER)
    });
    let address = std::env::args().nth(1).context("expected an address")?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/predict", echo)).await?;
    Ok(())
}
