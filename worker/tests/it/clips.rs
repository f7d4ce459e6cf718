//! Two minutes of tiny noisy pictures in several containers, made once and kept beside the test binaries.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

fn ffmpeg(args: &[&str]) -> Output {
    let output = Command::new("ffmpeg").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The file that ffmpeg makes with `args`, which stand between the global options and its name.
fn made(name: &str, args: &str) -> PathBuf {
    static BUILD: LazyLock<Vec<u8>> = LazyLock::new(|| ffmpeg(&["-version"]).stdout);
    let mut key = DefaultHasher::new();
    (&*BUILD, args).hash(&mut key);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips");
    let path = dir.join(format!("{:016x}-{name}", key.finish()));
    if !path.exists() {
        std::fs::create_dir_all(&dir).unwrap();
        // Other processes may make the same clip: the last rename wins, and no process sees half a file.
        let own = dir.join(format!("{}-{name}", std::process::id()));
        let url = format!("file:{}", own.display());
        let head = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
        ffmpeg(&[&head[..], &args.split_whitespace().collect::<Vec<_>>(), &[&url]].concat());
        std::fs::rename(own, &path).unwrap();
    }
    path
}

/// 120 s with groups of 2 s and sound.
fn master(name: &str, rate: &str, gop: u32, x264: &str) -> PathBuf {
    made(
        name,
        &format!(
            "-f lavfi -i testsrc2=s=128x72:r={rate}:d=120,noise=alls=12:allf=t -f lavfi -i sine=440:r=48000:d=120 \
             -c:v libx264 -preset veryfast -crf 24 -bf 3 -g {gop} -keyint_min {gop} -sc_threshold 0 \
             -x264-params {x264} -c:a aac -b:a 48k -shortest"
        ),
    )
}

/// Closed groups at 25 pictures per second.
pub static CLOSED: LazyLock<PathBuf> = LazyLock::new(|| master("closed.mp4", "25", 50, "open-gop=0"));
/// Open groups: pictures that are shown in front of a keyframe stand behind it.
pub static OPEN: LazyLock<PathBuf> = LazyLock::new(|| master("open.mkv", "25", 50, "open-gop=1:b-pyramid=normal"));
/// 29.97 pictures per second.
pub static NTSC: LazyLock<PathBuf> = LazyLock::new(|| master("ntsc.mkv", "30000/1001", 60, "open-gop=0"));

/// Pictures of more than 2 Mbit/s.
pub static HEAVY: LazyLock<PathBuf> = LazyLock::new(|| {
    made(
        "heavy.mp4",
        "-f lavfi -i testsrc2=s=192x108:r=25:d=120,noise=alls=40:allf=t -f lavfi -i sine=440:r=48000:d=120 \
         -c:v libx264 -preset ultrafast -qp 18 -g 50 -keyint_min 50 -sc_threshold 0 -c:a aac -b:a 128k -shortest",
    )
});

/// A Matroska file without the duration of its frames (`DefaultDuration`, RFC 9559 §5.1.4.1.13), as recorders of a
/// varying rate write it.
pub fn without_frame_duration(matroska: &Path, name: &str) -> PathBuf {
    const ID: [u8; 3] = [0x23, 0xE3, 0x83];
    const VOID: u8 = 0xEC;
    let mut bytes = std::fs::read(matroska).unwrap();
    let at = bytes.windows(ID.len()).position(|window| window == ID).unwrap();
    let length = bytes[at + 3] & 0x7F;
    assert!(length <= 8);
    bytes[at..at + 2].copy_from_slice(&[VOID, 0x80 | (length + 2)]);
    let path = matroska.with_file_name(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The same packets in another file.
pub fn remux(master: &Path, name: &str, args: &str) -> PathBuf {
    made(name, &format!("-i {} -map 0 -c copy {args}", master.display()))
}

/// Pictures first, then the sound, which begins when they end.
pub fn apart(name: &str) -> PathBuf {
    let master = CLOSED.display();
    made(name, &format!("-i {master} -itsoffset 121 -i {master} -map 0:v -map 1:a -c copy"))
}
