//! Interlaced sources, and sources whose headers lie about it: what is found, what comes out, and that pieces equal the
//! whole.

use crate::clips::{self, Dir, frames, make};
use crate::pieces::encode;
use splitreel_core::plan::Plan;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::{Deinterlace, Profile, Rung, RungHeight};
use splitreel_core::source::{FieldOrder, SourceInfo};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const FIELDS: &str = "-f lavfi -i testsrc2=s=320x240:r=50:d=4,scroll=h=0.01:v=0.003";
const MPEG2: &str = "-c:v mpeg2video -q:v 2 -g 12 -bf 2";
const H264: &str = "-c:v libx264 -preset veryfast -qp 8 -g 20 -bf 2";

struct Case {
    name: &'static str,
    args: String,
    order: Option<FieldOrder>,
}

fn cases() -> Vec<Case> {
    let case = |name, args, order| Case { name, args, order };
    let (top, bottom) = (Some(FieldOrder::TopFirst), Some(FieldOrder::BottomFirst));
    let coded = "-flags +ildct+ilme";
    vec![
        case("top.ts", format!("{FIELDS} -vf tinterlace=interleave_top {MPEG2} {coded} -top 1"), top),
        case("bottom.ts", format!("{FIELDS} -vf tinterlace=interleave_bottom {MPEG2} {coded} -top 0"), bottom),
        case("mbaff.mp4", format!("{FIELDS} -vf tinterlace=interleave_top {H264} {coded}"), top),
        case("lying.mp4", format!("{FIELDS} -vf tinterlace=interleave_top,setfield=prog {H264}"), top),
        case("lying-bottom.mkv", format!("{FIELDS} -vf tinterlace=interleave_bottom,setfield=prog {H264}"), bottom),
        case("telecine.mkv", format!("{FIELDS} -vf fps=24,telecine=pattern=23 {H264}"), top),
        case("progressive.mp4", format!("{FIELDS} -vf fps=25 {H264}"), None),
        case("said-interlaced.mp4", format!("{FIELDS} -vf fps=25 {H264} {coded}"), None),
    ]
}

/// Frames that idet takes for interlaced in a decoded file, and all that it judged.
fn combed(path: &Path) -> (u32, u32) {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vf", "idet", "-f", "null", "-"]);
    let text = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    let counts = text.lines().find_map(|line| line.split_once("Multi frame detection:")).unwrap().1.to_owned();
    let numbers: Vec<u32> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0] + numbers[1], numbers[0] + numbers[1] + numbers[2])
}

/// The source's own size and half of it, without loss, in segments of `seconds`.
fn planned(info: &SourceInfo, seconds: f64, deinterlace: Deinterlace) -> Arc<Plan> {
    let mut profile = Profile::built_in("universal").unwrap();
    let rung = |height| Rung { crf: None, qp: Some(0), ..Rung::of(RungHeight::Pixels(height), 0.0, None) };
    profile.video.rungs = vec![rung(240), rung(120)];
    profile.video.deinterlace = deinterlace;
    profile.split.segment_seconds = seconds;
    Arc::new(plan(info, &profile, &Capabilities::default()).unwrap())
}

/// The decoded frames of each rendition, segment by segment.
async fn pieces(source: &Path, plan: &Arc<Plan>, dir: &Path) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![Vec::new(); plan.video_tracks().count()];
    for segment in &plan.timeline.as_ref().unwrap().segments {
        let files = encode(source, plan, segment.index, 0, &dir.join(format!("{}", plan.num_segments()))).await.files;
        for (file, frames_of) in files.iter().zip(&mut found) {
            frames_of.extend(frames(file));
        }
    }
    found
}

fn source(dir: &Dir, case: &Case) -> PathBuf {
    let path = dir.file(case.name);
    make(&path, &case.args);
    path
}

#[tokio::test]
async fn the_scan_is_found_whatever_the_header_says() {
    let dir = Dir::new();
    for case in cases() {
        let info = clips::probe(&source(&dir, &case), dir.path()).await.unwrap().info;
        let scan = info.video.unwrap().scan;
        assert_eq!(scan.field_order(), case.order, "{}: {scan:?}", case.name);
    }
}

#[tokio::test]
async fn interlaced_sources_come_out_without_combing_and_alike_in_pieces_and_as_a_whole() {
    let dir = Dir::new();
    for case in cases() {
        let source = source(&dir, &case);
        let info = clips::probe(&source, dir.path()).await.unwrap().info;
        let (whole, cut) = (planned(&info, 100.0, Deinterlace::Auto), planned(&info, 0.9, Deinterlace::Auto));
        assert!(cut.num_segments() > 3 && whole.num_segments() == 1, "{}", case.name);
        let out = encode(&source, &whole, 0, 0, dir.path()).await.files;
        for file in &out {
            let (bad, all) = combed(file);
            // idet carries its verdict on the first frames over from its start value.
            assert!(bad <= 4 && all >= 90, "{}: {bad} of {all} frames are combed", case.name);
        }
        let reference: Vec<Vec<String>> = out.iter().map(|file| frames(file)).collect();
        assert_eq!(reference[0].len() as u64, info.video.as_ref().unwrap().frames.pts.len(), "{}", case.name);
        assert_eq!(pieces(&source, &cut, dir.path()).await, reference, "{}", case.name);
        if case.order.is_none() {
            assert_eq!(frames(&source), reference[0], "{}: a progressive source is left alone", case.name);
        }
    }
}

#[tokio::test]
async fn a_profile_can_leave_frames_interlaced() {
    let dir = Dir::new();
    let case = &cases()[0];
    let source = source(&dir, case);
    let info = clips::probe(&source, dir.path()).await.unwrap().info;
    let plan = planned(&info, 100.0, Deinterlace::Off);
    let (bad, all) = combed(&encode(&source, &plan, 0, 0, dir.path()).await.files[0]);
    assert!(bad * 10 > all * 9, "{bad} of {all}");
    let decision = plan.decisions.iter().find(|decision| decision.subject == "scan").unwrap();
    assert_eq!(decision.choice, "left interlaced");
}

/// Times of the frames in seconds, by ffprobe.
fn times(path: &Path) -> Vec<f64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time"]);
    let text = String::from_utf8(command.args(["-of", "csv=p=0"]).arg(path).output().unwrap().stdout).unwrap();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

#[tokio::test]
async fn each_field_becomes_a_frame_at_its_time_where_a_profile_asks_for_it() {
    let dir = Dir::new();
    for case in cases().iter().filter(|case| case.order.is_some()) {
        let source = source(&dir, case);
        let info = clips::probe(&source, dir.path()).await.unwrap().info;
        let (whole, cut) = (planned(&info, 100.0, Deinterlace::Fields), planned(&info, 0.9, Deinterlace::Fields));
        let frames_of_source = times(&source);
        let out = encode(&source, &whole, 0, 0, dir.path()).await.files;
        let reference: Vec<Vec<String>> = out.iter().map(|file| frames(file)).collect();
        assert_eq!(reference[0].len(), frames_of_source.len() * 2, "{}", case.name);
        // The filter by itself, over the whole source.
        let parity = if case.order == Some(FieldOrder::TopFirst) { "tff" } else { "bff" };
        let alone = dir.file("alone.mkv");
        let filter = format!("bwdif=mode=send_field:parity={parity}:deint=all");
        make(&alone, &format!("-i {} -vf {filter} -fps_mode passthrough -c:v ffv1", source.display()));
        assert_eq!(frames(&alone), reference[0], "{}", case.name);
        assert_eq!(pieces(&source, &cut, dir.path()).await, reference, "{}", case.name);
        let shown = times(&out[0]);
        for (at, frame) in frames_of_source.iter().enumerate() {
            let since = frame - frames_of_source[0];
            assert!((shown[at * 2] - shown[0] - since).abs() < 0.0011, "{}: frame {at}", case.name);
            let step = frame - frames_of_source[at.saturating_sub(1)];
            let next = frames_of_source.get(at + 1).map_or(since + step, |next| next - frames_of_source[0]);
            let half = f64::midpoint(since, next);
            assert!((shown[at * 2 + 1] - shown[0] - half).abs() < 0.0011, "{}: second field of {at}", case.name);
        }
        let (bad, all) = combed(&out[0]);
        assert!(bad <= 8 && all >= 180, "{}: {bad} of {all} frames are combed", case.name);
    }
}
