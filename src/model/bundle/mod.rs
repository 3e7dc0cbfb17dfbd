//! What one version holds, judged from its files: complete or not, which file is the model, what its columns are called.

pub(crate) mod columns;
pub mod declaration;
pub mod mlflow;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::bundle::declaration::Declaration;
use crate::model::onnx::graph_file::GraphFile;
use crate::model::onnx::model_file;

/// A version that is whole, ready to be loaded.
#[derive(Debug)]
pub struct Bundle {
    pub folder: PathBuf,
    /// The graphs in the order in which they run: preprocessing, the model, postprocessing.
    pub graphs: Vec<GraphFile>,
    /// Which of them is the model.
    pub model_graph: usize,
    /// MLflow's pandas signature: the columns of a row, in order.
    pub columns: Option<Vec<mlflow::Column>>,
    pub declaration: Declaration,
}

/// Why a version cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// More files must come first: not an error, versions are uploaded file by file.
    #[error("incomplete: {0}")]
    Incomplete(String),
    #[error("{0}")]
    Refused(String),
}

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";
pub(crate) const DECLARATION: &str = "model.yaml";
/// Bytes of a manifest or a declaration: they are read as a whole, and what is made of them takes many times as much.
pub(crate) const MAX_DECLARATION_BYTES: u64 = 16 << 20;

/// The commit mark of a version, written last.
#[derive(Debug, Deserialize, Serialize)]
pub struct Manifest {
    pub files: BTreeMap<String, ManifestFile>,
    /// See [`Declaration::new_signature`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_signature: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct ManifestFile {
    /// Bytes.
    pub size: u64,
    /// Base64 of the 4 big-endian bytes, as Cloud Storage writes it.
    pub crc32c: String,
}

#[derive(Debug, Deserialize)]
struct MlModel {
    flavors: BTreeMap<String, serde_json::Value>,
    signature: Option<MlSignature>,
}

#[derive(Debug, Deserialize)]
struct MlSignature {
    /// A JSON array of columns or tensors, as a string.
    inputs: Option<String>,
}

impl Bundle {
    /// Looks at the version in `folder`. Reads the model file's structure, but loads nothing.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        check_manifest(folder)?;
        let declaration = read_declaration(folder)?;
        let mlmodel = read_mlmodel(folder)?;
        let (name, columns) = match &mlmodel {
            Some(mlmodel) => (mlmodel.model_file()?, mlmodel.columns()?),
            None => ("model.onnx".to_owned(), None),
        };
        for name in declaration.files() {
            if !folder.join(plain(name)?).exists() {
                return Err(Problem::Incomplete(format!("waiting for {name:?}, which \"model.yaml\" names")));
            }
        }
        let mut graphs = Vec::new();
        for name in [declaration.preprocess.as_ref(), Some(&name), declaration.postprocess.as_ref()]
            .into_iter()
            .flatten()
        {
            graphs.push(graph(folder, name)?);
        }
        let model_graph = usize::from(declaration.preprocess.is_some());
        Ok(Self { folder: folder.to_owned(), graphs, model_graph, columns, declaration })
    }

    /// A model file by itself, with nothing declared beside it.
    pub fn of_file(path: &Path) -> Self {
        // What is wrong with the file, ONNX Runtime says.
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

/// True when the manifest or the declaration `text`, by its `name`, declares a new signature. A version for
/// which it cannot be understood is refused when it is opened.
pub(crate) fn declares_new_signature(name: &str, text: &[u8]) -> bool {
    if name == MANIFEST {
        return serde_json::from_slice(text).is_ok_and(|manifest: Manifest| manifest.new_signature);
    }
    let text = str::from_utf8(text).unwrap_or_default();
    Declaration::parse(text).is_ok_and(|declaration| declaration.new_signature)
}

/// An ONNX file whose external weights are there, too.
fn graph(folder: &Path, name: &str) -> Result<GraphFile, Problem> {
    let file = folder.join(plain(name)?);
    let bytes = std::fs::read(&file).map_err(|error| missing_or_unreadable(&error, name))?;
    for external in model_file::external_files(&bytes).map_err(Problem::Refused)? {
        if !file.with_file_name(plain(&external)?).exists() {
            return Err(Problem::Incomplete(format!("waiting for {external:?}, which {name:?} names")));
        }
    }
    GraphFile::of(&file, &bytes).map_err(Problem::Refused)
}

fn read_small(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_DECLARATION_BYTES {
        return Err(std::io::Error::other(format!(
            "it has {size} bytes, expected {MAX_DECLARATION_BYTES} at most"
        )));
    }
    std::fs::read_to_string(path)
}

fn read_declaration(folder: &Path) -> Result<Declaration, Problem> {
    match read_small(&folder.join(DECLARATION)) {
        Ok(text) => Declaration::parse(&text).map_err(Problem::Refused),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Declaration::default()),
        Err(error) => Err(Problem::Refused(format!("cannot read \"model.yaml\": {error}"))),
    }
}

fn missing_or_unreadable(error: &std::io::Error, name: &str) -> Problem {
    if error.kind() == std::io::ErrorKind::NotFound {
        Problem::Incomplete(format!("waiting for {name:?}"))
    } else {
        Problem::Refused(format!("cannot read {name:?}: {error}"))
    }
}

/// A file name that stays inside the version's folder; `./` before it is the folder itself.
fn plain(name: &str) -> Result<&Path, Problem> {
    let path = Path::new(name);
    let path = path.strip_prefix(".").unwrap_or(path);
    let mut parts = path.components().peekable();
    let is_plain = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    is_plain.then_some(path).ok_or_else(|| Problem::Refused(format!("{name:?} leaves the version's folder")))
}

fn check_manifest(folder: &Path) -> Result<(), Problem> {
    let text = match read_small(&folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::Refused(format!("cannot read \"manifest.json\": {error}"))),
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| Problem::Refused(format!("\"manifest.json\" is not understood: {error}")))?;
    for (name, expected) in &manifest.files {
        let (size, crc) = size_and_crc32c(&folder.join(plain(name)?))
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

/// Bytes and checksum of a file, read piece by piece: model files may be larger than the memory.
pub fn size_and_crc32c(path: &Path) -> std::io::Result<(u64, u32)> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 << 10];
    let (mut size, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += read as u64;
        crc = crc32c::crc32c_append(crc, &piece[..read]);
    }
}

/// A crc32c as Cloud Storage writes it.
pub fn base64_be(crc: u32) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
}

fn read_mlmodel(folder: &Path) -> Result<Option<MlModel>, Problem> {
    match read_small(&folder.join("MLmodel")) {
        Ok(text) => serde_saphyr::from_str(&text)
            .map(Some)
            .map_err(|error| Problem::Refused(format!("\"MLmodel\" is not understood: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::Refused(format!("cannot read \"MLmodel\": {error}"))),
    }
}

impl MlModel {
    fn model_file(&self) -> Result<String, Problem> {
        let onnx = self.flavors.get("onnx").ok_or_else(|| {
            let flavors: Vec<_> = self.flavors.keys().collect();
            Problem::Refused(format!("\"MLmodel\" has no flavour `onnx`, only {flavors:?}"))
        })?;
        let data = onnx.get("data").and_then(serde_json::Value::as_str);
        Ok(data.unwrap_or("model.onnx").to_owned())
    }

    /// The columns of a pandas signature; a tensor signature has none, nor has one whose columns have no names.
    fn columns(&self) -> Result<Option<Vec<mlflow::Column>>, Problem> {
        #[derive(Deserialize)]
        struct Column {
            #[serde(rename = "type")]
            kind: String,
            name: Option<Name>,
            required: Option<bool>,
            /// The same in MLflow before 2.9.
            optional: Option<bool>,
        }
        /// The columns of a frame that was made of an array are numbered.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Name {
            Text(String),
            Number(i64),
        }
        let Some(inputs) = self.signature.as_ref().and_then(|signature| signature.inputs.as_ref()) else {
            return Ok(None);
        };
        let columns: Vec<Column> = serde_json::from_str(inputs).map_err(|error| {
            Problem::Refused(format!("the signature's inputs in \"MLmodel\" are not understood: {error}"))
        })?;
        if columns.iter().any(|column| column.kind == "tensor") {
            return Ok(None);
        }
        let named = |column: Column| {
            let Column { kind, name, required, optional } = column;
            let name = match name? {
                Name::Text(text) => text,
                Name::Number(number) => number.to_string(),
            };
            let required = required.unwrap_or(!optional.unwrap_or(false));
            Some(mlflow::Column { name, kind, required })
        };
        Ok(columns.into_iter().map(named).collect())
    }
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
    fn the_problem_is_named() {
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

    #[test]
    fn columns_of_every_mlflow_are_read() {
        let columns = |inputs: &str| {
            let mlmodel =
                format!("flavors:\n  onnx: {{data: model.onnx}}\nsignature:\n  inputs: '{inputs}'\n");
            let folder = folder(&[("model.onnx", b""), ("MLmodel", mlmodel.as_bytes())]);
            Bundle::open(folder.path()).unwrap().columns.unwrap()
        };
        let column = |name: &str, required: bool| mlflow::Column {
            name: name.to_owned(),
            kind: "double".to_owned(),
            required,
        };
        // A frame of an array numbers its columns; `optional` is what MLflow 2.4 wrote.
        let numbered = r#"[{"type": "double", "name": 0}, {"type": "double", "name": 1, "required": true}]"#;
        assert_eq!(columns(numbered), [column("0", true), column("1", true)]);
        let optional = r#"[{"type": "double", "name": "a", "optional": true}, {"type": "double", "name": "b", "optional": false},
            {"type": "double", "name": "c", "required": false}]"#
            .replace('\n', " ");
        assert_eq!(columns(&optional), [column("a", false), column("b", true), column("c", false)]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Whatever was uploaded and however it was damaged: a bundle or a reason.
        #[test]
        fn any_files_are_survived(which in 0usize..4, at: proptest::sample::Index, byte: u8, cut: bool, noise: Vec<u8>) {
            let mut files: Vec<(&str, Vec<u8>)> = vec![
                ("model.onnx", b"\x08\x07".to_vec()),
                ("model.yaml", b"output:\n  - {from: y, labels: [a, b]}\nsamples: []\nimage: {resize: {shorter: 5}}\n".to_vec()),
                ("MLmodel", b"flavors:\n  onnx: {data: model.onnx}\nsignature:\n  inputs: '[{\"type\": \"double\", \"name\": \"a\"}]'\n".to_vec()),
                ("manifest.json", br#"{"files": {"model.onnx": {"size": 2, "crc32c": "AAAAAA=="}}}"#.to_vec()),
            ];
            let content = &mut files[which].1;
            let at = at.index(content.len());
            if cut {
                content.truncate(at);
                content.extend(&noise);
            } else {
                content[at] = byte;
            }
            let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
            let _ = Bundle::open(folder(&files).path());
        }
    }
}
