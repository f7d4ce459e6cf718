//! Colours: patches of known colour are coded in many ways, planned and encoded, and decoded by the output's own tags.

use crate::clips::{self, Dir, make};
use crate::pieces::encode;
use splitreel_core::plan::Plan;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::{PixelFormat, Profile, Rung, RungHeight};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Side of a patch in the source, pixels.
const SIDE: usize = 32;
const COLUMNS: usize = 6;
const ROWS: usize = 4;
/// Largest difference of a decoded component, of 255.
const TOLERANCE: i32 = 3;

/// Primaries, greys from black to white, skin, sky, foliage and other surfaces.
const PATCHES: [[u8; 3]; COLUMNS * ROWS] = [
    [0, 0, 0],
    [40, 40, 40],
    [90, 90, 90],
    [128, 128, 128],
    [191, 191, 191],
    [255, 255, 255],
    [220, 20, 20],
    [20, 200, 30],
    [30, 30, 210],
    [220, 210, 30],
    [30, 200, 200],
    [200, 40, 190],
    [115, 82, 68],
    [194, 150, 130],
    [98, 122, 157],
    [87, 108, 67],
    [133, 128, 177],
    [103, 189, 170],
    [214, 126, 44],
    [80, 91, 166],
    [193, 90, 99],
    [94, 60, 108],
    [157, 188, 64],
    [224, 163, 46],
];

/// How the patches are coded.
#[derive(Clone, Copy, Debug)]
struct Case {
    codec: &'static str,
    pix_fmt: &'static str,
    /// `tv`, `pc` or empty: untagged, limited.
    range: &'static str,
    /// ffmpeg's name, empty: untagged, the coefficients of BT.601.
    matrix: &'static str,
}

const MATRICES: [&str; 4] = ["smpte170m", "bt709", "bt2020nc", ""];

fn cases() -> Vec<Case> {
    let coded = [
        ("-c:v libx264 -qp 1 -preset ultrafast", &["yuv420p", "yuv420p10le"][..]),
        ("-c:v libx265 -x265-params log-level=none:qp=1 -preset ultrafast", &["yuv420p", "yuv420p10le"]),
        ("-c:v libvpx-vp9 -crf 2 -b:v 0 -cpu-used 8", &["yuv420p", "yuv420p10le"]),
        ("-c:v libsvtav1 -qp 2 -preset 12", &["yuv420p", "yuv420p10le"]),
    ];
    let mut cases = Vec::new();
    for (codec, formats) in coded {
        for pix_fmt in formats.iter().copied() {
            for matrix in MATRICES {
                for range in ["tv", "pc"] {
                    cases.push(Case { codec, pix_fmt, range, matrix });
                }
            }
            cases.push(Case { codec, pix_fmt, range: "", matrix: "" });
        }
    }
    for matrix in MATRICES {
        cases.push(Case { codec: "-c:v prores_ks", pix_fmt: "yuv422p10le", range: "tv", matrix });
    }
    cases.push(Case { codec: "-c:v mjpeg -q:v 1", pix_fmt: "yuvj422p", range: "pc", matrix: "bt470bg" });
    cases.push(Case { codec: "-c:v libx264 -qp 1", pix_fmt: "yuvj420p", range: "pc", matrix: "bt709" });
    for (codec, pix_fmt) in [
        ("-c:v libx264rgb -qp 1", "rgb24"),
        ("-c:v libx265 -x265-params log-level=none:lossless=1", "gbrp"),
        ("-c:v libx265 -x265-params log-level=none:lossless=1", "gbrp10le"),
        ("-c:v libvpx-vp9 -lossless 1", "gbrp"),
        ("-c:v png", "rgb24"),
        ("-c:v png", "rgb48be"),
    ] {
        cases.push(Case { codec, pix_fmt, range: "pc", matrix: "gbr" });
    }
    cases
}

/// The patches as one raw picture.
fn raw_picture() -> Vec<u8> {
    let pixel = |x: usize, y: usize| PATCHES[y / SIDE * COLUMNS + x / SIDE];
    (0..ROWS * SIDE).flat_map(|y| (0..COLUMNS * SIDE).flat_map(move |x| pixel(x, y))).collect()
}

fn source(dir: &Dir, number: usize, case: Case) -> PathBuf {
    let raw = dir.file("patches.rgb");
    std::fs::write(&raw, raw_picture()).unwrap();
    let path = dir.file(&format!("{number}.mkv"));
    let Case { codec, pix_fmt, range, matrix } = case;
    let (size, is_rgb) = (format!("{}x{}", COLUMNS * SIDE, ROWS * SIDE), matrix == "gbr");
    let levels = if range == "pc" { "pc" } else { "tv" };
    let scaler = match matrix {
        "bt2020nc" => "bt2020",
        "bt470bg" | "" => "smpte170m",
        other => other,
    };
    let mut filters = Vec::new();
    if !is_rgb {
        let flags = "bicubic+accurate_rnd+full_chroma_int";
        filters.push(format!("scale=out_range={levels}:out_color_matrix={scaler}:flags={flags}"));
    }
    filters.push(format!("format={pix_fmt}"));
    let mut tags = String::new();
    if !range.is_empty() {
        tags.push_str(&format!(" -color_range {range}"));
    }
    if !matrix.is_empty() {
        let (space, primaries) = match matrix {
            "gbr" => ("rgb", "bt709"),
            "bt2020nc" => (matrix, "bt2020"),
            _ => (matrix, matrix),
        };
        tags.push_str(&format!(" -colorspace {space} -color_primaries {primaries} -color_trc bt709"));
        if !is_rgb {
            // Some encoders write the tags of the frames, not those of the options.
            filters.push(format!("setparams=colorspace={space}:color_primaries={primaries}:color_trc=bt709"));
        }
    }
    make(
        &path,
        &format!(
            "-f rawvideo -pix_fmt rgb24 -s {size} -r 10 -stream_loop 1 -i {} -vf {} {codec}{tags} -strict experimental",
            raw.display(),
            filters.join(",")
        ),
    );
    path
}

/// Red, green and blue in the middle of each patch of the first frame, converted by the file's own tags.
fn decoded_patches(path: &Path, [width, height]: [usize; 2]) -> Vec<[i32; 3]> {
    let convert = "scale=flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24";
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path);
    command.args(["-vf", convert, "-frames:v", "1", "-f", "rawvideo", "-"]);
    let pixels = command.output().unwrap().stdout;
    assert_eq!(pixels.len(), width * height * 3, "{}", path.display());
    let middle = |n: usize, side: usize, count: usize| (2 * n + 1) * side / (2 * count);
    let patch = |n: usize| {
        let (x, y) = (middle(n % COLUMNS, width, COLUMNS), middle(n / COLUMNS, height, ROWS));
        let at = (y * width + x) * 3;
        [0, 1, 2].map(|c| i32::from(pixels[at + c]))
    };
    (0..PATCHES.len()).map(patch).collect()
}

fn assert_patches(place: &str, path: &Path, size: [usize; 2]) {
    let found = decoded_patches(path, size);
    for (wanted, found) in PATCHES.iter().zip(&found) {
        let worst = wanted.iter().zip(found).map(|(a, b)| (i32::from(*a) - b).abs()).max().unwrap();
        assert!(worst <= TOLERANCE, "{place}: {wanted:?} became {found:?}");
    }
}

/// A ladder of the source's size and half of it.
fn profile(pixel_format: PixelFormat) -> Profile {
    let mut profile = Profile::built_in("universal").unwrap();
    let rung = |height| Rung::of(RungHeight::Pixels(height), 1.0, None);
    profile.video.rungs = vec![rung((ROWS * SIDE) as u32), rung((ROWS * SIDE) as u32 / 2)];
    profile.video.pixel_format = pixel_format;
    profile
}

async fn planned(source: &Path, dir: &Path, pixel_format: PixelFormat) -> Plan {
    let probed = clips::probe(source, dir).await.unwrap();
    plan(&probed.info, &profile(pixel_format), &Capabilities::default()).unwrap()
}

#[tokio::test]
async fn every_rendition_shows_the_colours_of_the_source() {
    let dir = Dir::new();
    for (number, case) in cases().into_iter().enumerate() {
        let source = source(&dir, number, case);
        let is_deep = case.pix_fmt.contains("10") || case.pix_fmt.contains("48");
        for policy in [PixelFormat::Yuv420p, PixelFormat::Auto420].into_iter().take(1 + usize::from(is_deep)) {
            let plan = Arc::new(planned(&source, dir.path(), policy).await);
            let files = encode(&source, &plan, 0, 0, dir.path()).await.files;
            assert_eq!(files.len(), 2, "{case:?}");
            for (file, (track, video)) in files.iter().zip(plan.video_tracks()) {
                assert_patches(
                    &format!("{case:?} {policy:?} {}", track.id),
                    file,
                    [video.width as usize, video.height as usize],
                );
            }
        }
    }
}

/// MD5 of each frame's samples in a pixel format.
fn samples(path: &Path, pix_fmt: &str) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path);
    command.args(["-fps_mode", "passthrough", "-pix_fmt", pix_fmt, "-f", "framemd5", "-"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit(',').next().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn the_source_pixel_format_keeps_every_sample_and_the_range() {
    let dir = Dir::new();
    let coded = [
        ("mjpeg", "-pix_fmt yuvj420p -c:v mjpeg -q:v 2", "yuvj420p", "pc"),
        ("phone", "-pix_fmt yuvj420p -c:v libx264 -qp 5", "yuvj420p", "pc"),
        ("deep", "-pix_fmt yuv422p10le -c:v prores_ks", "yuv422p10le", "tv"),
        ("plain", "-pix_fmt yuv420p -c:v libx264 -qp 5", "yuv420p", "tv"),
    ];
    for (name, args, pix_fmt, range) in coded {
        let path = dir.file(&format!("{name}.mkv"));
        make(&path, &format!("-f lavfi -i testsrc2=s=192x128:r=10:d=0.5 {args} -color_range {range}"));
        let probed = clips::probe(&path, dir.path()).await.unwrap();
        let mut profile = profile(PixelFormat::Source);
        profile.video.rungs = vec![Rung { crf: None, qp: Some(0), ..Rung::of(RungHeight::Pixels(128), 0.0, None) }];
        let plan = Arc::new(plan(&probed.info, &profile, &Capabilities::default()).unwrap());
        let files = encode(&path, &plan, 0, 0, dir.path()).await.files;
        assert_eq!(samples(&path, pix_fmt), samples(&files[0], pix_fmt), "{name}");
        let tagged = clips::probe(&files[0], dir.path()).await.unwrap().info.video.unwrap();
        assert_eq!(tagged.color.range, range, "{name}");
    }
}
