//! The output seam: copies of published presentations in buckets and directories, and the order of their files.

use async_trait::async_trait;
use splitreel_core::job::Job;
use splitreel_core::part::PresentationFile;

/// A presentation could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("the presentation cannot be copied to {location}")]
pub struct OutputError {
    /// The destination.
    pub location: String,
    /// The reason.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Copies published presentations to buckets or directories.
#[async_trait]
pub trait OutputStore: Send + Sync {
    /// Copies the files of a job's presentation below a location: media before the manifests that name them, so that a
    /// manifest that exists can be played. Safe to repeat.
    ///
    /// # Errors
    /// [`OutputError`]; every manifest that exists then still names existing files only.
    async fn copy(&self, job: &Job, files: &[PresentationFile], location: &str) -> Result<(), OutputError>;
}

/// Folder of a job's presentation in a bucket, below the location: one per job, so that none is ever overwritten.
pub fn folder(job: &Job) -> String {
    format!("{}/{}/", job.request.base, job.id)
}

/// The files in the order in which they may appear: media, then media playlists, then the manifests that name these.
pub fn in_order(files: &[PresentationFile]) -> [Vec<&PresentationFile>; 3] {
    let mut waves: [Vec<&PresentationFile>; 3] = Default::default();
    let [media, inner, outer] = &mut waves;
    for file in files {
        let is_manifest = file.path.ends_with(".m3u8") || file.path.ends_with(".mpd") || file.path.ends_with(".json");
        let wave = match (is_manifest, file.path.contains('/')) {
            (false, _) => &mut *media,
            (true, true) => &mut *inner,
            (true, false) => &mut *outer,
        };
        wave.push(file);
    }
    waves
}

/// The media type of a file, by its name.
pub fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "m3u8" => "application/vnd.apple.mpegurl",
        "mpd" => "application/dash+xml",
        "m4s" => "video/iso.segment",
        "mp4" => "video/mp4",
        "m4a" => "audio/mp4",
        "ts" => "video/mp2t",
        "vtt" => "text/vtt; charset=utf-8",
        "json" => "application/json",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::part::StoredObject;

    #[test]
    fn manifests_come_after_the_files_they_name() {
        let paths =
            ["master.m3u8", "v/720p/playlist.m3u8", "v/720p/seg-00001.m4s", "manifest.mpd", "report.json", "a.mp4"];
        let files = paths.map(|path| PresentationFile {
            path: path.to_owned(),
            object: StoredObject { key: path.to_owned(), bytes: 1, sha256: String::new() },
        });
        let [media, inner, outer] = in_order(&files);
        let names = |wave: Vec<&PresentationFile>| wave.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        assert_eq!(names(media), ["v/720p/seg-00001.m4s", "a.mp4"]);
        assert_eq!(names(inner), ["v/720p/playlist.m3u8"]);
        assert_eq!(names(outer), ["master.m3u8", "manifest.mpd", "report.json"]);
    }
}
