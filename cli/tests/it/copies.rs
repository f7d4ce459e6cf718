//! What copies and HDR encodes keep beside pictures and sound: orientation, Dolby Vision, light metadata, captions, open
//! groups of pictures. Sources are made with ffmpeg and changed byte by byte where ffmpeg cannot make them.

use crate::boxes;
use crate::clips;
use crate::decoded::{self, assert_same_times};
use crate::output::Output;
use crate::reel::Reel;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPY: [&str; 2] = ["--profile", "passthrough"];

fn text(output: &Output, name: &str) -> String {
    std::fs::read_to_string(output.dir().join(name)).unwrap()
}

/// The only video rendition, joined.
fn joined(output: &Output, reel: &Reel) -> PathBuf {
    let playlists = output.playlists("v");
    output.join(&playlists[0], reel.path("").as_path())
}

#[test]
fn copies_stay_turned_and_mirrored() {
    const ONE: i32 = 1 << 16;
    let reel = Reel::new();
    // a, b, c, d of the matrix; whether width and height change places.
    for (name, [a, b, c, d], is_turned) in [
        ("90", [0, ONE, -ONE, 0], true),
        ("180", [-ONE, 0, 0, -ONE], false),
        ("270", [0, -ONE, ONE, 0], true),
        ("mirrored", [-ONE, 0, 0, ONE], false),
        ("turned-and-mirrored", [0, ONE, ONE, 0], true),
    ] {
        let source = reel.file(&format!("{name}.mp4"), boxes::with_matrix(&clips::cfr(), [a, b, c, d]));
        let out = reel.path(name);
        reel.run(&source, &out, &COPY).done();
        let output = Output::open(&out);
        let truth = decoded::pixels(&source);
        assert_ne!(truth, decoded::pixels(&clips::cfr()), "{name}: players turn the source");
        assert_eq!(decoded::pixels(&output.mp4().unwrap()), truth, "{name}: MP4");
        assert_eq!(decoded::pixels(&joined(&output, &reel)), truth, "{name}: HLS");
        let size = if is_turned { "RESOLUTION=108x192," } else { "RESOLUTION=192x108," };
        assert!(text(&output, "master.m3u8").contains(size), "{name}: {}", text(&output, "master.m3u8"));
        assert!(output.report()["decisions"].to_string().contains("players turn them"), "{name}");
    }
}

#[test]
fn open_groups_are_copied_exactly_and_called_dependent() {
    let reel = Reel::new();
    for source in [clips::open_hevc("mkv"), clips::open_hevc("mp4"), clips::open_hevc("ts"), clips::open_gop()] {
        let name = source.file_name().unwrap().to_string_lossy().into_owned();
        let out = reel.path(&name);
        reel.run(&source, &out, &COPY).done();
        let output = Output::open(&out);
        let joined = joined(&output, &reel);
        assert_eq!(decoded::pixels(&joined), decoded::pixels(&source), "{name}");
        assert_same_times(&name, &decoded::frames(&source).unwrap(), &decoded::frames(&joined).unwrap());
        let playlist = &output.playlists("v")[0];
        assert!(playlist.segments.len() > 2, "{name}: {} media segments", playlist.segments.len());
        assert!(!playlist.lines.iter().any(|line| line == "#EXT-X-INDEPENDENT-SEGMENTS"), "{name}");
        assert!(!text(&output, "master.m3u8").contains("INDEPENDENT-SEGMENTS"), "{name}");
        assert!(text(&output, "manifest.mpd").contains("startWithSAP=\"3\" maxWidth"), "{name}");
    }
    let closed = reel.path("closed");
    reel.run(&clips::cfr(), &closed, &COPY).done();
    assert!(text(&Output::open(&closed), "master.m3u8").contains("#EXT-X-INDEPENDENT-SEGMENTS"));
}

/// Side data of the first picture, as ffprobe prints them.
fn first_picture(path: &Path) -> String {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v:0", "-read_intervals", "%+#1", "-show_frames", "-of", "json"]);
    String::from_utf8(ffprobe.arg(path).output().unwrap().stdout).unwrap()
}

#[test]
fn light_metadata_is_kept_in_headers_and_pictures() {
    let reel = Reel::new();
    let source = clips::hdr10();
    for (name, profile) in [("encoded", "efficiency"), ("copied", "passthrough")] {
        let out = reel.path(name);
        reel.run(&source, &out, &["--profile", profile, "--segment-seconds", "1"]).done();
        let output = Output::open(&out);
        let init = std::fs::read(&output.playlists("v")[0].init).unwrap();
        // Green, blue, red, white (0.00002), then luminance (0.0001 cd/m²), as x265 was asked for them.
        let mut mdcv: Vec<u8> = Vec::new();
        for value in [13_250u16, 34_500, 7_500, 3_000, 34_000, 16_000, 15_635, 16_450] {
            mdcv.extend(value.to_be_bytes());
        }
        mdcv.extend(10_000_000u32.to_be_bytes());
        mdcv.extend(50u32.to_be_bytes());
        assert_eq!(boxes::entry_child(&init, b"hvc1", b"mdcv"), Some(mdcv), "{name}");
        let clli = [1000u16.to_be_bytes(), 400u16.to_be_bytes()].concat();
        assert_eq!(boxes::entry_child(&init, b"hvc1", b"clli"), Some(clli), "{name}");
        for file in [output.mp4().unwrap(), joined(&output, &reel)] {
            let seen = first_picture(&file);
            assert!(seen.contains("Mastering display metadata") && seen.contains("\"34500/50000\""), "{name}: {seen}");
            assert!(seen.contains("\"max_content\": 1000"), "{name}: {seen}");
        }
        assert!(text(&output, "master.m3u8").contains("VIDEO-RANGE=PQ"), "{name}");
        assert!(text(&output, "manifest.mpd").contains("TransferCharacteristics\" value=\"16\""), "{name}");
        let decisions = output.report()["decisions"].to_string();
        assert!(decisions.contains("with mastering display and light level"), "{name}: {decisions}");
    }
}

/// A Dolby Vision configuration box (profile, level, compatibility of the base layer).
fn dolby_vision(kind: &[u8; 4], profile: u8, level: u8, compatibility: u8) -> Vec<u8> {
    // Metadata and base layer present, no enhancement layer.
    let mut payload = vec![1, 0, (profile << 1) | (level >> 5), (level << 3) | 0b101, compatibility << 4];
    payload.resize(24, 0);
    boxes::boxed(kind, &payload)
}

#[test]
fn dolby_vision_with_a_base_layer_is_copied_and_announced() {
    let reel = Reel::new();
    let vision = dolby_vision(b"dvvC", 8, 4, 1);
    let source = reel.file("vision.mp4", boxes::with_entry_child(&clips::hdr10(), b"hvc1", &vision));
    let out = reel.path("copied");
    reel.run(&source, &out, &COPY).done();
    let output = Output::open(&out);
    for file in [output.playlists("v")[0].init.clone(), output.mp4().unwrap()] {
        let kept = boxes::entry_child(&std::fs::read(&file).unwrap(), b"hvc1", b"dvvC");
        assert_eq!(kept.as_deref(), Some(&vision[8..]), "{}", file.display());
    }
    let master = text(&output, "master.m3u8");
    assert!(
        master.contains("CODECS=\"hvc1.2.") && master.contains("SUPPLEMENTAL-CODECS=\"dvh1.08.04/db1p\""),
        "{master}"
    );
    let encoded = reel.path("encoded");
    reel.run(&source, &encoded, &["--profile", "efficiency"]).done();
    let output = Output::open(&encoded);
    assert!(output.report()["decisions"].to_string().contains("the base layer is HDR10"));
    assert!(!text(&output, "master.m3u8").contains("SUPPLEMENTAL-CODECS"));
}

#[test]
fn dolby_vision_without_a_base_layer_is_copied_or_refused() {
    let reel = Reel::new();
    let vision = dolby_vision(b"dvcC", 5, 6, 0);
    let source = reel.file("vision.mp4", boxes::with_entry_child(&clips::hdr10(), b"hvc1", &vision));
    let refused = reel.path("refused");
    reel.run(&source, &refused, &[]).refused(3, &["Dolby Vision profile 5", "--profile passthrough"]);
    assert!(!refused.exists());
    let out = reel.path("copied");
    reel.run(&source, &out, &COPY).done();
    let output = Output::open(&out);
    let init = std::fs::read(&output.playlists("v")[0].init).unwrap();
    assert_eq!(boxes::entry_child(&init, b"dvh1", b"dvcC").as_deref(), Some(&vision[8..]));
    assert!(text(&output, "master.m3u8").contains("CODECS=\"dvh1.05.06\""), "{}", text(&output, "master.m3u8"));
}

#[test]
fn captions_are_announced_where_they_are() {
    const CHANNEL: &str =
        "#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"CC1\",DEFAULT=NO,AUTOSELECT=YES,INSTREAM-ID=\"CC1\"";
    let reel = Reel::new();
    let source = clips::captions();
    for (name, profile, has_captions) in
        [("copied", "passthrough", true), ("h264", "universal", true), ("hevc", "efficiency", false)]
    {
        let out = reel.path(name);
        reel.run(&source, &out, &["--profile", profile, "--segment-seconds", "2"]).done();
        let output = Output::open(&out);
        let seen = first_picture(&output.mp4().unwrap()).contains("Closed Captions");
        assert_eq!(seen, has_captions, "{name}: what ffprobe sees");
        let (master, manifest) = (text(&output, "master.m3u8"), text(&output, "manifest.mpd"));
        assert_eq!(master.contains(CHANNEL), has_captions, "{name}: {master}");
        let variants: Vec<&str> = master.lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF")).collect();
        let wanted = if has_captions { "CLOSED-CAPTIONS=\"cc\"" } else { "CLOSED-CAPTIONS=NONE" };
        assert!(variants.iter().all(|variant| variant.contains(wanted)), "{name}: {master}");
        let accessible = "<Accessibility schemeIdUri=\"urn:scte:dash:cc:cea-608:2015\" value=\"CC1\"/>";
        assert_eq!(manifest.contains(accessible), has_captions, "{name}: {manifest}");
    }
    let plain = reel.path("plain");
    reel.run(&clips::short(), &plain, &COPY).done();
    assert!(text(&Output::open(&plain), "master.m3u8").contains("CLOSED-CAPTIONS=NONE"));
}
