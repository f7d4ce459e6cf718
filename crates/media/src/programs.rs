//! Single runs of ffmpeg and ffprobe in directories of the caller. Success proves nothing about the output.

use crate::detect::Ffmpeg;
use crate::encode::{Places, encode_audio, encode_video};
use crate::probe;
use crate::process::ProgressSink;
use crate::request::{AudioFile, AudioRequest, Effort, ProbeRequest, Probed, VideoFiles, VideoRequest};
use splitreel_core::Failure;
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
        let (file, facts, output) =
            encode_audio(self, &request.plan, request.track, &places, request.limits.clone(), progress, cancel).await?;
        Ok(AudioFile { file, facts, effort: Effort::of(&output), stderr_tail: output.stderr_tail })
    }
}
