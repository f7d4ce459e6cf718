//! Reads a finished output directory: playlists, joined renditions, the report, and the bytes of all files.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An output directory.
pub struct Output {
    pub dir: PathBuf,
}

/// A media playlist.
#[derive(Debug)]
pub struct MediaPlaylist {
    pub path: PathBuf,
    pub init: PathBuf,
    pub segments: Vec<PathBuf>,
    pub durations: Vec<f64>,
    pub lines: Vec<String>,
}

impl Output {
    #[track_caller]
    pub fn open(dir: &Path) -> Self {
        assert!(dir.join("master.m3u8").is_file(), "no master.m3u8 in {}", dir.display());
        Output { dir: dir.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir.join("report.json")).unwrap()).unwrap()
    }

    pub fn num_segments(&self) -> usize {
        self.report()["certificate"]["num_segments"].as_u64().unwrap() as usize
    }

    /// Media playlists of the renditions in `v/` or `a/`, sorted by name.
    pub fn playlists(&self, kind: &str) -> Vec<MediaPlaylist> {
        let Ok(entries) = std::fs::read_dir(self.dir.join(kind)) else { return Vec::new() };
        let mut dirs: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        dirs.sort();
        dirs.iter().map(|d| MediaPlaylist::read(&d.join("playlist.m3u8"))).collect()
    }

    /// The progressive MP4.
    pub fn mp4(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(&self.dir).unwrap();
        entries.map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|x| x == "mp4"))
    }

    /// Init and segments of a playlist as one file in `scratch`.
    pub fn join(&self, playlist: &MediaPlaylist, scratch: &Path) -> PathBuf {
        let name = playlist.path.strip_prefix(&self.dir).unwrap().to_string_lossy().replace('/', "-");
        let target = scratch.join(format!("{name}.mp4"));
        let mut bytes = std::fs::read(&playlist.init).unwrap();
        for segment in &playlist.segments {
            bytes.extend(std::fs::read(segment).unwrap());
        }
        std::fs::write(&target, bytes).unwrap();
        target
    }

    /// Every file with its bytes; of the report only what must not differ between runs.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.dir.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.dir).unwrap().to_string_lossy().into_owned();
                let bytes = if name == "report.json" { self.lasting_report() } else { std::fs::read(&path).unwrap() };
                found.insert(name, bytes);
            }
        }
        found
    }

    fn lasting_report(&self) -> Vec<u8> {
        let mut report = self.report();
        assert!(report.as_object_mut().unwrap().remove("run").is_some(), "the report has a run section");
        serde_json::to_vec(&report).unwrap()
    }
}

impl MediaPlaylist {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let dir = path.parent().unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let tag = |name: &str| lines.iter().filter_map(|l| l.strip_prefix(name).map(str::to_owned)).collect::<Vec<_>>();
        let map = tag("#EXT-X-MAP:");
        let init = map.first().and_then(|m| m.split('"').nth(1)).expect("EXT-X-MAP with a URI");
        MediaPlaylist {
            path: path.to_owned(),
            init: dir.join(init),
            segments: lines.iter().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| dir.join(l)).collect(),
            durations: tag("#EXTINF:").iter().map(|d| d.trim_end_matches(',').parse().unwrap()).collect(),
            lines,
        }
    }

    /// A finished VOD playlist: ended, without holes, every file there, each number once and in order.
    #[track_caller]
    pub fn assert_whole(&self) {
        let what = self.path.display();
        let has = |tag: &str| self.lines.iter().any(|l| l.starts_with(tag));
        assert!(has("#EXT-X-ENDLIST"), "{what} has no end");
        assert!(!has("#EXT-X-GAP") && !has("#EXT-X-DISCONTINUITY"), "{what} has holes");
        assert_eq!(self.segments.len(), self.durations.len(), "{what}: one duration per segment");
        for (i, segment) in self.segments.iter().enumerate() {
            let name = segment.file_name().unwrap().to_string_lossy();
            assert_eq!(name, format!("seg-{:05}.m4s", i + 1), "{what}");
            assert!(segment.is_file(), "{} is missing", segment.display());
        }
        let target: f64 =
            self.lines.iter().find_map(|l| l.strip_prefix("#EXT-X-TARGETDURATION:")).unwrap().parse().unwrap();
        assert!(
            self.durations.iter().all(|d| d.round() <= target),
            "{what}: a segment is longer than the target duration"
        );
    }

    pub fn seconds(&self) -> f64 {
        self.durations.iter().sum()
    }
}
