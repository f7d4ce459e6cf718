//! Maps ffprobe's streams to the tracks of the domain: selects the tracks to use and describes them. Pure.

use super::describe::{Description, Program, Stream};
use super::fraction::fraction;
use super::refuse::NO_DECODER;
use super::side_data::side_data;
use crate::detect::Ffmpeg;
use splitreel_core::side_data::SideData;
use splitreel_core::source::{
    AudioTrack, ChosenProgramme, Container, FrameIndex, Programme, Scan, UnusedTrack, VideoTrack,
};
use splitreel_core::{MediaTime, Rational};

/// Longest title that is kept.
const MAX_TITLE_CHARS: usize = 200;
/// More audio tracks than this are left out.
const MAX_AUDIO_TRACKS: usize = 64;
/// Durations beyond this are not believed.
const MAX_DURATION_SECONDS: f64 = 200.0 * 3600.0;

/// What becomes of each stream.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) programme: Option<ChosenProgramme>,
    pub(crate) video: Option<Stream>,
    pub(crate) audio: Vec<Stream>,
    pub(crate) unused: Vec<UnusedTrack>,
}

/// The source does not have the programme that is asked for.
#[derive(Debug)]
pub(crate) struct NoSuchProgramme {
    /// Programmes that it has.
    pub(crate) others: Vec<Programme>,
}

/// Picks the video track and the audio tracks. Where the source has several programmes all tracks are of one: programme
/// number `wanted`, or if that is 0 the one of the video track that is picked among all.
pub(crate) fn sort(description: &Description, wanted: u32, ffmpeg: &Ffmpeg) -> Result<Sorted, NoSuchProgramme> {
    let is_usable = |stream: &&Stream| reason_against(stream, ffmpeg).is_none();
    let usable: Vec<&Stream> = description.streams.iter().filter(is_usable).collect();
    let chosen = choose_programme(&description.programs, wanted, &usable)?;
    let is_outside = |stream: &Stream| {
        chosen.as_ref().is_some_and(|(program, _)| {
            let is_in = |program: &Program| program.streams.iter().any(|member| member.index == stream.index);
            !is_in(program) && description.programs.iter().any(is_in)
        })
    };
    let inside: Vec<&Stream> = usable.iter().copied().filter(|stream| !is_outside(stream)).collect();
    let picked = main_video(&inside).map(|stream| stream.index);
    let mut sorted = Sorted::default();
    for stream in &description.streams {
        let reason = reason_against(stream, ffmpeg).or_else(|| match (stream.kind(), picked) {
            _ if is_outside(stream) => Some("it belongs to another programme".to_owned()),
            ("video", Some(picked)) if picked != stream.index => Some(format!(
                "one video track is transcoded: stream {picked}, which is the default, moves, or is larger"
            )),
            ("audio", _) if sorted.audio.len() >= MAX_AUDIO_TRACKS => {
                Some(format!("more than {MAX_AUDIO_TRACKS} audio tracks"))
            }
            _ => None,
        });
        match reason {
            None if stream.kind() == "video" => sorted.video = Some(stream.clone()),
            None => sorted.audio.push(stream.clone()),
            Some(reason) => sorted.unused.push(unused(stream, reason)),
        }
    }
    sorted.programme = chosen.map(|(_, programme)| programme);
    Ok(sorted)
}

/// The programme that is used; `None` when the source has no more than one and none is asked for.
fn choose_programme<'a>(
    programs: &'a [Program],
    wanted: u32,
    usable: &[&Stream],
) -> Result<Option<(&'a Program, ChosenProgramme)>, NoSuchProgramme> {
    let of = |program: &Program| Programme {
        number: program.program_id,
        name: program.tags.get("service_name").map(|name| shown_text(name)).unwrap_or_default(),
    };
    let found = if wanted > 0 {
        let found = programs.iter().find(|program| program.program_id == wanted);
        Some(found.ok_or_else(|| NoSuchProgramme { others: programs.iter().map(of).collect() })?)
    } else {
        let lead = main_video(usable).or_else(|| usable.first().copied());
        let holds = |program: &&Program| {
            lead.is_some_and(|lead| program.streams.iter().any(|member| member.index == lead.index))
        };
        programs.iter().find(holds)
    };
    Ok(found.filter(|_| programs.len() > 1).map(|found| {
        let others = programs.iter().filter(|program| program.program_id != found.program_id).map(of).collect();
        (found, ChosenProgramme { chosen: of(found), is_asked_for: wanted > 0, others })
    }))
}

/// The video track that ffmpeg and players show: one that moves before one with few pictures, then the default one, then
/// the largest, then the first.
fn main_video<'a>(streams: &[&'a Stream]) -> Option<&'a Stream> {
    /// A track with less than this part (one fifth) of another one's pictures is a still beside a film.
    const STILL: u64 = 5;
    let pictures = |stream: &Stream| stream.nb_frames.as_deref().and_then(|text| text.parse::<u64>().ok());
    let videos = || streams.iter().copied().filter(|stream| stream.kind() == "video");
    let most = videos().filter_map(pictures).max().unwrap_or(0);
    videos().min_by_key(|stream| {
        let is_still = pictures(stream).is_some_and(|pictures| pictures.saturating_mul(STILL) < most);
        let area = stream.width.unwrap_or(0).saturating_mul(stream.height.unwrap_or(0));
        (is_still, !stream.has("default"), area.saturating_neg(), stream.index)
    })
}

pub(crate) fn unused(stream: &Stream, reason: String) -> UnusedTrack {
    let kind = if stream.is_picture() { "attached_pic" } else { stream.kind() };
    UnusedTrack { stream: stream.index, kind: kind.to_owned(), codec: stream.codec_or_tag(), reason }
}

/// Why a stream cannot be used at all.
fn reason_against(stream: &Stream, ffmpeg: &Ffmpeg) -> Option<String> {
    let kind = stream.kind();
    match kind {
        "video" if stream.is_picture() => return Some("a still picture (cover or thumbnail)".into()),
        "video" | "audio" => {}
        "subtitle" => return Some("subtitles are not carried over".into()),
        "attachment" => return Some("an attached file".into()),
        _ => return Some("no picture and no sound".into()),
    }
    if !ffmpeg.decodable.contains(stream.codec()) {
        return Some(format!("{NO_DECODER} for {} in this ffmpeg", stream.codec_or_tag()));
    }
    if stream.timebase().is_none() {
        return Some("it has no time base".into());
    }
    let missing = |value: Option<i64>| value.is_none_or(|value| value <= 0);
    if kind == "video" && (missing(stream.width) || missing(stream.height)) {
        return Some("its picture size is not known".into());
    }
    if kind == "audio" && (missing(stream.channels) || sample_rate(stream) == 0) {
        return Some("its channels or sample rate are not known".into());
    }
    None
}

fn sample_rate(stream: &Stream) -> u32 {
    stream.sample_rate.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Demuxer family and the one name that workers allow, from ffprobe's list of names.
pub(crate) fn container(format_name: &str) -> (Container, String) {
    let names: Vec<&str> = format_name.split(',').collect();
    let has = |name| names.contains(&name);
    let known = [
        ("mov", Container::Mov),
        ("matroska", Container::Matroska),
        ("mpegts", Container::MpegTs),
        ("avi", Container::Avi),
    ];
    match known.into_iter().find(|(name, _)| has(*name)) {
        Some((name, container)) => (container, name.to_owned()),
        None => (Container::Other, names.first().copied().unwrap_or_default().to_owned()),
    }
}

/// The decoder that shows the transparency of a stream, and its pixel format; ffmpeg's own decoders for VP8 and VP9 leave
/// it out. `None`: the stream has none, or this ffmpeg lacks the decoder.
pub(crate) fn transparency(stream: &Stream, ffmpeg: &Ffmpeg) -> Option<(&'static str, &'static str)> {
    if stream.tag("alpha_mode") != Some("1") {
        return None;
    }
    let decoder = match stream.codec() {
        "vp8" => "libvpx",
        "vp9" => "libvpx-vp9",
        _ => return None,
    };
    ffmpeg.decoders.contains(decoder).then_some((decoder, "yuva420p"))
}

/// Whether the codec codes every picture on its own.
pub(crate) fn is_intra_only(codec: &str) -> bool {
    matches!(
        codec,
        "prores"
            | "dnxhd"
            | "mjpeg"
            | "dvvideo"
            | "cfhd"
            | "ffv1"
            | "huffyuv"
            | "ffvhuff"
            | "rawvideo"
            | "jpeg2000"
            | "v210"
            | "qtrle"
            | "png"
            | "hap"
    )
}

/// The video track.
pub(crate) fn video_track(stream: &Stream, frames: FrameIndex, scan: Scan, bytes: u64) -> Option<VideoTrack> {
    let timebase = stream.timebase()?;
    let bits_per_second = match stream.bits_per_second() {
        0 => mean_bits_per_second(&frames, timebase, bytes),
        known => known,
    };
    Some(VideoTrack {
        stream: stream.index,
        codec: stream.codec().to_owned(),
        profile: stream.text(&stream.profile),
        width: u32::try_from(stream.width?).ok()?,
        height: u32::try_from(stream.height?).ok()?,
        sar: stream.sar(),
        pix_fmt: stream.pix_fmt.clone().unwrap_or_default(),
        bit_depth: stream.bit_depth(),
        decoder: String::new(),
        color: stream.color(),
        rotation: stream.rotation(),
        side_data: SideData { has_captions: stream.closed_captions == 1, ..side_data(&stream.side_data_list) },
        scan,
        timebase,
        frame_rate: frame_rate(stream, &frames, timebase),
        bits_per_second,
        peak_bits_per_second: 0,
        frames,
        num_lost: 0,
    })
}

fn mean_bits_per_second(frames: &FrameIndex, timebase: Rational, bytes: u64) -> u64 {
    let (Some(first), Some(last)) = (frames.pts.first(), frames.pts.last()) else { return 0 };
    let ticks = last.saturating_sub(first).saturating_add(frames.last_duration);
    let seconds = MediaTime::new(ticks, timebase).seconds();
    if seconds > 0.0 { (bytes as f64 * 8.0 / seconds) as u64 } else { 0 }
}

/// Average frame rate: ffprobe's own when the frame list bears it out, else from the list.
fn frame_rate(stream: &Stream, frames: &FrameIndex, timebase: Rational) -> Rational {
    let is_sane = |rate: &Rational| rate.is_positive() && rate.to_f64() <= 1000.0;
    let told = [&stream.avg_frame_rate, &stream.r_frame_rate]
        .map(|text| text.as_deref().and_then(|text| fraction(text, '/')).filter(is_sane));
    let mean = match (frames.pts.first(), frames.pts.last()) {
        (Some(first), Some(last)) if last > first => {
            let seconds = MediaTime::new(last.saturating_sub(first), timebase).seconds();
            frames.pts.len().saturating_sub(1) as f64 / seconds
        }
        _ => return told.into_iter().flatten().next().unwrap_or(Rational::ZERO),
    };
    let agrees = |rate: &Rational| (rate.to_f64() - mean).abs() <= mean * 0.01;
    let from_delta =
        frames.pts.nominal_delta().and_then(|delta| Rational::ONE.over(Rational::whole(delta).times(timebase)?));
    told.into_iter()
        .flatten()
        .chain(from_delta.filter(is_sane))
        .find(agrees)
        .or_else(|| Rational::new((mean * 1000.0).round().clamp(1.0, 1_000_000.0) as i64, 1000))
        .unwrap_or(Rational::ZERO)
}

/// An audio track. `first_pts` is the time of the first decoded sample.
pub(crate) fn audio_track(stream: &Stream, first_pts: i64) -> Option<AudioTrack> {
    let timebase = stream.timebase()?;
    let title = shown_text(stream.tag("title").unwrap_or(""));
    let duration = stream
        .duration_ts
        .map(|ticks| MediaTime::new(ticks, timebase))
        .filter(|duration| duration.ticks > 0 && duration.seconds() <= MAX_DURATION_SECONDS);
    Some(AudioTrack {
        stream: stream.index,
        codec: stream.codec().to_owned(),
        profile: stream.text(&stream.profile),
        sample_rate: sample_rate(stream),
        channels: u16::try_from(stream.channels?).ok()?,
        layout: stream.text(&stream.channel_layout),
        language: language(stream.tag("language").unwrap_or("")),
        title,
        is_default: stream.has("default"),
        first_pts: MediaTime::new(first_pts, timebase),
        priming: None,
        duration,
        bits_per_second: stream.bits_per_second(),
    })
}

/// A text of the container, without control characters and of bounded length.
fn shown_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TITLE_CHARS).collect()
}

/// A tag of letters, digits and hyphens; anything else is `und`.
fn language(tag: &str) -> String {
    let is_tag = (2..=35).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_tag { tag.to_owned() } else { "und".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use splitreel_core::source::{IndexEvidence, PtsList};

    fn frames(pts: impl IntoIterator<Item = i64>) -> FrameIndex {
        FrameIndex {
            pts: PtsList::from_sorted(pts).unwrap(),
            last_duration: 1,
            keyframes: vec![],
            evidence: IndexEvidence::Moov,
            is_seekable: true,
            needs_run_in: false,
            packet_fault: None,
            stamping: Default::default(),
        }
    }

    fn rate(json: &str, pts: &[i64], timebase: (i64, i64)) -> Rational {
        let stream: Stream = serde_json::from_str(json).unwrap();
        frame_rate(&stream, &frames(pts.iter().copied()), Rational::new(timebase.0, timebase.1).unwrap())
    }

    #[test]
    fn frame_rates_are_those_of_the_frames() {
        let film = Rational::new(24_000, 1001).unwrap();
        assert_eq!(rate(r#"{"avg_frame_rate":"24000/1001"}"#, &[0, 42, 83, 125], (1, 1000)), film);
        assert_eq!(rate(r#"{"avg_frame_rate":"90000/1"}"#, &[0, 3600, 7200], (1, 90_000)), Rational::whole(25));
        assert_eq!(rate("{}", &[0, 100, 300], (1, 1000)), Rational::new(6667, 1000).unwrap());
        assert_eq!(rate(r#"{"avg_frame_rate":"0/0"}"#, &[5], (1, 1000)), Rational::ZERO);
    }

    fn main_of(json: &str) -> u32 {
        let streams: Vec<Stream> = serde_json::from_str(json).unwrap();
        main_video(&streams.iter().collect::<Vec<_>>()).unwrap().index
    }

    #[test]
    fn the_picture_is_the_moving_then_the_default_then_the_largest() {
        let video = |index: u32, rest: &str| format!(r#"{{"index":{index},"codec_type":"video"{rest}}}"#);
        let list = |videos: &[String]| format!("[{}]", videos.join(","));
        let (small, large) = (r#","width":160,"height":90"#, r#","width":640,"height":360"#);
        assert_eq!(main_of(&list(&[video(0, small), video(1, large), video(2, large)])), 1);
        let default = format!(r#"{small},"disposition":{{"default":1}}"#);
        assert_eq!(main_of(&list(&[video(0, large), video(1, &default)])), 1);
        let still = format!(r#"{large},"nb_frames":"1","disposition":{{"default":1}}"#);
        let film = format!(r#"{small},"nb_frames":"300""#);
        assert_eq!(main_of(&list(&[video(0, &still), video(1, &film)])), 1);
        assert_eq!(main_of(&list(&[video(0, &still)])), 0);
    }

    #[test]
    fn demuxer_families() {
        assert_eq!(container("mov,mp4,m4a,3gp,3g2,mj2"), (Container::Mov, "mov".into()));
        assert_eq!(container("matroska,webm"), (Container::Matroska, "matroska".into()));
        assert_eq!(container("flv"), (Container::Other, "flv".into()));
    }

    #[test]
    fn language_tags_are_checked() {
        assert_eq!([language("deu"), language("pt-BR"), language(""), language("a b")], ["deu", "pt-BR", "und", "und"]);
    }
}
