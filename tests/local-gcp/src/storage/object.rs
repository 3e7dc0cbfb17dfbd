//! One generation of one object: its bytes, its metadata, and how the JSON API and gRPC show it.
//!
//! A `Version` never changes: an update makes a new one that shares the bytes.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::{rfc3339, timestamp};
use super::error::{Error, Kind, Result};

/// Characters that are escaped in an object's name inside a URL: all but RFC 3986's unreserved ones.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The metadata that a client may set, named as in the JSON resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub metadata: HashMap<String, String>,
}

/// One generation of an object. Times are microseconds since 1970.
#[derive(Debug, Clone)]
pub struct Version {
    pub bucket: String,
    pub name: String,
    pub generation: i64,
    pub metageneration: i64,
    pub created: i64,
    pub updated: i64,
    /// Time at which it stopped being the live generation; `None` while it is live.
    pub deleted: Option<i64>,
    pub body: Bytes,
    pub crc32c: u32,
    pub md5: [u8; 16],
    pub attributes: Attributes,
}

/// The checksums that a client says its bytes have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checksums {
    pub crc32c: Option<u32>,
    pub md5: Option<[u8; 16]>,
}

impl Checksums {
    /// Reads `crc32c=…,md5=…` of an `x-goog-hash` header into what is not set yet.
    pub(crate) fn add_header(&mut self, header: &str) -> Result<()> {
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("crc32c", value)) => self.crc32c = Some(decode_crc32c(value)?),
                Some(("md5", value)) => self.md5 = Some(decode_md5(value)?),
                _ => return Err(Error::invalid(format!("Invalid x-goog-hash header: {part:?}"))),
            }
        }
        Ok(())
    }

    /// Reads `crc32c` and `md5Hash` of an object resource.
    pub(crate) fn add_resource(&mut self, resource: &Value) -> Result<()> {
        if let Some(value) = resource["crc32c"].as_str() {
            self.crc32c = Some(decode_crc32c(value)?);
        }
        if let Some(value) = resource["md5Hash"].as_str() {
            self.md5 = Some(decode_md5(value)?);
        }
        Ok(())
    }

    /// Refuses bytes whose checksums are not the announced ones.
    pub(crate) fn check(&self, crc32c: u32, md5: [u8; 16]) -> Result<()> {
        if let Some(given) = self.crc32c.filter(|given| *given != crc32c) {
            let (given, got) = (encode_crc32c(given), encode_crc32c(crc32c));
            return Err(Error::invalid(format!(
                "Provided CRC32C \"{given}\" doesn't match calculated CRC32C \"{got}\"."
            )));
        }
        if let Some(given) = self.md5.filter(|given| *given != md5) {
            let (given, got) = (BASE64_STANDARD.encode(given), BASE64_STANDARD.encode(md5));
            return Err(Error::invalid(format!(
                "Provided MD5 hash \"{given}\" doesn't match calculated MD5 hash \"{got}\"."
            )));
        }
        Ok(())
    }
}

/// Base64 of the four big-endian bytes, as every Google API writes a CRC32C.
pub(crate) fn encode_crc32c(value: u32) -> String {
    BASE64_STANDARD.encode(value.to_be_bytes())
}

fn decode_crc32c(text: &str) -> Result<u32> {
    Ok(u32::from_be_bytes(decode(text, "CRC32C")?))
}

pub(crate) fn decode_md5(text: &str) -> Result<[u8; 16]> {
    decode(text, "MD5")
}

fn decode<const N: usize>(text: &str, what: &str) -> Result<[u8; N]> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::invalid(format!("Invalid {what} value: {text:?}")))
}

/// Refuses a name that Cloud Storage refuses: 1 to 1024 bytes of UTF-8, no line breaks, not `.` or `..`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(Kind::Required, "Required parameter: name"));
    }
    let bad = name.len() > 1024
        || name.contains(['\r', '\n'])
        || name == "."
        || name == ".."
        || name.starts_with(".well-known/acme-challenge/");
    if bad { Err(Error::invalid(format!("Invalid object name: {name:?}"))) } else { Ok(()) }
}

impl Version {
    pub(crate) fn is_live(&self) -> bool {
        self.deleted.is_none()
    }

    pub(crate) fn etag(&self) -> String {
        BASE64_STANDARD.encode(format!("{}/{}", self.generation, self.metageneration))
    }

    /// The value of an `x-goog-hash` header.
    pub(crate) fn hash_header(&self) -> String {
        format!("crc32c={},md5={}", encode_crc32c(self.crc32c), BASE64_STANDARD.encode(self.md5))
    }

    /// The object resource of the JSON API; `base` is where its links lead, such as `http://127.0.0.1:80`.
    pub fn to_json(&self, base: &str) -> Value {
        let Self { bucket, name, generation, .. } = self;
        let path = format!("storage/v1/b/{bucket}/o/{}", utf8_percent_encode(name, ESCAPED));
        let mut resource = json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{name}/{generation}"),
            "selfLink": format!("{base}/{path}"),
            "mediaLink": format!("{base}/download/{path}?generation={generation}&alt=media"),
            "name": name,
            "bucket": bucket,
            "generation": generation.to_string(),
            "metageneration": self.metageneration.to_string(),
            "storageClass": "STANDARD",
            "size": self.body.len().to_string(),
            "md5Hash": BASE64_STANDARD.encode(self.md5),
            "crc32c": encode_crc32c(self.crc32c),
            "etag": self.etag(),
            "timeCreated": rfc3339(self.created),
            "updated": rfc3339(self.updated),
            "timeFinalized": rfc3339(self.created),
            "timeStorageClassUpdated": rfc3339(self.created),
        });
        if let Some(deleted) = self.deleted {
            resource["timeDeleted"] = json!(rfc3339(deleted));
        }
        if let Ok(Value::Object(attributes)) = serde_json::to_value(&self.attributes) {
            for (key, value) in attributes {
                resource[key] = value;
            }
        }
        resource
    }

    /// The object as `google.storage.v2` shows it.
    pub fn to_proto(&self) -> proto::Object {
        let attributes = self.attributes.clone();
        proto::Object {
            name: self.name.clone(),
            bucket: format!("projects/_/buckets/{}", self.bucket),
            etag: self.etag(),
            generation: self.generation,
            metageneration: self.metageneration,
            storage_class: attributes.storage_class.unwrap_or_else(|| "STANDARD".to_owned()),
            size: self.body.len() as i64,
            content_type: attributes.content_type.unwrap_or_default(),
            content_encoding: attributes.content_encoding.unwrap_or_default(),
            content_disposition: attributes.content_disposition.unwrap_or_default(),
            content_language: attributes.content_language.unwrap_or_default(),
            cache_control: attributes.cache_control.unwrap_or_default(),
            metadata: attributes.metadata,
            checksums: Some(proto::ObjectChecksums {
                crc32c: Some(self.crc32c),
                md5_hash: Bytes::copy_from_slice(&self.md5),
            }),
            create_time: Some(timestamp(self.created)),
            finalize_time: Some(timestamp(self.created)),
            update_time: Some(timestamp(self.updated)),
            update_storage_class_time: Some(timestamp(self.created)),
            delete_time: self.deleted.map(timestamp),
            ..Default::default()
        }
    }
}
