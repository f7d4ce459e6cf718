//! What a decoder makes of a file: frame times, pixel hashes, sample counts. The truth that outputs are held against.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seconds as a fraction of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds {
    pub num: i128,
    pub den: i128,
}

impl Seconds {
    pub fn new(num: i128, den: i128) -> Self {
        Seconds { num, den }
    }

    pub fn minus(self, other: Seconds) -> Seconds {
        Seconds { num: self.num * other.den - other.num * self.den, den: self.den * other.den }
    }

    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }
}

/// Presentation times of the decoded frames, in the decoder's order.
#[derive(Debug)]
pub struct Frames {
    pub ticks: Vec<i128>,
    /// Seconds per tick.
    pub tick: Seconds,
}

impl Frames {
    pub fn first(&self) -> Seconds {
        self.at(self.ticks[0])
    }

    fn at(&self, tick: i128) -> Seconds {
        Seconds::new(tick * self.tick.num, self.tick.den)
    }

    /// Length from the first to the last frame, in seconds.
    pub fn span(&self) -> f64 {
        self.at(self.ticks[self.ticks.len() - 1]).minus(self.first()).to_f64()
    }
}

/// Decoded audio of one track.
#[derive(Debug)]
pub struct Sound {
    pub samples: i128,
    pub rate: i128,
    pub start: Seconds,
    /// Samples of a packet, the most that may be left of padding.
    pub packet: i128,
}

fn ffprobe(path: &Path, args: &[&str]) -> String {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error"]).args(args).arg("-i").arg(file_url(path)).stdin(Stdio::null());
    let output = command.output().expect("ffprobe is needed for these tests");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn file_url(path: &Path) -> std::ffi::OsString {
    let mut url = std::ffi::OsString::from("file:");
    url.push(path);
    url
}

fn stream(path: &Path, selector: &str) -> Option<Value> {
    let text = ffprobe(path, &["-show_streams", "-select_streams", selector, "-of", "json"]);
    let json: Value = serde_json::from_str(&text).ok()?;
    json["streams"].get(0).cloned()
}

fn tick(stream: &Value) -> Seconds {
    let (num, den) = stream["time_base"].as_str().unwrap().split_once('/').unwrap();
    Seconds::new(num.parse().unwrap(), den.parse().unwrap())
}

/// The first video track; `None` when the file has none.
pub fn frames(path: &Path) -> Option<Frames> {
    let stream = stream(path, "v:0")?;
    let listing =
        ffprobe(path, &["-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0"]);
    let ticks = listing.lines().filter_map(|l| l.trim_end_matches(',').parse().ok()).collect();
    Some(Frames { ticks, tick: tick(&stream) })
}

/// How many audio tracks a file has.
pub fn num_sounds(path: &Path) -> usize {
    let text = ffprobe(path, &["-show_entries", "stream=index", "-select_streams", "a", "-of", "csv=p=0"]);
    text.lines().filter(|l| !l.is_empty()).count()
}

/// Audio track `number` from 0; `None` when the file has none.
pub fn sound(path: &Path, number: usize) -> Option<Sound> {
    let selector = format!("a:{number}");
    let stream = stream(path, &selector)?;
    let entries =
        ["-select_streams", &selector, "-show_entries", "frame=best_effort_timestamp,nb_samples", "-of", "json"];
    let json: Value = serde_json::from_str(&ffprobe(path, &entries)).ok()?;
    let frames = json["frames"].as_array()?;
    let tick = tick(&stream);
    let first = frames.iter().find_map(|f| f["best_effort_timestamp"].as_i64())?;
    let packet = match stream["codec_name"].as_str() {
        Some("opus") => 960,
        _ => 1024,
    };
    Some(Sound {
        samples: frames.iter().filter_map(|f| f["nb_samples"].as_i64()).map(i128::from).sum(),
        rate: stream["sample_rate"].as_str().unwrap().parse().unwrap(),
        start: Seconds::new(i128::from(first) * tick.num, tick.den),
        packet,
    })
}

/// MD5 of each decoded picture in the file's own pixel format.
pub fn pixels(path: &Path) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(file_url(path));
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.rsplit_once(',')?.1.trim().to_owned())).collect()
}

/// When a picture is mostly white for the first time, and when the first audio track is loud for the first time, in seconds.
pub fn onsets(path: &Path) -> (f64, f64) {
    let ffmpeg = |args: &[&str]| {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-i"]).arg(file_url(path)).args(args).stdin(Stdio::null());
        command.output().unwrap().stdout
    };
    let grey =
        ffmpeg(&["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", "scale=8:8,format=gray", "-f", "rawvideo", "-"]);
    let bright = |frame: &[u8]| frame.iter().map(|byte| u32::from(*byte)).sum::<u32>() > 64 * 220;
    let white = grey.chunks_exact(64).position(bright).expect("a white picture");
    let frames = frames(path).unwrap();
    let sound = sound(path, 0).unwrap();
    let samples = ffmpeg(&["-map", "0:a:0", "-ac", "1", "-f", "s16le", "-"]);
    let loud = samples.chunks_exact(2).position(|pair| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs() > 3000);
    let tone = sound.start.to_f64() + loud.expect("a tone") as f64 / sound.rate as f64;
    (frames.at(frames.ticks[white]).to_f64(), tone)
}

/// Same number of frames at the same times from the first on, to half an output tick.
#[track_caller]
pub fn assert_same_times(what: &str, source: &Frames, output: &Frames) {
    assert!(output.ticks.windows(2).all(|w| w[0] < w[1]), "{what}: times repeat or run back");
    assert_eq!(output.ticks.len(), source.ticks.len(), "{what}: number of frames");
    let (s, o) = (source.tick, output.tick);
    for (i, (&want, &got)) in source.ticks.iter().zip(&output.ticks).enumerate() {
        let want = (want - source.ticks[0]) * s.num * o.den;
        let got = (got - output.ticks[0]) * o.num * s.den;
        assert!(
            2 * (got - want).abs() <= o.num * s.den,
            "{what}: frame {i} is {} s off",
            (got - want) as f64 / (s.den * o.den) as f64
        );
    }
}

/// Same number of samples; at most one packet of padding more.
#[track_caller]
pub fn assert_same_samples(what: &str, source: &Sound, output: &Sound) {
    let want = source.samples * output.rate / source.rate;
    let more = output.samples - want;
    let is_resampled = source.rate != output.rate;
    assert!(
        more >= if is_resampled { -2 } else { 0 } && more <= output.packet,
        "{what}: {} samples, the source has {want}",
        output.samples
    );
}
