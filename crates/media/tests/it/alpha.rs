//! Transparent sources: in every rendition, the transparent part is black and the opaque part is the source's.

use crate::clips::{self, Dir, make};
use crate::pieces::encode;
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::{Profile, Rung, RungHeight};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// White, transparent in the left half.
const HALF: &str = "geq=lum=235:cb=128:cr=128:a='if(lt(X,80),0,255)'";

/// Grey levels of a decoded picture at a quarter and at three quarters of its width.
fn levels(path: &Path) -> (u8, u8) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(path);
    command.args(["-frames:v", "1", "-vf", "scale=8:2:flags=area,format=gray", "-f", "rawvideo", "-"]);
    let pixels = command.output().unwrap().stdout;
    (pixels[1], pixels[6])
}

#[tokio::test]
async fn transparent_parts_are_black_in_every_rendition() {
    let dir = Dir::new();
    for (name, args) in [
        (
            "vp9.webm",
            "format=yuva420p,{HALF} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -auto-alt-ref 0 -crf 10 -b:v 0",
        ),
        ("vp8.webm", "format=yuva420p,{HALF} -c:v libvpx -deadline realtime -auto-alt-ref 0 -crf 10 -b:v 2M"),
        ("qtrle.mov", "format=yuva420p,{HALF},format=argb -c:v qtrle"),
        ("png.mkv", "format=yuva420p,{HALF},format=rgba -c:v png"),
        (
            "prores.mov",
            "format=yuva444p10le,geq=lum=940:cb=512:cr=512:a='if(lt(X,80),0,1023)' -c:v prores_ks -profile:v 4444",
        ),
    ] {
        let path = dir.file(name);
        let filters = args.replace("{HALF}", HALF);
        make(&path, &format!("-f lavfi -i color=white:s=160x120:r=10:d=0.5 -vf {filters}"));
        let info = clips::probe(&path, dir.path()).await.unwrap().info;
        let mut profile = Profile::built_in("universal").unwrap();
        profile.video.rungs = [120, 60].map(|height| Rung::of(RungHeight::Pixels(height), 5.0, None)).into();
        let plan = Arc::new(plan(&info, &profile, &Capabilities::default()).unwrap());
        let files = encode(&path, &plan, 0, 0, dir.path()).await.files;
        assert_eq!(files.len(), 2, "{name}");
        for file in &files {
            let (hidden, shown) = levels(file);
            assert!(hidden <= 18 && shown >= 232, "{name}: {hidden} and {shown}, {}", file.display());
        }
        let decision = plan.decisions.iter().find(|decision| decision.choice == "transparency over black");
        assert!(decision.is_some(), "{name}: {:?}", plan.decisions);
    }
}
