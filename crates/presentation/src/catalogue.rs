//! The catalogue of a published presentation: its files and the objects behind them.

use sha2::{Digest, Sha256};
use splitreel_core::part::{PresentationFile, StoredObject};
use splitreel_core::plan::hex;
use splitreel_packaging::presentation::is_safe_path;
use std::collections::BTreeMap;

/// Files of a presentation by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    files: BTreeMap<String, StoredObject>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not JSON of the expected shape.
    #[error("not a list of files")]
    Json(#[from] serde_json::Error),
    /// A path that is absolute or leaves the presentation.
    #[error("{path:?} is not a path inside the presentation")]
    UnsafePath {
        /// The path.
        path: String,
    },
    /// Two files share a path.
    #[error("{path:?} is listed twice")]
    DuplicatePath {
        /// The path.
        path: String,
    },
}

impl Catalogue {
    /// A catalogue of files.
    ///
    /// # Errors
    /// [`CatalogueError::UnsafePath`], [`CatalogueError::DuplicatePath`].
    pub fn new(files: impl IntoIterator<Item = PresentationFile>) -> Result<Self, CatalogueError> {
        let mut catalogue = Catalogue::default();
        for PresentationFile { path, object } in files {
            if !is_safe_path(&path) {
                return Err(CatalogueError::UnsafePath { path });
            }
            if catalogue.files.contains_key(&path) {
                return Err(CatalogueError::DuplicatePath { path });
            }
            catalogue.files.insert(path, object);
        }
        Ok(catalogue)
    }

    /// Reads a stored catalogue.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn from_json(json: &[u8]) -> Result<Self, CatalogueError> {
        Self::new(serde_json::from_slice::<Vec<PresentationFile>>(json)?)
    }

    /// The form in which a catalogue is stored: a list of files by path.
    ///
    /// # Errors
    /// [`CatalogueError::Json`].
    pub fn to_json(&self) -> Result<Vec<u8>, CatalogueError> {
        Ok(serde_json::to_vec(&self.files().collect::<Vec<_>>())?)
    }

    /// The files, by path.
    pub fn files(&self) -> impl Iterator<Item = PresentationFile> {
        self.files.iter().map(|(path, object)| PresentationFile { path: path.clone(), object: object.clone() })
    }

    /// The object behind a path.
    pub fn object(&self, path: &str) -> Option<&StoredObject> {
        self.files.get(path)
    }

    /// Number of files.
    pub fn num_files(&self) -> usize {
        self.files.len()
    }

    /// Size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|object| object.bytes).sum()
    }

    /// Hash over paths and contents, hex: the identity of what is published.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (path, object) in &self.files {
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update(object.sha256.as_bytes());
        }
        hex(&hash.finalize())
    }

    /// Adds a file that the hash of an earlier moment does not cover.
    ///
    /// # Errors
    /// [`CatalogueError::UnsafePath`], [`CatalogueError::DuplicatePath`].
    pub fn with(self, file: PresentationFile) -> Result<Self, CatalogueError> {
        Self::new(self.files().chain([file]))
    }
}
