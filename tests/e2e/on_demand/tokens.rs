use super::{instances, post, serve_wine};
use crate::support::harness::temporary;

#[tokio::test(flavor = "multi_thread")]
async fn all_but_probes_needs_a_token_and_the_file_is_read_again() {
    let (_folder, path) = temporary("tokens", "first\nsecond\n");
    let worker = serve_wine(&[("PREDICTD_HTTP__TOKENS_FILE", path.to_str().unwrap())]).await;
    for open in ["/health", "/ready", "/ping"] {
        assert_eq!(worker.get(open).await.0, 200, "{open}");
    }
    for closed in ["/", "/info", "/metrics", "/v1/models", "/v2", "/v2/health/ready"] {
        assert_eq!(worker.get(closed).await.0, 401, "{closed}");
    }
    let ask = async |token: &str| post(&worker, "/predict", &[("authorization", token)], instances(1)).await;
    for (token, status) in [
        ("Bearer first", 200),
        ("bearer second", 200),
        ("Bearer third", 401),
        ("Bearer ", 401),
        ("first", 401),
        ("Basic first", 401),
    ] {
        assert_eq!(ask(token).await.0, status, "{token}");
    }
    let (_, headers, body) = ask("Bearer third").await;
    assert_eq!(headers["www-authenticate"], "Bearer");
    assert!(String::from_utf8_lossy(&body).contains("authorization: Bearer TOKEN"));
    std::fs::write(&path, "third\n").unwrap();
    worker.until("the new token", async || (ask("Bearer third").await.0 == 200).then_some(())).await;
    assert_eq!(ask("Bearer first").await.0, 401);
    assert!(!worker.log().contains("third\"") && !worker.log().contains("first"), "a token is in the log");
}
