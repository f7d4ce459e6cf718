//! What headers state of the pictures of a track: the source's, and the output's as they are read back before publication.

use crate::cicp::ColorCodes;
use crate::plan::VideoMedia;
use crate::side_data::SideData;
use crate::source::{FieldOrder, VideoTrack};
use crate::time::Rational;
use serde::{Deserialize, Serialize};

/// What headers state. Absent: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedPicture {
    /// Stored width in pixels.
    pub width: u32,
    /// Stored height in pixels.
    pub height: u32,
    /// Sample aspect ratio.
    pub sar: Rational,
    /// Code points of primaries, transfer and matrix (ISO/IEC 23091-2).
    pub color: ColorCodes,
    /// Whether black to white take all numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_full_range: Option<bool>,
    /// Field that is shown first, of interlaced pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_order: Option<FieldOrder>,
    /// Orientation, light, Dolby Vision, captions.
    #[serde(default, skip_serializing_if = "SideData::is_empty")]
    pub side_data: SideData,
}

impl StatedPicture {
    /// What a source states.
    pub fn of_source(track: &VideoTrack) -> Self {
        StatedPicture {
            width: track.width,
            height: track.height,
            sar: track.sar,
            color: track.color.codes(),
            is_full_range: is_full(&track.color.range),
            field_order: track.scan.header,
            side_data: track.side_data.clone(),
        }
    }

    /// The first statement of an output that is not what the plan wanted, in words; what either leaves open agrees. A copy
    /// keeps the source's statements about size and colour, whatever they are.
    pub fn departure(&self, planned: &VideoMedia) -> Option<String> {
        let side_data = |held: &SideData| (held.matrix, held.mastering.is_some(), held.light.is_some());
        if side_data(&self.side_data) != side_data(&planned.side_data) {
            return departed("side data", &self.side_data, &planned.side_data);
        }
        if planned.coding.is_copy() {
            return None;
        }
        if (self.width, self.height) != (planned.width, planned.height) {
            return departed("the size", &(self.width, self.height), &(planned.width, planned.height));
        }
        if self.sar != planned.sar {
            return departed("the sample aspect", &self.sar, &planned.sar);
        }
        let wanted = planned.color.codes();
        let codes = [
            ("primaries", self.color.primaries, wanted.primaries),
            ("the transfer", self.color.transfer, wanted.transfer),
            ("the matrix", self.color.matrix, wanted.matrix),
            ("full range", self.is_full_range.map(u8::from), is_full(&planned.color.range).map(u8::from)),
        ];
        let is_other = |(_, stated, wanted): &(&str, Option<u8>, Option<u8>)| {
            stated.is_some() && wanted.is_some() && stated != wanted
        };
        let (what, stated, wanted) = codes.into_iter().find(is_other)?;
        departed(what, &stated, &wanted)
    }
}

fn departed(what: &str, stated: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug) -> Option<String> {
    Some(format!("its header states {what} {stated:?}, planned {wanted:?}"))
}

/// ffmpeg's word for a range; `None` where nothing is stated.
fn is_full(range: &str) -> Option<bool> {
    match range {
        "pc" => Some(true),
        "tv" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::planner::{Capabilities, plan};
    use crate::profile::Profile;
    use crate::side_data::{ContentLight, DisplayMatrix};

    #[test]
    fn another_size_colour_or_orientation_than_planned_is_found() {
        let source = fixture::video_track((0..100).collect(), Rational::new(1, 25).unwrap(), 25);
        let info = fixture::source_info(Some(source), Vec::new());
        let plan = plan(&info, &Profile::built_in("universal").unwrap(), &Capabilities::default()).unwrap();
        let (_, planned) = plan.video_tracks().next().unwrap();
        let honest = StatedPicture {
            width: planned.width,
            height: planned.height,
            sar: planned.sar,
            color: planned.color.codes(),
            is_full_range: Some(false),
            field_order: None,
            side_data: SideData::default(),
        };
        assert_eq!(honest.departure(planned), None);
        let silent = StatedPicture { color: ColorCodes::default(), is_full_range: None, ..honest.clone() };
        assert_eq!(silent.departure(planned), None);
        let mirrored = DisplayMatrix([-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]);
        let light = ContentLight { max_content: 1, max_average: 1 };
        let departures = [
            StatedPicture { width: 2, ..honest.clone() },
            StatedPicture { sar: Rational::new(4, 3).unwrap(), ..honest.clone() },
            StatedPicture { color: ColorCodes { matrix: Some(9), ..honest.color }, ..honest.clone() },
            StatedPicture { color: ColorCodes { transfer: Some(16), ..honest.color }, ..honest.clone() },
            StatedPicture { is_full_range: Some(true), ..honest.clone() },
            StatedPicture { side_data: SideData { matrix: Some(mirrored), ..SideData::default() }, ..honest.clone() },
            StatedPicture { side_data: SideData { light: Some(light), ..SideData::default() }, ..honest },
        ];
        for stated in departures {
            assert!(stated.departure(planned).is_some(), "{stated:?}");
        }
    }
}
