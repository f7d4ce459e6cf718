//! Ladders of several codecs, keyframe distances and frame rates: every rendition shows exactly its own list of frames,
//! and HLS and DASH describe each as it is. Truth is what ffprobe decodes of source and output.

use crate::clips;
use crate::decoded::{self, Frames, assert_same_times};
use crate::output::{MediaPlaylist, Output};
use crate::reel::Reel;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The mixed ladder of the examples, made for small pictures and little time.
fn mixed(reel: &Reel, heights: [u32; 3]) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/profiles/mixed.toml");
    let mut text = std::fs::read_to_string(example).unwrap();
    for (from, to) in [(720, heights[0]), (480, heights[1]), (360, heights[2])] {
        text = text.replace(&format!("height = {from}\n"), &format!("height = {to}\n"));
    }
    let faster = [("preset = \"8\"", "preset = \"12\""), ("preset = \"fast\"", "preset = \"ultrafast\"")];
    for (from, to) in faster {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    reel.file("mixed.toml", text)
}

/// Frames of the source whose number a rule chooses.
fn chosen(source: &Frames, rule: impl Fn(usize) -> bool) -> Frames {
    let ticks = source.ticks.iter().enumerate().filter(|(at, _)| rule(*at)).map(|(_, tick)| *tick).collect();
    Frames { ticks, tick: source.tick }
}

/// Numbers of the frames that are the first in their slot of 1/`rate` s.
fn slots(source: &Frames, rate: i128) -> Vec<usize> {
    let slot = |tick: i128| {
        ((tick - source.ticks[0]) * 2 + 1).wrapping_mul(source.tick.num * rate).div_euclid(source.tick.den * 2)
    };
    let is_first = |at: usize| at == 0 || slot(source.ticks[at]) != slot(source.ticks[at - 1]);
    (0..source.ticks.len()).filter(|at| is_first(*at)).collect()
}

fn run(reel: &Reel, source: &Path, profile: &Path, out: &Path, every: f64) -> Output {
    let every = format!("{every:.4}");
    reel.run(source, out, &["--profile", profile.to_str().unwrap(), "--segment-seconds", &every]).done();
    Output::open(out)
}

/// Each media segment can be decoded by itself, from its first frame.
#[track_caller]
fn assert_starts_on_keyframes(playlist: &MediaPlaylist, scratch: &Path) {
    playlist.assert_whole();
    for segment in &playlist.segments {
        let mut bytes = std::fs::read(&playlist.init).unwrap();
        bytes.extend(std::fs::read(segment).unwrap());
        let file = scratch.join("one-segment.mp4");
        std::fs::write(&file, bytes).unwrap();
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "error", "-show_entries", "packet=flags", "-of", "csv=p=0"]).arg(&file);
        let flags = String::from_utf8(ffprobe.output().unwrap().stdout).unwrap();
        assert!(flags.starts_with('K'), "{} starts with {:?}", segment.display(), flags.lines().next());
    }
}

/// `NAME=value` of an attribute list, without quotes.
fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => rest.split([',', ' ']).next().unwrap(),
    }
}

/// Attributes of the variant whose media playlist lies in `v/ID/`.
fn variant(output: &Output, id: &str) -> String {
    let master = std::fs::read_to_string(output.dir.join("master.m3u8")).unwrap();
    let lines: Vec<&str> = master.lines().collect();
    let at = lines.iter().position(|l| *l == format!("v/{id}/playlist.m3u8")).unwrap_or_else(|| panic!("{master}"));
    lines[at - 1].to_owned()
}

/// The Representation with a name and the AdaptationSet around it, each as its own start tag.
fn representation(output: &Output, id: &str) -> (String, String) {
    let mpd = std::fs::read_to_string(output.dir.join("manifest.mpd")).unwrap();
    let at = mpd.find(&format!("<Representation id=\"{id}\"")).unwrap_or_else(|| panic!("{mpd}"));
    let tag = |from: usize| mpd[from..].split('>').next().unwrap().to_owned();
    (tag(at), tag(mpd[..at].rfind("<AdaptationSet").unwrap()))
}

/// The highest number of frames per second: over gaps that fill a second, or over one longer gap.
fn highest_rate(frames: &Frames) -> f64 {
    let at: Vec<f64> =
        frames.ticks.iter().map(|t| *t as f64 * frames.tick.num as f64 / frames.tick.den as f64).collect();
    let from = |start: usize| {
        let end = (start..at.len()).find(|end| at[*end] - at[start] > 0.999_999)?;
        let gaps = (end - start) as f64;
        Some((gaps / (at[end] - at[start])).max(gaps - 1.0))
    };
    (0..at.len()).filter_map(from).fold(0.0, f64::max)
}

fn three_decimals(rate: f64) -> String {
    format!("{rate:.3}")
}

/// The average as the MPD writes it: a fraction of thousandths in lowest terms.
fn mean_rate(frames: &Frames, seconds: f64) -> String {
    let milli = (frames.ticks.len() as f64 * 1000.0 / seconds).round() as u64;
    let divisor = (1..=1000).rev().find(|d| milli.is_multiple_of(*d) && 1000_u64.is_multiple_of(*d)).unwrap();
    if divisor == 1000 { (milli / 1000).to_string() } else { format!("{}/{}", milli / divisor, 1000 / divisor) }
}

/// A cap means bits per second, also where the encoder sees every second frame only: the noisy clip fills the cap in both
/// renditions and exceeds it in neither.
#[test]
fn a_cap_holds_for_half_the_frame_rate_too() {
    const CAP: f64 = 200_000.0;
    for (codec, preset) in [("h264", "veryfast"), ("hevc", "ultrafast"), ("av1", "12")] {
        let reel = Reel::new();
        let rung = |height: u32, fps: &str| {
            format!("[[video.rungs]]\nheight = {height}\ncrf = 10\nmax_kbps = 200\nfps = \"{fps}\"\n")
        };
        let head = format!("name = \"capped\"\n[video]\ncodec = \"{codec}\"\npreset = \"{preset}\"\n");
        let profile = reel.file("capped.toml", head + &rung(144, "source") + &rung(142, "half"));
        let output = run(&reel, &clips::noisy(), &profile, &reel.path("out"), 3600.0);
        for id in ["144p", "142p"] {
            let playlist = MediaPlaylist::read(&output.dir.join(format!("v/{id}/playlist.m3u8")));
            let bytes: u64 = playlist.segments.iter().map(|s| std::fs::metadata(s).unwrap().len()).sum();
            let rate = bytes as f64 * 8.0 / playlist.durations.iter().sum::<f64>();
            println!("{codec} {id}: {:.3} of the cap", rate / CAP);
            assert!((0.7..1.25).contains(&(rate / CAP)), "{codec} {id}: {rate:.0} bit/s under a cap of {CAP}");
        }
    }
}

struct Rung<'a> {
    id: &'a str,
    codec: &'a str,
    frames: Frames,
    /// As HLS and as DASH write it.
    rate: (&'a str, &'a str),
}

#[track_caller]
fn assert_ladder(output: &Output, rungs: &[Rung<'_>], scratch: &Path) {
    let playlists = output.playlists("v");
    assert_eq!(playlists.len(), rungs.len());
    let report = output.report();
    let mut sets = Vec::new();
    for rung in rungs {
        let found = playlists.iter().find(|p| p.path.parent().unwrap().ends_with(rung.id));
        let playlist = found.unwrap_or_else(|| panic!("no {}", rung.id));
        assert_starts_on_keyframes(playlist, scratch);
        let frames = decoded::frames(&output.join(playlist, scratch)).unwrap();
        assert_same_times(rung.id, &rung.frames, &frames);
        let certificates = report["certificate"]["video"].as_array().unwrap();
        let certificate = certificates.iter().find(|c| c["rendition"] == rung.id).unwrap();
        assert_eq!(certificate["frames_out"], rung.frames.ticks.len());
        let variant = variant(output, rung.id);
        assert!(attribute(&variant, "CODECS").starts_with(rung.codec), "{variant}");
        assert!(attribute(&variant, "CODECS").contains("mp4a"), "{variant}");
        let (representation, set) = representation(output, rung.id);
        assert!(attribute(&representation, "codecs").starts_with(rung.codec), "{representation}");
        assert!(set.contains("contentType=\"video\""), "{set}");
        let (hls, dash) = rung.rate;
        assert_eq!(attribute(&variant, "FRAME-RATE"), hls, "{variant}");
        assert_eq!(attribute(&representation, "frameRate"), dash, "{representation}");
        sets.push(set);
    }
    sets.sort();
    sets.dedup();
    assert_eq!(sets.len(), rungs.len(), "one AdaptationSet for each codec");
}

/// AV1 and HEVC show every frame, H.264 every second one.
#[track_caller]
fn holds_for(source: &Path, seconds: f64, parts: &[usize], [full, half]: [(&str, &str); 2]) {
    let reel = Reel::new();
    let profile = mixed(&reel, [144, 96, 72]);
    let truth = decoded::frames(source).unwrap();
    for &n in parts {
        let every = if n == 1 { 3600.0 } else { seconds / n as f64 * 1.001 };
        let output = run(&reel, source, &profile, &reel.path(format!("out-{n}")), every);
        assert_eq!(output.num_segments(), n, "segments of {}", source.display());
        let rungs = [
            Rung { id: "144p", codec: "av01.", frames: chosen(&truth, |_| true), rate: full },
            Rung { id: "96p", codec: "hvc1.", frames: chosen(&truth, |_| true), rate: full },
            Rung { id: "72p", codec: "avc1.", frames: chosen(&truth, |at| at % 2 == 0), rate: half },
        ];
        assert_ladder(&output, &rungs, &reel.path(""));
    }
}

const PARTS: &[usize] = &[1, 3, 20];

#[test]
fn mixed_ladder_of_constant_frame_rate() {
    holds_for(&clips::ladder_cfr(), 20.0, PARTS, [("25.000", "25"), ("12.500", "25/2")]);
}

#[test]
fn mixed_ladder_of_variable_frame_rate() {
    let source = clips::ladder_vfr();
    let truth = decoded::frames(&source).unwrap();
    let highest = |frames: &Frames| three_decimals(highest_rate(frames));
    let full = (highest(&truth), mean_rate(&truth, 20.0));
    // Half of the average, also where the number of frames is odd.
    let half = (highest(&chosen(&truth, |at| at % 2 == 0)), mean_rate(&truth, 40.0));
    assert_ne!(full.0, three_decimals(truth.ticks.len() as f64 / 20.0), "the clip has uneven frames");
    holds_for(&source, 20.0, PARTS, [(&full.0, &full.1), (&half.0, &half.1)]);
}

#[test]
fn mixed_ladder_of_a_transport_stream() {
    holds_for(&clips::ladder_ts(), 20.0, PARTS, [("25.000", "25"), ("12.500", "25/2")]);
}

#[test]
fn mixed_ladder_at_its_real_sizes() {
    at_real_sizes(&clips::hd(), 3.0, &[(1, 3600.0), (2, 1.5)]);
}

#[test]
fn mixed_ladder_at_its_real_sizes_in_twenty_segments() {
    at_real_sizes(&clips::hd_long(), 20.0, &[(1, 3600.0), (3, 6.68), (20, 1.001)]);
}

/// AV1 720p and HEVC 480p show every frame of a source with 24 frames per second, H.264 360p every second one.
#[track_caller]
fn at_real_sizes(source: &Path, seconds: f64, parts: &[(usize, f64)]) {
    let truth = decoded::frames(source).unwrap();
    assert_eq!(truth.ticks.len() as f64, seconds * 24.0);
    for &(n, every) in parts {
        let reel = Reel::new();
        let output = run(&reel, source, &mixed(&reel, [720, 480, 360]), &reel.path("out"), every);
        assert_eq!(output.num_segments(), n);
        let rungs = [
            Rung { id: "720p", codec: "av01.", frames: chosen(&truth, |_| true), rate: ("24.000", "24") },
            Rung { id: "480p", codec: "hvc1.", frames: chosen(&truth, |_| true), rate: ("24.000", "24") },
            Rung { id: "360p", codec: "avc1.", frames: chosen(&truth, |at| at % 2 == 0), rate: ("12.000", "12") },
        ];
        assert_ladder(&output, &rungs, &reel.path(""));
    }
}

#[test]
fn keyframes_of_each_rung_have_their_own_distance() {
    let reel = Reel::new();
    let (source, profile) = (clips::ladder_cfr(), mixed(&reel, [144, 96, 72]));
    let output = run(&reel, &source, &profile, &reel.path("out"), 3600.0);
    let keyframes = |id: &str| -> Vec<i64> {
        let playlist = MediaPlaylist::read(&output.dir.join(format!("v/{id}/playlist.m3u8")));
        let file = output.join(&playlist, &reel.path(""));
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "error", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"]).arg(file);
        let text = String::from_utf8(ffprobe.output().unwrap().stdout).unwrap();
        let times = text.lines().filter_map(|l| l.split_once(',')).filter(|(_, flags)| flags.starts_with('K'));
        times.map(|(time, _)| time.parse::<f64>().unwrap().round() as i64).collect()
    };
    assert_eq!(keyframes("96p"), [0, 4, 8, 12, 16]);
    assert_eq!(keyframes("72p"), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    assert_eq!(keyframes("144p"), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
}

/// A number of frames per second that does not divide the source's, on uneven frames, in several segments.
#[test]
fn a_number_of_frames_per_second_takes_the_first_of_each_slot() {
    let text = "name = \"ten\"\n[video]\npreset = \"ultrafast\"\n[[video.rungs]]\nheight = 144\ncrf = 30\nfps = 10\n\
                [[video.rungs]]\nheight = 72\ncrf = 30\nfps = 90\n";
    for source in [clips::ladder_vfr(), clips::ladder_ts()] {
        let reel = Reel::new();
        let profile = reel.file("ten.toml", text);
        let truth = decoded::frames(&source).unwrap();
        let output = run(&reel, &source, &profile, &reel.path("out"), 3.0);
        assert!(output.num_segments() > 4);
        let at = slots(&truth, 10);
        for (id, wanted) in [("144p", chosen(&truth, |n| at.contains(&n))), ("72p", chosen(&truth, |_| true))] {
            let playlist = MediaPlaylist::read(&output.dir.join(format!("v/{id}/playlist.m3u8")));
            let frames = decoded::frames(&output.join(&playlist, &reel.path(""))).unwrap();
            assert_same_times(id, &wanted, &frames);
        }
        let decisions = output.report()["decisions"].to_string();
        assert!(decisions.contains("90 frames per second are asked for, the source has"), "{decisions}");
    }
}

/// 10-bit PQ: one rung keeps it, the other is tone-mapped, from one decode.
#[test]
fn hdr_is_kept_in_one_rung_and_mapped_in_another() {
    let reel = Reel::new();
    let text = "name = \"hdr\"\n[video]\ncodec = \"hevc\"\npreset = \"ultrafast\"\npixel_format = \"auto420\"\n\
                [[video.rungs]]\nheight = 144\ncrf = 30\n\
                [[video.rungs]]\nheight = 144\ncodec = \"h264\"\npreset = \"ultrafast\"\npixel_format = \"yuv420p\"\ncrf = 30\n";
    let profile = reel.file("hdr.toml", text);
    let source = clips::hdr();
    let output = run(&reel, &source, &profile, &reel.path("out"), 1.0);
    let look = |id: &str| {
        let playlist = MediaPlaylist::read(&output.dir.join(format!("v/{id}/playlist.m3u8")));
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "error", "-show_entries", "stream=pix_fmt,color_transfer", "-of", "csv=p=0"]);
        let text = ffprobe.arg(output.join(&playlist, &reel.path(""))).output().unwrap().stdout;
        String::from_utf8(text).unwrap().trim().to_owned()
    };
    assert_eq!(look("144p"), "yuv420p10le,smpte2084");
    assert_eq!(look("144p-h264"), "yuv420p,bt709");
    assert_eq!(attribute(&variant(&output, "144p"), "VIDEO-RANGE"), "PQ");
    assert_eq!(attribute(&variant(&output, "144p-h264"), "VIDEO-RANGE"), "SDR");
    let mpd = std::fs::read_to_string(output.dir.join("manifest.mpd")).unwrap();
    let set = |id: &str| {
        let with = format!("<Representation id=\"{id}\"");
        mpd.split("<AdaptationSet").find(|set| set.contains(&with)).unwrap_or_else(|| panic!("{mpd}"))
    };
    let transfer = |id: &str, element: &str, code: u8| {
        let scheme = "urn:mpeg:mpegB:cicp:TransferCharacteristics";
        set(id).contains(&format!("<{element} schemeIdUri=\"{scheme}\" value=\"{code}\"/>"))
    };
    assert_ne!(set("144p"), set("144p-h264"));
    assert!(transfer("144p", "EssentialProperty", 16), "{mpd}");
    assert!(transfer("144p-h264", "SupplementalProperty", 1), "{mpd}");
}
