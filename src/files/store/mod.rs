//! Files of jobs: on this machine, or in Cloud Storage. Addresses with `gs://` are objects, all others paths.
//! Every function blocks, so none may be called on the threads of the async runtime.

mod bucket;
mod errors;
mod local;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;

pub use self::bucket::Bucket;
pub use self::errors::Forbidden;
use self::errors::TooLarge;
pub use self::local::delete_scratch;
use super::job::{Input, Refused};
use super::threads;
use crate::config::Location;
use crate::error::{Code, Rejection};
use crate::hint::with_hint;

/// Files of a list that are read at the same time.
const READ_AT_ONCE: usize = 16;

/// Reads and writes files of jobs.
#[derive(Debug, Default)]
pub struct Store {
    /// None where all files lie on this machine.
    pub bucket: Option<Bucket>,
    /// Places in Cloud Storage that may be read and written; none: all.
    pub allowed: Option<Vec<Location>>,
    /// True where files of this machine may be read and written.
    pub has_files: bool,
}

enum Place<'a> {
    File(&'a str),
    Object(&'a Bucket, &'a str, &'a str),
}

impl Store {
    /// A store of the files of this machine.
    pub fn local() -> Self {
        Self { bucket: None, allowed: None, has_files: true }
    }

    fn place<'a>(&'a self, address: &'a str) -> Result<Place<'a>, Forbidden> {
        let Some(object) = address.strip_prefix("gs://") else {
            return match self.has_files {
                true => Ok(Place::File(address)),
                false => Err(Forbidden(format!("expected an address gs://BUCKET/OBJECT, got {address:?}"))),
            };
        };
        let (bucket, name) = object.split_once('/').unwrap_or((object, ""));
        let Some(client) = &self.bucket else {
            return Err(Forbidden(format!("expected files of this machine, got {address:?}")));
        };
        match &self.allowed {
            Some(allowed) if !allowed.iter().any(|place| place.holds(bucket, name)) => {
                Err(Forbidden(format!(
                    "{address} is not allowed; the worker's operator allows buckets with `files.allowed_buckets`"
                )))
            }
            _ => Ok(Place::Object(client, bucket, name)),
        }
    }

    /// The files that an address with wildcards names, in order.
    ///
    /// # Errors
    /// There are none, or they cannot be listed.
    pub fn expand(&self, address: &str) -> anyhow::Result<Vec<Input>> {
        let mut found = match self.place(address)? {
            Place::File(path) => local::expand(path)?,
            Place::Object(client, bucket, name) => client.expand(bucket, name)?,
        };
        if found.is_empty() {
            let error = Refused(format!("no file matches {address:?}"));
            return Err(with_hint(error, "quote wildcards, so that the shell leaves them to predictd"));
        }
        found.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(found)
    }

    /// The names of the files in a folder, with their sizes.
    pub fn list(&self, folder: &str) -> anyhow::Result<Vec<(String, u64)>> {
        match self.place(folder)? {
            Place::File(path) => local::list(path),
            Place::Object(client, bucket, name) => client.list_folder(bucket, name),
        }
    }

    /// The current state of a file; none if it does not exist.
    pub fn stat(&self, address: &str) -> anyhow::Result<Option<Input>> {
        match self.place(address)? {
            Place::File(path) => local::stat(path),
            Place::Object(client, bucket, name) => client.stat(bucket, name),
        }
    }

    /// Opens a part of a file, as it was when it was listed.
    pub fn open(&self, input: &Input, start: u64, end: u64) -> anyhow::Result<Box<dyn Read + Send>> {
        match self.place(&input.address)? {
            Place::File(path) => local::open(path, input, start, end),
            Place::Object(client, bucket, name) => Ok(client.open(bucket, name, input, start, end)),
        }
    }

    /// The content of a small file; none if it does not exist.
    pub fn read(&self, address: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.place(address)? {
            Place::File(path) => local::read(path),
            Place::Object(client, bucket, name) => client.read(bucket, name, u64::MAX),
        }
    }

    /// The last bytes of a file, `most` of them at most.
    pub fn tail(&self, address: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        match self.place(address)? {
            Place::File(path) => local::tail(path, most),
            Place::Object(client, bucket, name) => client.tail(bucket, name, most),
        }
    }

    /// The contents of files of a list, each of `most` bytes at most, or why one cannot be read.
    ///
    /// # Errors
    /// Cloud Storage does not answer.
    pub fn read_all(
        &self,
        addresses: &[Cow<'_, str>],
        most: u64,
    ) -> anyhow::Result<Vec<Result<Vec<u8>, Rejection>>> {
        let read = |address: &Cow<'_, str>| self.read_one(address, most);
        match &self.bucket {
            None => addresses.iter().map(read).collect(),
            Some(_) => threads::map(addresses, READ_AT_ONCE, read).into_iter().collect(),
        }
    }

    fn read_one(&self, address: &str, most: u64) -> anyhow::Result<Result<Vec<u8>, Rejection>> {
        let place = match self.place(address) {
            Ok(place) => place,
            Err(forbidden) => return Ok(Err(Rejection::new(Code::InputForbidden, forbidden.to_string()))),
        };
        let read = match place {
            Place::File(path) => local::read_at_most(path, most),
            Place::Object(client, bucket, name) => client.read(bucket, name, most),
        };
        Ok(match read {
            Ok(Some(content)) => Ok(content),
            Ok(None) => Err(Rejection::invalid(format!("{address} does not exist"))),
            Err(error) => match error.downcast_ref::<TooLarge>() {
                Some(error) => Err(Rejection::new(Code::InputTooLarge, error.to_string())),
                // A file of this machine will not be readable later.
                None if self.bucket.is_none() => Err(Rejection::invalid(format!("{error:#}"))),
                None => return Err(error),
            },
        })
    }

    /// Writes a file that does not exist. False, and nothing is written, where it exists.
    pub fn create(&self, address: &str, content: &[u8]) -> anyhow::Result<bool> {
        match self.place(address)? {
            Place::File(path) => local::create(path, content),
            Place::Object(client, bucket, name) => client.create(bucket, name, content),
        }
    }

    /// Like [`Self::create`], with the content of a file of [`Self::scratch`].
    pub fn create_from(&self, address: &str, scratch: Scratch) -> anyhow::Result<bool> {
        match self.place(address)? {
            Place::File(path) => local::persist(path, scratch.0),
            Place::Object(client, bucket, name) => client.upload(bucket, name, scratch.0.path()),
        }
    }

    /// A file that becomes `address`, or vanishes.
    pub fn scratch(&self, address: &str) -> anyhow::Result<Scratch> {
        match self.place(address)? {
            Place::File(path) => local::scratch(path).map(Scratch),
            Place::Object(..) => Ok(Scratch(tempfile::NamedTempFile::new()?)),
        }
    }

    /// Deletes a file, where it exists.
    pub fn delete(&self, address: &str) -> anyhow::Result<()> {
        match self.place(address)? {
            Place::File(path) => local::delete(path),
            Place::Object(client, bucket, name) => client.delete(bucket, name),
        }
    }

    /// Refuses an output folder that cannot be one.
    pub fn check_folder(&self, folder: &str) -> anyhow::Result<()> {
        match self.place(folder)? {
            Place::File(_) => Ok(()),
            Place::Object(_, _, "") => {
                Err(Refused(format!("expected a folder gs://BUCKET/FOLDER, got {folder:?}")).into())
            }
            Place::Object(..) => Ok(()),
        }
    }
}

/// See [`Store::scratch`].
#[derive(Debug)]
pub struct Scratch(tempfile::NamedTempFile);

impl Scratch {
    pub fn file(&self) -> &File {
        self.0.as_file()
    }
}
