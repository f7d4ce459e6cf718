//! Tiny clips made with ffmpeg's own test sources, and independent ways to look at files.

use splitreel_core::Failure;
use splitreel_media::{Ffmpeg, ProbeOptions, ProbeRequest, Probed, ToolPaths};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

/// The programs of this machine.
pub async fn ffmpeg() -> Arc<Ffmpeg> {
    static FOUND: OnceCell<Arc<Ffmpeg>> = OnceCell::const_new();
    FOUND.get_or_init(|| async { Arc::new(Ffmpeg::detect(&ToolPaths::from_env()).await.unwrap()) }).await.clone()
}

/// Makes a file with ffmpeg; `args` stand between the global options and the file's name.
pub fn make(path: &Path, args: &str) {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]);
    command.args(args.split_whitespace()).arg(format!("file:{}", path.display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// MD5 of each frame that a decode of the whole shows.
pub fn frames(path: &Path) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path).args(["-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let hash = |line: &str| line.rsplit(',').next().map(str::to_owned);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(hash).collect()
}

pub const PICTURE: &str = "-f lavfi -i testsrc2=s=160x120:r=25:d=3";
pub const TONE: &str = "-f lavfi -i sine=440:r=44100:d=3";

pub struct Dir(tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn sub(&self, name: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// B-frames, constant rate, sound.
pub fn cfr_mp4(dir: &Dir) -> PathBuf {
    let path = dir.file("cfr.mp4");
    make(&path, &format!("{PICTURE} {TONE} -c:v libx264 -preset veryfast -bf 3 -g 20 -c:a aac -shortest"));
    path
}

/// Irregular times in whole milliseconds that do not start at 0.
pub fn vfr_mkv(dir: &Dir) -> PathBuf {
    let path = dir.file("vfr.mkv");
    make(
        &path,
        "-f lavfi -i testsrc2=s=160x120:r=30000/1001:d=3 -vf setpts='PTS+mod(N\\,3)*0.007/TB',select='mod(n\\,7)' -vsync vfr \
         -enc_time_base 1/1000 -c:v libx264 -preset veryfast -bf 2 -g 15",
    );
    path
}

/// A transport stream that starts at 10 s.
pub fn late_ts(dir: &Dir) -> PathBuf {
    let path = dir.file("late.ts");
    make(
        &path,
        &format!("{PICTURE} {TONE} -c:v libx264 -preset veryfast -bf 2 -g 20 -c:a aac -shortest -output_ts_offset 10"),
    );
    path
}

pub fn plain_avi(dir: &Dir) -> PathBuf {
    let path = dir.file("plain.avi");
    make(&path, "-f lavfi -i testsrc2=s=160x120:r=30000/1001:d=3 -c:v mpeg4 -q:v 5 -g 12");
    path
}

/// Starts inside a GOP by an edit list.
pub fn edited_mp4(dir: &Dir) -> PathBuf {
    let whole = cfr_mp4(dir);
    let path = dir.file("edited.mp4");
    make(&path, &format!("-ss 0.48 -i {} -map 0:v -c copy", whole.display()));
    path
}

/// What `ffprobe` decodes, the slow and sure way: presentation times of all frames.
pub fn decoded_times(path: &Path, stream: u32) -> Vec<i64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", &stream.to_string()])
        .args(["-show_entries", "frame=best_effort_timestamp", "-of", "csv=p=0", "-i"])
        .arg(format!("file:{}", path.display()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim_matches(',').split(',').next()?.parse().ok())
        .collect()
}

pub async fn probe(path: &Path, scratch: &Path) -> Result<Probed, Failure> {
    probe_with(path, scratch, ProbeOptions::default()).await
}

pub async fn probe_with(path: &Path, scratch: &Path, options: ProbeOptions) -> Result<Probed, Failure> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let request = ProbeRequest { source: path.to_owned(), name, scratch: scratch.to_owned(), options };
    ffmpeg().await.probe(request, Arc::new(|_| {}), CancellationToken::new()).await
}
