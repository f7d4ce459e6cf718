//! Figures: percentiles, and the CPU time of processes by `/proc`.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// The value that half of them do not exceed, in milliseconds.
pub fn p50_ms(mut values: Vec<Duration>) -> Option<f64> {
    values.sort_unstable();
    values.get(values.len() / 2).map(|v| round(v.as_secs_f64() * 1e3))
}

/// Three digits behind the point.
pub fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Processes whose CPU time counts together, as `name=PID,PID`: they and all that they have started.
#[derive(Clone, Debug)]
pub struct Watched {
    name: String,
    pids: Vec<i32>,
}

impl Watched {
    /// The workers themselves, which take their share of the machine.
    pub fn fleet() -> Result<Self> {
        Ok(Watched { name: "fleet".into(), pids: vec![std::process::id().try_into()?] })
    }
}

impl std::str::FromStr for Watched {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, pids) = text.split_once('=').context("name=PID,PID is expected")?;
        let pids = pids.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Watched { name: name.to_owned(), pids })
    }
}

/// CPU seconds so far, by name.
pub fn cpu(watched: &[Watched]) -> Result<BTreeMap<String, f64>> {
    let mut processes = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // A process may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // proc(5): the name in parentheses may hold spaces; behind it state, parent, …, utime and stime.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<i64>().ok()).unwrap_or(0);
        processes.insert(pid, (i32::try_from(number(1))?, number(11) + number(12)));
    }
    // SAFETY: no memory is involved.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let is_of = |pid: i32, roots: &[i32]| {
        std::iter::successors(Some(pid), |p| processes.get(p).map(|(parent, _)| *parent)).any(|p| roots.contains(&p))
    };
    let sum = |w: &Watched| -> i64 {
        processes.iter().filter(|(pid, _)| is_of(**pid, &w.pids)).map(|(_, (_, ticks))| ticks).sum()
    };
    Ok(watched.iter().map(|w| (w.name.clone(), sum(w) as f64 / ticks_per_second)).collect())
}

/// Milliseconds of CPU time per piece between two looks.
pub fn per_piece(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    pieces: usize,
) -> BTreeMap<String, f64> {
    after
        .iter()
        .map(|(name, seconds)| {
            let used = seconds - before.get(name).copied().unwrap_or(0.0);
            (name.clone(), round(used * 1e3 / pieces.max(1) as f64))
        })
        .collect()
}
