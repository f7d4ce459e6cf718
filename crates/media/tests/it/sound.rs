//! Sound: sample counts, priming, holes.

use crate::clips::{self, Dir};
use crate::planning::{audio, copied, plan};
use splitreel_core::plan::{AudioEncoding, AudioOp, Coding, Plan};
use splitreel_core::profile::AudioCodec;
use splitreel_media::{AudioFile, AudioRequest, Limits};
use splitreel_packaging::movie::Movie;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub async fn encode(source: &Path, plan: &Arc<Plan>, track: u32, dir: &Path) -> AudioFile {
    let request = AudioRequest {
        source: source.to_owned(),
        plan: Arc::clone(plan),
        track,
        out_dir: dir.to_owned(),
        scratch: dir.to_owned(),
        limits: Limits::default(),
    };
    clips::ffmpeg().await.encode_audio(request, Arc::new(|_| {}), CancellationToken::new()).await.unwrap()
}

/// Priming and playing samples by the edit list.
fn edit(path: &Path) -> (i64, u64) {
    let data = std::fs::read(path).unwrap();
    let at = data.windows(4).position(|word| word == b"moov").unwrap() - 4;
    let movie = Movie::parse(&data[at..], at as u64).unwrap();
    let track = &movie.tracks[0];
    assert_eq!(movie.timescale, track.timescale);
    assert_eq!(track.edits.len(), 1);
    (track.edits[0].media_time, track.edits[0].segment_duration)
}

async fn decoded_samples(path: &Path, rate: u32) -> u64 {
    let output = Command::new(&clips::ffmpeg().await.ffmpeg)
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-ac", "1", "-ar", &rate.to_string(), "-f", "s16le", "-"])
        .output()
        .unwrap();
    output.stdout.len() as u64 / 2
}

#[tokio::test]
async fn every_sample_arrives_and_priming_is_told() {
    let dir = Dir::new();
    let source = dir.file("tone.mkv");
    clips::make(&source, "-f lavfi -i sine=440:r=48000:d=2.345 -c:a pcm_s16le");
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    assert!(info.video.is_none());
    let mut made = plan(&info, &[], vec![]);
    for (codec, priming) in [(AudioCodec::Aac, 1024), (AudioCodec::Opus, 312)] {
        audio(&mut made.tracks[0]).coding = Coding::Encode(AudioEncoding { codec, kbps: 96 });
        let out = encode(&source, &Arc::new(made.clone()), 0, dir.path()).await;
        assert_eq!(out.facts.decoded_samples, Some(112_560));
        assert_eq!(out.facts.encoded_samples, Some(112_560));
        assert_eq!(edit(&out.file), (priming, 112_560), "{codec:?}");
    }
}

#[tokio::test]
async fn holes_become_silence() {
    let dir = Dir::new();
    let source = dir.file("holes.mkv");
    clips::make(&source, "-f lavfi -i sine=440:r=48000:d=3 -af aselect='not(between(t\\,1\\,1.5))' -c:a pcm_s16le");
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let out = encode(&source, &Arc::new(plan(&info, &[], vec![])), 0, dir.path()).await;
    let decoded = out.facts.decoded_samples.unwrap();
    assert!((118_000..121_100).contains(&decoded), "{decoded}");
    let encoded = out.facts.encoded_samples.unwrap();
    assert!(encoded.abs_diff(144_000) <= 96, "{encoded}");
}

#[tokio::test]
async fn rate_and_layout_are_converted() {
    let dir = Dir::new();
    let source = clips::cfr_mp4(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut made = plan(&info, &[], vec![]);
    audio(&mut made.tracks[0]).ops[1] = AudioOp::Remix { layout: String::new(), channels: 2 };
    let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
    let source_samples = decoded_samples(&source, 48_000).await;
    let (priming, length) = edit(&out.file);
    assert_eq!(priming, 1024);
    assert!(length.abs_diff(source_samples) <= 2, "source {source_samples}, output {length}");
}

#[tokio::test]
async fn copies_keep_priming() {
    let dir = Dir::new();
    let source = clips::late_ts(&dir);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut made = plan(&info, &[], vec![]);
    copied(&mut made.tracks[0]);
    made.tracks[0].timescale = info.audio[0].sample_rate;
    let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
    let data = std::fs::read(&out.file).unwrap();
    let at = data.windows(4).position(|word| word == b"moov").unwrap() - 4;
    let movie = Movie::parse(&data[at..], at as u64).unwrap();
    let map = movie.tracks[0].presentation(movie.timescale);
    let first = movie.tracks[0].samples.iter().find_map(|sample| map.present(sample.pts()));
    assert_eq!(first, Some(0));
    assert_eq!(out.facts.decoded_samples, None);
}
