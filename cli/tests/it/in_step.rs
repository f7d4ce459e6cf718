//! Flash and beep: what is seen and what is heard stay within a millisecond of each other, measured on decoded output.

use crate::clips;
use crate::decoded;
use crate::output::Output;
use crate::reel::Reel;
use std::path::Path;
use std::process::Command;

const RATE: usize = 48_000;

fn decode(path: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path).args(args).arg("-").output().unwrap().stdout
}

/// Times of the first bright frame of each flash, in seconds from the start of the file.
fn flashes(path: &Path) -> Vec<f64> {
    let luma =
        decode(path, &["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", "scale=1:1,format=gray", "-f", "rawvideo"]);
    let frames = decoded::frames(path).unwrap();
    assert_eq!(luma.len(), frames.ticks.len());
    let second = |tick: &i128| *tick as f64 * frames.tick.to_f64();
    let is_first = |at: &usize| luma[*at] > 128 && (*at == 0 || luma[at - 1] <= 128);
    (0..luma.len()).filter(is_first).map(|at| second(&frames.ticks[at])).collect()
}

/// Decoded samples, and the time of the first one in seconds.
fn sound(path: &Path) -> (Vec<f32>, f64) {
    let data = decode(path, &["-map", "0:a:0", "-ac", "1", "-ar", "48000", "-f", "f32le"]);
    let samples = data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    (samples, decoded::sound(path, 0).unwrap().start.to_f64())
}

/// Time of the beep of the source that begins at `at` seconds, found in other sound by its highest correlation within
/// ±10 ms.
fn beep((reference, from): &(Vec<f32>, f64), (heard, start): &(Vec<f32>, f64), at: f64) -> f64 {
    let place = |start: f64| ((at - start) * RATE as f64).round() as i64;
    let wanted = &reference[usize::try_from(place(*from)).unwrap()..][..RATE / 25];
    let correlation = |lag: i64| {
        let Ok(first) = usize::try_from(place(*start) + lag) else { return f32::MIN };
        wanted.iter().zip(&heard[first.min(heard.len())..]).map(|(a, b)| a * b).sum()
    };
    let lag = (-480..=480).max_by(|a, b| correlation(*a).total_cmp(&correlation(*b))).unwrap();
    at + lag as f64 / RATE as f64
}

#[track_caller]
fn in_step(source: &Path, output: &Path, what: &str) {
    let (want, got) = (flashes(source), flashes(output));
    assert_eq!((want.len(), got.len()), (4, 4), "{what}");
    let (reference, heard) = (sound(source), sound(output));
    for (want, got) in want.into_iter().zip(got) {
        let before = beep(&reference, &reference, want) - want;
        let after = beep(&reference, &heard, want) - want + (want - got);
        assert!((after - before).abs() <= 0.001, "{what}: {after} s at {want} s, the source {before} s");
    }
}

#[test]
fn flash_and_beep_stay_together_in_every_codec_split_and_whole() {
    let source = clips::flash_and_beep();
    for codec in ["aac", "opus"] {
        for seconds in ["2", "60"] {
            let reel = Reel::new();
            let out = reel.path("out");
            let profile = reel.path("profile.toml");
            let text = format!(
                "name = \"beep\"\n[audio]\ncodec = \"{codec}\"\n[[video.rungs]]\nheight = \"source\"\ncrf = 30\n"
            );
            std::fs::write(&profile, text).unwrap();
            let args = ["--profile", profile.to_str().unwrap(), "--segment-seconds", seconds];
            reel.run(&source, &out, &args).done();
            in_step(&source, &Output::open(&out).mp4().unwrap(), &format!("{codec}, segments of {seconds} s"));
        }
    }
}
