//! The preview: a directory of growing manifests while the job runs, at full planned duration. HLS playlists
//! list every planned media segment and mark those that are not there yet as gaps; the MPD lists the finished
//! prefix. It appears once every rendition and audio track has something to play.

use crate::export::{ExportError, remove_dir};
use crate::model;
use splitreel_backend::BlobStore;
use splitreel_core::part::{AudioPart, StoredObject, VideoPart};
use splitreel_core::plan::Plan;
use splitreel_packaging::presentation::{Form, MPD_NAME, TrackKind, init_path, segment_path};
use splitreel_packaging::{dash, hls};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A growing preview directory.
pub struct Preview {
    blobs: Arc<dyn BlobStore>,
    plan: Arc<Plan>,
    dir: PathBuf,
    linked: BTreeSet<String>,
}

impl Preview {
    /// Starts an empty preview: whatever an earlier run left in `dir` goes.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn start(blobs: Arc<dyn BlobStore>, plan: Arc<Plan>, dir: PathBuf) -> io::Result<Self> {
        remove_dir(&dir).await?;
        Ok(Preview { blobs, plan, dir, linked: BTreeSet::new() })
    }

    /// Brings the directory up to date with the parts that are done. Media first, then the playlists that name
    /// it, the multivariant playlist last. Answers whether the preview can be played.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn update(&mut self, video: &[VideoPart], audio: &[Option<AudioPart>]) -> Result<bool, ExportError> {
        let has_video = self
            .plan
            .timeline
            .as_ref()
            .is_none_or(|t| video.iter().any(|p| t.segments.first().is_some_and(|s| s.index == p.segment)));
        if !has_video || audio.iter().any(Option::is_none) || (self.plan.timeline.is_none() && audio.is_empty()) {
            return Ok(false);
        }
        for part in video {
            for r in &part.renditions {
                self.link(&init_path(TrackKind::Video, &r.rendition), &r.init).await?;
                for s in &r.segments {
                    self.link(&segment_path(TrackKind::Video, &r.rendition, u64::from(s.number)), &s.object).await?;
                }
            }
        }
        for part in audio.iter().flatten() {
            self.link(&init_path(TrackKind::Audio, &part.rendition), &part.init).await?;
            for s in &part.segments {
                self.link(&segment_path(TrackKind::Audio, &part.rendition, u64::from(s.number)), &s.object).await?;
            }
        }
        let audio: Vec<Option<&AudioPart>> = audio.iter().map(Option::as_ref).collect();
        let presentation = model::presentation(&self.plan, video, &audio);
        let unusable = |e: &dyn std::fmt::Display| ExportError::Catalogue { what: e.to_string() };
        let checked = presentation.check(Form::Preview).map_err(|e| unusable(&e))?;
        if let Ok(mpd) = dash::mpd(&checked) {
            self.write(MPD_NAME, mpd).await?;
        }
        for playlist in hls::playlists(&checked) {
            self.write(&playlist.path, playlist.text).await?;
        }
        Ok(true)
    }

    /// Removes the preview: the presentation is published, or the job ended without one.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn remove(self) -> io::Result<()> {
        remove_dir(&self.dir).await
    }

    async fn link(&mut self, path: &str, object: &StoredObject) -> Result<(), ExportError> {
        if self.linked.contains(path) {
            return Ok(());
        }
        let target = self.dir.join(path);
        self.make_parent(&target).await?;
        self.blobs.export(&object.key, &target).await?;
        self.linked.insert(path.to_owned());
        Ok(())
    }

    /// Readers see the old playlist or the new one, never half.
    async fn write(&self, path: &str, text: String) -> Result<(), ExportError> {
        let target = self.dir.join(path);
        self.make_parent(&target).await?;
        let fresh = target.with_extension("new");
        let io_error = |source| ExportError::Io { path: target.clone(), source };
        tokio::fs::write(&fresh, text).await.map_err(io_error)?;
        tokio::fs::rename(&fresh, &target).await.map_err(|source| ExportError::Io { path: target.clone(), source })
    }

    async fn make_parent(&self, target: &Path) -> Result<(), ExportError> {
        let Some(parent) = target.parent() else { return Ok(()) };
        tokio::fs::create_dir_all(parent).await.map_err(|source| ExportError::Io { path: parent.to_owned(), source })
    }
}
