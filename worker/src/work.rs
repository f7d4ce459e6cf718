//! The kinds of work: probe, video, audio. Each ends in a result that names what was stored.

use crate::Hands;
use crate::piece::{cut_audio_track, cut_video};
use crate::store::{store_bytes, store_track};
use crate::toolkit::{Encoded, Request};
use async_trait::async_trait;
use splitreel_backend::attempt::Perform;
use splitreel_backend::lease::{Work, WorkOrder};
use splitreel_core::Failure;
use splitreel_core::part::{AudioPart, Cost, ProbeResult, RenditionPart, TaskResult, VideoPart};
use splitreel_core::plan::Plan;
use splitreel_core::task::Progress;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[async_trait]
impl Perform for Hands {
    async fn perform(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        let source = self.sources.local(&order.source).await?;
        let request = Request { lease: order.lease, source, progress, cancel: cancel.clone() };
        let started = Instant::now();
        let mut result = match &order.work {
            Work::Probe { deep } => self.probe(order, request, *deep).await?,
            Work::Video { plan, segment } => self.video(order, request, plan, *segment).await?,
            Work::Audio { plan, index } => self.audio(order, request, plan, *index).await?,
            Work::Assemble { .. } => return Err(Failure::permanent("wrong_role", "an assemble task reached a worker")),
        };
        let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &mut result {
            TaskResult::Probe(p) => p.cost.wall_ms = wall_ms,
            TaskResult::Video(v) => v.cost.wall_ms = wall_ms,
            TaskResult::Audio(a) => a.cost.wall_ms = wall_ms,
            TaskResult::Assemble(_) => {}
        }
        Ok(result)
    }
}

impl Hands {
    async fn probe(&self, order: &WorkOrder, request: Request, deep: bool) -> Result<TaskResult, Failure> {
        let mut info = self.toolkit.probe(request, deep).await?;
        info.bytes = order.source.bytes;
        let json = serde_json::to_vec(&info).map_err(|e| Failure::permanent("source_info", e.to_string()))?;
        let cost = Cost { bytes_written: json.len() as u64, ..Cost::default() };
        let info = store_bytes(self.blobs.as_ref(), format!("{}source-info.json", order.key_prefix), json).await?;
        Ok(TaskResult::Probe(ProbeResult { info, ffmpeg_build: self.toolkit.build_id(), cost }))
    }

    async fn video(
        &self,
        order: &WorkOrder,
        request: Request,
        plan: &Arc<Plan>,
        index: u32,
    ) -> Result<TaskResult, Failure> {
        let missing = || Failure::permanent("plan", format!("the plan has no segment {index}"));
        let video = plan.video.as_ref().ok_or_else(missing)?;
        let segment = video.segments.get(index as usize).ok_or_else(missing)?;
        let encoded = self.toolkit.encode_video(request, Arc::clone(plan), index, order.media_failures).await?;
        if encoded.tracks.len() != video.renditions.len() {
            return Err(Failure::media(
                "renditions",
                format!("{} renditions came out, {} were asked for", encoded.tracks.len(), video.renditions.len()),
            ));
        }
        let Encoded { tracks, cpu_ms, keep, .. } = encoded;
        let mut renditions = Vec::with_capacity(tracks.len());
        let mut written = 0;
        for (rendition, track) in video.renditions.iter().zip(&tracks) {
            let cut = cut_video(video, segment, rendition, track)?;
            let codec = cut.codec.clone();
            let prefix = format!("{}{}/", order.key_prefix, rendition.id);
            let (init, segments) = store_track(self.blobs.as_ref(), &prefix, cut, track).await?;
            written += init.bytes + segments.iter().map(|s| s.object.bytes).sum::<u64>();
            renditions.push(RenditionPart {
                rendition: rendition.id.clone(),
                init,
                codec,
                segments,
                num_frames: segment.num_frames,
                pts_sha256: segment.pts_sha256.clone(),
            });
        }
        drop(keep);
        Ok(TaskResult::Video(VideoPart {
            segment: index,
            renditions,
            cost: Cost { cpu_ms, bytes_written: written, ..Cost::default() },
        }))
    }

    async fn audio(
        &self,
        order: &WorkOrder,
        request: Request,
        plan: &Arc<Plan>,
        index: u32,
    ) -> Result<TaskResult, Failure> {
        let planned = plan
            .audio
            .get(index as usize)
            .ok_or_else(|| Failure::permanent("plan", format!("the plan has no audio {index}")))?;
        let encoded = self.toolkit.encode_audio(request, Arc::clone(plan), index).await?;
        let Encoded { tracks, cpu_ms, decoded_samples, encoded_samples, keep } = encoded;
        let track = tracks.first().ok_or_else(|| Failure::media("no_audio", "no audio came out"))?;
        let cut = cut_audio_track(planned, index, track, encoded_samples, plan.media_segment_seconds)?;
        let codec = cut.track.codec.clone();
        let (init, segments) = store_track(self.blobs.as_ref(), &order.key_prefix, cut.track, track).await?;
        drop(keep);
        let bytes_written = init.bytes + segments.iter().map(|s| s.object.bytes).sum::<u64>();
        Ok(TaskResult::Audio(AudioPart {
            rendition: planned.id.clone(),
            init,
            codec,
            segments,
            sample_rate: planned.sample_rate,
            channels: planned.channels,
            frame_samples: cut.frame_samples,
            priming: cut.priming,
            num_samples: cut.num_samples,
            decoded_samples,
            start: planned.start,
            cost: Cost { cpu_ms, bytes_written, ..Cost::default() },
        }))
    }
}
