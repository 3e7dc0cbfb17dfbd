//! Operations on objects: insert, get, delete, update, copy, list. Each is atomic under the lock; its
//! notifications go out after the lock is released.

use std::sync::Arc;

use bytes::Bytes;

use super::conditions::Conditions;
use super::error::{Error, Result};
use super::listing::{ListQuery, Page, list};
use super::notify::{Change, Message};
use super::object::{Attributes, Checksums, Version, check_name};
use super::{State, Storage};
use crate::history::What;

/// A new generation of an object, before it has one.
#[derive(Debug)]
pub struct Insert {
    pub bucket: String,
    pub name: String,
    pub attributes: Attributes,
    pub body: Bytes,
    /// Size and checksums that the client claims of its bytes; a mismatch stores nothing.
    pub expected: Checksums,
    pub conditions: Conditions,
}

/// Generation of an object, under conditions. Without a generation it is the live one.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub bucket: String,
    pub name: String,
    pub generation: Option<i64>,
    pub conditions: Conditions,
}

impl Storage {
    /// Stores bytes as a new live generation, with default metadata and without conditions.
    pub fn put(&self, bucket: &str, name: &str, body: impl Into<Bytes>) -> Result<Arc<Version>> {
        self.insert_object(Insert {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            attributes: Attributes::default(),
            body: body.into(),
            expected: Checksums::default(),
            conditions: Conditions::default(),
        })
    }

    /// Stores a new live generation. The checksums are computed outside of the lock.
    pub fn insert_object(&self, insert: Insert) -> Result<Arc<Version>> {
        check_name(&insert.name)?;
        let crc32c = crc32c::crc32c(&insert.body);
        let md5 = md5::compute(&insert.body).0;
        insert.expected.check(crc32c, md5)?;
        let mut state = self.lock();
        self.may_write(&state, &insert.bucket, &insert.name)?;
        let (version, messages) = state.insert(insert, crc32c, md5)?;
        drop(state);
        self.publish_all(messages);
        Ok(version)
    }

    /// One generation; the bytes are shared, not copied.
    pub fn get_object(&self, target: &Target) -> Result<Arc<Version>> {
        let state = self.lock();
        self.may(&state, "storage.objects.get", &target.bucket)?;
        let version = state.bucket(&target.bucket)?.find(target)?;
        target.conditions.check_read(&version)?;
        Ok(version)
    }

    /// Like `get_object`, and remembers in the history that the bytes were read.
    pub(crate) fn read_object(&self, target: &Target) -> Result<Arc<Version>> {
        let version = self.get_object(target)?;
        self.lock().record(What::Read, &version);
        Ok(version)
    }

    /// Deletes a generation, or without one ends the live one (kept as noncurrent where versioning is on).
    pub fn delete_object(&self, target: &Target) -> Result<()> {
        let mut state = self.lock();
        self.may(&state, "storage.objects.delete", &target.bucket)?;
        let messages = state.delete(target)?;
        drop(state);
        self.publish_all(messages);
        Ok(())
    }

    /// Changes metadata; the generation stays and the metageneration grows.
    pub fn update_object(
        &self,
        target: &Target,
        change: impl FnOnce(Attributes) -> Result<Attributes>,
    ) -> Result<Arc<Version>> {
        let mut state = self.lock();
        self.may(&state, "storage.objects.update", &target.bucket)?;
        let old = state.bucket(&target.bucket)?.find(target)?;
        target.conditions.check_write(Some(&old))?;
        let attributes = change(old.attributes.clone())?;
        let at = state.clock.tick();
        let metageneration = old.metageneration + 1;
        let new = Arc::new(Version { attributes, metageneration, updated: at, ..Version::clone(&old) });
        state.bucket_mut(&target.bucket)?.replace(new.clone());
        let change = Change { event: "OBJECT_METADATA_UPDATE", version: &new, at, other: None };
        let messages = state.messages(&[change]);
        drop(state);
        self.publish_all(messages);
        Ok(new)
    }

    /// Copies `source` to a new generation of another object; `attributes` replaces the metadata where given.
    pub fn copy_object(
        &self,
        source: &Target,
        destination: Target,
        attributes: Option<Attributes>,
    ) -> Result<Arc<Version>> {
        let source = self.get_object(source)?;
        self.insert_object(Insert {
            bucket: destination.bucket,
            name: destination.name,
            attributes: attributes.unwrap_or_else(|| source.attributes.clone()),
            body: source.body.clone(),
            expected: Checksums::default(),
            conditions: destination.conditions,
        })
    }

    pub fn list_objects(&self, bucket: &str, query: &ListQuery) -> Result<Page> {
        let state = self.lock();
        self.may(&state, "storage.objects.list", bucket)?;
        list(&state.bucket(bucket)?.objects, query)
    }
}

impl State {
    fn insert(&mut self, insert: Insert, crc32c: u32, md5: [u8; 16]) -> Result<(Arc<Version>, Vec<Message>)> {
        let Insert { bucket: bucket_name, name, mut attributes, body, conditions, .. } = insert;
        let old = self.bucket(&bucket_name)?.live(&name);
        conditions.check_write(old.as_deref())?;
        attributes.content_type.get_or_insert_with(|| "application/octet-stream".to_owned());
        let at = self.clock.tick();
        let new = Arc::new(Version {
            bucket: bucket_name.clone(),
            name,
            generation: at,
            metageneration: 1,
            created: at,
            updated: at,
            deleted: None,
            body,
            crc32c,
            md5,
            attributes,
        });
        let mut event = "OBJECT_DELETE";
        let bucket = self.bucket_mut(&bucket_name)?;
        let ended = old.map(|old| Arc::new(Version { deleted: Some(at), ..Version::clone(&old) }));
        if let Some(ended) = &ended {
            if bucket.versioned() {
                event = "OBJECT_ARCHIVE";
                bucket.replace(ended.clone());
            } else {
                bucket.remove(ended);
            }
        }
        bucket.objects.entry(new.name.clone()).or_default().push(new.clone());
        self.record(What::Finalized, &new);
        let overwrote = ended.as_ref().map(|old| ("overwroteGeneration", old.generation));
        let mut changes = vec![Change { event: "OBJECT_FINALIZE", version: &new, at, other: overwrote }];
        if let Some(version) = &ended {
            let other = Some(("overwrittenByGeneration", new.generation));
            changes.push(Change { event, version, at, other });
        }
        let messages = self.messages(&changes);
        Ok((new, messages))
    }

    fn delete(&mut self, target: &Target) -> Result<Vec<Message>> {
        let bucket = self.bucket(&target.bucket)?;
        let old = bucket.find(target)?;
        target.conditions.check_write(Some(&old))?;
        let archive = bucket.versioned() && target.generation.is_none();
        let at = self.clock.tick();
        let deleted = old.deleted.or(Some(at));
        let ended = Arc::new(Version { deleted, ..Version::clone(&old) });
        let bucket = self.bucket_mut(&target.bucket)?;
        let event = if archive {
            bucket.replace(ended.clone());
            "OBJECT_ARCHIVE"
        } else {
            bucket.remove(&ended);
            "OBJECT_DELETE"
        };
        self.record(What::Deleted, &ended);
        Ok(self.messages(&[Change { event, version: &ended, at, other: None }]))
    }
}

impl super::Bucket {
    pub(super) fn live(&self, name: &str) -> Option<Arc<Version>> {
        self.objects.get(name)?.last().filter(|version| version.is_live()).cloned()
    }

    fn find(&self, target: &Target) -> Result<Arc<Version>> {
        let found = match target.generation {
            None => self.live(&target.name),
            Some(wanted) => {
                let versions = self.objects.get(&target.name);
                versions.and_then(|all| all.iter().find(|one| one.generation == wanted)).cloned()
            }
        };
        found.ok_or_else(|| Error::no_object(&target.bucket, &target.name))
    }

    /// Puts a changed generation where it was.
    fn replace(&mut self, new: Arc<Version>) {
        let versions = self.objects.entry(new.name.clone()).or_default();
        if let Some(old) = versions.iter_mut().find(|old| old.generation == new.generation) {
            *old = new;
        }
    }

    fn remove(&mut self, version: &Version) {
        if let Some(versions) = self.objects.get_mut(&version.name) {
            versions.retain(|one| one.generation != version.generation);
            if versions.is_empty() {
                self.objects.remove(&version.name);
            }
        }
    }
}
