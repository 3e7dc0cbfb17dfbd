//! The bundle of one version: its files, validated. It is complete or not, and names its model file, graphs
//! and columns.

pub(crate) mod columns;
pub mod declaration;
mod manifest;
pub mod mlflow;
mod mlmodel;

use std::path::{Component, Path, PathBuf};

use self::declaration::Declaration;
pub use self::manifest::{MANIFEST, Manifest, ManifestFile, base64_be, size_and_crc32c};
use crate::model::onnx::graph_file::GraphFile;
use crate::model::onnx::model_file;

/// A complete version, ready to be loaded.
#[derive(Debug)]
pub struct Bundle {
    pub folder: PathBuf,
    /// The graphs in the order in which they run: preprocessing, the model, postprocessing.
    pub graphs: Vec<GraphFile>,
    /// The position of the model among them.
    pub model_graph: usize,
    /// The columns of a row, in order, by MLflow's pandas signature.
    pub columns: Option<Vec<mlflow::Column>>,
    pub declaration: Declaration,
}

/// The reason why a version cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Files are missing. Not an error, since versions are uploaded file by file.
    #[error("incomplete: {0}")]
    Incomplete(String),
    #[error("{0}")]
    Refused(String),
}

pub(crate) const DECLARATION: &str = "model.yaml";
/// Limit of the bytes of a manifest or a declaration: parsed, it takes many times as much memory.
pub(crate) const MAX_DECLARATION_BYTES: u64 = 16 << 20;

impl Bundle {
    /// Validates the version in `folder`. Reads the model file's structure, but loads no graph.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        check_manifest(folder)?;
        let declaration = match read_small(folder, DECLARATION)? {
            Some(text) => Declaration::parse(&text).map_err(Problem::Refused)?,
            None => Declaration::default(),
        };
        let (name, columns) = match read_small(folder, "MLmodel")? {
            Some(text) => mlmodel::read(&text).map_err(Problem::Refused)?,
            None => ("model.onnx".to_owned(), None),
        };
        for name in declaration.files() {
            if !folder.join(local_path(name)?).exists() {
                return Err(Problem::Incomplete(format!("waiting for {name:?}, which \"model.yaml\" names")));
            }
        }
        let mut graphs = Vec::new();
        for name in declaration.preprocess.iter().chain([&name]).chain(&declaration.postprocess) {
            graphs.push(graph(folder, name)?);
        }
        let model_graph = usize::from(declaration.preprocess.is_some());
        Ok(Self { folder: folder.to_owned(), graphs, model_graph, columns, declaration })
    }

    /// A model file by itself, with nothing declared beside it.
    pub fn of_file(path: &Path) -> Self {
        // ONNX Runtime reports problems of the file.
        let bytes = std::fs::read(path).unwrap_or_default();
        let unreadable = |_| GraphFile { path: path.to_owned(), ..GraphFile::default() };
        Self {
            folder: path.parent().unwrap_or(path).to_owned(),
            graphs: vec![GraphFile::of(path, &bytes).unwrap_or_else(unreadable)],
            model_graph: 0,
            columns: None,
            declaration: Declaration::default(),
        }
    }
}

/// True when the file `name`, a manifest or a declaration, declares a new signature. A version whose file
/// cannot be parsed is refused when it is opened.
pub(crate) fn declares_new_signature(name: &str, text: &[u8]) -> bool {
    if name == MANIFEST {
        return serde_json::from_slice(text).is_ok_and(|manifest: Manifest| manifest.new_signature);
    }
    let text = str::from_utf8(text).unwrap_or_default();
    Declaration::parse(text).is_ok_and(|declaration| declaration.new_signature)
}

/// Opens an ONNX file and checks that its external weights exist.
fn graph(folder: &Path, name: &str) -> Result<GraphFile, Problem> {
    let file = folder.join(local_path(name)?);
    let bytes = std::fs::read(&file).map_err(|error| missing_or_unreadable(&error, name))?;
    for external in model_file::external_files(&bytes).map_err(Problem::Refused)? {
        if !file.with_file_name(local_path(&external)?).exists() {
            return Err(Problem::Incomplete(format!("waiting for {external:?}, which {name:?} names")));
        }
    }
    GraphFile::of(&file, &bytes).map_err(Problem::Refused)
}

/// Reads a manifest or a declaration; `None` if there is none.
fn read_small(folder: &Path, name: &str) -> Result<Option<String>, Problem> {
    let path = folder.join(name);
    let read = std::fs::metadata(&path).and_then(|metadata| match metadata.len() {
        0..=MAX_DECLARATION_BYTES => std::fs::read_to_string(&path),
        size => {
            let message = format!("it has {size} bytes, expected {MAX_DECLARATION_BYTES} at most");
            Err(std::io::Error::other(message))
        }
    });
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::Refused(format!("cannot read {name:?}: {error}"))),
    }
}

fn missing_or_unreadable(error: &std::io::Error, name: &str) -> Problem {
    if error.kind() == std::io::ErrorKind::NotFound {
        Problem::Incomplete(format!("waiting for {name:?}"))
    } else {
        Problem::Refused(format!("cannot read {name:?}: {error}"))
    }
}

/// Checks that a file name stays inside the version's folder; a leading `./` is the folder itself.
fn local_path(name: &str) -> Result<&Path, Problem> {
    let path = Path::new(name);
    let path = path.strip_prefix(".").unwrap_or(path);
    let mut parts = path.components().peekable();
    let stays_inside = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    stays_inside
        .then_some(path)
        .ok_or_else(|| Problem::Refused(format!("{name:?} leaves the version's folder")))
}

fn check_manifest(folder: &Path) -> Result<(), Problem> {
    let Some(text) = read_small(folder, MANIFEST)? else { return Ok(()) };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| Problem::Refused(format!("\"manifest.json\" is not understood: {error}")))?;
    for (name, expected) in &manifest.files {
        let (size, crc) = size_and_crc32c(&folder.join(local_path(name)?))
            .map_err(|error| missing_or_unreadable(&error, name))?;
        if size != expected.size {
            return Err(Problem::Incomplete(format!(
                "{name:?} has {size} bytes, \"manifest.json\" says {}",
                expected.size
            )));
        }
        let crc = base64_be(crc);
        if crc != expected.crc32c {
            return Err(Problem::Refused(format!(
                "{name:?} has the crc32c {crc}, \"manifest.json\" says {}",
                expected.crc32c
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn problem(files: &[(&str, &[u8])]) -> String {
        Bundle::open(folder(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn problems_are_named() {
        let manifest = |size: u64, crc: u32| {
            format!(r#"{{"files":{{"model.onnx":{{"size":{size},"crc32c":"{}"}}}}}}"#, base64_be(crc))
                .into_bytes()
        };
        let crc = crc32c::crc32c(b"");
        assert_eq!(problem(&[]), "incomplete: waiting for \"model.onnx\"");
        assert_eq!(
            problem(&[("manifest.json", &manifest(0, crc))]),
            "incomplete: waiting for \"model.onnx\""
        );
        assert_eq!(
            problem(&[("manifest.json", &manifest(9, crc)), ("model.onnx", b"")]),
            "incomplete: \"model.onnx\" has 0 bytes, \"manifest.json\" says 9"
        );
        assert_eq!(
            problem(&[("manifest.json", &manifest(1, 7)), ("model.onnx", b"x")]),
            format!(
                "\"model.onnx\" has the crc32c {}, \"manifest.json\" says {}",
                base64_be(crc32c::crc32c(b"x")),
                base64_be(7)
            )
        );
        let sklearn = b"flavors:\n  sklearn: {}\n";
        assert_eq!(problem(&[("MLmodel", sklearn)]), "\"MLmodel\" has no flavour `onnx`, only [\"sklearn\"]");
        let here = b"flavors:\n  onnx:\n    data: ./model.onnx\n";
        assert_eq!(problem(&[("MLmodel", here)]), "incomplete: waiting for \"./model.onnx\"");
        let escape = b"flavors:\n  onnx:\n    data: ../../etc/passwd\n";
        assert_eq!(problem(&[("MLmodel", escape)]), "\"../../etc/passwd\" leaves the version's folder");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Damaged files give a bundle or a reason, never a panic.
        #[test]
        fn any_files_are_read_without_a_panic(
            which in 0usize..4,
            at: proptest::sample::Index,
            byte: u8,
            is_cut: bool,
            noise: Vec<u8>,
        ) {
            let yaml = b"output: [{from: y, labels: [a, b]}]\nsamples: []\nimage: {resize: {shorter: 5}}\n";
            let mlmodel = b"flavors:\n  onnx: {data: model.onnx}\n\
                signature:\n  inputs: '[{\"type\": \"double\", \"name\": \"a\"}]'\n";
            let manifest = br#"{"files": {"model.onnx": {"size": 2, "crc32c": "AAAAAA=="}}}"#;
            let mut files: Vec<(&str, Vec<u8>)> = vec![
                ("model.onnx", b"\x08\x07".to_vec()),
                ("model.yaml", yaml.to_vec()),
                ("MLmodel", mlmodel.to_vec()),
                ("manifest.json", manifest.to_vec()),
            ];
            let content = &mut files[which].1;
            let at = at.index(content.len());
            if is_cut {
                content.truncate(at);
                content.extend(&noise);
            } else {
                content[at] = byte;
            }
            let files: Vec<(&str, &[u8])> =
                files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
            let _ = Bundle::open(folder(&files).path());
        }
    }
}
