//! Embedded backends: SQLite job store and local-directory blobs.
