//! What the fake toolkit makes passes the same checks as what ffmpeg makes.

use super::*;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_worker::piece::{cut_audio_track, cut_video};

#[test]
fn encodes_fulfil_their_plan() {
    let (mut num_segments, mut num_tracks) = (0, 0);
    for number in 0..200 {
        let source = FakeSource::numbered(number);
        let plan = plan(&source.info, &source.profile, &Capabilities::default()).unwrap();
        for segment in plan.timeline.iter().flat_map(|t| &t.segments) {
            let tracks = encode::video(&source, &plan, segment.index).unwrap();
            let parts = plan.parts_of(segment.index).unwrap();
            assert_eq!(tracks.len(), parts.len());
            for (part, track) in parts.iter().zip(&tracks) {
                let cut = cut_video(part, track).unwrap();
                assert_eq!(cut.track.segments.len(), part.grid.media_segments.len());
                assert_eq!(cut.track.codec, "avc1.64001e");
            }
            num_segments += 1;
        }
        for (index, planned) in (0..).zip(plan.whole_tracks()) {
            let audio = encode::audio(&source, planned).unwrap();
            let cut = cut_audio_track(planned, index, &audio.track, Some(audio.num_samples), 1.0).unwrap();
            assert_eq!(cut.track.codec, "mp4a.40.2");
            assert_eq!(cut.num_samples, audio.num_samples);
            num_tracks += 1;
        }
    }
    assert!(num_segments > 500 && num_tracks > 100, "{num_segments} segments, {num_tracks} tracks");
}

#[test]
fn pictures_are_reordered_inside_closed_gops() {
    let mut num_reordered = 0;
    for source in (0..40).map(FakeSource::numbered) {
        let plan = plan(&source.info, &source.profile, &Capabilities::default()).unwrap();
        for segment in plan.timeline.iter().flat_map(|t| &t.segments) {
            let tracks = encode::video(&source, &plan, segment.index).unwrap();
            num_reordered += tracks[0].samples.windows(2).filter(|w| w[0].pts > w[1].pts).count();
        }
    }
    assert!(num_reordered > 100, "{num_reordered}");
}
