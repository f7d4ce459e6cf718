//! The key=value blocks of `ffmpeg -progress`.

/// Progress of a running ffmpeg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Frames written so far (for scans: frames or packets seen).
    pub frames: u64,
    /// Output time reached, microseconds.
    pub out_time_us: i64,
    /// Multiple of real time, when ffmpeg says one. For display only.
    pub speed: Option<f32>,
    /// Bytes written so far.
    pub total_bytes: u64,
    /// The last report of this process.
    pub is_end: bool,
}

/// Collects lines into reports. Counters never run back, whatever ffmpeg says.
#[derive(Default)]
pub(super) struct ProgressParser {
    now: Progress,
}

impl ProgressParser {
    /// Takes a line; gives a report when the line ends a block.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<Progress> {
        let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
        let value = value.trim();
        match key.trim() {
            "frame" => self.now.frames = self.now.frames.max(value.parse().unwrap_or(0)),
            "out_time_us" => self.now.out_time_us = self.now.out_time_us.max(value.parse().unwrap_or(0)),
            "total_size" => self.now.total_bytes = self.now.total_bytes.max(value.parse().unwrap_or(0)),
            "speed" => {
                let speed = value.trim_end_matches('x').parse().ok();
                self.now.speed = speed.filter(|speed: &f32| speed.is_finite() && *speed >= 0.0);
            }
            "progress" => {
                self.now.is_end = value == "end";
                return Some(self.now);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(text: &str) -> Vec<Progress> {
        let mut parser = ProgressParser::default();
        text.lines().filter_map(|line| parser.line(line.as_bytes())).collect()
    }

    #[test]
    fn blocks_become_reports() {
        let reports = feed(
            "frame=10\nfps=25.0\nout_time_us=400000\ntotal_size=N/A\nspeed=1.5x\nprogress=continue\n\
             frame=25\nout_time_us=N/A\ntotal_size=4000\nspeed=N/A\nprogress=end\n",
        );
        let first = Progress { frames: 10, out_time_us: 400_000, speed: Some(1.5), total_bytes: 0, is_end: false };
        let last = Progress { frames: 25, out_time_us: 400_000, speed: None, total_bytes: 4000, is_end: true };
        assert_eq!(reports, [first, last]);
    }

    proptest! {
        #[test]
        fn counters_never_run_back(values in prop::collection::vec((any::<i64>(), any::<i64>()), 1..20)) {
            let text: String = values.iter().map(|(f, t)| format!("frame={f}\nout_time_us={t}\nprogress=continue\n")).collect();
            let reports = feed(&text);
            prop_assert_eq!(reports.len(), values.len());
            prop_assert!(reports.is_sorted_by(|a, b| a.frames <= b.frames && a.out_time_us <= b.out_time_us));
        }
    }
}
