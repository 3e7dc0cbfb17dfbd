//! `predictd push`: checks a bundle as the worker would, and uploads it to a bucket.
//!
//! The manifest is uploaded last, so that no worker sees half a version. Nothing is overwritten.

mod files;
mod upload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::upload::Uploader;
use super::PushArgs;
use super::load_model::{fetch, progress_bar};
use super::output::print_error;
use crate::config::{self, Inference};
use crate::gcp::clients;
use crate::hint::Hint as _;
use crate::lifecycle::choice::{Base, Facts, Verdict};
use crate::lifecycle::listing::ListedVersion;
use crate::lifecycle::source::Source;
use crate::lifecycle::version::Version;
use crate::lifecycle::{choice, load};
use crate::model::bundle::MANIFEST;
use crate::model::interface::Interface;
use crate::model::onnx::runtime::Runtime;

/// Destination of a version: `gs://BUCKET/PREFIX/MODEL/VERSION`.
#[derive(Debug, PartialEq)]
struct Target {
    bucket: String,
    prefix: String,
    model: String,
    version: Version,
}

impl Target {
    fn parse(address: &str) -> anyhow::Result<Self> {
        let parse = || {
            let parts: Vec<&str> = address.strip_prefix("gs://")?.trim_end_matches('/').split('/').collect();
            let (bucket, [prefix @ .., model, version]) = parts.split_first()? else { return None };
            Some(Self {
                bucket: (*bucket).to_owned(),
                prefix: prefix.join("/"),
                model: (*model).to_owned(),
                version: Version::parse(version)?,
            })
        };
        parse().with_context(|| format!("expected the address of a version, got {address:?}")).hint(
            "write gs://BUCKET/PREFIX/MODEL/VERSION with a whole number or a semantic version, such as \
                 gs://my-models/models/wine/3",
        )
    }

    /// The name of the object for a file of the version.
    fn object(&self, file: &str) -> String {
        let Self { prefix, model, version, .. } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{prefix}{slash}{model}/{version}/{file}")
    }

    /// The uploaded versions of the model, in no order, and the names of other models.
    async fn versions(&self, source: &Source) -> anyhow::Result<(Vec<ListedVersion>, Vec<String>)> {
        let all = source.list().await?.versions.into_iter();
        let (own, others): (Vec<ListedVersion>, Vec<ListedVersion>) =
            all.partition(|listed| listed.model == self.model);
        let mut others: Vec<String> = others.into_iter().map(|listed| listed.model).collect();
        others.sort();
        others.dedup();
        Ok((own, others))
    }
}

/// Checks and uploads the bundle. Returns a sentence that says if it is the newest version.
pub async fn push(args: &PushArgs) -> anyhow::Result<String> {
    let PushArgs { folder, address, library, new_signature } = args;
    let target = Target::parse(address)?;
    let files = files::list(folder)?;
    let (runtime, interface) = check(folder, &target, library.as_deref()).await?;

    let source = config::Source::Bucket { bucket: target.bucket.clone(), prefix: target.prefix.clone() };
    let source = Source::connect(&source, &config::Cache::default()).await?;
    let (versions, others) = target.versions(&source).await?;
    let becomes_ambiguous = versions.is_empty() && others.len() == 1;
    let there = versions.iter().find(|listed| listed.version.as_str() == target.version.as_str());
    let missing = files::missing(&files, there, address)?;
    if !new_signature {
        compare(&source, runtime, versions.clone(), &target, interface).await?;
    }

    let total = missing.iter().map(|file| file.size).sum();
    let bar = progress_bar(total, format!("{} {}", target.model, target.version));
    bar.enable_steady_tick(Duration::from_millis(200));
    let bucket = target.bucket.clone();
    let uploader = Uploader { storage: clients::storage().await?, bucket, bar };
    for file in missing {
        uploader.file(&target.object(&file.name), file).await?;
    }
    uploader.json(&target.object(MANIFEST), files::manifest(&files, *new_signature)?.into()).await?;
    uploader.bar.finish_and_clear();
    if becomes_ambiguous {
        print_error(&format!(
            "warning: there are two models now, {:?} and {:?}: workers without `models.default` \
             refuse requests that name no model\n",
            others[0], target.model
        ));
    }
    outcome(&source, &target).await
}

/// Loads the bundle and runs its samples.
async fn check(
    folder: &Path,
    target: &Target,
    library: Option<&str>,
) -> anyhow::Result<(Arc<Runtime>, Interface)> {
    let inference = Inference { library: library.map(Into::into), ..Inference::default() };
    let (folder, name, version) = (folder.to_owned(), target.model.clone(), target.version.to_string());
    tokio::task::spawn_blocking(move || {
        let runtime = Arc::new(Runtime::load(&inference)?);
        let from = folder.display().to_string();
        let model = load::load(&runtime, &folder, &name, &version, from)
            .with_context(|| format!("workers would refuse {folder:?}"))
            .hint("correct the bundle; nothing was uploaded")?;
        Ok((runtime, Interface::of(&model.signature)))
    })
    .await?
}

/// Compares the signature with that of the version that workers would compare it with.
async fn compare(
    source: &Source,
    runtime: Arc<Runtime>,
    mut versions: Vec<ListedVersion>,
    target: &Target,
    own: Interface,
) -> anyhow::Result<()> {
    versions.retain(|listed| listed.version < target.version);
    versions.sort_by(|a, b| b.version.cmp(&a.version));
    let mut facts = vec![Facts { new_signature: Ok(false), verdict: Verdict::Good(own.clone()) }];
    for listed in &versions {
        let new_signature = Ok(source.declares_new_signature(listed).await?);
        facts.push(Facts { new_signature, verdict: Verdict::Unknown });
    }
    let expected = loop {
        match choice::base(&facts, 0) {
            Base::Open(at) => facts[at].verdict = open(source, &runtime, &versions[at - 1]).await?,
            Base::At(at) => break at,
            Base::None | Base::Unclear(_) => return Ok(()),
        }
    };
    let Verdict::Good(interface) = &facts[expected].verdict else { return Ok(()) };
    let version = versions[expected - 1].version.as_str();
    match own.difference(interface, version) {
        None => Ok(()),
        Some(difference) => Err(anyhow::anyhow!("workers would refuse it: {difference}")).hint(
            "if that is meant, and clients are ready for it, add --new-signature; nothing was uploaded",
        ),
    }
}

/// The judgement of workers on an uploaded version.
async fn open(
    source: &Source,
    runtime: &Arc<Runtime>,
    listed: &ListedVersion,
) -> anyhow::Result<Verdict<Interface>> {
    let from = source.address(listed);
    let fetched = fetch(source, listed)
        .await
        .with_context(|| format!("cannot compare the signature with that of {from}"))
        .hint("try again, or add --new-signature, which compares nothing; nothing was uploaded")?;
    let (runtime, name, version) =
        (runtime.with_one_thread(), listed.model.clone(), listed.version.to_string());
    let load = move || load::load(&runtime, &fetched.folder, &name, &version, from);
    Ok(match tokio::task::spawn_blocking(load).await? {
        Ok(model) => Verdict::Good(Interface::of(&model.signature)),
        Err(problem) => Verdict::Bad(problem.to_string()),
    })
}

/// Reports if the version is the newest.
async fn outcome(source: &Source, target: &Target) -> anyhow::Result<String> {
    let (versions, _) = target.versions(source).await?;
    let newest = versions.into_iter().map(|listed| listed.version).max();
    let Some(newest) = newest else { bail!("the version was uploaded, but somebody has deleted it since") };
    let pushed = source.locate(&format!("{}/{}", target.model, target.version));
    let model = pushed.strip_suffix(&format!("/{}", target.version)).unwrap_or(&pushed);
    if newest == target.version {
        return Ok(format!("{pushed} uploaded; it is now the newest version under {model}"));
    }
    print_error(&format!(
        "warning: version {newest} under {model} is newer: workers do not serve {} while they can serve it\n",
        target.version
    ));
    Ok(format!("{pushed} uploaded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_versions_are_read_and_others_explained() {
        let target = Target::parse("gs://b/some/models/wine/v1.2.0/").unwrap();
        assert_eq!((&*target.bucket, &*target.prefix, &*target.model), ("b", "some/models", "wine"));
        assert_eq!(Target::parse("gs://b/wine/3").unwrap().prefix, "");
        for wrong in ["b/wine/3", "gs://b/3", "gs://b/wine/latest", "gs://", "/local/wine/3"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
