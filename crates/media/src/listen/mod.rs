//! Measures what a decoder delivers of an audio track: of the source, and of the file that an encoder wrote. Another
//! chain than the one that made the file: no conversion, no filling, no mixing, each block at its own time.

mod pcm;

use crate::detect::Ffmpeg;
use crate::encode::{PacketTimes, formats, input_options, sound_filter};
use crate::failure::{Context, from_run};
use crate::process::{Limits, Output, Run, Stdout, run};
use crate::scratch::file_url;
use pcm::PcmReader;
use splitreel_core::clock::TrackClock;
use splitreel_core::levels::Levels;
use splitreel_core::time::MediaTime;
use splitreel_core::{Failure, FailureCode};
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Milliseconds that times are moved, because Matroska has none before 0.
const LEAD_MS: i64 = 1_000;

/// One audio track to listen to.
pub(crate) struct Listening<'a> {
    /// The local file.
    pub(crate) file: &'a Path,
    /// Its input argument.
    pub(crate) input: OsString,
    /// ffmpeg's name of its demuxer.
    pub(crate) demuxer: &'a str,
    /// Stream index.
    pub(crate) stream: u32,
    /// Time in the file that counts as 0, without the jumps of the clock.
    pub(crate) origin: MediaTime,
    /// Jumps of the file's clock, in ticks of the origin's timebase; `None`: the clock has none.
    pub(crate) clock: Option<&'a TrackClock>,
    /// Times of its packets.
    pub(crate) times: PacketTimes,
}

impl<'a> Listening<'a> {
    /// The track of a file that an encoder wrote.
    pub(crate) fn to_output(file: &'a Path) -> Self {
        let origin = MediaTime::new(0, splitreel_core::Rational::ONE);
        Listening {
            file,
            input: file_url(file),
            demuxer: "mov",
            stream: 0,
            origin,
            clock: None,
            times: PacketTimes::default(),
        }
    }
}

/// Decodes a track and measures it.
pub(crate) async fn listen(
    ffmpeg: &Ffmpeg,
    track: Listening<'_>,
    limits: Limits,
    cancel: CancellationToken,
) -> Result<(Levels, Output), Failure> {
    let reader = Arc::new(Mutex::new(PcmReader::new(LEAD_MS)));
    let mut decode = Run::new(&ffmpeg.ffmpeg, args(&track));
    let sink = Arc::clone(&reader);
    decode.stdout = Stdout::Bytes(Box::new(move |bytes: &[u8]| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }));
    decode.access.read.push(track.file.to_owned());
    decode.limits = limits;
    decode.landlock = ffmpeg.landlock();
    let directory = track.file.parent().unwrap_or(track.file);
    let failed = |error| from_run(&error, &Context { doing: "listening to an audio track", directory });
    let output = run(decode, cancel).await.map_err(failed)?;
    let reader = std::mem::replace(&mut *reader.lock().unwrap_or_else(PoisonError::into_inner), PcmReader::new(0));
    let mut levels = reader.finish().map_err(|error| {
        Failure::of(FailureCode::OutputUnreadable, format!("listening to an audio track: {error}"))
            .with_evidence(output.stderr_tail.clone())
    })?;
    levels.formats = formats(&output.stderr_tail);
    Ok((levels, output))
}

fn args(track: &Listening<'_>) -> Vec<OsString> {
    let mut args: Vec<String> =
        ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose"].map(str::to_owned).into();
    args.extend(input_options(track.demuxer));
    args.extend(track.times.options(track.demuxer));
    args.extend(["-copyts".into(), "-i".into()]);
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    args.push(track.input.clone());
    let (ticks, tb) = (track.origin.ticks, track.origin.timebase);
    let without_jumps = track.clock.map(|clock| sound_filter(clock, tb) + ",").unwrap_or_default();
    let shift = format!("{without_jumps}asetpts=PTS-({ticks}*{}/{}-{LEAD_MS}/1000)/TB", tb.num(), tb.den());
    let stream = format!("0:{}", track.stream);
    let rest = ["-map", &stream, "-af", &shift, "-c:a", "pcm_f32le", "-threads:a", "1", "-f", "matroska", "pipe:1"];
    args.extend(rest.map(OsString::from));
    args
}
