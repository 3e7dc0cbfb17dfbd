//! Faults on demand, as Google's Rust client meets them.

use crate::support::{BUCKET_PATH, Local, pattern};
use bytes::Bytes;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::read_resume_policy::{NeverResume, ReadResumePolicyExt, Recommended};
use local_gcp::faults::Fault;
use local_gcp::history::What;

const MEDIA: &str = "storage.objects.get.media";
const SIZE: usize = 600_000;

async fn with_object() -> Local {
    let local = Local::start().await;
    let client = local.client().await;
    client.write_object(BUCKET_PATH, "x", Bytes::from(pattern(SIZE))).send_buffered().await.unwrap();
    local
}

/// Reads without resuming: the bytes, and the error that ended them.
async fn read_once(local: &Local) -> (Vec<u8>, Option<google_cloud_storage::Error>) {
    let client = local.client().await;
    let request = client.read_object(BUCKET_PATH, "x").with_read_resume_policy(NeverResume);
    let mut all = Vec::new();
    match request.with_retry_policy(NeverRetry).send().await {
        Err(error) => return (all, Some(error)),
        Ok(mut reader) => {
            while let Some(chunk) = reader.next().await {
                match chunk {
                    Ok(chunk) => all.extend_from_slice(&chunk),
                    Err(error) => return (all, Some(error)),
                }
            }
        }
    }
    (all, None)
}

#[tokio::test]
async fn failing_corrupt_and_broken_media() {
    let local = with_object().await;
    local.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".into()), 1);
    let (_, error) = read_once(&local).await;
    assert_eq!(error.unwrap().http_status_code(), Some(503));

    local.faults.inject(MEDIA, Fault::Corrupt, 1);
    let (bytes, error) = read_once(&local).await;
    assert_eq!(bytes.len(), SIZE);
    assert!(format!("{:?}", error.unwrap()).contains("ChecksumMismatch"));

    local.faults.inject(MEDIA, Fault::ResetAfter(300_000), 1);
    let (bytes, error) = read_once(&local).await;
    assert!(error.is_some() && bytes.len() <= 300_000, "{} bytes, then {error:?}", bytes.len());

    local.faults.inject(MEDIA, Fault::LoseReply, 1);
    assert_eq!(read_once(&local).await.1.unwrap().http_status_code(), Some(503));
    assert_eq!(read_once(&local).await.0, pattern(SIZE), "no fault is left");
}

#[tokio::test]
async fn a_broken_read_resumes_in_the_same_generation() {
    let local = with_object().await;
    local.faults.inject(MEDIA, Fault::ResetAfter(300_000), 1);
    let client = local.client().await;
    let request = client.read_object(BUCKET_PATH, "x");
    let mut reader = request.with_read_resume_policy(Recommended.with_attempt_limit(3)).send().await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(all, pattern(SIZE));
    let events = local.object_events();
    let [What::Finalized(written), What::Read(first), What::Read(second)] = &events[..] else {
        panic!("one finalize, two reads, not {events:?}")
    };
    assert_eq!((first, second), (written, written));
}

#[tokio::test]
async fn a_stall_sends_its_bytes_and_never_ends() {
    let local = with_object().await;
    local.faults.inject(MEDIA, Fault::StallAfter(1000), 1);
    let client = local.client().await;
    let mut reader = client.read_object(BUCKET_PATH, "x").send().await.unwrap();
    let mut got = 0;
    while got < 1000 {
        got += reader.next().await.unwrap().unwrap().len();
    }
    assert_eq!(got, 1000);
    let next = tokio::time::timeout(std::time::Duration::from_millis(100), reader.next()).await;
    assert!(next.is_err(), "nothing more comes: {next:?}");
}

#[tokio::test]
async fn control_calls_fail_by_name() {
    let local = with_object().await;
    let control = local.control().await;
    local.faults.inject("ListObjects", Fault::Fail("PERMISSION_DENIED".into()), 1);
    let error = control.list_objects().set_parent(BUCKET_PATH).send().await.err().unwrap();
    assert_eq!(error.status().unwrap().code, Code::PermissionDenied);
    local.faults.inject("GetObject", Fault::LoseReply, 1);
    let get =
        || control.get_object().set_bucket(BUCKET_PATH).set_object("x").with_retry_policy(NeverRetry).send();
    assert_eq!(get().await.err().unwrap().status().unwrap().code, Code::Unavailable);
    assert_eq!(get().await.unwrap().size, SIZE as i64);
}
