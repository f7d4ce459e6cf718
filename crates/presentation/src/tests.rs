//! Tests of presentations as values, on a planned source and parts that fulfil the plan.

use crate::*;
use splitreel_core::MediaKind;
use splitreel_core::fixture;
use splitreel_core::part::{AudioPart, Cost, PresentationFile, StoredObject, StoredSegment, TaskResult, TrackPart};
use splitreel_core::plan::{Media, MediaSegmentPlan, Plan, Segment, TrackPlan};
use splitreel_core::time::OutputTicks;

fn planned() -> Plan {
    fixture::plan_of_four_segments().unwrap()
}

fn object(name: &str, bytes: u64) -> StoredObject {
    StoredObject { key: format!("key/{name}"), bytes, sha256: format!("{:0>64}", bytes % 10) }
}

fn stored(name: &str, number: u32, start: i64, duration: i64) -> StoredSegment {
    StoredSegment {
        number,
        start: OutputTicks(start),
        duration: OutputTicks(duration),
        decode_time: OutputTicks(start),
        num_samples: 1,
        header_bytes: 1,
        samples_sha256: String::new(),
        object: object(&format!("{name}-{number}"), 1_000 + u64::from(number)),
    }
}

/// Results of all tasks, video by segment, then audio.
fn results(plan: &Plan) -> Vec<TaskResult> {
    let init = |track: &TrackPlan| object(&track.id, 700);
    let media = |track: &TrackPlan, m: &MediaSegmentPlan| stored(&track.id, m.number, m.start.get(), m.duration.get());
    let part = |segment: &Segment| TaskResult::Video(fixture::video_part(plan, segment.index, init, media).unwrap());
    let mut all: Vec<TaskResult> = plan.timeline.as_ref().unwrap().segments.iter().map(part).collect();
    // Codec frames nearest to the video's media segments, after one frame of priming.
    let best = plan.timeline_tracks().next().unwrap();
    let starts = plan.media_segments(best).map(|m| m.start.get() * 48_000 / i64::from(best.timescale));
    let mut cuts: Vec<i64> = starts.map(|start| if start == 0 { -1_024 } else { start / 1_024 * 1_024 }).collect();
    cuts.push(960_512);
    let packets = (1..).zip(cuts.windows(2)).map(|(number, cut)| stored("audio", number, cut[0], cut[1] - cut[0]));
    all.push(TaskResult::Audio(AudioPart {
        stored: TrackPart {
            track: audio_id(plan).to_owned(),
            init: object("audio", 600),
            codec: "mp4a.40.2".into(),
            captions: Default::default(),
            segments: packets.collect(),
        },
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1_024,
        priming: OutputTicks(1_024),
        num_samples: 960_000,
        decoded_samples: Some(960_000),
        heard: None,
        start: OutputTicks(0),
        cost: Cost::default(),
    }));
    all
}

fn video_id(plan: &Plan) -> &str {
    &plan.tracks_of(MediaKind::Video).next().unwrap().id
}

fn audio_id(plan: &Plan) -> &str {
    &plan.tracks_of(MediaKind::Audio).next().unwrap().id
}

fn media(kind: MediaKind, track: &str) -> ManifestName<'_> {
    ManifestName::Media { kind, track }
}

#[test]
fn a_video_playlist_is_exact_as_soon_as_the_plan_exists() {
    let plan = planned();
    let all = results(&plan);
    let id = video_id(&plan);
    let early = manifest(&Rows::new(&plan, []), media(MediaKind::Video, id), Form::Planned).unwrap();
    let late = manifest(&Rows::new(&plan, &all), media(MediaKind::Video, id), Form::Final).unwrap();
    assert_eq!(early, late);
    assert!(early.contains("#EXT-X-ENDLIST") && !early.contains("GAP"), "{early}");
}

#[test]
fn manifests_that_cannot_be_exact_yet_name_the_track_they_wait_for() {
    let plan = planned();
    let all = results(&plan);
    let audio = audio_id(&plan);
    let waits_for = |results: &[TaskResult], name: ManifestName<'_>, form: Form| -> String {
        match manifest(&Rows::new(&plan, results), name, form) {
            Err(ManifestError::NotYet { track }) => track,
            other => panic!("{other:?}"),
        }
    };
    let first = video_id(&plan);
    assert_eq!(waits_for(&[], ManifestName::Multivariant, Form::Planned), first);
    assert_eq!(waits_for(&all[..1], ManifestName::Mpd, Form::Planned), audio);
    assert_eq!(waits_for(&all[..1], media(MediaKind::Audio, audio), Form::Planned), audio);
    // A preview starts with the first segment, whatever else is there.
    assert_eq!(waits_for(&all[1..], media(MediaKind::Audio, audio), Form::Preview), first);
    assert!(matches!(Preview::of(&Rows::new(&plan, &all[..4])), Ok(None)));
}

#[test]
fn a_planned_mpd_lists_everything_from_the_first_part_of_each_track() {
    let plan = planned();
    let all = results(&plan);
    let first = [all[0].clone(), all[4].clone()];
    let timeline = |text: &str| -> Vec<String> {
        text.lines().filter(|l| l.contains("<S ") || l.contains("codecs=")).map(without_bandwidth).collect()
    };
    let planned = manifest(&Rows::new(&plan, &first), ManifestName::Mpd, Form::Planned).unwrap();
    let finished = manifest(&Rows::new(&plan, &all), ManifestName::Mpd, Form::Final).unwrap();
    assert_eq!(timeline(&planned), timeline(&finished));
    let preview = manifest(&Rows::new(&plan, &first), ManifestName::Mpd, Form::Preview).unwrap();
    assert_ne!(timeline(&preview), timeline(&finished), "a directory's MPD ends with the finished beginning");
}

fn without_bandwidth(line: &str) -> String {
    line.split(' ').filter(|word| !word.starts_with("bandwidth=")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_order_of_results_does_not_matter() {
    let plan = planned();
    let all = results(&plan);
    let mut shuffled = all.clone();
    shuffled.reverse();
    let text = |results: &[TaskResult]| manifests(&Rows::new(&plan, results), Form::Final).unwrap();
    assert_eq!(text(&all), text(&shuffled));
}

#[test]
fn a_preview_holds_what_its_manifests_name() {
    let plan = planned();
    let all = results(&plan);
    let some = [all[0].clone(), all[2].clone(), all[4].clone()];
    let preview = Preview::of(&Rows::new(&plan, &some)).unwrap().unwrap();
    let paths: Vec<&str> = preview.media.iter().map(|file| file.path.as_str()).collect();
    let last = preview.manifests.last().unwrap();
    assert_eq!(last.path, "master.m3u8", "a reader who sees it can read all others");
    for playlist in preview.manifests.iter().filter(|m| m.path.starts_with("v/")) {
        let folder = playlist.path.trim_end_matches("playlist.m3u8");
        let lines: Vec<&str> = playlist.text.lines().collect();
        for pair in lines.windows(2).filter(|pair| !pair[1].starts_with('#')) {
            let exists = paths.contains(&format!("{folder}{}", pair[1]).as_str());
            assert_eq!(exists, pair[0] != "#EXT-X-GAP", "{} in {}", pair[1], playlist.path);
        }
    }
}

#[test]
fn names_and_paths_belong_together() {
    let plan = planned();
    let catalogue = Catalogue::default();
    let rows = Rows::new(&plan, []).published("film", &catalogue);
    for path in ["master.m3u8", "manifest.mpd", "film.wp.chunks/manifest.json"] {
        assert_eq!(ManifestName::at(path, &rows).map(ManifestName::path).as_deref(), Some(path));
    }
    let playlist = format!("a/{}/playlist.m3u8", audio_id(&plan));
    assert_eq!(ManifestName::at(&playlist, &rows), Some(media(MediaKind::Audio, audio_id(&plan))));
    for path in ["", "v/none/playlist.m3u8", "other.wp.chunks/manifest.json", "report.json"] {
        assert_eq!(ManifestName::at(path, &rows), None, "{path}");
    }
    let unknown = manifest(&Rows::new(&plan, &results(&plan)), media(MediaKind::Video, "none"), Form::Final);
    assert!(matches!(unknown, Err(ManifestError::UnknownTrack { .. })));
}

#[test]
fn a_kind_without_manifest_rules_is_stored_checked_and_listed_nowhere() {
    let plain = planned();
    let mut plan = plain.clone();
    // Captions are made like an audio track: by one task, as a whole.
    let mut captions = plan.tracks_of(MediaKind::Audio).next().unwrap().clone();
    captions.id = "captions".into();
    captions.media = Media::Text;
    plan.tracks.push(captions);
    let mut all = results(&plan);
    let Some(TaskResult::Audio(mut part)) = all.last().cloned() else { panic!("no audio part") };
    (part.stored.track, part.stored.codec) = ("captions".into(), "wvtt".into());
    all.push(TaskResult::Audio(part));
    let (with, without) = (Rows::new(&plan, &all), results(&plain));
    let without = Rows::new(&plain, &without);
    for form in [Form::Final, Form::Preview, Form::Planned] {
        assert_eq!(manifests(&with, form).unwrap(), manifests(&without, form).unwrap());
    }
    let tracks = with.tracks();
    let files: Vec<String> = tracks.last().unwrap().files().map(|file| file.path).collect();
    assert_eq!(files.first().map(String::as_str), Some("t/captions/init.mp4"));
    assert_eq!(files.len(), 9);
}

#[test]
fn the_chunk_manifest_follows_from_rows_and_catalogue() {
    let plan = planned();
    let all = results(&plan);
    let rows = Rows::new(&plan, &all);
    let name = ManifestName::Chunks { base: "film" };
    assert!(matches!(manifest(&rows, name, Form::Final), Err(ManifestError::NotPublished)));

    let set = ChunkSet::new(&rows, "film", 900).unwrap().unwrap();
    let chunk = &set.files().unwrap()[0];
    let file = |bytes| PresentationFile { path: chunk.path.clone(), object: object("chunk", bytes) };
    let good = Catalogue::new([file(chunk.bytes)]).unwrap();
    let text = manifest(&rows.clone().published("film", &good), name, Form::Final).unwrap();
    assert!(
        text.contains(&format!("\"totalBytes\": {}", chunk.bytes)) && text.contains("\"totalDuration\": 20"),
        "{text}"
    );
    let lost = Catalogue::new([]).unwrap();
    let missing = manifest(&rows.published("film", &lost), name, Form::Final);
    assert!(matches!(missing, Err(ManifestError::ChunksDiffer)), "{missing:?}");
}

#[test]
fn catalogues_are_safe_and_have_one_file_per_path() {
    let file = |path: &str, bytes| PresentationFile { path: path.into(), object: object("x", bytes) };
    for path in ["/etc/passwd", "../x", "a//b", ""] {
        assert!(matches!(Catalogue::new([file(path, 1)]), Err(CatalogueError::UnsafePath { .. })), "{path:?}");
    }
    assert!(matches!(Catalogue::new([file("a", 1), file("a", 2)]), Err(CatalogueError::DuplicatePath { .. })));
    let catalogue = Catalogue::new([file("b", 2), file("a", 1)]).unwrap();
    assert_eq!(Catalogue::from_json(&catalogue.to_json().unwrap()).unwrap(), catalogue);
    assert_eq!((catalogue.num_files(), catalogue.bytes()), (2, 3));
    let more = catalogue.clone().with(file("report.json", 5)).unwrap();
    assert_ne!(more.hash(), catalogue.hash());
    assert_eq!(catalogue.hash(), Catalogue::new([file("a", 1), file("b", 2)]).unwrap().hash());
}
