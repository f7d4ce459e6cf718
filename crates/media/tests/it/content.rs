//! The comparison of pictures: honest encodes pass, whatever they show and however coarse they are; planted faults do not.

use crate::clips::{self, Dir, ffmpeg, make};
use splitreel_core::content::Content;
use splitreel_core::plan::{Coding, FrameRule, Media, Plan, VideoEncoding, VideoMedia, VideoOp, VideoRate};
use splitreel_core::planner::{Capabilities, plan};
use splitreel_core::profile::{Profile, Rung, RungHeight, VideoCodec};
use splitreel_core::{Failure, FailureCode};
use splitreel_media::piece::EncodedTrack;
use splitreel_media::{Limits, VideoRequest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Pictures of many kinds, 25 frames each or fewer.
const SHOWN: [(&str, &str); 14] = [
    ("animation", "testsrc2=s=320x180:r=25:d=1"),
    ("detail", "mandelbrot=s=320x180:r=25,trim=duration=1"),
    (
        "noise",
        "nullsrc=s=320x180:r=25:d=1,format=yuv420p,geq=lum='random(1)*255':cb='random(2)*255':cr='random(3)*255'",
    ),
    ("grain", "gradients=s=320x180:r=25:d=1:speed=0.05:seed=7,format=yuv420p,noise=alls=25:allf=t+u"),
    ("grain-2", "gradients=s=320x180:r=25:d=1:speed=0.05:seed=3,format=yuv420p,noise=alls=25:allf=t+u"),
    ("grain-3", "gradients=s=320x180:r=25:d=1:speed=0.05:seed=12,format=yuv420p,noise=alls=25:allf=t+u"),
    ("cells", "life=s=320x180:mold=10:r=25:ratio=0.3:death_color=#C83232:life_color=#00ff00,trim=duration=1"),
    ("fade", "testsrc2=s=320x180:r=25:d=1,fade=in:0:20"),
    ("black", "color=black:s=320x180:r=25:d=1"),
    ("white", "color=white:s=320x180:r=25:d=1"),
    ("red", "color=red:s=320x180:r=25:d=1"),
    ("flashes", "nullsrc=s=320x180:r=25:d=1,format=yuv420p,geq=lum='16+219*mod(N,2)':cb=128:cr=128"),
    ("bars", "smptehdbars=s=320x180:r=25:d=1"),
    ("one-frame", "testsrc2=s=320x180:r=25:d=0.04"),
];

fn encodings() -> Vec<(&'static str, VideoCodec, &'static str, VideoRate)> {
    let quality = |crf, max_kbps| VideoRate::Quality { crf, max_kbps };
    vec![
        ("libx264", VideoCodec::H264, "ultrafast", quality(20.0, None)),
        ("libx264", VideoCodec::H264, "veryfast", quality(32.0, Some(120))),
        ("libx264", VideoCodec::H264, "veryfast", quality(42.0, None)),
        ("libx264", VideoCodec::H264, "medium", VideoRate::Quantiser { qp: 0 }),
        ("libx265", VideoCodec::Hevc, "ultrafast", quality(26.0, None)),
        ("libx265", VideoCodec::Hevc, "veryfast", quality(40.0, None)),
        ("libvpx-vp9", VideoCodec::Vp9, "8", quality(32.0, None)),
        ("libvpx-vp9", VideoCodec::Vp9, "8", quality(52.0, None)),
        ("libsvtav1", VideoCodec::Av1, "12", quality(52.0, None)),
    ]
}

/// A ladder of two rungs, cut every `seconds`.
fn profile(seconds: f64) -> Profile {
    let mut profile = Profile::built_in("universal").unwrap();
    profile.video.rungs =
        vec![Rung::of(RungHeight::Pixels(180), 23.0, None), Rung::of(RungHeight::Pixels(90), 23.0, None)];
    profile.split.segment_seconds = seconds;
    profile
}

fn videos(plan: &mut Plan) -> impl Iterator<Item = &mut VideoMedia> {
    plan.tracks.iter_mut().filter_map(|track| match &mut track.media {
        Media::Video(video) => Some(video),
        _ => None,
    })
}

async fn planned(source: &Path, dir: &Path, profile: &Profile) -> Plan {
    let probed = clips::probe(source, dir).await.unwrap();
    plan(&probed.info, profile, &Capabilities::default()).unwrap()
}

/// A segment encoded and, after `tamper`, compared.
async fn compared(
    source: &Path,
    plan: &Arc<Plan>,
    segment: u32,
    dir: &Path,
    tamper: impl Fn(&Path),
) -> Result<Vec<Option<Content>>, Failure> {
    let out_dir = dir.join(format!("out-{segment}"));
    std::fs::create_dir_all(&out_dir).unwrap();
    let request = VideoRequest {
        source: source.to_owned(),
        plan: Arc::clone(plan),
        segment,
        look_back: 0,
        out_dir,
        scratch: dir.to_owned(),
        limits: Limits::default(),
    };
    let made = ffmpeg().await.encode_video(request.clone(), Arc::new(|_| {}), CancellationToken::new()).await?;
    tamper(&request.out_dir);
    let tracks: Vec<EncodedTrack> = made.files.iter().map(|file| EncodedTrack::read(file).unwrap()).collect();
    let (content, _) = ffmpeg().await.compare_video(&request, &tracks, CancellationToken::new()).await?;
    Ok(content)
}

async fn all_compared(source: &Path, plan: Plan, dir: &Path) -> Result<Vec<Option<Content>>, Failure> {
    let plan = Arc::new(plan);
    let mut contents = Vec::new();
    for segment in &plan.timeline.as_ref().unwrap().segments {
        contents.extend(compared(source, &plan, segment.index, dir, |_| {}).await?);
    }
    Ok(contents)
}

#[tokio::test]
async fn honest_encodes_pass() {
    let dir = Dir::new();
    for (name, lavfi) in SHOWN {
        let source = dir.file(&format!("{name}.mkv"));
        make(&source, &format!("-f lavfi -i {lavfi} -pix_fmt yuv420p -c:v libx264 -preset ultrafast -qp 0"));
        for (encoder, codec, preset, rate) in encodings() {
            let mut plan = planned(&source, dir.path(), &profile(100.0)).await;
            for video in videos(&mut plan) {
                let (encoder, preset, level) = (encoder.to_owned(), preset.to_owned(), String::new());
                video.coding = Coding::Encode(VideoEncoding { codec, encoder, preset, threads: 1, rate, level });
            }
            let num_frames = plan.frames[0].segments[0].num_frames;
            let contents = all_compared(&source, plan, dir.path()).await;
            let contents = contents.unwrap_or_else(|e| panic!("{name} {encoder} {preset} {rate:?}: {}", e.message));
            for content in contents.into_iter().flatten() {
                let Content { input, output } = content;
                println!(
                    "{name:10} {encoder:10} {preset:9} {rate:?}: given {:5} {:5}, decoded {:5} {:5} of {}",
                    input.worst_centi_db,
                    input.mean_centi_db(),
                    output.worst_centi_db,
                    output.mean_centi_db(),
                    output.frames
                );
                assert_eq!(input.frames, num_frames);
                assert!(output.frames > 0);
            }
        }
    }
}

/// Pictures that move, without the darkest and brightest levels.
fn moving(dir: &Dir, name: &str, args: &str) -> PathBuf {
    let path = dir.file(name);
    let shown = "-f lavfi -i testsrc2=s=320x180:r=25:d=3,scroll=h=0.02:v=0.01,format=yuv420p,lutyuv=y=val*0.6+50";
    make(&path, &format!("{shown} {args}"));
    path
}

fn scale_of(video: &mut VideoMedia) -> &mut VideoOp {
    video.ops.iter_mut().find(|op| matches!(op, VideoOp::Scale { .. })).unwrap()
}

/// Changes the conversion of every rendition.
fn convert(plan: &mut Plan, change: impl Fn(&mut bool, &mut String, &mut bool, &mut String)) {
    for video in videos(plan) {
        if let VideoOp::Scale { from, to, .. } = scale_of(video) {
            change(&mut from.is_full, &mut from.matrix, &mut to.is_full, &mut to.matrix);
        }
    }
}

/// An operation behind scaling that loses something.
fn insert(plan: &mut Plan, op: VideoOp) {
    for video in videos(plan) {
        let at = video.ops.iter().position(|op| matches!(op, VideoOp::Scale { .. })).unwrap();
        video.ops.insert(at + 1, op.clone());
    }
}

/// A name, and a change of the plan.
type Fault = (&'static str, fn(&mut Plan));

/// Faults of planning, or of the arguments that a plan leads to: what the encoders are given is wrong.
const FAULTS: [Fault; 7] = [
    ("limited samples taken for full ones", |plan| convert(plan, |full, _, _, _| *full = true)),
    ("full samples under a limited tag", |plan| convert(plan, |_, _, full, _| *full = false)),
    ("another matrix at the source", |plan| convert(plan, |_, matrix, _, _| *matrix = "bt2020nc".into())),
    ("BT.709 taken for BT.601", |plan| convert(plan, |_, matrix, _, _| *matrix = "bt709".into())),
    ("no colours", |plan| insert(plan, VideoOp::Format { pixel_format: "gray".into() })),
    ("two levels", |plan| insert(plan, VideoOp::Format { pixel_format: "monob".into() })),
    ("every second frame", |plan| insert(plan, VideoOp::Choose { rule: FrameRule::EverySecond })),
];

#[tokio::test]
async fn what_an_encoder_is_given_wrongly_is_found() {
    let dir = Dir::new();
    let source = moving(&dir, "faults.mkv", "-c:v libx264 -preset ultrafast -qp 5 -g 25");
    let honest = planned(&source, dir.path(), &profile(1.0)).await;
    all_compared(&source, honest.clone(), dir.path()).await.unwrap();
    for (name, fault) in FAULTS {
        let mut plan = honest.clone();
        if name == "full samples under a limited tag" {
            // The source converted as if the output had full range, which its tags do not say.
            convert(&mut plan, |_, _, full, _| *full = true);
            fault(&mut plan);
            convert(&mut plan, |full, _, _, _| *full = !*full);
        } else {
            fault(&mut plan);
        }
        let failure = match all_compared(&source, plan, dir.path()).await {
            Err(failure) => failure,
            Ok(content) => panic!("{name} passes: {content:?}"),
        };
        println!("{name}: {}", failure.message);
        assert_eq!(failure.code, FailureCode::PicturesDiffer, "{name}: {}", failure.message);
    }
}

/// Doctored outputs: what became of the encoder's pictures, as a filter of ffmpeg, and options of its encoder.
const DOCTORED: [(&str, &str, &str); 22] = [
    ("negative", "negate", ""),
    ("upside down", "vflip", ""),
    ("mirrored", "hflip", ""),
    ("turned", "rotate=PI/12", ""),
    ("cropped", "crop=iw*0.9:ih*0.9,scale=320:180", ""),
    ("moved by a tenth", "scroll=hpos=0.1", ""),
    ("stretched contrast", "lutyuv=y='(val-16)*255/219'", ""),
    ("squeezed contrast", "lutyuv=y='val*219/255+16'", ""),
    ("darker", "lutyuv=y=val-12", ""),
    ("half the saturation", "hue=s=0.6", ""),
    ("another hue", "hue=h=20", ""),
    ("colour differences exchanged", "shuffleplanes=0:2:1", ""),
    ("grey", "hue=s=0", ""),
    ("a grey block in half a second", "drawbox=x=80:y=40:w=160:h=90:c=gray:t=fill:enable='between(n,5,15)'", ""),
    ("one grey picture", "drawbox=w=iw:h=ih:c=gray:t=fill:enable='eq(n,13)'", ""),
    ("frozen", "loop=loop=25:size=1,trim=end_frame=25", ""),
    ("backwards", "reverse", ""),
    ("five frames late", "tpad=start=5:start_mode=clone,trim=end_frame=25", ""),
    ("one frame late", "tpad=start=1:start_mode=clone,trim=end_frame=25", ""),
    ("one frame early", "trim=start_frame=1,setpts=PTS-STARTPTS,tpad=stop=1:stop_mode=clone", ""),
    ("wrong matrix tag", "null", "-colorspace bt2020nc"),
    ("wrong range tag", "null", "-color_range pc"),
];

#[tokio::test]
async fn outputs_that_show_something_else_are_found() {
    let dir = Dir::new();
    let source = moving(&dir, "doctored.mkv", "-c:v libx264 -preset ultrafast -qp 5 -g 25");
    let plan = Arc::new(planned(&source, dir.path(), &profile(1.0)).await);
    for (name, filter, options) in DOCTORED {
        let doctor = |out: &Path| {
            let (file, copy) = (out.join("video-0.mp4"), out.join("copy.mp4"));
            std::fs::rename(&file, &copy).unwrap();
            let input = format!("-i {} -vf {filter}", copy.display());
            make(&file, &format!("{input} -c:v libx264 -preset ultrafast -qp 18 -g 25 -bf 0 {options}"));
        };
        let failure = match compared(&source, &plan, 0, dir.path(), doctor).await {
            Err(failure) => failure,
            Ok(content) => panic!("{name} passes: {content:?}"),
        };
        println!("{name}: {}", failure.message);
        assert_eq!(failure.code, FailureCode::PicturesDiffer, "{name}: {}", failure.message);
    }
}
