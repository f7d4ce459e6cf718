//! Single runs of ffmpeg and ffprobe in directories of the caller. Success proves nothing about the output.

use crate::again;
use crate::content::{self, Check};
use crate::detect::Ffmpeg;
use crate::encode::{EncodedAudio, Places, encode_audio, encode_video};
use crate::piece::EncodedTrack;
use crate::probe;
use crate::process::ProgressSink;
use crate::request::{AudioFile, AudioRequest, Effort, ProbeRequest, Probed, VideoFiles, VideoRequest};
use splitreel_core::Failure;
use splitreel_core::content::Content;
use tokio_util::sync::CancellationToken;

impl Ffmpeg {
    /// Looks at a source.
    ///
    /// # Errors
    /// A [`Failure`]; class `Source` when the source itself cannot be used.
    pub async fn probe(
        &self,
        request: ProbeRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<Probed, Failure> {
        probe::probe(self, &request, progress, cancel).await
    }

    /// Encodes one video segment in all renditions. Success does not prove that every frame is there.
    ///
    /// # Errors
    /// A [`Failure`] with ffmpeg's last words.
    pub async fn encode_video(
        &self,
        request: VideoRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<VideoFiles, Failure> {
        let places = Places { source: &request.source, out_dir: &request.out_dir, scratch: &request.scratch };
        let what = (request.segment, request.look_back);
        let (files, output) =
            encode_video(self, &request.plan, what, &places, request.limits.clone(), progress, cancel).await?;
        Ok(VideoFiles { files, effort: Effort::of(&output), stderr_tail: output.stderr_tail })
    }

    /// Holds the pictures of an encoded segment against the source's. `request` and `tracks` are those of
    /// [`Ffmpeg::encode_video`].
    ///
    /// # Errors
    /// A media [`Failure`] when a rendition does not show the source's pictures.
    pub async fn compare_video(
        &self,
        request: &VideoRequest,
        tracks: &[EncodedTrack],
        cancel: CancellationToken,
    ) -> Result<(Vec<Option<Content>>, Effort), Failure> {
        let check = Check {
            plan: &request.plan,
            segment: request.segment,
            tracks,
            dir: &request.out_dir,
            limits: request.limits.clone(),
        };
        content::check(self, &check, cancel).await
    }

    /// Whether a segment that was decoded with errors behind a seek shows the pictures that a decode from
    /// `request.look_back` shows. `request` is otherwise that of [`Ffmpeg::encode_video`], whose files are still there.
    ///
    /// # Errors
    /// A [`Failure`] with ffmpeg's last words.
    pub async fn decodes_alike(
        &self,
        request: &VideoRequest,
        cancel: CancellationToken,
    ) -> Result<(bool, Effort), Failure> {
        again::decodes_alike(self, request, cancel).await
    }

    /// Encodes one audio track.
    ///
    /// # Errors
    /// A [`Failure`] with ffmpeg's last words.
    pub async fn encode_audio(
        &self,
        request: AudioRequest,
        progress: ProgressSink,
        cancel: CancellationToken,
    ) -> Result<AudioFile, Failure> {
        let places = Places { source: &request.source, out_dir: &request.out_dir, scratch: &request.scratch };
        let made =
            encode_audio(self, &request.plan, request.track, &places, request.limits.clone(), progress, cancel).await?;
        let EncodedAudio { file, facts, heard, output } = made;
        Ok(AudioFile { file, facts, heard, effort: Effort::of(&output), stderr_tail: output.stderr_tail })
    }
}
