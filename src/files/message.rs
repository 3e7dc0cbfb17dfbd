//! Messages of the batch topic: jobs, shards, and notifications of a bucket.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::job::JobSpec;

/// A shard of a planned job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMessage {
    /// The output folder of the job.
    pub job: String,
    pub shard: usize,
    /// Failed rows of the job beyond which it stops; here, since another run of the same job may change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<u64>,
}

/// The work that a message asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Job(Box<JobSpec>),
    Shard(ShardMessage),
    /// Nothing, such as the deletion of an object.
    Nothing,
}

/// Options of a job that a notification may have as attributes; lists are separated by commas.
const OPTIONS: [&str; 6] =
    ["model", "model_version", "input_format", "output_format", "key_field", "max_errors"];
const LISTS: [&str; 2] = ["include", "exclude"];

impl Message {
    /// # Errors
    /// It is no message of a batch topic.
    pub fn parse(body: &[u8], attributes: &HashMap<String, String>) -> Result<Self, String> {
        if attributes.contains_key("bucketId") {
            return notification(attributes);
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            format!("expected a job as JSON, {{\"model\", \"input\", \"output\"}}: {error}")
        })?;
        if value.get("shard").is_some() {
            let shard = serde_json::from_value(value);
            return shard.map(Self::Shard).map_err(|error| format!("expected a shard of a job: {error}"));
        }
        job(value)
    }
}

fn job(value: Value) -> Result<Message, String> {
    let spec: JobSpec = serde_json::from_value(value).map_err(|error| format!("expected a job: {error}"))?;
    spec.check()?;
    Ok(Message::Job(Box::new(spec)))
}

/// A new object is a job: its results go into a folder of its own under the attribute `output`, which the
/// notification has with the other options.
fn notification(attributes: &HashMap<String, String>) -> Result<Message, String> {
    let attribute = |name: &str| attributes.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if attribute("eventType") != Some("OBJECT_FINALIZE") {
        return Ok(Message::Nothing);
    }
    let [Some(bucket), Some(object)] = ["bucketId", "objectId"].map(attribute) else {
        return Err("expected a notification with the attributes bucketId and objectId".to_owned());
    };
    let Some(output) = attribute("output") else {
        return Err(format!(
            "expected the attribute \"output\" of the notification about gs://{bucket}/{object}, a folder gs://…: \
             give the notification custom attributes, \"model\" and \"output\""
        ));
    };
    let (output, input) = (output.trim_end_matches('/'), format!("gs://{bucket}/{object}"));
    // Results of a job below the watched prefix are no jobs, nor are objects that stand for folders.
    if input.starts_with(&format!("{output}/")) || object.ends_with('/') {
        return Ok(Message::Nothing);
    }
    let folder = match attribute("objectGeneration") {
        Some(generation) => format!("{output}/{object}-{generation}"),
        None => format!("{output}/{object}"),
    };
    let mut spec = Map::new();
    for name in OPTIONS {
        if let Some(value) = attribute(name) {
            let number = value.parse::<u64>().ok().filter(|_| name == "max_errors");
            spec.insert(name.to_owned(), number.map_or_else(|| value.into(), Value::from));
        }
    }
    for name in LISTS {
        if let Some(value) = attribute(name) {
            spec.insert(name.to_owned(), value.split(',').map(str::trim).collect());
        }
    }
    // Brackets and stars in a name are no wildcards.
    spec.insert("input".to_owned(), glob::Pattern::escape(&input).into());
    spec.insert("output".to_owned(), folder.into());
    job(Value::Object(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_job_or_a_shard_is_told_by_its_keys() {
        let none = HashMap::new();
        let body = br#"{"model": "wine", "input": "gs://b/in/*.csv", "output": "gs://b/out"}"#;
        let Ok(Message::Job(job)) = Message::parse(body, &none) else { panic!("no job") };
        assert_eq!((&*job.model, &job.input[..]), ("wine", &["gs://b/in/*.csv".to_owned()][..]));
        let shard = ShardMessage { job: "gs://b/out".to_owned(), shard: 3, max_errors: None };
        let body = serde_json::to_vec(&shard).unwrap();
        assert_eq!(Message::parse(&body, &none), Ok(Message::Shard(shard)));
        for (body, error) in [
            (&b"hello"[..], "expected a job as JSON"),
            (br#"{"model": "wine", "input": "a", "output": "b", "speed": 9}"#, "unknown field `speed`"),
            (br#"{"model": "wine", "output": "b"}"#, "missing field `input`"),
            (br#"{"model": "wine", "input": [], "output": "b"}"#, "at least one file"),
            (br#"{"model": "wine", "input": 7, "output": "b"}"#, "a list of addresses"),
        ] {
            let message = Message::parse(body, &none).unwrap_err();
            assert!(message.contains(error), "{message}");
        }
    }

    #[test]
    fn a_new_object_is_a_job_with_the_notifications_options() {
        let mut told = attributes(&[
            ("eventType", "OBJECT_FINALIZE"),
            ("bucketId", "data"),
            ("objectId", "in/a[1].csv"),
            ("objectGeneration", "17"),
            ("model", "wine"),
            ("output", "gs://data/out/"),
            ("exclude", "id, note"),
            ("max_errors", "5"),
        ]);
        let Ok(Message::Job(job)) = Message::parse(b"{}", &told) else { panic!("no job") };
        assert_eq!(job.output, "gs://data/out/in/a[1].csv-17");
        assert!(
            glob::Pattern::new(&job.input[0]).unwrap().matches("gs://data/in/a[1].csv"),
            "{:?}",
            job.input
        );
        assert_eq!((&job.exclude[..], job.max_errors), (&["id".to_owned(), "note".to_owned()][..], Some(5)));
        told.insert("objectId".to_owned(), "out/a/summary.json".to_owned());
        assert_eq!(Message::parse(b"{}", &told), Ok(Message::Nothing));
        told.insert("eventType".to_owned(), "OBJECT_DELETE".to_owned());
        assert_eq!(Message::parse(b"{}", &told), Ok(Message::Nothing));
        told.insert("eventType".to_owned(), "OBJECT_FINALIZE".to_owned());
        told.remove("output");
        assert!(Message::parse(b"{}", &told).unwrap_err().contains("custom attributes"));
    }
}
