//! What the manifest says about the model that made the vectors.

use super::{IndexError, Model, write_error};
use crate::model::embedding::{self, Embedder};
use crate::model::manifest::{EmbeddingInfo, ModelFile};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Whether the files of an external model are those the index was built with, by name, length and
/// time; a learnt model is part of the index.
pub(super) fn unchanged(info: Option<&EmbeddingInfo>) -> bool {
    match info {
        Some(EmbeddingInfo { path: Some(path), files, .. }) => {
            model_files(path).is_ok_and(|found| found == *files)
        }
        _ => true,
    }
}

pub(super) fn describe(
    embedder: &Arc<dyn Embedder>,
    model: &Model,
) -> Result<EmbeddingInfo, IndexError> {
    let (name, path, files) = match model {
        Model::Learnt => ("learnt from the catalogue".to_owned(), None, Vec::new()),
        Model::Folder(folder) => {
            let folder = absolute(folder);
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let files = model_files(&folder)?;
            (name, Some(folder), files)
        }
    };
    Ok(EmbeddingInfo {
        kind: embedder.kind(),
        name,
        dims: embedder.dims(),
        fingerprint: embedder.fingerprint().to_owned(),
        path,
        files,
    })
}

fn model_files(folder: &Path) -> Result<Vec<ModelFile>, IndexError> {
    embedding::files(folder)?
        .into_iter()
        .map(|path| {
            let metadata = fs::metadata(&path).map_err(write_error(&path))?;
            let modified =
                metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Ok(ModelFile {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                modified_nanos: modified.map_or(0, |since| since.as_nanos() as u64),
            })
        })
        .collect()
}

/// The proxy may be started in another folder than the control plane.
pub(super) fn absolute(folder: &Path) -> PathBuf {
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf())
}
