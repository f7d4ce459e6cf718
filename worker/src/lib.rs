//! Worker role: claim, fetch, confined ffmpeg, verify, store, complete.
