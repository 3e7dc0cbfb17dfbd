//! The version of a model that a job is pinned to: the one that is served, else one that is loaded aside.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::files::job::Refused;
use crate::lifecycle::cache::Lease;
use crate::lifecycle::loader::{LoadFailure, Loaded, Loader};
use crate::lifecycle::source::Source;
use crate::model::{Model, Models};

/// See the module.
pub struct Versions {
    models: Arc<Models>,
    source: Arc<Source>,
    loader: Arc<Loader>,
    /// The version that was loaded last. One, since jobs of an old version seldom run side by side.
    aside: Mutex<Option<Aside>>,
}

struct Aside {
    model: Arc<Model>,
    /// Keeps the version's files.
    _lease: Option<Lease>,
}

impl Versions {
    pub fn new(models: Arc<Models>, source: Arc<Source>, loader: Arc<Loader>) -> Self {
        Self { models, source, loader, aside: Mutex::default() }
    }

    /// The version of a new job.
    pub fn newest(&self, model: &str) -> Result<Arc<Model>, String> {
        self.models.resolve(Some(model)).map_err(|rejection| rejection.to_string())
    }

    /// Waits while a model is loaded for the first time.
    pub async fn awaited(&self, model: &str, stop: &CancellationToken) {
        while self.models.is_awaited(|| Some(model)) && !stop.is_cancelled() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// This version of the model, served or not.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub async fn pinned(
        &self,
        model: &str,
        version: &str,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Model>> {
        if let Ok(served) = self.models.resolve(Some(model))
            && *served.version == *version
        {
            return Ok(served);
        }
        // Held while it is loaded, so that two shards load it once.
        let mut aside = self.aside.lock().await;
        if let Some(Aside { model: loaded, .. }) = &*aside
            && (&*loaded.name, &*loaded.version) == (model, version)
        {
            return Ok(Arc::clone(loaded));
        }
        let versions = self.source.list().await?.versions;
        let mut found = versions.iter().filter(|listed| listed.model == model);
        let listed = found.find(|listed| listed.version.as_str() == version).ok_or_else(|| {
            Refused(format!("version {version} of the model {model:?} is not in the source"))
        })?;
        // Two versions aside would take twice the memory.
        *aside = None;
        let loaded = self.loader.load(&self.source, listed, true, stop).await;
        let Loaded { model: loaded, lease, .. } = loaded.map_err(|failure| {
            let what = format!("cannot load version {version} of the model {model:?}");
            match failure {
                LoadFailure::Bad(reason) => Refused(format!("{what}: {reason}")).into(),
                LoadFailure::Transient(reason) => anyhow::anyhow!("{what}: {reason}"),
                LoadFailure::Unreadable(error) => error.context(what),
            }
        })?;
        tracing::info!(model, version, "version loaded for batches");
        let model = Arc::new(loaded);
        *aside = Some(Aside { model: Arc::clone(&model), _lease: lease });
        Ok(model)
    }
}
