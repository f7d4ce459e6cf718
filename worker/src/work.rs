//! The kinds of work: probe, video, audio. Each ends in a result that names what was stored.

use crate::WorkerDeps;
use crate::piece::{CutVideo, cut_audio_track, cut_video};
use crate::progress::{STORING, Transfer};
use crate::source::{LocalSource, SourceAccess, need};
use crate::store::{bytes_to_store, store_bytes, store_track};
use async_trait::async_trait;
use splitreel_backend::lease::{Work, WorkOrder};
use splitreel_core::assembly::sound::differences;
use splitreel_core::levels::Heard;
use splitreel_core::part::{AudioPart, Cost, ProbeResult, RenditionPart, TaskResult, VideoPart};
use splitreel_core::plan::{Cut, Plan, TrackPlan};
use splitreel_core::profile::SourceProfile;
use splitreel_core::ranges::Need;
use splitreel_core::task::Progress;
use splitreel_core::time::OutputTicks;
use splitreel_core::{Failure, FailureClass, FailureCode};
use splitreel_media::{Encoded, Request};
use splitreel_runner::TaskHandler;
use splitreel_telemetry::trace::{Step, step};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

#[async_trait]
impl TaskHandler for WorkerDeps {
    async fn handle(
        &self,
        order: &WorkOrder,
        progress: watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<TaskResult, Failure> {
        let started = Instant::now();
        let wanted = need(order);
        let mut reading = Reading::default();
        let source = self.local(order, &wanted, &progress, cancel, &mut reading).await?;
        let is_complete = source.is_complete();
        let attempt = |source: &LocalSource| Request {
            lease: order.lease,
            name: order.source.locator.rsplit('/').next().unwrap_or_default().to_owned(),
            source: source.path().to_owned(),
            is_complete: source.is_complete(),
            progress: progress.clone(),
            cancel: cancel.clone(),
        };
        let mut outcome = self.work(order, attempt(&source)).await;
        drop(source);
        // A failure on a part of the source says nothing about the source: the whole of it decides.
        if let Err(failure) = &outcome
            && !is_complete
            && !cancel.is_cancelled()
            && (failure.class != FailureClass::Infra || failure.code == FailureCode::NeedsWhole)
        {
            tracing::info!(task = %order.task, code = %failure.code, "partial read was insufficient; falling back to the whole source");
            // Start again at 0: the previous progress would make the end seem near.
            progress.send_replace(Progress::default());
            let source = self.local(order, &Need::Whole, &progress, cancel, &mut reading).await?;
            outcome = self.work(order, attempt(&source)).await;
        }
        let mut result = outcome?;
        let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let cost = match &mut result {
            TaskResult::Probe(p) => Some(&mut p.cost),
            TaskResult::Video(v) => Some(&mut v.cost),
            TaskResult::Audio(a) => Some(&mut a.cost),
            TaskResult::Assemble(_) => None,
        };
        if let Some(cost) = cost {
            cost.wall_ms = wall_ms;
            cost.bytes_read = reading.bytes;
            cost.requests = reading.requests;
        }
        Ok(result)
    }
}

/// Bytes and requests that reading the source took.
#[derive(Default)]
struct Reading {
    bytes: u64,
    requests: u32,
}

impl WorkerDeps {
    async fn local(
        &self,
        order: &WorkOrder,
        need: &Need,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
        reading: &mut Reading,
    ) -> Result<LocalSource, Failure> {
        let grant = order.grant.as_ref();
        let access = SourceAccess { source: &order.source, grant, lease: order.lease, need, progress };
        let local = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::of(FailureCode::Cancelled, "the attempt was cancelled")),
            local = self.sources.local(&access).instrument(step(Step::Fetch)) => local,
        }?;
        reading.bytes = reading.bytes.saturating_add(local.bytes_read());
        reading.requests = reading.requests.saturating_add(local.requests());
        Ok(local)
    }

    async fn work(&self, order: &WorkOrder, request: Request) -> Result<TaskResult, Failure> {
        match &order.work {
            Work::Probe { deep, source } => self.probe(order, request, (*deep, *source)).await,
            Work::Video { plan, segment } => self.video(order, request, plan, *segment).await,
            Work::Audio { plan, index } => self.audio(order, request, plan, *index).await,
            Work::Assemble { .. } => Err(Failure::of(FailureCode::WrongRole, "an assemble task reached a worker")),
        }
    }

    async fn probe(
        &self,
        order: &WorkOrder,
        request: Request,
        (deep, source): (bool, SourceProfile),
    ) -> Result<TaskResult, Failure> {
        let mut info = self.toolkit.probe(request, deep, source).instrument(step(Step::Probe)).await?;
        info.bytes = order.source.bytes;
        let json = serde_json::to_vec(&info).map_err(|e| Failure::of(FailureCode::SourceInfo, e.to_string()))?;
        let cost = Cost { bytes_written: json.len() as u64, ..Cost::default() };
        let key = format!("{}source-info.json", order.key_prefix);
        let info = store_bytes(self.blobs.as_ref(), key, json).instrument(step(Step::Upload)).await?;
        Ok(TaskResult::Probe(ProbeResult { info, ffmpeg_build: self.toolkit.build_id(), cost }))
    }

    async fn video(
        &self,
        order: &WorkOrder,
        request: Request,
        plan: &Arc<Plan>,
        index: u32,
    ) -> Result<TaskResult, Failure> {
        let missing = || Failure::of(FailureCode::Plan, format!("the plan has no segment {index}"));
        let planned = plan.parts_of(index).ok_or_else(missing)?;
        let progress = request.progress.clone();
        let encode = self.toolkit.encode_video(request, Arc::clone(plan), index, order.media_failures);
        let encoded = encode.instrument(step(Step::Encode)).await?;
        if encoded.tracks.len() != planned.len() {
            return Err(Failure::of(
                FailureCode::Renditions,
                format!("{} renditions came out, {} were asked for", encoded.tracks.len(), planned.len()),
            ));
        }
        let Encoded { tracks, content, cpu_ms, keep, .. } = encoded;
        let mut cuts = Vec::with_capacity(tracks.len());
        for (part, track) in planned.iter().zip(&tracks) {
            cuts.push((part, track, cut_video(part, track)?));
        }
        let to_store = cuts.iter().map(|(_, track, cut)| bytes_to_store(&cut.track, track)).sum();
        let transfer = Transfer::new(&progress, STORING, to_store);
        let mut renditions = Vec::with_capacity(tracks.len());
        let mut written = 0;
        for ((part, track, cut), content) in cuts.into_iter().zip(content) {
            let CutVideo { track: cut, num_frames, pts_sha256 } = cut;
            let prefix = format!("{}{}/", order.key_prefix, part.track.id);
            let store = store_track(self.blobs.as_ref(), (&part.track.id, &prefix), cut, track, &transfer);
            let stored = store.instrument(step(Step::Upload)).await?;
            written += stored.objects().map(|object| object.bytes).sum::<u64>();
            renditions.push(RenditionPart { stored, num_frames, pts_sha256, content });
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
        let missing = || Failure::of(FailureCode::Plan, format!("the plan has no audio {index}"));
        let planned = plan.whole_track(index).ok_or_else(missing)?;
        let (Some(channels), Cut::Whole { start, .. }) = (planned.audio().map(|a| a.channels), &planned.cut) else {
            return Err(missing());
        };
        let progress = request.progress.clone();
        let encode = self.toolkit.encode_audio(request, Arc::clone(plan), index);
        let encoded = encode.instrument(step(Step::Encode)).await?;
        let Encoded { tracks, cpu_ms, decoded_samples, encoded_samples, heard, keep, .. } = encoded;
        let track = tracks.first().ok_or_else(|| Failure::of(FailureCode::NoAudio, "no audio came out"))?;
        let cut = cut_audio_track(planned, index, track, encoded_samples, plan.packaging.media_segment_seconds)?;
        check_heard(planned, heard.as_ref())?;
        let transfer = Transfer::new(&progress, STORING, bytes_to_store(&cut.track, track));
        let store = store_track(self.blobs.as_ref(), (&planned.id, &order.key_prefix), cut.track, track, &transfer);
        let stored = store.instrument(step(Step::Upload)).await?;
        drop(keep);
        let bytes_written = stored.objects().map(|object| object.bytes).sum::<u64>();
        Ok(TaskResult::Audio(AudioPart {
            stored,
            sample_rate: planned.timescale,
            channels,
            frame_samples: cut.frame_samples,
            priming: OutputTicks(cut.priming.into()),
            num_samples: cut.num_samples,
            decoded_samples,
            heard: heard.map(Box::new),
            start: *start,
            cost: Cost { cpu_ms, bytes_written, ..Cost::default() },
        }))
    }
}

/// Refuses encoded audio that does not sound like its source.
fn check_heard(planned: &TrackPlan, heard: Option<&Heard>) -> Result<(), Failure> {
    let (Some(audio), Some(heard)) = (planned.audio(), heard) else { return Ok(()) };
    let found = differences(audio, planned.timescale, &heard.source, &heard.output);
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::of(FailureCode::SamplesDiffer, format!("{}: the encoded audio {}", planned.id, found.join("; "))))
}
