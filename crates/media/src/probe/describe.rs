//! Typed form of ffprobe's JSON output. Decides nothing; every field may be missing.

use super::fraction::fraction;
use super::side_data::SideDataEntry;
use serde::Deserialize;
use splitreel_core::Rational;
use splitreel_core::source::{Color, FieldOrder};
use std::collections::BTreeMap;

/// Fields that are asked for.
pub(crate) const ENTRIES: &str = "stream=index,id,codec_name,closed_captions,codec_type,codec_tag_string,profile,width,height,has_b_frames,\
sample_aspect_ratio,pix_fmt,field_order,color_range,color_space,color_transfer,color_primaries,r_frame_rate,\
avg_frame_rate,time_base,start_pts,duration_ts,nb_frames,bit_rate,sample_rate,channels,channel_layout,bits_per_raw_sample:\
stream_disposition=default,attached_pic,timed_thumbnails,still_image:stream_tags=language,title,alpha_mode:\
stream_side_data=side_data_type,rotation,displaymatrix,dv_profile,dv_level,dv_bl_signal_compatibility_id,\
red_x,red_y,green_x,green_y,blue_x,blue_y,white_point_x,white_point_y,min_luminance,max_luminance,max_content,\
max_average:format=format_name,start_time,duration,bit_rate:\
chapter=id:program=program_id:program_tags=service_name:program_stream=index";

/// The document.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Description {
    #[serde(default)]
    pub(crate) streams: Vec<Stream>,
    #[serde(default)]
    pub(crate) programs: Vec<Program>,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) chapters: Vec<Chapter>,
}

/// A chapter; only its number counts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Chapter {}

impl Description {
    /// The `track_ID` of an mp4 stream.
    pub(crate) fn track_id(&self, stream: u32) -> Option<u32> {
        let found = self.streams.iter().find(|found| found.index == stream)?;
        u32::from_str_radix(found.id.as_deref()?.strip_prefix("0x")?, 16).ok()
    }
}

/// A programme of a multiplex.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Program {
    pub(crate) program_id: u32,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) streams: Vec<Member>,
}

/// A stream of a programme.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) index: u32,
}

/// The container.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Format {
    #[serde(default)]
    pub(crate) format_name: String,
    #[serde(default)]
    pub(crate) duration: Option<String>,
}

/// One stream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stream {
    pub(crate) index: u32,
    pub(crate) id: Option<String>,
    pub(crate) codec_name: Option<String>,
    /// 1 where the first pictures carry captions.
    pub(crate) closed_captions: i64,
    pub(crate) codec_type: Option<String>,
    pub(crate) codec_tag_string: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) width: Option<i64>,
    pub(crate) height: Option<i64>,
    /// Frames that the decoder holds back to put them in order.
    pub(crate) has_b_frames: i64,
    pub(crate) sample_aspect_ratio: Option<String>,
    pub(crate) pix_fmt: Option<String>,
    pub(crate) field_order: Option<String>,
    pub(crate) color_range: Option<String>,
    pub(crate) color_space: Option<String>,
    pub(crate) color_transfer: Option<String>,
    pub(crate) color_primaries: Option<String>,
    pub(crate) r_frame_rate: Option<String>,
    pub(crate) avg_frame_rate: Option<String>,
    pub(crate) time_base: Option<String>,
    pub(crate) start_pts: Option<i64>,
    pub(crate) duration_ts: Option<i64>,
    pub(crate) nb_frames: Option<String>,
    pub(crate) bit_rate: Option<String>,
    pub(crate) sample_rate: Option<String>,
    pub(crate) channels: Option<i64>,
    pub(crate) channel_layout: Option<String>,
    pub(crate) bits_per_raw_sample: Option<String>,
    pub(crate) disposition: BTreeMap<String, i64>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) side_data_list: Vec<SideDataEntry>,
}

impl Stream {
    pub(crate) fn kind(&self) -> &str {
        self.codec_type.as_deref().unwrap_or("data")
    }

    pub(crate) fn codec(&self) -> &str {
        self.codec_name.as_deref().filter(|name| !matches!(*name, "unknown" | "none")).unwrap_or("")
    }

    /// The codec, or the tag that the container has in its place.
    pub(crate) fn codec_or_tag(&self) -> String {
        match self.codec() {
            "" => self.codec_tag_string.clone().unwrap_or_else(|| "unknown".into()),
            codec => codec.to_owned(),
        }
    }

    pub(crate) fn has(&self, disposition: &str) -> bool {
        self.disposition.get(disposition).is_some_and(|value| *value != 0)
    }

    pub(crate) fn is_picture(&self) -> bool {
        ["attached_pic", "timed_thumbnails", "still_image"].iter().any(|word| self.has(word))
    }

    /// Seconds per tick; `None` when ffprobe prints no positive fraction.
    pub(crate) fn timebase(&self) -> Option<Rational> {
        fraction(self.time_base.as_deref()?, '/').filter(|timebase| timebase.is_positive())
    }

    pub(crate) fn bits_per_second(&self) -> u64 {
        self.bit_rate.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn text(&self, field: &Option<String>) -> String {
        field.as_deref().filter(|text| !matches!(*text, "unknown" | "reserved" | "N/A")).unwrap_or("").to_owned()
    }

    pub(crate) fn color(&self) -> Color {
        Color {
            range: self.text(&self.color_range),
            space: self.text(&self.color_space),
            transfer: self.text(&self.color_transfer),
            primaries: self.text(&self.color_primaries),
        }
    }

    /// Sample aspect ratio; 1/1 when unknown or absurd.
    pub(crate) fn sar(&self) -> Rational {
        const LIMIT: f64 = 20.0;
        self.sample_aspect_ratio
            .as_deref()
            .and_then(|text| fraction(text, ':'))
            .filter(|sar| sar.is_positive() && (1.0 / LIMIT..=LIMIT).contains(&sar.to_f64()))
            .unwrap_or(Rational::ONE)
    }

    /// Clockwise rotation in degrees that a player applies: ffprobe says it counter-clockwise.
    pub(crate) fn rotation(&self) -> u16 {
        let degrees = self.side_data_list.iter().find_map(|entry| entry.rotation).unwrap_or(0.0);
        if !degrees.is_finite() {
            return 0;
        }
        let quarter = (-degrees / 90.0).round().rem_euclid(4.0);
        (quarter as u16 % 4) * 90
    }

    /// Field order by the header; the second letter is the field shown first.
    pub(crate) fn field_order(&self) -> Option<FieldOrder> {
        match self.field_order.as_deref() {
            Some("tt" | "bt") => Some(FieldOrder::TopFirst),
            Some("bb" | "tb") => Some(FieldOrder::BottomFirst),
            _ => None,
        }
    }

    pub(crate) fn is_interlaced(&self) -> bool {
        self.field_order().is_some()
    }

    /// Bits per component, from the pixel format's name where the stream does not say.
    pub(crate) fn bit_depth(&self) -> u8 {
        let name = self.pix_fmt.as_deref().unwrap_or("");
        let stem = name.trim_end_matches("le").trim_end_matches("be");
        let from_name = match stem {
            "p010" | "p210" | "p410" | "x2rgb10" | "x2bgr10" | "y210" | "v30x" | "xv30" | "nv20" => 10,
            "p012" | "p212" | "p412" | "xv36" | "y212" => 12,
            "p016" | "p216" | "p416" | "rgb48" | "bgr48" | "rgba64" | "bgra64" | "ya16" => 16,
            _ => {
                // yuv420p10, gbrap12, gray16.
                let letters = stem.trim_end_matches(|c: char| c.is_ascii_digit());
                let digits = stem.strip_prefix(letters).filter(|_| letters.ends_with('p') || letters == "gray");
                digits.and_then(|digits| digits.parse::<u8>().ok()).filter(|bits| (9..=16).contains(bits)).unwrap_or(8)
            }
        };
        let said = self.bits_per_raw_sample.as_deref().and_then(|text| text.parse::<u8>().ok());
        said.filter(|bits| (8..=16).contains(bits)).filter(|_| name.is_empty()).unwrap_or(from_name)
    }

    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(json: &str) -> Stream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn rotation_is_clockwise_and_a_multiple_of_ninety() {
        let rotation =
            |degrees: &str| stream(&format!(r#"{{"side_data_list":[{{}},{{"rotation":{degrees}}}]}}"#)).rotation();
        assert_eq!([rotation("-90"), rotation("90"), rotation("180"), rotation("-180")], [90, 270, 180, 180]);
        assert_eq!(
            [rotation("0"), rotation("-0.4"), rotation("359"), rotation("-8"), rotation("1e300")],
            [0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn odd_values_become_defaults() {
        let odd = stream(
            r#"{"sample_aspect_ratio":"0:1","time_base":"0/0","color_space":"unknown","pix_fmt":"yuv420p10le"}"#,
        );
        assert_eq!(
            (odd.sar(), odd.timebase(), odd.color().space.as_str(), odd.bit_depth()),
            (Rational::ONE, None, "", 10)
        );
        assert_eq!(stream(r#"{"sample_aspect_ratio":"1:1000000"}"#).sar(), Rational::ONE);
        assert_eq!(stream(r#"{"sample_aspect_ratio":"40:33"}"#).sar(), Rational::new(40, 33).unwrap());
    }

    #[test]
    fn bit_depth_by_name() {
        for (name, bits) in [
            ("yuv420p", 8),
            ("nv12", 8),
            ("yuv444p", 8),
            ("p010le", 10),
            ("yuv422p12be", 12),
            ("gray16le", 16),
            ("rgb24", 8),
            ("yuv440p", 8),
            ("gbrp10le", 10),
            ("pal8", 8),
        ] {
            assert_eq!(stream(&format!(r#"{{"pix_fmt":"{name}"}}"#)).bit_depth(), bits, "{name}");
        }
    }
}
