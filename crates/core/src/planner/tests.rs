//! Planner behaviour by example and property.

use super::*;
use crate::fixture;
use crate::plan::{AudioOp, Cut, FrameList, FrameRule, KeyframeGrid, Media, MediaKind, VideoOp, pts_fingerprint};
use crate::profile::{FrameRate, FrameRateWord, PixelFormat, Profile, Rung, RungHeight, VideoCodec};
use crate::source::*;
use crate::task::TaskKind;
use crate::time::{OutputTicks, SourceTicks};
use proptest::prelude::*;

fn source(pts: Vec<i64>, tb: (i64, i64), gop: usize) -> SourceInfo {
    fixture::source_info(Some(fixture::video_track(pts, Rational::new(tb.0, tb.1).unwrap(), gop)), vec![])
}

fn audio(first: i64, tb: i64) -> AudioTrack {
    fixture::audio_track(MediaTime::new(first, Rational::new(1, tb).unwrap()))
}

fn profile(seconds: f64) -> Profile {
    let mut p = Profile::built_in("universal").unwrap();
    p.split.segment_seconds = seconds;
    p
}

fn timeline(plan: &Plan) -> &Timeline {
    plan.timeline.as_ref().unwrap()
}

fn audio_cut(plan: &Plan) -> (i64, u32) {
    let Cut::Whole { start, first_number, .. } = &plan.whole_track(0).unwrap().cut else { panic!() };
    (start.get(), *first_number)
}

/// What every plan must hold, whatever the source.
fn assert_partition(info: &SourceInfo, plan: &Plan) {
    let track = info.video.as_ref().unwrap();
    let frames: Vec<SourceTicks> = track.frames.pts.iter().map(SourceTicks).collect();
    let t = timeline(plan);
    assert_eq!(t.segments[0].start, frames[0]);
    assert_eq!(t.segments.last().unwrap().end, None);
    let mut at = t.output_start;
    for (i, s) in t.segments.iter().enumerate() {
        assert_eq!((s.index as usize, s.output_start), (i, at));
        assert!(frames.binary_search(&s.start).is_ok());
        assert!(s.seek.iter().all(|k| *k <= s.start));
        at = s.output_end;
    }
    assert_eq!(at, t.output_end);
    for list in &plan.frames {
        let chosen: Vec<SourceTicks> =
            list.rule.choose(&frames, track.timebase).into_iter().map(|at| frames[at]).collect();
        assert_eq!(chosen[0], frames[0]);
        assert_eq!(list.segments.len(), t.segments.len());
        assert_eq!(list.segments.iter().map(|s| s.num_frames).sum::<u64>(), chosen.len() as u64);
        for (s, planned) in t.segments.iter().zip(&list.segments) {
            assert!(chosen.binary_search(&s.start).is_ok(), "a segment starts with a frame of every list");
            let inside = chosen.iter().filter(|p| **p >= s.start && s.end.is_none_or(|e| **p < e));
            let inside: Vec<OutputTicks> = inside.map(|p| t.output(*p)).collect();
            assert_eq!(inside.len() as u64, planned.num_frames);
            assert_eq!(pts_fingerprint(inside), planned.pts_sha256);
        }
    }
    for grid in &plan.grids {
        assert_grid(plan, grid, &frames);
    }
}

fn assert_grid(plan: &Plan, grid: &KeyframeGrid, frames: &[SourceTicks]) {
    let (t, mut number) = (timeline(plan), 1);
    let shown = |list: &FrameList| -> Vec<OutputTicks> {
        list.rule.choose(frames, t.source_timebase).into_iter().map(|at| t.output(frames[at])).collect()
    };
    let lists: Vec<Vec<OutputTicks>> = plan.frames.iter().map(shown).collect();
    assert_eq!(grid.segments.len(), t.segments.len());
    for (s, g) in t.segments.iter().zip(&grid.segments) {
        assert_eq!(g.keyframes[0], s.output_start);
        assert!(lists.iter().all(|shown| g.keyframes.iter().all(|k| shown.binary_search(k).is_ok())));
        let mut at = s.output_start;
        for m in &g.media_segments {
            assert_eq!((m.number, m.start), (number, at));
            assert!(m.duration > OutputTicks::ZERO && g.keyframes.contains(&m.start));
            at += m.duration;
            number += 1;
        }
        assert_eq!(at, s.output_end);
    }
}

#[test]
fn chosen_segment_lengths_give_the_expected_number_of_segments() {
    let info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    for n in [1usize, 2, 3, 7, 50] {
        let p = plan(&info, &profile(60.0 / n as f64), &Capabilities::default()).unwrap();
        assert_eq!(p.num_segments(), n);
        assert_partition(&info, &p);
    }
}

#[test]
fn half_second_segments_are_cut_though_no_frame_lies_on_the_half_second() {
    let info = source((0..625).map(|i| i * 512).collect(), (1, 12_800), 50);
    let p = plan(&info, &profile(0.5), &Capabilities::default()).unwrap();
    // 50, less the last 0.48 s, which are a tail.
    assert_eq!(p.num_segments(), 49);
    assert_partition(&info, &p);
}

#[test]
fn short_sources_run_whole_and_say_why() {
    let info = source((0..240).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.num_segments(), 1);
    let split = p.decisions.iter().find(|d| d.subject == "split").unwrap();
    assert_eq!((split.choice.as_str(), split.reason.as_str()), ("whole", "the source lasts 10.0 s, less than 30 s"));
}

#[test]
fn auto_mode_starts_with_short_segments_and_cuts_on_keyframes() {
    let info = source((0..2880).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    let t = timeline(&p);
    assert_partition(&info, &p);
    assert_eq!(p.frames[0].segments[0].num_frames, 48);
    assert!(t.segments.iter().all(|s| s.start.get() % (48 * 512) == 0));
    assert!(t.segments[1..].iter().all(|s| s.seek.first() == Some(&s.start)));
}

#[test]
fn one_frame_and_a_tenth_of_a_second_are_planned() {
    for n in [1, 3] {
        let info = source((0..n).collect(), (1, 30), 10);
        let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
        assert_partition(&info, &p);
    }
}

#[test]
fn matroska_milliseconds_are_kept_exactly_and_told_as_the_common_rate() {
    let pts: Vec<i64> = (0..1000).map(|i| (f64::from(i) * 1001.0 / 30.0).round() as i64).collect();
    let info = source(pts.clone(), (1, 1000), 30);
    let p = plan(&info, &profile(5.0), &Capabilities::default()).unwrap();
    assert_eq!(timeline(&p).timescale, 90_000);
    assert_eq!(p.frames[0].rate, Rational::new(30_000, 1001).unwrap());
    let s = &timeline(&p).segments[1];
    let inside = pts.iter().filter(|t| **t >= s.start.get() && s.end.is_none_or(|e| **t < e.get()));
    assert_eq!(p.frames[0].segments[1].pts_sha256, pts_fingerprint(inside.map(|t| OutputTicks(t * 90))));
}

#[test]
fn late_tracks_are_filled_from_the_start() {
    let mut info = source((0..300).map(|i| i * 512 + 24_576).collect(), (1, 12_288), 48);
    info.audio.push(audio(1000, 1000));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    let t = timeline(&p);
    assert_eq!((t.output_start.get(), t.held.get(), t.output_end.get()), (0, 12_288, 12_288 + 300 * 512));
    assert_eq!(t.output(SourceTicks(24_576 + 512)), OutputTicks(12_288 + 512));
    assert_eq!(p.frames[0].rate, Rational::whole(24));
    assert_partition(&info, &p);
    assert_eq!(audio_cut(&p), (0, 1));
    assert_eq!(decision(&p, "video edges").0, "first frame shown 1.000 s longer");

    info.audio[0].first_pts = MediaTime::new(5000, Rational::new(1, 1000).unwrap());
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!((timeline(&p).output_start.get(), timeline(&p).held.get(), audio_cut(&p)), (0, 0, (0, 1)));
    assert_eq!(p.whole_track(0).unwrap().audio().unwrap().lead_silence.get(), 144_000);
    assert_eq!(decision(&p, "audio 1 edges").0, "3.000 s of silence added");
}

#[test]
fn the_first_media_segment_of_a_late_video_has_frames_behind_the_held_one() {
    for seconds in [0.0, 2.0] {
        let mut info = source((0..300).map(|i| i * 512 + 20 * 12_288).collect(), (1, 12_288), 24);
        info.audio.push(audio(0, 1000));
        let p = plan(&info, &profile(seconds), &Capabilities::default()).unwrap();
        let first = p.grids[0].segments[0].media_segments[0];
        assert_eq!(first.start, OutputTicks(0));
        assert!(first.duration.get() >= 22 * 12_288, "{first:?}");
        assert_partition(&info, &p);
    }
}

#[test]
fn starts_less_than_a_tenth_of_a_second_apart_stay_apart() {
    let mut info = source((0..300).map(|i| i * 512).collect(), (1, 12_288), 48);
    info.audio.push(audio(80, 1000));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!((timeline(&p).held.get(), audio_cut(&p).0), (0, 3_840));
    info.audio[0] = audio(-80, 1000);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!((timeline(&p).held.get(), timeline(&p).output_start.get(), audio_cut(&p).0), (0, 983, 0));
}

#[test]
fn all_tracks_end_with_the_longest() {
    let mut info = source((0..48).map(|i| i * 512).collect(), (1, 12_288), 48);
    info.audio.push(audio(0, 1000));
    info.audio[0].duration = Some(MediaTime::new(40_000, Rational::new(1, 1000).unwrap()));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(timeline(&p).output_end.get(), 40 * 12_288);
    assert_eq!(p.frames[0].rate, Rational::whole(24));
    assert_partition(&info, &p);
    assert_eq!(decision(&p, "video edges").0, "last frame shown 38.000 s longer");

    info.audio[0].duration = Some(MediaTime::new(900, Rational::new(1, 1000).unwrap()));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.whole_track(0).unwrap().audio().unwrap().fill_until, Some(OutputTicks(96_000)));
    // The length that a transport stream states is an estimate.
    info.container = Container::MpegTs;
    info.audio[0].duration = Some(MediaTime::new(40_000_000, Rational::new(1, 1000).unwrap()));
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert_eq!(timeline(&p).output_end.get(), 48 * 512);
}

/// Choice and reason of a decision.
fn decision(plan: &Plan, subject: &str) -> (String, String) {
    let found = plan.decisions.iter().find(|decision| decision.subject == subject).unwrap();
    (found.choice.clone(), found.reason.clone())
}

#[test]
fn stereo_stands_beside_more_channels() {
    let mut info = source((0..300).map(|i| i * 512).collect(), (1, 12_288), 48);
    info.audio = vec![AudioTrack { channels: 6, ..audio(0, 1000) }, AudioTrack { stream: 2, ..audio(0, 1000) }];
    let ids = |p: &Profile| -> Vec<(String, u16, bool)> {
        let plan = plan(&info, p, &Capabilities::default()).unwrap();
        let limits = |t: &TrackPlan| t.audio().unwrap().ops.contains(&AudioOp::Limit);
        plan.whole_tracks().map(|t| (t.id.clone(), t.audio().unwrap().channels, limits(t))).collect()
    };
    let wide = |id: &str, channels, limits| (id.to_owned(), channels, limits);
    let both = [wide("1-eng", 6, false), wide("1-eng-stereo", 2, true), wide("2-eng", 2, false)];
    assert_eq!(ids(&profile(0.0)), both);
    let mut alone = profile(0.0);
    alone.audio.stereo = false;
    assert_eq!(ids(&alone), [wide("1-eng", 6, false), wide("2-eng", 2, false)]);
    let mut narrow = profile(0.0);
    narrow.audio.max_channels = 2;
    assert_eq!(ids(&narrow), [wide("1-eng", 2, true), wide("2-eng", 2, false)]);
}

#[test]
fn an_unknown_encoder_is_named() {
    let info = source((0..10).collect(), (1, 30), 10);
    let caps = Capabilities { encoders: vec!["libx264".into()], filters: vec![] };
    let mut p = profile(0.0);
    p.video.encoder = "libfoo".into();
    let f = plan(&info, &p, &caps).unwrap_err();
    assert_eq!(f.code, "encoder_unknown");
    assert!(f.message.contains("libfoo"));
}

#[test]
fn ten_hours_plan_quickly_enough_to_be_a_unit_test() {
    let info = source((0..1_080_000).map(|i| i * 512).collect(), (1, 15_360), 60);
    let p = plan(&info, &profile(0.0), &Capabilities::default()).unwrap();
    assert!(p.num_segments() > 3000);
}

/// The mixed ladder: AV1, HEVC with 4 s between keyframes, H.264 at another frame rate.
fn mixed(fps: FrameRate, seconds: f64) -> Profile {
    let mut p = profile(seconds);
    let rung = |height| Rung::of(RungHeight::Pixels(height), 30.0, None);
    p.video.rungs = vec![
        Rung { codec: Some(VideoCodec::Av1), ..rung(720) },
        Rung { codec: Some(VideoCodec::Hevc), gop_seconds: Some(4.0), ..rung(480) },
        Rung { fps: Some(fps), ..rung(360) },
    ];
    p
}

#[test]
fn rungs_have_their_own_codec_grid_and_frames() {
    let info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &mixed(FrameRate::Named(FrameRateWord::Half), 7.0), &Capabilities::default()).unwrap();
    let counts = p.frame_counts();
    let of = |at: usize| (counts[at].frames, counts[at].left_out.iter().map(|l| l.frames).sum::<u64>());
    assert_eq!(counts.iter().map(|c| c.source_frames).collect::<Vec<_>>(), [of(0).0; 2]);
    assert_eq!((of(0).1, of(1).0 + of(1).1), (0, of(0).0), "{counts:?}");
    assert_eq!(counts[1].left_out[0].reason, "the profile asks for every second frame");
    let mut damaged = info.clone();
    damaged.video.as_mut().unwrap().num_lost = 2;
    let p2 = plan(&damaged, &mixed(FrameRate::Named(FrameRateWord::Half), 7.0), &Capabilities::default()).unwrap();
    let lost = &p2.frame_counts()[0];
    assert_eq!((lost.source_frames, lost.frames, lost.left_out[0].frames), (of(0).0 + 2, of(0).0, 2));
    assert_partition(&info, &p);
    let encodings: Vec<_> = p
        .video_tracks()
        .map(|(track, video)| {
            let e = video.coding.encoding().unwrap();
            (track.id.as_str(), e.encoder.as_str(), e.preset.as_str(), e.level.as_str(), track.delay.get())
        })
        .collect();
    // The delay of H.264 is two frames of its own list; AV1 hides its own.
    let wanted = [
        ("720p", "libsvtav1", "", "", 0),
        ("480p", "libx265", "", "", 1024),
        ("360p", "libx264", "veryfast", "3.0", 2048),
    ];
    assert_eq!(encodings, wanted);
    assert_eq!(p.frames.iter().map(|f| f.rate.to_f64()).collect::<Vec<_>>(), [24.0, 12.0]);
    let gops: Vec<_> = p.grids.iter().map(|g| g.gop.get()).collect();
    assert_eq!(gops, [24_576, 49_152]);
    let half = &p.tracks[2].video().unwrap().ops[0];
    assert_eq!(*half, VideoOp::Choose { rule: FrameRule::EverySecond });
    assert!(p.decisions.iter().any(|d| d.subject == "frames 360p" && d.choice.contains("12 per second")));
    let encoders: Vec<_> = p.decisions.iter().filter(|d| d.subject == "video").map(|d| d.choice.as_str()).collect();
    assert_eq!(encoders, ["encode 720p with libsvtav1", "encode 480p with libx265", "encode 360p with libx264"]);
}

#[test]
fn a_ladder_of_one_rate_and_distance_shares_one_list_and_one_grid() {
    let info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &profile(7.0), &Capabilities::default()).unwrap();
    assert_eq!((p.tracks.len(), p.frames.len(), p.grids.len()), (3, 1, 1));
}

#[test]
fn a_rate_above_the_source_keeps_its_frames_and_says_so() {
    let info = source((0..240).map(|i| i * 512).collect(), (1, 12_288), 48);
    let p = plan(&info, &mixed(FrameRate::Number(24.0), 0.0), &Capabilities::default()).unwrap();
    assert_eq!(p.frames.len(), 1);
    let d = p.decisions.iter().find(|d| d.subject == "frames 360p").unwrap();
    assert_eq!(d.choice, "every frame of the source");
    assert_eq!(d.reason, "24 frames per second are asked for, the source has 24");
}

#[test]
fn hdr_is_mapped_only_for_the_rung_that_asks_for_8_bit() {
    let mut info = source((0..240).map(|i| i * 512).collect(), (1, 12_288), 48);
    let track = info.video.as_mut().unwrap();
    let [range, space, transfer, primaries] = ["tv", "bt2020nc", "smpte2084", "bt2020"].map(str::to_owned);
    track.color = Color { range, space, transfer, primaries };
    (track.bit_depth, track.pix_fmt) = (10, "yuv420p10le".into());
    let mut wanted = mixed(FrameRate::Named(FrameRateWord::Source), 0.0);
    wanted.video.rungs[0].pixel_format = Some(PixelFormat::Auto420);
    let p = plan(&info, &wanted, &Capabilities::default()).unwrap();
    let maps: Vec<_> =
        p.video_tracks().map(|(_, v)| v.ops.iter().any(|op| matches!(op, VideoOp::ToneMap { .. }))).collect();
    assert_eq!(maps, [false, true, true]);
    let formats: Vec<_> = p.video_tracks().map(|(_, v)| v.pixel_format.as_str()).collect();
    assert_eq!(formats, ["yuv420p10le", "yuv420p", "yuv420p"]);
    let subjects: Vec<_> = p.decisions.iter().map(|d| d.subject.as_str()).filter(|s| s.starts_with("colour")).collect();
    assert_eq!(subjects, ["colour 480p", "colour 360p"]);
}

/// A producer of a kind that nothing else here knows: subtitles, whole.
fn subtitles(context: &Context<'_>, draft: &mut Draft) -> Result<(), Failure> {
    draft.notes.add("text 1", "extract", "a test asks for it");
    let mut track = draft
        .tracks
        .first()
        .cloned()
        .ok_or_else(|| Failure::of(FailureCode::NothingDecodable, context.profile.name.clone()))?;
    (track.id, track.timescale, track.media) = ("1-eng".into(), 1000, Media::Text);
    track.cut = Cut::Whole { start: OutputTicks(0), boundaries: vec![OutputTicks(4000)], first_number: 1 };
    draft.tracks.push(track);
    Ok(())
}

/// Storyboard pictures: a further output of the segment tasks.
fn storyboard(_: &Context<'_>, draft: &mut Draft) -> Result<(), Failure> {
    let mut track = draft.tracks[0].clone();
    (track.id, track.media) = ("storyboard".into(), Media::Images);
    draft.tracks.push(track);
    Ok(())
}

#[test]
fn a_new_kind_of_track_needs_a_producer_and_nothing_else() {
    let mut info = source((0..1440).map(|i| i * 512).collect(), (1, 12_288), 48);
    info.audio.push(audio(0, 48_000));
    let producers: Vec<Producer> = PRODUCERS.iter().copied().chain([subtitles as Producer, storyboard]).collect();
    let p = plan_with(&producers, &info, &profile(10.0), &Capabilities::default()).unwrap();
    assert_partition(&info, &p);
    let kinds: Vec<_> = p.tracks.iter().map(TrackPlan::kind).collect();
    let video = [MediaKind::Video; 3];
    assert_eq!(kinds, [&video[..], &[MediaKind::Audio, MediaKind::Text, MediaKind::Images]].concat());
    // The subtitles have a task of their own behind the audio's; the pictures come with the segments.
    let tasks: Vec<_> = p.tasks(1).into_iter().map(|t| (t.kind, t.index)).collect();
    assert_eq!(
        tasks[..4],
        [(TaskKind::Segment, 0), (TaskKind::Audio, 0), (TaskKind::Audio, 1), (TaskKind::Segment, 1)]
    );
    assert_eq!(p.whole_track(1).unwrap().id, "1-eng");
    assert_eq!(p.parts_of(2).unwrap().iter().map(|part| part.track.id.as_str()).next_back(), Some("storyboard"));
    let stored = serde_json::to_vec(&p).unwrap();
    assert_eq!(Plan::decode(&stored).unwrap(), p);
    let one = p.for_segment(2).unwrap();
    assert_eq!(one.tracks.len(), 4, "the tracks of the segment");
    assert_eq!(one.parts_of(2).unwrap().len(), 4);
}

#[test]
fn the_plan_of_one_segment_does_not_grow_with_the_source() {
    let bytes = |frames: i64| {
        let info = source((0..frames).map(|i| i * 512).collect(), (1, 12_288), 48);
        let half = mixed(FrameRate::Named(FrameRateWord::Half), 4.0);
        let p = plan(&info, &half, &Capabilities::default()).unwrap();
        serde_json::to_vec(&p.for_segment(3).unwrap()).unwrap().len()
    };
    assert!(bytes(100_000) < bytes(1_000) + 64, "{} and {}", bytes(100_000), bytes(1_000));
}

proptest! {
    #[test]
    fn any_frame_list_and_rate_is_partitioned(
        first in -100_000i64..100_000,
        deltas in prop::collection::vec(1i64..4000, 0..400),
        s in prop::sample::select(vec![0.5, 1.0, 2.0, 7.3]),
        den in prop::sample::select(vec![1000i64, 90_000, 12_288, 30]),
        fps in prop::sample::select(vec![FrameRate::Named(FrameRateWord::Half), FrameRate::Number(1.0), FrameRate::Number(29.97), FrameRate::Number(10.0), FrameRate::Number(240.0)]),
    ) {
        let mut pts = vec![first];
        for d in &deltas { pts.push(pts[pts.len() - 1] + d); }
        let info = source(pts, (1, den), 25);
        let p = plan(&info, &mixed(fps, s), &Capabilities::default()).unwrap();
        assert_partition(&info, &p);
        prop_assert_eq!(p.tracks.len(), 3);
    }

    #[test]
    fn any_frame_list_is_partitioned(first in -100_000i64..100_000, deltas in prop::collection::vec(1i64..4000, 0..600), gop in 1usize..90, s in prop::sample::select(vec![0.0, 0.5, 1.0, 2.0, 7.3]), den in prop::sample::select(vec![1000i64, 90_000, 12_288, 30])) {
        let mut pts = vec![first];
        for d in &deltas { pts.push(pts[pts.len() - 1] + d); }
        let info = source(pts, (1, den), gop);
        let p = plan(&info, &profile(s), &Capabilities::default()).unwrap();
        assert_partition(&info, &p);
        prop_assert_eq!(p.hash(), plan(&info, &profile(s), &Capabilities::default()).unwrap().hash());
    }

    #[test]
    fn audio_cuts_cover_every_packet_once(packets in 0u64..5000, priming in prop::sample::select(vec![0u32, 312, 1024, 2048]), start in 0i64..200_000) {
        let mut info = source((0..1200).map(|i| i * 512).collect(), (1, 12_288), 48);
        info.audio.push(audio(start, 48_000));
        let p = plan(&info, &profile(3.0), &Capabilities::default()).unwrap();
        let cuts = cut_audio(p.whole_track(0).unwrap(), packets, 1024, priming, 4.0);
        prop_assert_eq!(cuts.iter().map(|c| c.num_packets).sum::<u64>(), packets);
        let mut at = 0;
        for (i, c) in cuts.iter().enumerate() {
            prop_assert_eq!(c.first_packet, at);
            prop_assert_eq!(c.number, audio_cut(&p).1 + i as u32);
            at += c.num_packets;
        }
    }
}

#[test]
fn the_announced_rate_is_the_highest_over_a_second_up_to_the_end_of_the_video() {
    let peak = |pts: Vec<i64>, last: i64| {
        let mut source = source(pts, (1, 1000), 1);
        source.video.as_mut().unwrap().frames.last_duration = last;
        let plan = plan(&source, &profile(2.0), &Capabilities::default()).unwrap();
        plan.frames[0].peak_rate
    };
    let rate = |n: i64| Rational::new(n, 1);
    let slow = |seconds: i64| (0..seconds).map(|n| n * 1000);
    let burst = |from: i64| (0..50).map(move |n| from + n * 20);
    assert_eq!(peak(slow(9).chain(burst(9_000)).collect(), 20), rate(50), "a burst in the last second");
    assert_eq!(peak(burst(0).chain(slow(9).map(|t| t + 1_000)).collect(), 1_000), rate(50), "in the first");
    assert_eq!(peak(burst(0).collect(), 20), None, "even frames over one second");
    assert_eq!(peak(burst(0).take(25).collect(), 20), None, "shorter than a second");
    assert_eq!(peak(vec![0], 40), None, "one frame");
    assert_eq!(peak((0..100).map(|n| n * 80).collect(), 1), None, "a last frame without a true length");
    assert_eq!(peak(vec![0, 40, 5_000], 40), rate(1), "a long gap");
}

#[test]
fn a_fleet_can_do_what_each_of_its_workers_can() {
    let worker = |encoders: &[&str], filters: &[&str]| Capabilities {
        encoders: encoders.iter().map(|name| (*name).to_owned()).collect(),
        filters: filters.iter().map(|name| (*name).to_owned()).collect(),
    };
    let all = [worker(&["aac", "libx264", "libx265"], &["bwdif"]), worker(&["libx264", "aac"], &[])];
    let common = Capabilities::common(&all);
    assert!(common.has_encoder("aac") && common.has_encoder("libx264") && !common.has_encoder("libx265"));
    // The second worker states no filters.
    assert!(common.has_filter("bwdif") && !common.has_filter("zscale"));
    let apart = Capabilities::common(&[worker(&["libx264"], &[]), worker(&["libx265"], &[])]);
    assert!(!apart.has_encoder("libx264") && !apart.has_encoder("libx265") && apart.has_filter("zscale"));
    assert!(Capabilities::common(&[]).has_encoder("libx264"));
}

#[test]
fn a_copy_with_default_rungs_is_a_valid_profile_and_another_ladder_is_not() {
    let mut profile: Profile = serde_json::from_value(serde_json::json!({
        "name": "copy", "video": { "codec": "copy", "pixel_format": "source" }, "audio": { "codec": "copy" },
    }))
    .unwrap();
    assert_eq!(profile.validate(), []);
    profile.video.rungs.truncate(1);
    assert_eq!(profile.validate().len(), 1);
}
