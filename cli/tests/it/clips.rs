//! Small generated sources, made once per target directory with ffmpeg. Each has one nasty feature.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A name that no other thread or process uses while it makes the same clip.
fn draft(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let extension = path.extension().unwrap().to_string_lossy();
    path.with_extension(format!("{}-{number}.{extension}", std::process::id()))
}

/// Runs ffmpeg with `args` and the output file. Tests that run at the same time may make the same clip twice; the
/// rename makes either whole.
fn make(name: &str, args: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips-2");
    let path = dir.join(name);
    if path.exists() {
        return path;
    }
    std::fs::create_dir_all(&dir).unwrap();
    let draft = draft(&path);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-y"]).args(args).arg(&draft).stdin(Stdio::null());
    let made = ffmpeg.output().expect("ffmpeg is needed for these tests");
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::rename(&draft, &path).unwrap();
    path
}

const PICTURE: &str = "testsrc2=size=192x108:rate=25:duration=12";
// Tones that change each second: a shifted or dropped piece is heard, and seen in the samples.
const SOUND: &str = "aevalsrc=0.3*sin(2*PI*t*(220+40*floor(t)))|0.3*sin(2*PI*t*(330+40*floor(t))):s=48000:d=12";
const B_FRAMES: &[&str] = &["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "50", "-pix_fmt", "yuv420p"];
const AAC: &[&str] = &["-c:a", "aac", "-b:a", "96k"];

fn lavfi<'a>(sources: &[&'a str], rest: &[&[&'a str]]) -> Vec<&'a str> {
    let inputs = sources.iter().flat_map(|s| ["-f", "lavfi", "-i", s]);
    inputs.chain(rest.iter().flat_map(|r| r.iter().copied())).collect()
}

/// 25 fps, H.264 with B-pyramids, AAC, mp4.
pub fn cfr() -> PathBuf {
    make("cfr.mp4", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, AAC]))
}

/// The same, half as long.
pub fn short() -> PathBuf {
    make("short.mp4", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, AAC, &["-t", "6"]]))
}

/// Noise: what is made of it without loss is large.
#[cfg(feature = "cluster")]
pub fn noise() -> PathBuf {
    const NOISE: &str = "color=gray:size=320x240:rate=25:duration=6,noise=alls=100:allf=t";
    make("noise.mp4", &lavfi(&[NOISE], &[&["-c:v", "libx264", "-preset", "ultrafast", "-crf", "5", "-g", "50"]]))
}

/// Frames dropped at irregular places and one long hole, mkv (ticks of 1 ms), FLAC.
pub fn vfr() -> PathBuf {
    const DROP: &[&str] =
        &["-vf", "select='not(eq(mod(n,7),3))*not(between(n,60,75))*not(eq(mod(n,31),9))'", "-fps_mode", "passthrough"];
    make("vfr.mkv", &lavfi(&[PICTURE, SOUND], &[DROP, B_FRAMES, &["-c:a", "flac"]]))
}

/// Groups of pictures that refer across their borders.
pub fn open_gop() -> PathBuf {
    const OPEN: &[&str] = &["-x264-params", "open-gop=1:keyint=24:min-keyint=24:scenecut=0:bframes=3:b-pyramid=normal"];
    make(
        "open-gop.mp4",
        &lavfi(&[PICTURE, SOUND], &[&["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"], OPEN, AAC]),
    )
}

/// 30000/1001 fps.
pub fn ntsc() -> PathBuf {
    const NTSC: &str = "testsrc2=size=192x108:rate=30000/1001:duration=12";
    make("ntsc.mp4", &lavfi(&[NTSC, SOUND], &[B_FRAMES, AAC]))
}

/// MPEG-TS whose clock starts at an hour.
pub fn ts_from_an_hour() -> PathBuf {
    make("hour.ts", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, AAC, &["-output_ts_offset", "3600"]]))
}

/// mkv with Opus.
pub fn mkv() -> PathBuf {
    make("plain.mkv", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, &["-c:a", "libopus", "-b:a", "64k"]]))
}

/// An edit list that begins inside a group of pictures.
pub fn edit_list() -> PathBuf {
    let whole = cfr();
    make("edit-list.mp4", &["-ss", "1.3", "-i", whole.to_str().unwrap(), "-c", "copy"])
}

/// Sound begins 2 s after the picture.
pub fn late_audio() -> PathBuf {
    let late = ["-f", "lavfi", "-i", PICTURE, "-itsoffset", "2", "-f", "lavfi", "-i", SOUND];
    make("late-audio.mp4", &[&late[..], B_FRAMES, AAC].concat())
}

/// The picture begins 2 s after the sound.
pub fn late_video() -> PathBuf {
    let late =
        ["-itsoffset", "2", "-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND, "-fps_mode", "passthrough"];
    make("late-video.mp4", &[&late[..], B_FRAMES, AAC].concat())
}

/// A white frame and a rising beep every other second.
pub fn flash_and_beep() -> PathBuf {
    let flash = "color=black:s=64x36:r=25:d=8,drawbox=color=white:t=fill:enable=lt(mod(t\\,2)\\,0.04)";
    let beep = "aevalsrc=0.5*sin(2*PI*(400+20000*mod(t\\,2))*mod(t\\,2))*lt(mod(t\\,2)\\,0.04):s=48000:d=8";
    make("flash-and-beep.mkv", &lavfi(&[flash, beep], &[B_FRAMES, &["-c:a", "flac"]]))
}

/// One frame with 9 s of sound: a cover and a song.
pub fn one_frame_with_sound() -> PathBuf {
    let sound = "sine=300:r=48000:d=9";
    make("one-frame-with-sound.mp4", &lavfi(&["testsrc2=size=128x72:rate=25:duration=0.04", sound], &[B_FRAMES, AAC]))
}

/// Sound ends after 5 of 12 s.
pub fn short_sound() -> PathBuf {
    make("short-sound.mp4", &lavfi(&[PICTURE, "sine=300:r=48000:d=5"], &[B_FRAMES, AAC]))
}

/// No sound.
pub fn video_only() -> PathBuf {
    make("video-only.mp4", &lavfi(&[PICTURE], &[B_FRAMES]))
}

/// No picture, 44.1 kHz.
pub fn audio_only() -> PathBuf {
    make("audio-only.m4a", &lavfi(&["aevalsrc=0.3*sin(2*PI*t*(220+40*floor(t))):s=44100:d=12"], &[AAC]))
}

/// 50 s, for many segments.
pub fn long_cfr() -> PathBuf {
    const LONG: &str = "testsrc2=size=128x72:rate=24:duration=50";
    const LONG_SOUND: &str = "aevalsrc=0.3*sin(2*PI*t*(220+40*floor(t))):s=48000:d=50";
    make("long.mp4", &lavfi(&[LONG, LONG_SOUND], &[B_FRAMES, AAC]))
}

/// 50 s of MPEG-TS.
pub fn long_ts() -> PathBuf {
    make("long.ts", &["-i", long_cfr().to_str().unwrap(), "-c", "copy", "-output_ts_offset", "3600"])
}

/// Costly enough to be interrupted: 20 s of 640x360 with noise.
pub fn busy() -> PathBuf {
    const BUSY: &str = "testsrc2=size=640x360:rate=25:duration=20,noise=alls=12:allf=t";
    const SOUND_20: &str = "aevalsrc=0.3*sin(2*PI*t*(220+40*floor(t))):s=48000:d=20";
    make(
        "busy.mp4",
        &lavfi(
            &[BUSY, SOUND_20],
            &[&["-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-pix_fmt", "yuv420p"], AAC],
        ),
    )
}

/// A single frame.
pub fn one_frame() -> PathBuf {
    make("one-frame.mp4", &lavfi(&["testsrc2=size=128x72:rate=25:duration=1"], &[&["-frames:v", "1"], B_FRAMES]))
}

/// A tenth of a second with sound.
pub fn tenth() -> PathBuf {
    make("tenth.mp4", &lavfi(&[PICTURE, SOUND], &[&["-t", "0.1"], B_FRAMES, AAC]))
}

/// Two audio tracks in different languages, one of them mono at another rate.
pub fn two_languages() -> PathBuf {
    const OTHER: &str = "aevalsrc=0.3*sin(2*PI*t*(500+30*floor(t))):s=44100:d=11.5";
    const MAPS: &[&str] =
        &["-map", "0", "-map", "1", "-map", "2", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"];
    make("languages.mp4", &lavfi(&[PICTURE, SOUND, OTHER], &[MAPS, B_FRAMES, AAC]))
}

/// Ten hours at one frame a second.
pub fn ten_hours() -> PathBuf {
    const TEN_HOURS: &str = "color=c=gray:size=32x32:rate=1:duration=36000";
    make(
        "ten-hours.mp4",
        &lavfi(&[TEN_HOURS], &[&["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p"]]),
    )
}

/// Too large to be decoded for its frame list, and one of its 250 frames is not the picture its index promises.
pub fn lying_index() -> PathBuf {
    const LARGE: &str = "testsrc2=size=1280x720:rate=10:duration=25";
    let whole = make(
        "before-lying.mp4",
        &lavfi(&[LARGE], &[&["-c:v", "libx264", "-preset", "ultrafast", "-g", "1", "-pix_fmt", "yuv420p"]]),
    );
    let path = whole.with_file_name("lying.mp4");
    // Tests share the clip, and a source that is written again counts as changed.
    if path.exists() {
        return path;
    }
    let draft = draft(&path);
    let listed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pos", "-of", "csv=p=0"])
        .arg(&whole)
        .output()
        .unwrap();
    let positions = String::from_utf8(listed.stdout).unwrap();
    let at: usize = positions.lines().nth(120).unwrap().trim_end_matches(',').parse().unwrap();
    let mut bytes = std::fs::read(&whole).unwrap();
    bytes[at..at + 64].fill(0);
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(&draft, &path).unwrap();
    path
}

const LADDER: &str = "testsrc2=size=256x144:rate=25:duration=20";
const LADDER_SOUND: &str = "aevalsrc=0.3*sin(2*PI*t*(220+40*floor(t))):s=48000:d=20";

/// 20 s of 256x144 at 25 frames/s.
pub fn ladder_cfr() -> PathBuf {
    make("ladder.mp4", &lavfi(&[LADDER, LADDER_SOUND], &[B_FRAMES, AAC]))
}

/// The same with frames dropped at irregular places, in ticks of 1 ms.
pub fn ladder_vfr() -> PathBuf {
    const DROP: &[&str] = &["-vf", "select='not(eq(mod(n,7),3))*not(eq(mod(n,31),9))'", "-fps_mode", "passthrough"];
    make("ladder.mkv", &lavfi(&[LADDER, LADDER_SOUND], &[DROP, B_FRAMES, AAC]))
}

/// The same as MPEG-TS whose clock starts at an hour.
pub fn ladder_ts() -> PathBuf {
    make("ladder.ts", &["-i", ladder_cfr().to_str().unwrap(), "-c", "copy", "-output_ts_offset", "3600"])
}

const HD: &str = "testsrc2=size=1280x720:rate=24:duration=20";
const HD_SOUND: &str = "aevalsrc=0.3*sin(2*PI*t*220):s=48000:d=20";
const HD_CODEC: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];

/// 3 s of 1280x720 at 24 frames/s.
pub fn hd() -> PathBuf {
    make("hd.mp4", &lavfi(&[HD, HD_SOUND], &[HD_CODEC, AAC, &["-t", "3"]]))
}

/// 20 s of 1280x720 at 24 frames/s.
pub fn hd_long() -> PathBuf {
    make("hd-long.mp4", &lavfi(&[HD, HD_SOUND], &[HD_CODEC, AAC]))
}

/// 10 s that an encoder needs many bits for in every frame.
pub fn noisy() -> PathBuf {
    const NOISY: &str = "testsrc2=size=256x144:rate=25:duration=10,noise=alls=20:allf=t";
    make("noisy.mp4", &lavfi(&[NOISY], &[HD_CODEC]))
}

/// 3 s of 10-bit HEVC with PQ tags.
pub fn hdr() -> PathBuf {
    const TAGS: &[&str] =
        &["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-color_range", "tv"];
    const HEVC: &[&str] = &["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params"];
    const PARAMS: &[&str] = &["log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:keyint=25"];
    make("hdr.mp4", &lavfi(&["testsrc2=size=256x144:rate=25:duration=3"], &[HEVC, PARAMS, TAGS]))
}

/// AVI with H.264 B-frames and MP3: no packet has a presentation time, and the last frames get none at all.
pub fn avi_h264() -> PathBuf {
    make("b-frames.avi", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, &["-c:a", "mp3"]]))
}

/// AVI with MPEG-4 B-frames: half of the packets have a presentation time, and the last frame gets none.
pub fn avi_mpeg4() -> PathBuf {
    make(
        "mpeg4.avi",
        &lavfi(&[PICTURE, SOUND], &[&["-c:v", "mpeg4", "-bf", "2", "-g", "50", "-q:v", "4", "-c:a", "mp3"]]),
    )
}

/// MPEG program stream in which only some pictures have a time.
pub fn sparse_mpg() -> PathBuf {
    make("sparse.mpg", &lavfi(&[PICTURE, SOUND], &[B_FRAMES, &["-c:a", "mp2", "-f", "mpeg"]]))
}

/// Nothing but H.264, no times at all.
pub fn raw_h264() -> PathBuf {
    make("raw.264", &lavfi(&[PICTURE], &[B_FRAMES]))
}

/// FLV recording in which every tenth picture has the time of the one before.
pub fn equal_times() -> PathBuf {
    const REPEAT: &str =
        r"setts=pts=if(eq(mod(N\,10)\,9)\,PREV_OUTPTS\,PTS):dts=if(eq(mod(N\,10)\,9)\,PREV_OUTDTS\,DTS)";
    const CODEC: &[&str] =
        &["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "50", "-pix_fmt", "yuv420p", "-bsf:v", REPEAT];
    make("equal-times.flv", &lavfi(&[PICTURE], &[CODEC]))
}

/// MP4 with B-frames whose muxer stored decode times as presentation times.
pub fn decode_times() -> PathBuf {
    make("decode-times.mp4", &lavfi(&[PICTURE], &[B_FRAMES, &["-bsf:v", "setts=pts=DTS", "-use_editlist", "0"]]))
}

/// H.264 whose pictures are renewed column by column: one IDR, then recovery points.
pub fn intra_refresh() -> PathBuf {
    const REFRESH: &[&str] = &[
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-pix_fmt",
        "yuv420p",
        "-x264-params",
        "intra-refresh=1:keyint=25:ref=1",
    ];
    make("refresh.mp4", &lavfi(&[PICTURE], &[REFRESH]))
}

/// MP4 without a sync sample table: every sample counts as one, though one in 100 is.
pub fn all_sync() -> PathBuf {
    const ONE_GOP: &[&str] = &[
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-g",
        "100",
        "-sc_threshold",
        "0",
        "-pix_fmt",
        "yuv420p",
    ];
    let path = make("all-sync.mp4", &lavfi(&[PICTURE], &[ONE_GOP]));
    let mut data = std::fs::read(&path).unwrap();
    if let Some(at) = data.windows(4).rposition(|word| word == b"stss") {
        data[at..at + 4].copy_from_slice(b"free");
        let changed = draft(&path);
        std::fs::write(&changed, data).unwrap();
        std::fs::rename(&changed, &path).unwrap();
    }
    path
}

/// Transport stream that starts behind the first keyframe: its first packets refer to pictures that are not there.
pub fn cut_ts() -> PathBuf {
    let whole = make("whole.ts", &lavfi(&[PICTURE], &[B_FRAMES]));
    let path = whole.with_file_name("cut.ts");
    if !path.exists() {
        const PACKET: usize = 188;
        let data = std::fs::read(&whole).unwrap();
        // Tables come again with the next keyframe; what stands between belongs to the first group of pictures.
        let changed = draft(&path);
        std::fs::write(&changed, &data[data.len() / 8 / PACKET * PACKET..]).unwrap();
        std::fs::rename(&changed, &path).unwrap();
    }
    path
}

/// Two transport streams of 3 s, joined byte by byte; their clocks start at given seconds. In the second one the picture
/// turns white and a tone begins after 1 s.
pub fn two_clocks(name: &str, starts: [&str; 2]) -> PathBuf {
    const QUIET: [&str; 2] = ["testsrc2=size=192x108:rate=25:duration=3", "anullsrc=r=48000:cl=mono:d=3"];
    const MARKED: [&str; 2] = [
        "color=black:size=192x108:rate=25:duration=3,geq=lum='if(gte(T,0.999),235,16)':cb=128:cr=128",
        "aevalsrc='gte(t,1)*0.5*sin(2*PI*880*t)':s=48000:d=3",
    ];
    const CODECS: &[&str] =
        &["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "mp2"];
    let part = |at: usize, sources: [&str; 2]| {
        let name = format!("clock-{name}-{at}.ts");
        std::fs::read(make(&name, &lavfi(&sources, &[CODECS, &["-output_ts_offset", starts[at]]]))).unwrap()
    };
    let joined = [part(0, QUIET), part(1, MARKED)].concat();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips-2").join(format!("clock-{name}.ts"));
    if !path.exists() {
        let changed = draft(&path);
        std::fs::write(&changed, joined).unwrap();
        std::fs::rename(&changed, &path).unwrap();
    }
    path
}

/// HEVC with the open groups of pictures that x265 makes by default.
pub fn open_hevc(extension: &str) -> PathBuf {
    const OPEN: &[&str] = &["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params"];
    const PARAMS: &[&str] = &["log-level=error:open-gop=1:keyint=50:min-keyint=25:bframes=3:scenecut=0"];
    make(&format!("open-hevc.{extension}"), &lavfi(&[PICTURE], &[OPEN, PARAMS]))
}

/// 3 s of HEVC with PQ and the metadata of HDR10.
pub fn hdr10() -> PathBuf {
    const TAGS: &[&str] =
        &["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-color_range", "tv"];
    const HEVC: &[&str] = &["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1"];
    const PARAMS: &[&str] = &[
        "-x265-params",
        "log-level=error:open-gop=0:keyint=25:hdr10=1:repeat-headers=0:colorprim=bt2020:transfer=smpte2084:\
         colormatrix=bt2020nc:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):\
         max-cll=1000,400",
    ];
    make("hdr10.mp4", &lavfi(&["testsrc2=size=256x144:rate=25:duration=3"], &[HEVC, PARAMS, TAGS]))
}

/// H.264 whose pictures carry CEA-608 captions: a control code and characters in the first field.
pub fn captions() -> PathBuf {
    const STREAM: &[&str] =
        &["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "25", "-pix_fmt", "yuv420p", "-t", "6"];
    let plain = make("plain.h264", &lavfi(&[PICTURE], &[STREAM]));
    let path = plain.with_file_name("captions.mp4");
    if path.exists() {
        return path;
    }
    // Registered user data (ITU-T H.264, D.1.6): GA94, one triple, marker bits.
    const MESSAGE: [u8; 22] =
        [0, 0, 0, 1, 6, 4, 14, 0xb5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0xc1, 0xff, 0xfc, 0x94, 0x2c, 0xff, 0x80];
    let data = std::fs::read(&plain).unwrap();
    let mut changed = Vec::new();
    let mut rest = data.as_slice();
    while let Some(at) = rest.windows(4).position(|word| word[..3] == [0, 0, 1] && matches!(word[3] & 0x1f, 1 | 5)) {
        // The start code may be four bytes long. Slices that start in the first line start a picture.
        let from = if at > 0 && rest[at - 1] == 0 { at - 1 } else { at };
        changed.extend(&rest[..from]);
        if rest[at + 4] & 0x80 != 0 {
            changed.extend(MESSAGE);
        }
        changed.extend(&rest[from..at + 4]);
        rest = &rest[at + 4..];
    }
    changed.extend(rest);
    let stream = draft(&plain);
    std::fs::write(&stream, changed).unwrap();
    make("captions.mp4", &["-r", "25", "-f", "h264", "-i", stream.to_str().unwrap(), "-c", "copy"])
}
