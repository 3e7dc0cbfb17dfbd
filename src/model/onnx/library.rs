//! Finds ONNX Runtime's library.

use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};

/// The library's path: from the configuration, from ORT_DYLIB_PATH, beside the binary, from the Python package
/// that is installed with the binary, or by the system's search.
pub(super) fn find(configured: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured {
        return configured.to_owned();
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return path.into();
    }
    // Some installers link to the binary from another folder.
    let binary = std::env::current_exe().and_then(|binary| binary.canonicalize());
    let found = binary.ok().and_then(|binary| beside(binary.parent()?));
    found.unwrap_or_else(|| format!("libonnxruntime{DLL_SUFFIX}").into())
}

/// The library in the binary's folder; else that of the Python package below the prefix that the folder belongs
/// to: `<prefix>/bin/predictd` is a command of the packages in `<prefix>/lib/python3.12/site-packages`.
fn beside(folder: &Path) -> Option<PathBuf> {
    let own = folder.join(format!("libonnxruntime{DLL_SUFFIX}"));
    if own.exists() {
        return Some(own);
    }
    let prefix = folder.parent()?;
    let pythons = ["lib", "lib64"].into_iter().flat_map(|lib| files(&prefix.join(lib), "python"));
    // Debian's own Python has the second.
    let packages =
        pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    let libraries =
        packages.flat_map(|packages| files(&packages.join("onnxruntime/capi"), "libonnxruntime."));
    // Several versions of Python may share a prefix.
    libraries.max_by_key(|library| version(library))
}

/// Entries of a folder whose names begin so; none where there is no such folder.
fn files(folder: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let has_prefix = move |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
    };
    entries.map(|entry| entry.path()).filter(has_prefix)
}

/// The numbers in a library's name: `libonnxruntime.so.1.20.1` on Linux, `libonnxruntime.1.20.1.dylib` on macOS.
fn version(library: &Path) -> Vec<u64> {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_the_packages_of_the_same_prefix_is_found() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let add = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        add("bin/predictd");
        assert_eq!(beside(&bin), None);
        // Left out: a provider of another kind, and the module of Python.
        add("lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime_providers_shared.so");
        add("lib/python3.9/site-packages/onnxruntime/capi/onnxruntime_pybind11_state.so");
        assert_eq!(beside(&bin), None);
        for newer in [
            "lib/python/site-packages/onnxruntime/capi/libonnxruntime.1.9.0.dylib",
            "lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime.so.1.19.2",
            "lib64/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.20.0",
            "lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.20.1",
        ] {
            let newest = add(newer);
            assert_eq!(beside(&bin), Some(newest));
        }
        let own = add(&format!("bin/libonnxruntime{DLL_SUFFIX}"));
        assert_eq!(beside(&bin), Some(own));
    }
}
