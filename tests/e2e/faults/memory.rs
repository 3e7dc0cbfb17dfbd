//! Faults 58 and 59: memory that no body shows.

use local_gcp::faults::Fault;

use super::Trial;
use crate::support::oracle::{Allowed, End};

#[tokio::test(flavor = "multi_thread")]
async fn fault_58_a_request_of_100_000_rows_through_a_wide_model() {
    let injected = "100,000 rows in 500 KB, each of which takes 64 KiB inside the model (6.5 GB together)";
    let mut trial = Trial::new(58, injected, "answered, in parts; memory under 512 MiB").await;
    trial.world.upload_version("faults/wide/1", "wide", "1");
    let worker = trial.worker(&[]).await;
    worker.until_serving("wide", "1").await;
    let rows: Vec<String> = (0..100_000).map(|n| (n % 1000).to_string()).collect();
    // Computed from its own rows and in their order.
    let answer = format!("{{\"predictions\":[{}]", rows.join(","));
    trial.request(
        format!("{{\"instances\": [{}]}}", rows.join(",")),
        &[("model", "wide")],
        End::Contains(answer),
    );
    trial.wines(50);
    trial.judge(&worker, Allowed::default(), &format!("peak {} MiB", worker.peak_mib())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_59_long_responses_while_publishing_is_unavailable() {
    let injected = "1,000 requests of 30 bytes with responses of 160 KB (160 MB), Publish UNAVAILABLE, a budget of 16 MiB";
    let mut trial = Trial::new(59, injected, "memory under the budget, all answered afterwards").await;
    trial.world.upload_version("faults/long/1", "long", "1");
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "16MiB")]).await;
    worker.until_serving("long", "1").await;
    trial.wines(10);
    trial.judge(&worker, Allowed::default(), "").await;
    let before = trial.weigh(&worker);
    trial.inject("Publish", Fault::Fail("UNAVAILABLE".to_owned()), 100_000);
    for n in 0..1000 {
        let number = (1_000_000 + n).to_string();
        let body = format!("{{\"instances\": [{number}]}}");
        // All of them, and nobody else's.
        let answer = format!("[[{}]]", vec![&*number; 20_000].join(","));
        trial.request(body, &[("model", "long")], End::Contains(answer));
    }
    worker.until_not_ready("no response was accepted").await;
    worker
        .until("a full budget", async || {
            worker.metric("predictd_bytes_in_hand ").await.filter(|bytes| *bytes >= 8e6)
        })
        .await;
    let grown = trial.weigh(&worker) - before;
    trial.world.server.faults.clear();
    let happened = format!("{grown} MiB more while nothing was published");
    // On a busy machine the 160 MB take longer than a lease.
    trial.judge(&worker, Allowed::EXPLAINED, &happened).await;
    let grown = trial.weigh(&worker) - before;
    // The budget, the batches that were on their way when it was full, and what the connection holds of it.
    assert!(grown <= 96, "{grown} MiB more");
}
