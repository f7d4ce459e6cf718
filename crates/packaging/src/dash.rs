//! Writes a static MPD (ISO/IEC 23009-1) over the same CMAF segments as the HLS playlists.
//!
//! Takes checked presentations only. Must not decide anything about the media: paths, times and sizes come from the
//! model.
//!
//! Times in the MPD are times after the edit list: ISO/IEC 23009-1, 7.2.1 and the DASH-IF timing model call these the
//! presentation times of samples, and browsers hand these to the player, because their MSE parsers apply the edit. So
//! there is no `@presentationTimeOffset`: an offset that repeated the delay would shift everything twice and cut the
//! first frame.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use splitreel_core::captions::Captions;
use splitreel_core::{ColorCodes, Rational, VideoRange};

use crate::presentation::bitrate::{MIN_BUFFER_MICROS, available_runs, bucket, promised};
use crate::presentation::{
    AudioFormat, Checked, Form, MediaSegment, MediaTrack, Presentation, VideoFormat, default_audio, menu_names,
    percent_encode, switching_sets,
};

/// Why an MPD could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DashError {
    /// A preview of which no segment exists yet.
    #[error("no segment is available")]
    NothingAvailable,
    /// Segment paths do not follow one template with a five-digit segment number.
    #[error("track {track}: segment {number} does not follow the path template of the first one")]
    NotTemplated {
        /// Track id.
        track: String,
        /// Segment number.
        number: u64,
    },
    /// The XML writer failed.
    #[error("cannot write XML")]
    Xml(#[from] io::Error),
    /// The XML writer made something that is not UTF-8.
    #[error("MPD is not UTF-8")]
    NotUtf8(#[from] std::string::FromUtf8Error),
}

/// The MPD of a presentation: one Period, one AdaptationSet per audio track and per set of video tracks that share
/// codec, colour and segmentation. Where any track is HDR, each video set states its colour.
///
/// In a preview each Representation lists its first run of available segments and is left out when there is none;
/// `@mediaPresentationDuration` is always the planned one. In the planned form every segment is listed.
///
/// # Errors
/// [`DashError::NothingAvailable`] for a preview without any segment, [`DashError::NotTemplated`] when files are not
/// named by number.
pub fn mpd(checked: &Checked<'_>) -> Result<String, DashError> {
    let presentation = checked.presentation();
    let sets = adaptation_sets(presentation, checked.form())?;
    if sets.is_empty() {
        return Err(DashError::NothingAvailable);
    }
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = writer.create_element("MPD").with_attributes([
        ("xmlns", "urn:mpeg:dash:schema:mpd:2011"),
        ("profiles", "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019"),
        ("type", "static"),
        ("mediaPresentationDuration", &seconds(u64::try_from(presentation.duration.micros()).unwrap_or(0))),
        ("minBufferTime", &seconds(MIN_BUFFER_MICROS)),
    ]);
    root.write_inner_content(|w| {
        let period = w.create_element("Period").with_attributes([("id", "0"), ("start", "PT0S")]);
        period.write_inner_content(|w| sets.iter().zip(0_u32..).try_for_each(|(set, id)| set.write(w, id)))?;
        Ok(())
    })?;
    let mut text = String::from_utf8(writer.into_inner())?;
    text.push('\n');
    Ok(text)
}

/// xs:duration in seconds with as many decimals as needed, at most six.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    format!("PT{}S", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `@frameRate`: the average where the rate varies (ISO/IEC 23009-1, 5.3.7.2).
fn frame_rate(rate: Rational) -> String {
    if rate.den() == 1 { rate.num().to_string() } else { rate.to_string() }
}

type VideoMember<'a> = (&'a MediaTrack, &'a VideoFormat, Described);

enum Set<'a> {
    Video { members: Vec<VideoMember<'a>>, color: Vec<Descriptor> },
    Audio { track: &'a MediaTrack, format: &'a AudioFormat, name: String, is_main: bool, described: Described },
}

fn adaptation_sets(presentation: &Presentation, form: Form) -> Result<Vec<Set<'_>>, DashError> {
    let mut sets = Vec::new();
    let has_sdr = presentation.video().any(|(_, format)| format.color.range() == VideoRange::Sdr);
    for members in switching_sets(presentation) {
        let mut listed: Vec<VideoMember<'_>> = Vec::new();
        for (track, format) in members {
            listed.extend(Described::of(track, form)?.map(|described| (track, format, described)));
        }
        listed.sort_by(|(a, _, da), (b, _, db)| (da.bandwidth, &a.id).cmp(&(db.bandwidth, &b.id)));
        if let Some((_, format, _)) = listed.first() {
            let color = if presentation.states_range() { color_descriptors(format.color, has_sdr) } else { Vec::new() };
            sets.push(Set::Video { members: listed, color });
        }
    }
    let audio: Vec<(&MediaTrack, &AudioFormat)> = presentation.audio().collect();
    let main = default_audio(&audio);
    let names = menu_names(audio.iter().map(|&(_, format)| format));
    for (index, ((track, format), name)) in audio.into_iter().zip(names).enumerate() {
        if let Some(described) = Described::of(track, form)? {
            sets.push(Set::Audio { track, format, name, is_main: index == main, described });
        }
    }
    Ok(sets)
}

impl Set<'_> {
    fn write(&self, w: &mut Writer<Vec<u8>>, id: u32) -> io::Result<()> {
        match self {
            Self::Video { members, color } => write_video_set(w, id, members, color),
            Self::Audio { track, format, name, is_main, described } => {
                write_audio_set(w, id, track, format, (name, *is_main), described)
            }
        }
    }
}

fn write_video_set(
    w: &mut Writer<Vec<u8>>,
    id: u32,
    members: &[VideoMember<'_>],
    color: &[Descriptor],
) -> io::Result<()> {
    let width = members.iter().map(|(_, v, _)| v.width).max().unwrap_or(0);
    let height = members.iter().map(|(_, v, _)| v.height).max().unwrap_or(0);
    let rate = members.iter().map(|(_, v, _)| v.frame_rate).max().unwrap_or(Rational::ONE);
    // Type 3: frames that are shown before the keyframe need frames in front of the segment.
    let access = if members.iter().any(|(track, ..)| track.starts_open) { "3" } else { "1" };
    let mut set = w.create_element("AdaptationSet").with_attribute(("id", id.to_string().as_str())).with_attributes([
        ("contentType", "video"),
        ("mimeType", "video/mp4"),
        ("segmentAlignment", "true"),
        ("startWithSAP", access),
        ("maxWidth", &width.to_string()),
        ("maxHeight", &height.to_string()),
        ("maxFrameRate", &frame_rate(rate)),
    ]);
    if let Some(shape) = common_shape(members) {
        set = set.with_attribute(("par", shape.as_str()));
    }
    let shared = common_template(members);
    set.write_inner_content(|w| {
        color.iter().try_for_each(|descriptor| descriptor.write(w))?;
        write_captions(w, members)?;
        if let Some(template) = shared {
            template.write(w)?;
        }
        for (track, format, described) in members {
            let representation = described.element(w, track).with_attributes([
                ("width", format.width.to_string().as_str()),
                ("height", &format.height.to_string()),
                ("sar", &format!("{}:{}", format.sar.num(), format.sar.den())),
                ("frameRate", &frame_rate(format.frame_rate)),
            ]);
            if shared.is_some() {
                representation.write_empty()?;
            } else {
                representation.write_inner_content(|w| described.template.write(w))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The captions that every representation of the set carries (ANSI/SCTE 214-1, 8.2). Their language is not known.
fn write_captions(w: &mut Writer<Vec<u8>>, members: &[VideoMember<'_>]) -> io::Result<()> {
    let has = |wanted: fn(&Captions) -> bool| members.iter().all(|(_, format, _)| wanted(&format.captions));
    let line_21 = [(has(|found| found.first_field), "CC1"), (has(|found| found.second_field), "CC3")];
    let line_21: Vec<&str> = line_21.iter().filter(|(has, _)| *has).map(|(_, channel)| *channel).collect();
    let services = if has(|found| found.services) { "1=lang:und" } else { "" };
    let schemes =
        [("urn:scte:dash:cc:cea-608:2015", line_21.join(";")), ("urn:scte:dash:cc:cea-708:2015", services.to_owned())];
    for (scheme, value) in schemes.iter().filter(|(_, value)| !value.is_empty()) {
        let attributes = [("schemeIdUri", *scheme), ("value", value.as_str())];
        w.create_element("Accessibility").with_attributes(attributes).write_empty()?;
    }
    Ok(())
}

/// A property of an AdaptationSet (ISO/IEC 23009-1, 5.8.4.8 and 5.8.4.9). A client must ignore a set with an
/// EssentialProperty that it does not know, and may ignore a SupplementalProperty.
struct Descriptor {
    element: &'static str,
    scheme: &'static str,
    value: u8,
}

impl Descriptor {
    fn write(&self, w: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let attributes = [("schemeIdUri", self.scheme), ("value", &self.value.to_string())];
        w.create_element(self.element).with_attributes(attributes).write_empty()?;
        Ok(())
    }
}

/// Colour by code points (ISO/IEC 23091-2), essential properties first as the schema asks. The transfer
/// characteristics of an HDR set are essential where the client has an SDR set to take instead: a client that does not
/// know HDR would show wrong colours. Everything else is supplemental, so that clients which ignore it still play.
fn color_descriptors(color: ColorCodes, has_sdr: bool) -> Vec<Descriptor> {
    const ESSENTIAL: &str = "EssentialProperty";
    const SUPPLEMENTAL: &str = "SupplementalProperty";
    let transfer = if has_sdr && color.range() != VideoRange::Sdr { ESSENTIAL } else { SUPPLEMENTAL };
    let codes = [
        (transfer, "urn:mpeg:mpegB:cicp:TransferCharacteristics", color.transfer),
        (SUPPLEMENTAL, "urn:mpeg:mpegB:cicp:ColourPrimaries", color.primaries),
        (SUPPLEMENTAL, "urn:mpeg:mpegB:cicp:MatrixCoefficients", color.matrix),
    ];
    codes.into_iter().filter_map(|(element, scheme, code)| Some(Descriptor { element, scheme, value: code? })).collect()
}

fn write_audio_set(
    w: &mut Writer<Vec<u8>>,
    id: u32,
    track: &MediaTrack,
    format: &AudioFormat,
    (name, is_main): (&str, bool),
    described: &Described,
) -> io::Result<()> {
    let set = w.create_element("AdaptationSet").with_attributes([
        ("id", id.to_string().as_str()),
        ("contentType", "audio"),
        ("mimeType", "audio/mp4"),
        ("lang", &format.language),
        ("segmentAlignment", "true"),
        ("startWithSAP", "1"),
    ]);
    let role = if is_main { "main" } else { "alternate" };
    set.write_inner_content(|w| {
        w.create_element("Label").write_text_content(BytesText::new(name))?;
        let role = [("schemeIdUri", "urn:mpeg:dash:role:2011"), ("value", role)];
        w.create_element("Role").with_attributes(role).write_empty()?;
        let rate = format.sample_rate.to_string();
        let representation = described.element(w, track);
        representation.with_attribute(("audioSamplingRate", rate.as_str())).write_inner_content(|w| {
            let (scheme, value) = channel_configuration(format.channels);
            w.create_element("AudioChannelConfiguration")
                .with_attributes([("schemeIdUri", scheme), ("value", &value.to_string())])
                .write_empty()?;
            described.template.write(w)
        })?;
        Ok(())
    })?;
    Ok(())
}

/// ISO/IEC 23091-3 ChannelConfiguration for the usual layout of a channel count; where there is
/// none, the older DASH scheme with the bare count.
fn channel_configuration(channels: u32) -> (&'static str, u32) {
    const CICP: &str = "urn:mpeg:mpegB:cicp:ChannelConfiguration";
    match channels {
        1..=6 => (CICP, channels),
        7 => (CICP, 11),
        8 => (CICP, 12),
        _ => ("urn:mpeg:dash:23003:3:audio_channel_configuration:2011", channels),
    }
}

/// The display aspect ratio when all members share it.
fn common_shape(members: &[VideoMember<'_>]) -> Option<String> {
    let shape = |v: &VideoFormat| Rational::new(v.width.into(), v.height.into())?.times(v.sar);
    let mut shapes = members.iter().map(|(_, format, _)| shape(format));
    let first = shapes.next()??;
    shapes.all(|s| s == Some(first)).then(|| format!("{}:{}", first.num(), first.den()))
}

fn common_template<'a>(members: &'a [VideoMember<'_>]) -> Option<&'a Template> {
    let (_, _, first) = members.first()?;
    members.iter().all(|(_, _, d)| d.template == first.template).then_some(&first.template)
}

/// What the MPD says about one track.
struct Described {
    bandwidth: u64,
    template: Template,
}

impl Described {
    /// `None` when nothing is to be listed.
    fn of(track: &MediaTrack, form: Form) -> Result<Option<Self>, DashError> {
        let measured = bucket(&available_runs(track));
        let (segments, bandwidth) = match form {
            Form::Planned => (track.segments.as_slice(), measured.max(Some(promised(track)))),
            Form::Final | Form::Preview => (track.first_available_run(), measured),
        };
        let (Some(first), Some(bandwidth)) = (segments.first(), bandwidth) else { return Ok(None) };
        let template = Template {
            timescale: track.timescale,
            start_number: first.number,
            initialization: track.init.as_deref().map(|path| escape(path, &track.id)),
            media: media_template(track, first, segments)?,
            runs: runs(segments),
        };
        Ok(Some(Self { bandwidth, template }))
    }

    fn element<'w>(
        &self,
        w: &'w mut Writer<Vec<u8>>,
        track: &MediaTrack,
    ) -> quick_xml::writer::ElementWriter<'w, Vec<u8>> {
        let element = w
            .create_element("Representation")
            .with_attributes([("id", track.id.as_str()), ("bandwidth", &self.bandwidth.to_string())]);
        match &track.codec {
            Some(codec) => element.with_attribute(("codecs", codec.as_str())),
            None => element,
        }
    }
}

/// SegmentTemplate with its SegmentTimeline (ISO/IEC 23009-1, 5.3.9.4 and 5.3.9.6).
#[derive(PartialEq, Eq)]
struct Template {
    timescale: u32,
    start_number: u64,
    initialization: Option<String>,
    media: String,
    runs: Vec<Run>,
}

/// Consecutive segments of equal length: S@t, S@d and S@r + 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    time: u64,
    duration: u64,
    count: u64,
}

impl Template {
    fn write(&self, w: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let mut template =
            w.create_element("SegmentTemplate").with_attribute(("timescale", self.timescale.to_string().as_str()));
        if let Some(path) = &self.initialization {
            template = template.with_attribute(("initialization", path.as_str()));
        }
        let template =
            template.with_attributes([("media", self.media.as_str()), ("startNumber", &self.start_number.to_string())]);
        template.write_inner_content(|w| {
            w.create_element("SegmentTimeline").write_inner_content(|w| {
                for (index, run) in self.runs.iter().enumerate() {
                    let mut s = w.create_element("S");
                    if index == 0 {
                        s = s.with_attribute(("t", run.time.to_string().as_str()));
                    }
                    s = s.with_attribute(("d", run.duration.to_string().as_str()));
                    if run.count > 1 {
                        let repeat = run.count.saturating_sub(1);
                        s = s.with_attribute(("r", repeat.to_string().as_str()));
                    }
                    s.write_empty()?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    }
}

fn runs(segments: &[MediaSegment]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for segment in segments {
        // What precedes time zero is priming, which the edit list removes.
        let time = u64::try_from(segment.start).unwrap_or(0);
        let end = u64::try_from(segment.end()).unwrap_or(u64::MAX);
        let duration = end.saturating_sub(time);
        match runs.last_mut() {
            Some(run) if run.duration == duration => run.count = run.count.saturating_add(1),
            _ => runs.push(Run { time, duration, count: 1 }),
        }
    }
    runs
}

fn media_template(track: &MediaTrack, first: &MediaSegment, segments: &[MediaSegment]) -> Result<String, DashError> {
    let broken = |number| DashError::NotTemplated { track: track.id.clone(), number };
    let digits = format!("{:05}", first.number);
    let (before, after) = first.path.rsplit_once(&digits).ok_or_else(|| broken(first.number))?;
    for segment in segments {
        if segment.path != format!("{before}{:05}{after}", segment.number) {
            return Err(broken(segment.number));
        }
    }
    Ok(format!("{}$Number%05d${}", escape(before, &track.id), escape(after, &track.id)))
}

/// Percent-encodes a path and replaces components equal to the id by `$RepresentationID$`, so that the template is the
/// same for all Representations. Encoding leaves no `$` behind.
fn escape(path: &str, id: &str) -> String {
    let component = |c: &str| {
        if c == id { "$RepresentationID$".to_owned() } else { percent_encode(c) }
    };
    path.split('/').map(component).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
