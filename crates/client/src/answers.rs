//! Answers that carry more than their body: whether something was new, and its version.

/// Something with the version that a conditional change names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The thing.
    pub value: T,
    /// Its ETag, quotes included.
    pub etag: String,
}

/// What a create-or-find call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made<T> {
    /// The thing.
    pub value: T,
    /// It was made by this call (or an earlier try of it).
    pub is_new: bool,
}
