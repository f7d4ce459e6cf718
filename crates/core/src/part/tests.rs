//! Results of tasks keep the form that they are stored in.

use super::*;

fn segment(number: u32) -> StoredSegment {
    StoredSegment {
        number,
        start: OutputTicks(-1_024),
        duration: OutputTicks(96_256),
        decode_time: OutputTicks(0),
        num_samples: 94,
        header_bytes: 892,
        samples_sha256: "5a".into(),
        object: StoredObject { key: format!("k/{number}"), bytes: 65_000, sha256: "c0".into() },
    }
}

fn stored(track: &str, codec: &str) -> TrackPart {
    let init = StoredObject { key: "k/init".into(), bytes: 800, sha256: "1f".into() };
    TrackPart {
        track: track.into(),
        init,
        codec: codec.into(),
        captions: Default::default(),
        segments: vec![segment(1)],
    }
}

/// Rows as databases hold them since these results exist, field by field.
const VIDEO: &str = r#"{"kind":"video","segment":3,"renditions":[{"rendition":"720p","init":{"key":"k/init","bytes":800,"sha256":"1f"},"codec":"avc1.64001f","segments":[{"number":1,"start":-1024,"duration":96256,"decode_time":0,"num_samples":94,"header_bytes":892,"samples_sha256":"5a","object":{"key":"k/1","bytes":65000,"sha256":"c0"}}],"num_frames":94,"pts_sha256":"ab"}],"cost":{"cpu_ms":7,"wall_ms":8,"bytes_read":9,"requests":1,"bytes_written":65800}}"#;
const AUDIO: &str = r#"{"kind":"audio","rendition":"1-eng","init":{"key":"k/init","bytes":800,"sha256":"1f"},"codec":"mp4a.40.2","segments":[{"number":1,"start":-1024,"duration":96256,"decode_time":0,"num_samples":94,"header_bytes":892,"samples_sha256":"5a","object":{"key":"k/1","bytes":65000,"sha256":"c0"}}],"sample_rate":48000,"channels":2,"frame_samples":1024,"priming":1024,"num_samples":95000,"decoded_samples":95000,"start":480,"cost":{"cpu_ms":7,"wall_ms":8,"bytes_read":9,"requests":1,"bytes_written":65800}}"#;

#[test]
fn results_are_stored_as_they_always_were() {
    let cost = Cost { cpu_ms: 7, wall_ms: 8, bytes_read: 9, requests: 1, bytes_written: 65_800 };
    let rendition =
        RenditionPart { stored: stored("720p", "avc1.64001f"), num_frames: 94, pts_sha256: "ab".into(), content: None };
    let video = TaskResult::Video(VideoPart { segment: 3, renditions: vec![rendition], cost });
    let audio = TaskResult::Audio(AudioPart {
        stored: stored("1-eng", "mp4a.40.2"),
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1_024,
        priming: OutputTicks(1_024),
        num_samples: 95_000,
        decoded_samples: Some(95_000),
        heard: None,
        start: OutputTicks(480),
        cost,
    });
    for (value, row) in [(video, VIDEO), (audio, AUDIO)] {
        assert_eq!(serde_json::from_str::<TaskResult>(row).unwrap(), value);
        assert_eq!(serde_json::to_string(&value).unwrap(), row);
        assert_eq!(value.keys(), ["k/init", "k/1"]);
    }
}
