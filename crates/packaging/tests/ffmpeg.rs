//! Files put together by this crate, judged by ffmpeg and ffprobe: every frame at its time, no decoding error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use splitreel_packaging::bmff::{ScanLimits, read_box, scan};
use splitreel_packaging::codecs::codec_string;
use splitreel_packaging::fragment::{FragmentSample, FragmentSpec, SampleSpec, index_segment, write_fragment};
use splitreel_packaging::init::{TrackHeader, UNITY, parse_init, write_init};
use splitreel_packaging::movie::{Handler, Movie, Track};
use splitreel_packaging::progressive::{ProgressiveBuilder, ProgressiveTrack};
use splitreel_packaging::timing::{reconstruct, required_delay};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, args: &[&str], file: &Path, tail: &[&str]) -> String {
    let output = Command::new(program).args(args).arg(file).args(tail).output().expect("ffmpeg and ffprobe are needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program} on {}: {errors}", file.display());
    String::from_utf8(output.stdout).unwrap()
}

const H264: &[&str] =
    &["libx264", "-x264-params", "bframes=3:b-pyramid=normal:keyint=25:min-keyint=25:scenecut=0:open-gop=0:threads=1"];
/// `hev1` with its parameter sets in the sample entry, as other writers leave it.
const HEVC: &[&str] = &[
    "libx265",
    "-tag:v",
    "hev1",
    "-x265-params",
    "log-level=none:info=0:bframes=3:keyint=25:min-keyint=25:scenecut=0:open-gop=0:pools=none:frame-threads=1",
];

/// Makes a clip of two seconds with a key frame per second, B-frames and sound.
fn clip(file: &Path, video_filter: &str, encoder: &[&str]) {
    let picture = format!("testsrc2=size=160x120:rate=25:duration=2,{video_filter}");
    let sound = "sine=frequency=440:sample_rate=44100:duration=2";
    let inputs =
        format!("-v error -nostdin -y -f lavfi -i {picture} -f lavfi -i {sound} -preset veryfast -pix_fmt yuv420p");
    let output = "-vsync 0 -enc_time_base -1 -video_track_timescale 25000 -c:a aac -f mp4";
    let args: Vec<&str> =
        inputs.split(' ').chain(["-c:v"]).chain(encoder.iter().copied()).chain(output.split(' ')).collect();
    run("ffmpeg", &args, file, &[]);
}

/// The times of all frames or packets in ticks, sorted.
fn frame_times(file: &Path, stream: &str) -> Vec<i64> {
    let args = ["-v", "error", "-select_streams", stream, "-show_entries", "frame=pts", "-of", "csv=p=0"];
    let mut times: Vec<i64> = run("ffprobe", &args, file, &[])
        .lines()
        .map(|line| line.trim_matches(','))
        // Frames with side data print an empty line of their own.
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().unwrap_or_else(|_| panic!("odd line {line:?}")))
        .collect();
    times.sort_unstable();
    times
}

fn picture_hashes(file: &Path) -> Vec<String> {
    let tail = ["-map", "0:v", "-vsync", "0", "-f", "framemd5", "-"];
    run("ffmpeg", &["-v", "error", "-xerror", "-i"], file, &tail)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit(',').next().map(|hash| hash.trim().to_owned()))
        .collect()
}

fn decodes(file: &Path) {
    run("ffmpeg", &["-v", "error", "-xerror", "-i"], file, &["-vsync", "0", "-enc_time_base", "-1", "-f", "null", "-"]);
}

/// A track cut into segments.
struct Cut {
    header: TrackHeader,
    /// Decode time, object, samples.
    segments: Vec<(u64, Vec<u8>, Vec<FragmentSample>)>,
    presentation_duration: u64,
}

impl Cut {
    fn file(&self) -> Vec<u8> {
        let mut bytes = write_init(std::slice::from_ref(&self.header), None).unwrap();
        self.segments.iter().for_each(|(_, object, _)| bytes.extend_from_slice(object));
        bytes
    }

    fn push(&mut self, base_decode_time: u64, samples: &[SampleSpec], payload: &[u8]) {
        let spec = FragmentSpec {
            sequence_number: u32::try_from(self.segments.len()).unwrap() + 1,
            track_id: self.header.id,
            base_decode_time,
            samples,
        };
        let header = write_fragment(&spec).unwrap();
        assert_eq!(header.payload_bytes, payload.len() as u64);
        let mut object = header.bytes;
        object.extend_from_slice(payload);
        let init = parse_init(&write_init(std::slice::from_ref(&self.header), None).unwrap()).unwrap();
        let index = index_segment(&object, &|id| init.sample_defaults(id)).unwrap();
        assert_eq!(index.runs(self.header.id).next().unwrap().base_decode_time, Some(base_decode_time));
        let samples = index.samples(self.header.id).copied().collect();
        self.segments.push((base_decode_time, object, samples));
    }
}

fn header(track: &Track, id: u32, handler: Handler, delay: u64) -> TrackHeader {
    let entry = track.sample_entries.first().unwrap();
    TrackHeader {
        id,
        handler,
        timescale: track.timescale,
        language: track.language_code(),
        sample_entry: entry.raw.clone(),
        width: entry.width.into(),
        height: entry.height.into(),
        sar: (1, 1),
        matrix: UNITY,
        delay,
        name: "Track".into(),
    }
}

fn payload(source: &[u8], samples: &[splitreel_packaging::movie::Sample]) -> Vec<u8> {
    samples
        .iter()
        .flat_map(|sample| {
            let start = usize::try_from(sample.offset).unwrap();
            source.get(start..start + sample.size as usize).unwrap().iter().copied()
        })
        .collect()
}

/// Cuts at every sync sample; decode times are rebuilt for each piece on its own.
fn cut_video(source: &[u8], movie: &Movie) -> Cut {
    let track = movie.tracks.iter().find(|track| track.handler == Handler::Video).unwrap();
    let map = track.presentation(movie.timescale);
    let samples = track.samples.expand().unwrap();
    let times: Vec<i64> = samples.iter().map(|sample| map.present(sample.pts()).unwrap()).collect();
    let starts: Vec<usize> = (0..samples.len()).filter(|at| samples.get(*at).unwrap().is_sync).collect();
    assert!(starts.len() >= 2);
    let delay = required_delay(&times);
    let last_end = times.iter().max().unwrap() + 1000;
    let mut cut = Cut {
        header: header(track, 1, Handler::Video, delay),
        segments: Vec::new(),
        presentation_duration: u64::try_from(last_end).unwrap(),
    };
    for (index, &from) in starts.iter().enumerate() {
        let to = starts.get(index + 1).copied().unwrap_or(samples.len());
        let (pts, piece) = (times.get(from..to).unwrap(), samples.get(from..to).unwrap());
        let end = times.get(to).copied().unwrap_or(last_end);
        let timing = reconstruct(pts, *pts.first().unwrap(), end, delay).unwrap();
        let specs: Vec<SampleSpec> = piece
            .iter()
            .zip(&timing.samples)
            .map(|(sample, timing)| SampleSpec {
                duration: timing.duration,
                size: sample.size,
                is_sync: sample.is_sync,
                composition_offset: timing.composition_offset,
            })
            .collect();
        cut.push(timing.base_decode_time, &specs, &payload(source, piece));
    }
    cut
}

fn cut_audio(source: &[u8], movie: &Movie) -> Cut {
    let track = movie.tracks.iter().find(|track| track.handler == Handler::Audio).unwrap();
    let edit = track.edits.last().unwrap();
    let samples = track.samples.expand().unwrap();
    let mut cut = Cut {
        header: header(track, 2, Handler::Audio, u64::try_from(edit.media_time).unwrap()),
        segments: Vec::new(),
        presentation_duration: 2 * u64::from(track.timescale),
    };
    for piece in samples.chunks(20) {
        let specs: Vec<SampleSpec> = piece
            .iter()
            .map(|sample| SampleSpec {
                duration: sample.duration,
                size: sample.size,
                is_sync: true,
                composition_offset: 0,
            })
            .collect();
        let base = u64::try_from(piece.first().unwrap().dts).unwrap();
        cut.push(base, &specs, &payload(source, piece));
    }
    cut
}

fn load(file: &Path) -> (Vec<u8>, Movie) {
    let bytes = std::fs::read(file).unwrap();
    let limits = ScanLimits::default();
    let layout = scan(&bytes, &limits).unwrap();
    let moov = layout.first(b"moov").unwrap();
    let movie = Movie::parse(&read_box(&bytes, moov, &limits).unwrap(), moov.offset).unwrap();
    assert!(movie.rejected.is_empty());
    (bytes, movie)
}

fn check(name: &str, video_filter: &str, encoder: &[&str], codec: &str) {
    let folder = Folder::new(name);
    let original = folder.file("original.mp4");
    clip(&original, video_filter, encoder);
    let (source, movie) = load(&original);
    let expected = frame_times(&original, "v");
    let hashes = picture_hashes(&original);

    let video = cut_video(&source, &movie);
    let audio = cut_audio(&source, &movie);
    let written = parse_init(&write_init(std::slice::from_ref(&video.header), None).unwrap()).unwrap();
    let entry = written.tracks.first().unwrap().sample_entries.first().unwrap();
    // The level is the encoder's choice.
    let found = codec_string(&entry.raw).unwrap();
    assert!(found.starts_with(codec), "{found}");
    assert_eq!(codec_string(&audio.header.sample_entry).unwrap(), "mp4a.40.2");

    // The times computed from the sample table are the decoder's times.
    let track = movie.tracks.first().unwrap();
    let map = track.presentation(movie.timescale);
    let mut indexed: Vec<i64> = track.samples.iter().filter_map(|sample| map.present(sample.pts())).collect();
    indexed.sort_unstable();
    assert_eq!(indexed, expected);

    let fragmented = folder.file("fragmented.mp4");
    std::fs::write(&fragmented, video.file()).unwrap();
    assert_eq!(frame_times(&fragmented, "v"), expected);
    assert_eq!(picture_hashes(&fragmented), hashes);
    let sound = folder.file("sound.mp4");
    std::fs::write(&sound, audio.file()).unwrap();
    decodes(&sound);
    assert!(load(&fragmented).1.fragmented);

    let tracks = [&video, &audio].map(|cut| ProgressiveTrack {
        header: cut.header.clone(),
        leading_empty: (0, 1),
        presentation_duration: cut.presentation_duration,
    });
    let mut builder = ProgressiveBuilder::new(tracks.to_vec()).unwrap();
    let mut media = Vec::new();
    let longest = video.segments.len().max(audio.segments.len());
    for at in 0..longest {
        for cut in [&video, &audio] {
            if let Some((base, object, samples)) = cut.segments.get(at) {
                builder.push_segment(cut.header.id, object.len() as u64, *base, samples).unwrap();
                media.extend_from_slice(object);
            }
        }
    }
    let head = builder.finish().unwrap();
    let mut bytes = head.bytes.clone();
    bytes.extend(media);
    assert_eq!(bytes.len() as u64, head.total_bytes());
    let progressive = folder.file("progressive.mp4");
    std::fs::write(&progressive, &bytes).unwrap();
    assert_eq!(frame_times(&progressive, "v"), expected);
    assert_eq!(picture_hashes(&progressive), hashes);
    decodes(&progressive);
    let samples = |file: &Path| {
        let tail = ["-map", "0:a", "-f", "md5", "-"];
        run("ffmpeg", &["-v", "error", "-xerror", "-i"], file, &tail)
    };
    assert_eq!(samples(&progressive), samples(&original));
    assert!(scan(&bytes, &ScanLimits::default()).unwrap().is_faststart());
}

const VARIABLE: &str = "settb=1/25000,setpts='N*1000+mod(N,3)*311+mod(N,7)*50'";

#[test]
fn hevc_variable_frame_rate() {
    check("hevc", VARIABLE, HEVC, "hvc1.1.6.L");
}

#[test]
fn constant_frame_rate() {
    check("constant", "null", H264, "avc1.6400");
}

#[test]
fn variable_frame_rate() {
    check("variable", VARIABLE, H264, "avc1.6400");
}

/// An edit that starts between two pictures: players built on libavformat show the next one at once.
#[test]
fn edit_between_pictures() {
    let folder = Folder::new("between");
    let original = folder.file("original.mp4");
    clip(&original, "null", H264);
    let (mut source, _) = load(&original);
    let media_time = source.windows(4).position(|window| window == b"elst").unwrap() + 16;
    for (value, num_shown) in [(0i32, 48), (2300, 49), (5300, 46)] {
        source.get_mut(media_time..media_time + 4).unwrap().copy_from_slice(&value.to_be_bytes());
        let patched = folder.file("patched.mp4");
        std::fs::write(&patched, &source).unwrap();
        let (_, movie) = load(&patched);
        let track = movie.tracks.first().unwrap();
        let times = || track.samples.iter().map(|sample| sample.pts());
        let map = track.presentation(movie.timescale).aligned_to_samples(times());
        let mut shown: Vec<i64> = times().filter_map(|pts| map.present(pts)).collect();
        shown.sort_unstable();
        assert_eq!(shown.len(), num_shown);
        assert_eq!(shown, frame_times(&patched, "v"));
    }
}
