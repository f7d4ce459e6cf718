//! Sound: sample counts, priming, holes.

use crate::clips::{self, Dir};
use crate::planning::{audio, copied, plan};
use splitreel_core::assembly::sound::differences;
use splitreel_core::levels::Heard;
use splitreel_core::plan::{AudioEncoding, AudioMedia, AudioOp, Coding, Plan};
use splitreel_core::profile::AudioCodec;
use splitreel_core::time::OutputTicks;
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

/// Chirp whose every moment differs from every other one.
const CHIRP: &str = "-f lavfi -i aevalsrc='0.3*sin(2*PI*(200*t+300*t*t))':s=48000:d=6";

/// Decoded samples of the first channel.
async fn first_channel(path: &Path) -> Vec<f32> {
    let output = Command::new(&clips::ffmpeg().await.ffmpeg)
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-af", "pan=mono|c0=c0", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .unwrap();
    output.stdout.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Lag of `out` behind `reference` at a sample, by the highest correlation of 100 ms within ±10 ms.
fn lag(reference: &[f32], out: &[f32], at: usize) -> i64 {
    let wanted = &reference[at..at + 4800];
    let correlation = |lag: i64| {
        let found = &out[usize::try_from(at as i64 + lag).unwrap()..];
        wanted.iter().zip(found).step_by(3).map(|(a, b)| a * b).sum::<f32>()
    };
    (-480..=480).max_by(|a, b| correlation(*a).total_cmp(&correlation(*b))).unwrap()
}

/// A part of the chirp, from frame to frame of `frame` samples, in a raw stream or, at `place` seconds, in a transport
/// stream.
fn part(dir: &Dir, name: &str, (from, to): (u32, u32), made: &str, place: Option<f64>) -> std::path::PathBuf {
    let cut = format!("atrim=start_sample={from}:end_sample={to},asetpts=N/SR/TB");
    let format = place.map_or(String::new(), |place| format!("-muxdelay 0 -muxpreload 0 -output_ts_offset {place}"));
    let part = dir.file(name);
    clips::make(&part, &format!("-i {} -af {cut},{made} {format}", dir.file("chirp.wav").display()));
    part
}

/// The bytes of files, one behind the other.
fn joined(dir: &Dir, name: &str, parts: &[std::path::PathBuf]) -> std::path::PathBuf {
    let file = dir.file(name);
    std::fs::write(&file, parts.iter().flat_map(|part| std::fs::read(part).unwrap()).collect::<Vec<u8>>()).unwrap();
    file
}

#[tokio::test]
async fn sound_keeps_its_time_where_the_layout_changes() {
    let dir = Dir::new();
    let wide = "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0 -c:a ac3 -b:a 384k";
    let narrow = "pan=stereo|c0=c0|c1=c0 -c:a ac3 -b:a 192k";
    // 71 and 130 frames of 1536 samples end inside codec frames of AAC and of Opus.
    clips::make(&dir.file("chirp.wav"), &format!("{CHIRP} -c:a pcm_s16le"));
    let parts = [(0, 71, wide), (71, 130, narrow), (130, 187, wide)]
        .map(|(from, to, made)| part(&dir, &format!("{from}.ac3"), (from * 1536, to * 1536), made, None));
    let all = joined(&dir, "all.ac3", &parts);
    let source = dir.file("source.ts");
    clips::make(&source, &format!("-f ac3 -i {} -c copy -f mpegts", all.display()));
    let reference = first_channel(&dir.file("chirp.wav")).await;
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    assert_eq!(info.audio[0].channels, 6);
    for (codec, frame, channels) in [(AudioCodec::Aac, 1024, 6), (AudioCodec::Opus, 960, 2)] {
        let mut made = plan(&info, &[], vec![]);
        let media = audio(&mut made.tracks[0]);
        media.coding = Coding::Encode(AudioEncoding { codec, kbps: 256 });
        media.channels = channels;
        media.ops[1] = AudioOp::Remix { layout: String::new(), channels };
        let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
        assert_eq!(out.facts.converted_samples, Some(187 * 1536), "{codec:?}");
        assert_eq!(out.facts.encoded_samples, Some(187 * 1536), "{codec:?}");
        assert_full_packets(&out.file, frame);
        let heard = first_channel(&out.file).await;
        assert!(heard.len() as u64 >= 187 * 1536, "{codec:?}: {}", heard.len());
        for tenth in (1..57).step_by(2) {
            // AC-3 encoders delay by 256 samples.
            let lag = lag(&reference, &heard, tenth * 4800) - 256;
            assert!(lag.abs() <= 48, "{codec:?}: {lag} samples at {tenth}00 ms");
        }
    }
}

#[tokio::test]
async fn sound_keeps_its_time_where_the_rate_changes() {
    let dir = Dir::new();
    clips::make(&dir.file("chirp.wav"), &format!("{CHIRP} -c:a pcm_s16le"));
    let low = part(&dir, "low.ts", (0, 144_384), "aresample=32000 -c:a aac -b:a 96k", Some(1.0));
    let high = part(&dir, "high.ts", (144_384, 281_600), "anull -c:a aac -b:a 96k", Some(4.2));
    let mut places = Vec::new();
    for part in [&low, &high] {
        places
            .push((clips::probe(part, dir.path()).await.unwrap().info.audio[0].first_pts.seconds() * 48_000.0) as i64);
    }
    let source = joined(&dir, "source.ts", &[low, high]);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    assert_eq!(info.audio[0].sample_rate, 32_000);
    let out = encode(&source, &Arc::new(plan(&info, &[], vec![])), 0, dir.path()).await;
    assert_full_packets(&out.file, 1024);
    let reference = first_channel(&dir.file("chirp.wav")).await;
    let heard = first_channel(&out.file).await;
    // Both parts begin with 1024 samples of their encoder's delay, at their own rate.
    let second = places[1] - places[0] - 144_384 + 1024;
    for tenth in (1..55).step_by(2).filter(|tenth| !(28..33).contains(tenth)) {
        let wanted = if tenth < 30 { 1536 } else { second };
        let lag = lag(&reference, &heard[usize::try_from(wanted).unwrap()..], tenth * 4800);
        assert!(lag.abs() <= 48, "{lag} samples at {tenth}00 ms, beyond {wanted}");
    }
}

/// Integrated loudness in LUFS and true peak in dBFS (EBU R 128), measured on what a decoder delivers.
async fn loudness(path: &Path) -> (f64, f64) {
    let mut command = Command::new(&clips::ffmpeg().await.ffmpeg);
    command.args(["-hide_banner", "-nostats", "-nostdin", "-i"]).arg(path);
    let output = command.args(["-map", "0:a:0", "-af", "ebur128=peak=true", "-f", "null", "-"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = text.rsplit_once("Summary:").unwrap().1;
    let value = |name: &str| summary.split_once(name).unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    (value("I:"), value("Peak:"))
}

/// A mix of channels that all carry the same loud sound, with its loudness and true peak in each codec.
async fn loud_mix(
    dir: &Dir,
    name: &str,
    (layout, count): (&str, usize),
    channels: u16,
    sound: &str,
) -> Vec<(f64, f64)> {
    let source = dir.file(&format!("{layout}-{channels}-{name}.wav"));
    let all = (0..count).map(|at| format!("c{at}=0.9*c0")).collect::<Vec<_>>().join("|");
    clips::make(&source, &format!("-f lavfi -i {sound} -af pan={layout}|{all} -c:a pcm_f32le"));
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut levels = Vec::new();
    for codec in [AudioCodec::Aac, AudioCodec::Opus] {
        let mut made = plan(&info, &[], vec![]);
        let media = audio(&mut made.tracks[0]);
        media.coding = Coding::Encode(AudioEncoding { codec, kbps: 64 * u32::from(channels.max(2)) });
        media.channels = channels;
        media.ops[1] = AudioOp::Remix { layout: String::new(), channels };
        media.ops.push(AudioOp::Limit);
        let media = media.clone();
        let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
        assert_eq!(out.facts.encoded_samples, Some(96_000), "{layout} {codec:?}");
        let heard = out.heard.unwrap();
        let found = differences(&media, 48_000, &heard.source, &heard.output);
        assert_eq!(found, [""; 0], "{layout} to {channels} channels, {name}, {codec:?}");
        let measured = loudness(&out.file).await;
        let peak = f64::from(heard.output.peak) / 10.0;
        // ffmpeg oversamples with another filter, which takes more of what is near half the rate.
        assert!(peak - measured.1 >= -0.45, "{name} {codec:?}: {peak} dBFS, ffmpeg {}", measured.1);
        levels.push(measured);
    }
    levels
}

#[tokio::test]
async fn a_mix_of_equal_loud_tones_stays_below_full_scale_in_every_codec() {
    let dir = Dir::new();
    for (layout, channels) in [(("5.1", 6), 2), (("quad", 4), 2), (("7.1", 8), 6), (("7.1", 8), 2)] {
        for frequency in [500, 11_025] {
            let tone = format!("aevalsrc=sin(2*PI*{frequency}*t+1):s=48000:d=2");
            let levels = loud_mix(&dir, &frequency.to_string(), layout, channels, &tone).await;
            let what = format!("{layout:?} to {channels} channels, {frequency} Hz: {levels:?}");
            assert!(levels.iter().all(|(_, peak)| *peak <= -1.0), "{what}");
            assert!((levels[0].0 - levels[1].0).abs() <= 1.0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_mix_of_what_encoders_overshoot_stays_below_full_scale() {
    let dir = Dir::new();
    let sounds = [
        ("white", "anoisesrc=r=48000:d=2:a=1:c=white:seed=3".to_owned()),
        ("pink", "anoisesrc=r=48000:d=2:a=1:c=pink:seed=3".to_owned()),
        ("square", "aevalsrc=2*lt(mod(t*1000\\,1)\\,0.5)-1:s=48000:d=2".to_owned()),
    ];
    for (name, sound) in sounds {
        for (layout, channels) in [(("5.1", 6), 2), (("7.1", 8), 6)] {
            let levels = loud_mix(&dir, name, layout, channels, &sound).await;
            assert!(levels.iter().all(|(_, peak)| *peak <= -1.0), "{layout:?} to {channels}, {name}: {levels:?}");
        }
    }
}

#[tokio::test]
async fn frames_that_do_not_decode_leave_holes_of_their_length() {
    let dir = Dir::new();
    clips::make(&dir.file("chirp.wav"), &format!("{CHIRP} -c:a pcm_s16le"));
    let whole = part(&dir, "whole.aac", (0, 288_000), "anull -c:a aac -b:a 96k", None);
    let mut data = std::fs::read(&whole).unwrap();
    let (mut at, mut number) = (0, 0);
    while at + 7 < data.len() {
        // ADTS (ISO/IEC 13818-7): 13 bits of length behind 30 bits. Frames are damaged behind the header of 7 bytes.
        let length =
            usize::from(data[at + 3] & 3) << 11 | usize::from(data[at + 4]) << 3 | usize::from(data[at + 5]) >> 5;
        if [0, 40, 90, 140].contains(&number) {
            data[at + 7..at + length].fill(0xFF);
        }
        (at, number) = (at + length, number + 1);
    }
    let damaged = dir.file("damaged.aac");
    std::fs::write(&damaged, data).unwrap();
    let source = dir.file("source.ts");
    clips::make(&source, &format!("-f aac -i {} -c copy -f mpegts", damaged.display()));
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let out = encode(&source, &Arc::new(plan(&info, &[], vec![])), 0, dir.path()).await;
    let converted = out.facts.converted_samples.unwrap();
    assert_eq!(out.facts.encoded_samples.map(|encoded| (encoded - converted) / 1000), Some(3), "three holes");
    let (reference, heard) = (first_channel(&dir.file("chirp.wav")).await, first_channel(&out.file).await);
    // The first frame, of the encoder's delay, is lost: the track starts where the sound does.
    for tenth in (1..57).step_by(2).filter(|tenth| ![9, 19, 29].contains(tenth)) {
        let lag = lag(&reference, &heard, tenth * 4800);
        assert!(lag.abs() <= 48, "{lag} samples at {tenth}00 ms");
    }
}

#[tokio::test]
async fn sound_whose_times_jitter_by_a_frame_is_filled_once_and_never_cut() {
    let dir = Dir::new();
    let (whole, source) = (dir.file("whole.mkv"), dir.file("source.mkv"));
    clips::make(&whole, &format!("{CHIRP} -c:a aac -b:a 96k"));
    let late = "setts=ts='PTS+21*eq(mod(N\\,5)\\,3)'";
    clips::make(&source, &format!("-i {} -c copy -bsf:a {late}", whole.display()));
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let out = encode(&source, &Arc::new(plan(&info, &[], vec![])), 0, dir.path()).await;
    let filled = out.facts.encoded_samples.unwrap() as i64 - out.facts.converted_samples.unwrap() as i64;
    assert!((filled - 1008).abs() <= 96, "{filled} samples");
}

#[tokio::test]
async fn a_mix_neither_moves_nor_changes_soft_sound() {
    let dir = Dir::new();
    let (chirp, source) = (dir.file("chirp.wav"), dir.file("wide.wav"));
    clips::make(&chirp, &format!("{CHIRP} -c:a pcm_s16le"));
    // Dialogue in the centre, something else in each other channel.
    let tone = |level: f64, hertz: u32| format!("{level}*sin(2*PI*{hertz}*t)");
    let (front, back) = ([tone(0.05, 310), tone(0.05, 470)], [tone(0.03, 730), tone(0.03, 910)]);
    let all = [&front[..], &["0.3*sin(2*PI*(200*t+300*t*t))".into(), "0".into()], &back].concat().join("|");
    clips::make(&source, &format!("-f lavfi -i aevalsrc='{all}':c=5.1:s=48000:d=6 -c:a pcm_f32le"));
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let mut made = plan(&info, &[], vec![]);
    let media = audio(&mut made.tracks[0]);
    media.coding = Coding::Encode(AudioEncoding { codec: AudioCodec::Aac, kbps: 256 });
    media.ops.push(AudioOp::Limit);
    let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
    let (reference, heard) = (first_channel(&chirp).await, first_channel(&out.file).await);
    for tenth in (1..57).step_by(7) {
        assert!(lag(&reference, &heard, tenth * 4800).abs() <= 1, "at {tenth}00 ms");
    }
    // ITU-R BS.775: 0.707 of the centre on both sides keeps the dialogue as loud as it was.
    let (wide, stereo) = (loudness(&source).await.0, loudness(&out.file).await.0);
    assert!((wide - stereo).abs() <= 1.0, "{wide} LUFS in 5.1, {stereo} LUFS in stereo");
}

/// A programme of 12 s whose channels rise and fall on their own.
const PROGRAMME: &str = "-f lavfi -i aevalsrc='0.4*sin(2*PI*330*t)*(0.1+0.9*lt(mod(t,3),1.3))|0.3*(random(0)-0.5)*(0.1+0.9*lt(mod(t+1,4),1.7))':c=stereo:s=48000:d=12";

/// Levels of a source before and after an encode.
async fn heard(source: &Path, codec: AudioCodec, kbps: u32, dir: &Path) -> (AudioMedia, Heard) {
    let info = clips::probe(source, dir).await.unwrap().info;
    let mut made = plan(&info, &[], vec![]);
    audio(&mut made.tracks[0]).coding = Coding::Encode(AudioEncoding { codec, kbps });
    let media = audio(&mut made.tracks[0]).clone();
    (media, encode(source, &Arc::new(made), 0, dir).await.heard.unwrap())
}

#[tokio::test]
async fn honest_encodes_sound_like_their_source() {
    let dir = Dir::new();
    let source = dir.file("source.wav");
    let noise = "-f lavfi -i anoisesrc=r=48000:d=4:a=0.3:c=white:seed=7 -af pan=stereo|c0=c0|c1=0.1*c0";
    let quiet = "-f lavfi -i sine=500:r=44100:d=4 -af volume=0.02,pan=stereo|c0=c0|c1=0*c0";
    for made in [PROGRAMME, noise, quiet, "-f lavfi -i anullsrc=r=48000 -t 3", "-f lavfi -i sine=900:r=8000:d=0.3"] {
        clips::make(&source, &format!("{made} -c:a pcm_s16le"));
        for (codec, kbps) in
            [(AudioCodec::Aac, 24), (AudioCodec::Aac, 128), (AudioCodec::Opus, 24), (AudioCodec::Opus, 128)]
        {
            let (media, heard) = heard(&source, codec, kbps, dir.path()).await;
            assert_eq!(
                differences(&media, 48_000, &heard.source, &heard.output),
                [""; 0],
                "{made} {codec:?} {kbps}: {heard:?}"
            );
        }
    }
}

#[tokio::test]
async fn loudness_is_that_of_ffmpeg() {
    let dir = Dir::new();
    let source = dir.file("source.wav");
    clips::make(&source, &format!("{PROGRAMME} -c:a pcm_s16le"));
    let (_, heard) = heard(&source, AudioCodec::Aac, 128, dir.path()).await;
    let (lufs, _) = loudness(&source).await;
    assert!((f64::from(heard.source.loudness.unwrap()) / 10.0 - lufs).abs() <= 0.2, "{heard:?}, ffmpeg {lufs}");
}

#[tokio::test]
async fn planted_faults_sound_unlike_the_source() {
    let dir = Dir::new();
    let (source, faulty) = (dir.file("source.wav"), dir.file("faulty.wav"));
    clips::make(&source, &format!("{PROGRAMME} -c:a pcm_s16le"));
    let (media, honest) = heard(&source, AudioCodec::Aac, 128, dir.path()).await;
    let faults = [
        "pan=stereo|c0=c0|c1=0*c0",
        "pan=stereo|c0=c1|c1=c0",
        "volume=0",
        "volume=12dB",
        "volume=-7dB",
        "adelay=1500:all=1,atrim=end=12",
        "atrim=start=1.5,asetpts=N/SR/TB,apad=whole_dur=12",
        "atrim=end=10",
        "volume=0:enable='between(t,3,6)'",
        "asetrate=24000,aresample=48000,atrim=end=12",
    ];
    for fault in faults {
        clips::make(&faulty, &format!("-i {} -af {fault} -c:a pcm_s16le", source.display()));
        let (_, made) = heard(&faulty, AudioCodec::Aac, 128, dir.path()).await;
        let found = differences(&media, 48_000, &honest.source, &made.output);
        assert!(!found.is_empty(), "{fault}: {:?} {:?}", honest.source, made.output);
    }
}

#[tokio::test]
async fn silence_fills_a_track_to_the_sample() {
    let dir = Dir::new();
    let source = dir.file("chirp.wav");
    clips::make(&source, &format!("{CHIRP} -c:a pcm_s16le"));
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    for codec in [AudioCodec::Aac, AudioCodec::Opus] {
        let mut made = plan(&info, &[], vec![]);
        let media = audio(&mut made.tracks[0]);
        media.coding = Coding::Encode(AudioEncoding { codec, kbps: 128 });
        (media.lead_silence, media.fill_until) = (OutputTicks(48_007), Some(OutputTicks(384_003)));
        let out = encode(&source, &Arc::new(made), 0, dir.path()).await;
        assert_eq!(out.facts.encoded_samples, Some(384_003), "{codec:?}");
        let (reference, heard) = (first_channel(&source).await, first_channel(&out.file).await);
        assert!(heard[..46_000].iter().all(|sample| sample.abs() < 0.002), "{codec:?}");
        for tenth in [2, 20, 50] {
            assert!(lag(&reference, &heard[48_007..], tenth * 4800).abs() <= 1, "{codec:?} at {tenth}00 ms");
        }
    }
}

/// All packets but the last are codec frames of `frame` samples.
fn assert_full_packets(path: &Path, frame: u32) {
    let data = std::fs::read(path).unwrap();
    let at = data.windows(4).position(|word| word == b"moov").unwrap() - 4;
    let movie = Movie::parse(&data[at..], at as u64).unwrap();
    let durations: Vec<u32> = movie.tracks[0].samples.iter().map(|sample| sample.duration).collect();
    let (last, full) = durations.split_last().unwrap();
    assert!(full.iter().all(|duration| *duration == frame) && *last <= frame);
}
