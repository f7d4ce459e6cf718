//! `splitreel doctor`: what was found on this machine, and what is missing.

use crate::config::Config;
use crate::engine;
use crate::exit::{Exit, Problem};
use clap::Args;
use serde_json::json;
use splitreel_core::profile::VideoCodec;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the findings. Exit 2 when ffmpeg cannot be used.
pub async fn doctor(config: &Config, args: DoctorArgs) -> Result<Exit, Problem> {
    let ffmpeg = engine::detect().await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let codecs: Vec<(&str, Option<&str>)> = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Vp9, VideoCodec::Av1]
        .into_iter()
        .map(|c| (c.as_str(), c.encoders().iter().copied().find(|e| ffmpeg.encoders.contains(*e))))
        .chain([
            ("aac", ffmpeg.encoders.contains("aac").then_some("aac")),
            ("opus", ffmpeg.encoders.contains("libopus").then_some("libopus")),
        ])
        .collect();
    let tone_map = ffmpeg.filters.contains("zscale") && ffmpeg.filters.contains("tonemap");
    if args.json {
        let value = json!({
            "ffmpeg": ffmpeg.ffmpeg, "ffprobe": ffmpeg.ffprobe, "version": ffmpeg.banner, "build": ffmpeg.build_id,
            "encoders": codecs.iter().map(|(c, e)| json!({"codec": c, "encoder": e})).collect::<Vec<_>>(),
            "tone_mapping": tone_map, "sandbox": sandbox(&ffmpeg.sandbox), "cores": cores, "state": config.state,
            "cluster": cfg!(feature = "cluster"),
        });
        say!("{value:#}");
        return Ok(Exit::Done);
    }
    say!("ffmpeg      {}", ffmpeg.ffmpeg.display());
    say!("ffprobe     {}", ffmpeg.ffprobe.display());
    say!("version     {}", ffmpeg.banner);
    say!("build       {}", ffmpeg.build_id);
    for (codec, encoder) in codecs {
        say!(
            "{codec:<12}{}",
            encoder.map_or_else(
                || "no encoder in this ffmpeg: install a fuller build to use it".to_owned(),
                |e| format!("ok, {e}")
            )
        );
    }
    say!(
        "tone map    {}",
        if tone_map { "ok, zscale and tonemap" } else { "no zscale or tonemap filter: HDR stays HDR in 8-bit outputs" }
    );
    say!("sandbox     {}", sandbox(&ffmpeg.sandbox));
    say!("cores       {cores}");
    say!("state       {}", config.state.display());
    say!("cluster     {}", cluster());
    Ok(Exit::Done)
}

#[cfg(feature = "cluster")]
fn cluster() -> &'static str {
    "ok, in this build: coordinator, worker and assembler"
}

#[cfg(not(feature = "cluster"))]
fn cluster() -> &'static str {
    crate::features::WITHOUT_CLUSTER
}

fn sandbox(found: &splitreel_media::Sandbox) -> String {
    match (found.landlock_abi, found.is_network_blocked) {
        (0, _) => "resource limits only: this kernel has no Landlock".into(),
        (abi, true) => format!("ok, Landlock ABI {abi}: one input, one output directory, no network"),
        (abi, false) => format!("Landlock ABI {abi}: one input, one output directory; too old to block the network"),
    }
}
