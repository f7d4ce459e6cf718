//! Packaging: checks the parts, reads back what is stored, writes manifests, single files, report and catalogue.
//! Everything is written before anything is published.

use crate::attempt_files::{AttemptFiles, unpackable};
use crate::gate::{Header, read_header, read_headers};
use crate::report::Report;
use crate::single_files::{self, SegmentHeaders};
use futures::{StreamExt, stream};
use splitreel_backend::BlobStore;
use splitreel_backend::lease::Assembly;
use splitreel_core::assembly::{self, Certificate};
use splitreel_core::measure::{MeasuredTrack, Stored};
use splitreel_core::part::{Presentation, PresentationFile};
use splitreel_core::task::Progress;
use splitreel_core::{Failure, FailureCode, MediaKind};
use splitreel_presentation::{Catalogue, Form, Rows, StoredTrack, manifests};
use std::pin::pin;
use tokio::sync::watch;

/// Media segments whose headers are requested at a time: storage answers slowly, but many requests at once.
const AT_ONCE: usize = 16;

/// One assembly.
pub(crate) struct Package<'a> {
    pub(crate) blobs: &'a dyn BlobStore,
    pub(crate) prefix: &'a str,
    pub(crate) assembly: &'a Assembly,
}

/// What reading back found.
#[derive(Default)]
struct ReadBack {
    stored: Stored,
    /// Headers of the tracks that go into single files.
    headers: SegmentHeaders,
}

/// Whether a track goes into the single files: the best video track and the audio tracks do.
fn is_single(place: usize, track: &StoredTrack<'_>) -> bool {
    place == 0 || track.kind == MediaKind::Audio
}

impl<'a> Package<'a> {
    /// Checks, packages and stores everything. Nothing is visible until the task is completed.
    ///
    /// # Errors
    /// A [`Failure`] that names what differs or could not be stored.
    pub(crate) async fn make(&self, progress: &watch::Sender<Progress>) -> Result<Presentation, Failure> {
        let rows = Rows::of_parts(&self.assembly.plan, &self.assembly.video, &self.assembly.audio);
        let tracks = rows.tracks();
        let ReadBack { stored, headers } = self.read_back(&tracks, progress).await?;
        let certificate = self.certify(&stored)?;
        let mut files: Vec<PresentationFile> =
            tracks.iter().flat_map(|track| track.files().collect::<Vec<_>>()).collect();
        let output = AttemptFiles { blobs: self.blobs, prefix: self.prefix };
        for manifest in manifests(&rows, Form::Final).map_err(|e| unpackable("the manifests", e))? {
            files.push(output.put(&manifest.path, manifest.text.into_bytes()).await?);
        }
        let singles: Vec<StoredTrack<'_>> =
            tracks.into_iter().enumerate().filter(|(place, track)| is_single(*place, track)).map(|(_, t)| t).collect();
        if self.assembly.plan.packaging.progressive {
            files.push(single_files::progressive(&output, &rows, &self.assembly.base, &singles, &headers).await?);
        }
        progress.send_modify(|p| p.done_per_mille = 800);
        if self.assembly.plan.packaging.chunk_mb > 0 {
            files.extend(single_files::chunk_set(&output, &rows, &self.assembly.base).await?);
        }
        let published = self.publish(&output, &certificate, files).await?;
        progress.send_modify(|p| p.done_per_mille = 1000);
        Ok(published)
    }

    fn certify(&self, stored: &Stored) -> Result<Certificate, Failure> {
        let Assembly { plan, probe, video, audio, .. } = self.assembly;
        assembly::check(plan, &probe.ffmpeg_build, video, audio, stored).map_err(|bad| {
            let first = bad.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Failure::of(
                FailureCode::PartsDiffer,
                format!("the parts do not make up the plan ({} differences): {first}", bad.len()),
            )
        })
    }

    /// Reads the headers of everything stored and measures them.
    async fn read_back(
        &self,
        tracks: &[StoredTrack<'a>],
        progress: &watch::Sender<Progress>,
    ) -> Result<ReadBack, Failure> {
        let total = tracks.iter().map(|t| t.segments.len()).sum::<usize>().max(1);
        let mut seen = 0usize;
        let mut read = ReadBack::default();
        for (place, track) in tracks.iter().enumerate() {
            let Some(init) = track.init else { continue };
            let Header { timescale, delay, stated } = read_header(self.blobs, init).await?;
            let mut measured = MeasuredTrack { timescale, delay, stated, ..MeasuredTrack::default() };
            // In order, so that the failure reported is the first one of the track.
            let reads: Vec<_> = track.segments.iter().map(|s| read_headers(self.blobs, track.track_id, s)).collect();
            let mut gate = pin!(stream::iter(reads).buffered(AT_ONCE));
            for segment in &track.segments {
                let Some(headers) = gate.next().await.transpose()? else { break };
                measured.segments.insert(segment.number, headers.measure(delay));
                if is_single(place, track) {
                    read.headers.insert((track.track_id, segment.number), headers);
                }
                seen += 1;
                let done = u16::try_from(seen * 500 / total).unwrap_or(500);
                progress.send_modify(|p| p.done_per_mille = done);
            }
            match track.track_id {
                1 => read.stored.video.push(measured),
                _ => read.stored.audio.push(measured),
            }
        }
        Ok(read)
    }

    /// Writes the report and the catalogue. The hash does not cover the report, which differs from run to run.
    async fn publish(
        &self,
        output: &AttemptFiles<'_>,
        certificate: &Certificate,
        files: Vec<PresentationFile>,
    ) -> Result<Presentation, Failure> {
        let unlisted = |e: splitreel_presentation::CatalogueError| unpackable("the catalogue", e);
        let catalogue = Catalogue::new(files).map_err(unlisted)?;
        let hash = catalogue.hash();
        let report = Report::new(certificate, self.assembly);
        let json = serde_json::to_vec_pretty(&report).map_err(|e| unpackable("the report", e))?;
        let catalogue = catalogue.with(output.put("report.json", json).await?).map_err(unlisted)?;
        let stored = output.put("catalogue.json", catalogue.to_json().map_err(unlisted)?).await?.object;
        Ok(Presentation {
            hash,
            catalogue: stored,
            bytes: catalogue.bytes(),
            num_files: u32::try_from(catalogue.num_files()).unwrap_or(u32::MAX),
        })
    }
}
