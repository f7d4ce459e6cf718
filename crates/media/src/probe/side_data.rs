//! Reads the side data that ffprobe prints of a stream or a frame. Pure.

use super::fraction::fraction;
use serde::Deserialize;
use splitreel_core::Rational;
use splitreel_core::side_data::{ContentLight, DisplayMatrix, DolbyVision, Mastering, SideData};

/// Fields of light metadata.
pub(crate) const LIGHT: &str = "side_data_type,red_x,red_y,green_x,green_y,blue_x,blue_y,white_point_x,white_point_y,\
min_luminance,max_luminance,max_content,max_average";

/// An entry; its kind decides which fields it has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SideDataEntry {
    pub(crate) rotation: Option<f64>,
    displaymatrix: Option<String>,
    dv_profile: Option<u8>,
    dv_level: Option<u8>,
    dv_bl_signal_compatibility_id: Option<u8>,
    red_x: Option<String>,
    red_y: Option<String>,
    green_x: Option<String>,
    green_y: Option<String>,
    blue_x: Option<String>,
    blue_y: Option<String>,
    white_point_x: Option<String>,
    white_point_y: Option<String>,
    min_luminance: Option<String>,
    max_luminance: Option<String>,
    max_content: Option<u32>,
    max_average: Option<u32>,
}

/// The entries of the first frame of ffprobe's list of frames, as JSON. Something else has none.
pub(crate) fn of_first_frame(json: &[u8]) -> Vec<SideDataEntry> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Frame {
        side_data_list: Vec<SideDataEntry>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Frames {
        frames: Vec<Frame>,
    }
    let found: Frames = serde_json::from_slice(json).unwrap_or_default();
    found.frames.into_iter().next().unwrap_or_default().side_data_list
}

/// What the entries say; an entry that makes no sense says nothing.
pub(crate) fn side_data(entries: &[SideDataEntry]) -> SideData {
    SideData {
        matrix: entries.iter().find_map(matrix).filter(|matrix| !matrix.is_upright()),
        mastering: entries.iter().find_map(mastering),
        light: entries.iter().find_map(light),
        dolby_vision: entries.iter().find_map(dolby_vision),
        has_captions: false,
    }
}

/// Three lines of an offset and three numbers: `00000000:   0   65536   0`.
fn matrix(entry: &SideDataEntry) -> Option<DisplayMatrix> {
    let lines = entry.displaymatrix.as_deref()?.lines();
    let cells = lines.filter_map(|line| line.split_once(':')).flat_map(|(_, cells)| cells.split_whitespace());
    let cells: Vec<i32> = cells.map(|cell| cell.parse().ok()).collect::<Option<_>>()?;
    Some(DisplayMatrix(cells.try_into().ok()?))
}

fn mastering(entry: &SideDataEntry) -> Option<Mastering> {
    const PER_CHROMATICITY: i64 = 50_000;
    const PER_NIT: i64 = 10_000;
    let point = |x: &Option<String>, y: &Option<String>| {
        let coordinate = |text: &Option<String>| u16::try_from(units(text, PER_CHROMATICITY)?).ok();
        Some([coordinate(x)?, coordinate(y)?])
    };
    let found = Mastering {
        primaries: [
            point(&entry.green_x, &entry.green_y)?,
            point(&entry.blue_x, &entry.blue_y)?,
            point(&entry.red_x, &entry.red_y)?,
        ],
        white: point(&entry.white_point_x, &entry.white_point_y)?,
        max_luminance: units(&entry.max_luminance, PER_NIT)?,
        min_luminance: units(&entry.min_luminance, PER_NIT)?,
    };
    (found.max_luminance > 0).then_some(found)
}

/// A fraction in units of which `per` are one, rounded to the nearest.
fn units(text: &Option<String>, per: i64) -> Option<u32> {
    let value = fraction(text.as_deref()?, '/')?.times(Rational::whole(per))?;
    let (num, den) = (i128::from(value.num()), i128::from(value.den()));
    u32::try_from((num * 2 + den) / (den * 2)).ok()
}

fn light(entry: &SideDataEntry) -> Option<ContentLight> {
    let level = |value: Option<u32>| u16::try_from(value?).ok();
    let found = ContentLight { max_content: level(entry.max_content)?, max_average: level(entry.max_average)? };
    (found.max_content > 0 || found.max_average > 0).then_some(found)
}

fn dolby_vision(entry: &SideDataEntry) -> Option<DolbyVision> {
    Some(DolbyVision {
        profile: entry.dv_profile?,
        level: entry.dv_level.unwrap_or(0),
        compatibility: entry.dv_bl_signal_compatibility_id.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str) -> Vec<SideDataEntry> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_mirror_is_kept_and_an_upright_matrix_says_nothing() {
        let of = |cells: &str| side_data(&entries(&format!(r#"[{{"displaymatrix":"{cells}"}}]"#))).matrix;
        let mirrored = of(
            r"\n00000000:        -65536           0           0\n00000001: 0 65536 0\n00000002: 41943040 0 1073741824\n",
        );
        assert_eq!(mirrored, Some(DisplayMatrix([-65_536, 0, 0, 0, 65_536, 0, 41_943_040, 0, 1 << 30])));
        assert_eq!(of(r"00000000: 65536 0 0\n00000001: 0 65536 0\n00000002: 0 0 1073741824"), None);
        assert_eq!(of(r"00000000: 65536 0\n00000001: 0 65536 0"), None);
        assert_eq!(of(r"00000000: 65536 0 x"), None);
    }

    #[test]
    fn light_metadata_is_in_the_units_of_its_boxes() {
        let json = r#"{"frames":[{"side_data_list":[{"side_data_type":"Mastering display metadata",
            "red_x":"35400/50000","red_y":"14600/50000","green_x":"8500/50000","green_y":"39850/50000",
            "blue_x":"6550/50000","blue_y":"2300/50000","white_point_x":"15635/50000","white_point_y":"16450/50000",
            "min_luminance":"50/10000","max_luminance":"10000000/10000"},
            {"side_data_type":"Content light level metadata","max_content":1000,"max_average":400}]}]}"#;
        let found = side_data(&of_first_frame(json.as_bytes()));
        let mastering = Mastering {
            primaries: [[8_500, 39_850], [6_550, 2_300], [35_400, 14_600]],
            white: [15_635, 16_450],
            max_luminance: 10_000_000,
            min_luminance: 50,
        };
        assert_eq!(found.mastering, Some(mastering));
        assert_eq!(found.light, Some(ContentLight { max_content: 1_000, max_average: 400 }));
        assert_eq!(side_data(&of_first_frame(b"[")), SideData::default());
        assert_eq!(side_data(&entries(r#"[{"max_content":0,"max_average":0},{"red_x":"1/0"}]"#)), SideData::default());
    }

    #[test]
    fn dolby_vision_is_read_from_its_configuration_record() {
        let json = r#"[{"dv_profile":8,"dv_level":4,"dv_bl_signal_compatibility_id":4}]"#;
        let expected = DolbyVision { profile: 8, level: 4, compatibility: 4 };
        assert_eq!(side_data(&entries(json)).dolby_vision, Some(expected));
    }
}
