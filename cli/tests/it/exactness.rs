//! However a source is split, what comes out is what went in: frames, times, pixels, samples, sound against picture.

use crate::clips;
use crate::decoded::{self, Frames, Seconds, assert_same_samples, assert_same_times};
use crate::output::Output;
use crate::reel::Reel;
use std::path::Path;

/// 1 ms: far below what is heard, far above the rounding of time bases.
const MAX_SHIFT: f64 = 0.001;

/// The decoded truth about a source, found once for all ways of splitting it.
struct Truth {
    frames: Option<Frames>,
    pixels: Vec<String>,
    sounds: Vec<decoded::Sound>,
    /// End of the longest track, in seconds.
    end: f64,
}

impl Truth {
    fn of(source: &Path) -> Self {
        let frames = decoded::frames(source);
        let pixels = if frames.is_some() { decoded::pixels(source) } else { Vec::new() };
        let sounds = (0..decoded::num_sounds(source)).filter_map(|n| decoded::sound(source, n)).collect();
        let mut truth = Truth { frames, pixels, sounds, end: 0.0 };
        let sounds = truth.sounds.iter().map(sound_end);
        truth.end = sounds.chain(truth.frames.as_ref().map(picture_end)).fold(0.0, f64::max);
        truth.filled()
    }

    /// Whether a track with this end is filled up to the end of the longest one.
    fn is_short(&self, end: f64) -> bool {
        self.end - end > 1.0
    }

    /// As many samples as the source's track; one that is short ends with the longest.
    #[track_caller]
    fn assert_samples(&self, what: &str, number: usize, sound: &decoded::Sound) {
        let want = &self.sounds[number];
        if self.is_short(sound_end(want)) {
            let lasts = sound.samples as f64 / sound.rate as f64;
            let wanted = self.end - want.start.to_f64();
            assert!((lasts - wanted).abs() < 0.05, "{what}: {lasts} s, the longest track {wanted} s");
        } else {
            assert_same_samples(what, want, sound);
        }
    }

    /// Tracks that start more than 100 ms late start with the first one: the first frame is shown from there, audio
    /// begins with silence.
    fn filled(mut self) -> Self {
        let starts = self.sounds.iter().map(|sound| sound.start).chain(self.frames.iter().map(Frames::first));
        let Some(origin) = starts.min_by(|a, b| a.to_f64().total_cmp(&b.to_f64())) else { return self };
        let is_late = |start: Seconds| start.minus(origin).to_f64() > 0.1;
        if let Some(frames) = self.frames.as_mut().filter(|frames| is_late(frames.first())) {
            frames.ticks[0] = origin.num * frames.tick.den / (origin.den * frames.tick.num);
        }
        for sound in self.sounds.iter_mut().filter(|sound| is_late(sound.start)) {
            let late = sound.start.minus(origin);
            sound.samples += late.num * sound.rate / late.den;
            sound.start = origin;
        }
        self
    }

    /// Sound minus picture at the start, in seconds.
    fn offset(&self, number: usize) -> Option<f64> {
        Some(self.sounds[number].start.minus(self.frames.as_ref()?.first()).to_f64())
    }
}

fn sound_end(sound: &decoded::Sound) -> f64 {
    sound.start.to_f64() + sound.samples as f64 / sound.rate as f64
}

/// End of the last frame, which is as long as the others on average.
fn picture_end(frames: &Frames) -> f64 {
    frames.first().to_f64() + frames.span() + frames.span() / (frames.ticks.len().max(2) - 1) as f64
}

#[track_caller]
fn assert_exact(truth: &Truth, output: &Output, scratch: &Path) {
    let videos = output.playlists("v");
    let audios = output.playlists("a");
    assert_eq!(!videos.is_empty(), truth.frames.is_some(), "video renditions");
    assert_eq!(audios.len(), truth.sounds.len(), "audio renditions");
    let mut picture = None;
    for playlist in &videos {
        playlist.assert_whole();
        let joined = output.join(playlist, scratch);
        let source = truth.frames.as_ref().unwrap();
        let frames = assert_same_video("playlist", truth, &joined);
        let mean = source.span() / (source.ticks.len().max(2) - 1) as f64;
        let is_filled = truth.is_short(picture_end(source));
        let listed = playlist.seconds();
        assert!(!is_filled || (listed - (truth.end - source.first().to_f64())).abs() < 0.05, "{listed} s listed");
        assert!(
            is_filled || (playlist.seconds() - frames.span() - mean).abs() < 3.0 * mean + 0.01,
            "{} s listed, {} s of frames",
            playlist.seconds(),
            frames.span()
        );
        picture = Some(frames.first());
    }
    let certificate = &output.report()["certificate"];
    for (number, playlist) in audios.iter().enumerate() {
        playlist.assert_whole();
        let sound = decoded::sound(&output.join(playlist, scratch), 0).expect("audio in the rendition");
        truth.assert_samples("playlist", number, &sound);
        if let (Some(want), Some(picture)) = (truth.offset(number), picture) {
            let shift = sound.start.minus(picture).to_f64() - want;
            // Decoders that do not know edit lists in fragmented files play the priming, before the start.
            let priming = certificate["audio"][number]["priming"].as_f64().unwrap() / sound.rate as f64;
            assert!(
                shift.abs() <= MAX_SHIFT || (shift + priming).abs() <= MAX_SHIFT,
                "sound {shift} s against the picture"
            );
        }
    }
    let mp4 = output.mp4().expect("a progressive MP4");
    let picture = truth.frames.is_some().then(|| assert_same_video("mp4", truth, &mp4).first());
    assert_eq!(decoded::num_sounds(&mp4), truth.sounds.len(), "audio tracks of the MP4");
    for number in 0..truth.sounds.len() {
        let sound = decoded::sound(&mp4, number).unwrap();
        truth.assert_samples("mp4", number, &sound);
        if let (Some(want), Some(picture)) = (truth.offset(number), picture) {
            let shift = sound.start.minus(picture).to_f64() - want;
            assert!(shift.abs() <= MAX_SHIFT, "mp4: sound {shift} s against the picture");
        }
    }
    assert_certified(truth, output);
}

#[track_caller]
fn assert_same_video(what: &str, truth: &Truth, file: &Path) -> Frames {
    let frames = decoded::frames(file).expect("video in the output");
    assert_same_times(what, truth.frames.as_ref().unwrap(), &frames);
    let pixels = decoded::pixels(file);
    let differ = pixels.iter().zip(&truth.pixels).position(|(a, b)| a != b);
    assert_eq!(differ, None, "{what}: first frame whose pixels differ");
    assert_eq!(pixels.len(), truth.pixels.len(), "{what}: pictures");
    frames
}

/// The certificate says the same as the decoder.
#[track_caller]
fn assert_certified(truth: &Truth, output: &Output) {
    let certificate = &output.report()["certificate"];
    for video in certificate["video"].as_array().unwrap() {
        let frames = truth.frames.as_ref().map_or(0, |f| f.ticks.len());
        assert_eq!(video["frames_in"], frames, "{video}");
        assert_eq!(video["frames_out"], frames, "{video}");
        assert_eq!(video["pts_sha256_in"], video["pts_sha256_out"]);
        assert_eq!(video["is_continuous"], true);
    }
    for (audio, sound) in certificate["audio"].as_array().unwrap().iter().zip(&truth.sounds) {
        let is_filled = truth.is_short(sound_end(sound));
        if !is_filled && audio["sample_rate"].as_i64().map(i128::from) == Some(sound.rate) {
            // A copied track ends where its container says; decoders give the rest of the last packet, too.
            let more = sound.samples - i128::from(audio["samples_out"].as_i64().unwrap());
            let is_copy = audio["samples_decoded"].is_null();
            assert!(
                more == 0 || (is_copy && (0..sound.packet).contains(&more)),
                "{} samples in the source: {audio}",
                sound.samples
            );
        }
    }
}

/// Splits `source` into `parts` pieces in as many runs and checks each result.
#[track_caller]
fn holds_for(source: &Path, seconds: f64, parts: &[usize]) {
    let reel = Reel::new();
    let truth = Truth::of(source);
    for &n in parts {
        // A little more than the nth part, so that rounding leaves no tail over.
        let every = if n == 1 { 3600.0 } else { seconds / n as f64 * 1.001 };
        let out = reel.path(format!("out-{n}"));
        reel.run_lossless(source, &out, &format!("{every:.4}")).done();
        let output = Output::open(&out);
        if truth.frames.is_some() {
            assert_eq!(output.num_segments(), n, "segments of {}", source.display());
        }
        assert_exact(&truth, &output, &reel.path(""));
    }
}

const FEW: &[usize] = &[1, 2, 3, 7];

#[test]
fn constant_frame_rate_with_b_frames() {
    holds_for(&clips::cfr(), 12.0, FEW);
}

#[test]
fn variable_frame_rate() {
    holds_for(&clips::vfr(), 12.0, FEW);
}

#[test]
fn open_groups_of_pictures() {
    holds_for(&clips::open_gop(), 12.0, FEW);
}

#[test]
fn ntsc_frame_rate() {
    holds_for(&clips::ntsc(), 12.0, FEW);
}

#[test]
fn transport_stream_that_starts_at_an_hour() {
    holds_for(&clips::ts_from_an_hour(), 12.0, FEW);
}

#[test]
fn matroska() {
    holds_for(&clips::mkv(), 12.0, FEW);
}

#[test]
fn edit_list_inside_a_group_of_pictures() {
    holds_for(&clips::edit_list(), 10.7, FEW);
}

#[test]
fn sound_that_starts_late() {
    holds_for(&clips::late_audio(), 12.0, FEW);
}

#[test]
fn picture_that_starts_late() {
    // The first frame is shown 2 s longer, and cuts are counted from where the source shows it.
    holds_for(&clips::late_video(), 12.0, FEW);
}

/// Decoded samples of the first audio track, one channel.
fn heard(path: &Path) -> Vec<f32> {
    let mut command = std::process::Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path);
    command.args(["-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f", "f32le", "-"]);
    let data = command.output().unwrap().stdout;
    data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn silence_stands_in_front_of_late_sound() {
    let reel = Reel::new();
    let out = reel.path("out");
    reel.run(&clips::late_audio(), &out, &[]).done();
    let heard = heard(&Output::open(&out).mp4().unwrap());
    let loudest = |range: &[f32]| range.iter().fold(0.0_f32, |most, sample| most.max(sample.abs()));
    // The encoder's own spread at an edge is below a codec frame.
    assert!(loudest(&heard[..96_000 - 1024]) < 0.001);
    assert!(loudest(&heard[96_000..97_000]) > 0.1);
}

#[test]
fn a_short_picture_lasts_as_long_as_the_sound() {
    let (reel, source) = (Reel::new(), clips::one_frame_with_sound());
    let out = reel.path("out");
    reel.run(&source, &out, &[]).done();
    let output = Output::open(&out);
    for playlist in output.playlists("v").iter().chain(&output.playlists("a")) {
        playlist.assert_whole();
        assert!((playlist.seconds() - 9.0).abs() < 0.1, "{} s", playlist.seconds());
    }
    assert_eq!(decoded::frames(&output.mp4().unwrap()).unwrap().ticks.len(), 1);
    let master = std::fs::read_to_string(out.join("master.m3u8")).unwrap();
    assert!(master.contains("FRAME-RATE=25.000"), "{master}");
}

#[test]
fn sound_that_ends_early_is_silent_to_the_end() {
    let (reel, source) = (Reel::new(), clips::short_sound());
    let out = reel.path("out");
    reel.run(&source, &out, &[]).done();
    let output = Output::open(&out);
    for playlist in output.playlists("v").iter().chain(&output.playlists("a")) {
        playlist.assert_whole();
        assert!((playlist.seconds() - 12.0).abs() < 0.1, "{} s", playlist.seconds());
    }
    let heard = heard(&output.mp4().unwrap());
    assert!(heard.len().abs_diff(12 * 48_000) <= 1024, "{}", heard.len());
    assert!(heard[5 * 48_000 + 4096..].iter().all(|sample| sample.abs() < 0.001));
}

#[test]
fn no_sound() {
    holds_for(&clips::video_only(), 12.0, FEW);
}

#[test]
fn no_picture() {
    holds_for(&clips::audio_only(), 12.0, FEW);
}

#[test]
fn two_audio_tracks_keep_their_places() {
    holds_for(&clips::two_languages(), 12.0, &[3]);
}

#[test]
fn fifty_segments() {
    holds_for(&clips::long_cfr(), 50.0, &[50]);
}

#[test]
fn fifty_segments_of_a_transport_stream() {
    holds_for(&clips::long_ts(), 50.0, &[50]);
}
