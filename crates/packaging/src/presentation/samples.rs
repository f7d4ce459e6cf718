//! Presentations for the tests of this crate's manifest writers.

use splitreel_core::{ColorCodes, MediaKind, MediaTime, Rational};

use super::*;

pub(crate) fn seconds(ticks: i64, timescale: i64) -> MediaTime {
    MediaTime::new(ticks, Rational::new(1, timescale).unwrap())
}

pub(crate) fn track(
    format: MediaFormat,
    id: &str,
    codec: &str,
    timescale: u32,
    delay: u32,
    first: i64,
    parts: &[(u64, u64)],
) -> MediaTrack {
    let kind = format.kind();
    let mut start = first;
    let segments = parts.iter().zip(1_u64..).map(|(&(duration, bytes), number)| {
        let segment =
            MediaSegment { number, path: segment_path(kind, id, number), start, duration, bytes, available: true };
        start += i64::try_from(duration).unwrap();
        segment
    });
    MediaTrack {
        id: id.to_owned(),
        codec: (!codec.is_empty()).then(|| codec.to_owned()),
        supplemental_codec: None,
        timescale,
        delay,
        init: Some(init_path(kind, id)),
        grid: None,
        starts_open: false,
        segments: segments.collect(),
        cap_bits_per_second: None,
        format,
    }
}

pub(crate) fn video_format(width: u32, height: u32) -> MediaFormat {
    MediaFormat::Video(VideoFormat {
        width,
        height,
        sar: Rational::ONE,
        frame_rate: Rational::new(30_000, 1_001).unwrap(),
        peak_frame_rate: None,
        color: ColorCodes::default(),
        captions: Default::default(),
    })
}

pub(crate) fn video(id: &str, width: u32, height: u32, bytes: [u64; 4]) -> MediaTrack {
    let durations = [60_060, 120_120, 120_120, 45_045];
    let parts: Vec<_> = durations.into_iter().zip(bytes).collect();
    track(video_format(width, height), id, "avc1.64001f", 30_000, 2_002, 0, &parts)
}

pub(crate) fn audio_format(language: &str, name: &str, is_default: bool) -> AudioFormat {
    AudioFormat { language: language.into(), name: name.into(), channels: 2, sample_rate: 48_000, is_default }
}

pub(crate) fn audio(id: &str, language: &str, name: &str, is_default: bool) -> MediaTrack {
    let parts = [(97_280, 32_000), (192_512, 65_000), (191_488, 64_500), (74_752, 25_000)];
    let format = MediaFormat::Audio(audio_format(language, name, is_default));
    track(format, id, "mp4a.40.2", 48_000, 1_024, -1_024, &parts)
}

/// 11.511 s at 29.97 frames/s, three video tracks and two audio tracks.
pub(crate) fn full() -> Presentation {
    Presentation {
        duration: seconds(345_345, 30_000),
        tracks: vec![
            video("1080p", 1920, 1080, [1_400_000, 2_600_000, 2_400_000, 700_000]),
            video("720p", 1280, 720, [420_000, 860_000, 790_000, 260_000]),
            video("360p", 640, 360, [90_000, 190_000, 170_000, 60_000]),
            audio("en", "en", "English", true),
            audio("fr", "fr", "Fran\u{e7}ais \"VF\"\r\n", false),
        ],
        target_duration: TargetDuration::Measured,
    }
}

/// The same ladder as players meet it when rungs differ: H.264 at half the frame rate, HEVC with longer segments,
/// AV1 on the segments of the H.264 track.
pub(crate) fn mixed() -> Presentation {
    let mut p = full();
    p.tracks.retain(|track| track.id != "fr");
    p.tracks[0].codec = Some("av01.0.08M.08".into());
    let hevc = &mut p.tracks[1];
    let merged = [(60_060 + 120_120, 1_280_000), (120_120 + 45_045, 1_050_000)];
    *hevc = track(hevc.format.clone(), "720p", "hvc1.1.6.L93.b0", 30_000, 2_002, 0, &merged);
    let half = &mut p.tracks[2];
    half.format = MediaFormat::Video(VideoFormat {
        width: 640,
        height: 360,
        sar: Rational::ONE,
        frame_rate: Rational::new(15_000, 1_001).unwrap(),
        peak_frame_rate: None,
        color: ColorCodes::default(),
        captions: Default::default(),
    });
    p
}

/// Two HEVC tracks in PQ and one in SDR, with the same segments.
pub(crate) fn hdr_and_sdr() -> Presentation {
    let mut p = full();
    let codes = |code, matrix| ColorCodes { primaries: Some(matrix), transfer: Some(code), matrix: Some(matrix) };
    let looks = [("1080p", "hvc1.2.4.L120.B0", codes(16, 9)), ("720p", "hvc1.2.4.L93.B0", codes(16, 9))];
    for (id, codec, color) in looks.into_iter().chain([("360p", "hvc1.1.6.L90.B0", codes(1, 1))]) {
        p.track_mut(id).codec = Some(codec.into());
        p.video_format_mut(id).color = color;
    }
    p
}

impl Presentation {
    pub(crate) fn of_kind(&mut self, kind: MediaKind) -> Vec<&mut MediaTrack> {
        self.tracks.iter_mut().filter(|track| track.format.kind() == kind).collect()
    }

    pub(crate) fn retain_kind(&mut self, kind: MediaKind) {
        self.tracks.retain(|track| track.format.kind() == kind);
    }

    pub(crate) fn track_mut(&mut self, id: &str) -> &mut MediaTrack {
        self.tracks.iter_mut().find(|track| track.id == id).unwrap()
    }

    pub(crate) fn audio_format_mut(&mut self, id: &str) -> &mut AudioFormat {
        match &mut self.track_mut(id).format {
            MediaFormat::Audio(format) => format,
            _ => panic!("{id} is not audio"),
        }
    }

    pub(crate) fn video_format_mut(&mut self, id: &str) -> &mut VideoFormat {
        match &mut self.track_mut(id).format {
            MediaFormat::Video(format) => format,
            _ => panic!("{id} is not video"),
        }
    }
}

/// The same while it is being made: segments `from` and later do not exist yet.
pub(crate) fn partial(mut presentation: Presentation, from: usize) -> Presentation {
    for track in &mut presentation.tracks {
        for segment in track.segments.iter_mut().skip(from) {
            segment.available = false;
            segment.bytes = 0;
        }
    }
    presentation
}
