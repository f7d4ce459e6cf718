//! Reads what the boxes of a video track state of its pictures: size, sample aspect, colour, orientation, light and Dolby
//! Vision (ISO/IEC 14496-12 §12.1.4 ff.).

use crate::bmff::{BoxRef, Boxes};
use crate::init::{UNITY, entry_children_at};
use crate::movie::Track;
use splitreel_core::side_data::{ContentLight, DisplayMatrix, DolbyVision, Mastering, SideData};
use splitreel_core::stated::StatedPicture;
use splitreel_core::{ColorCodes, Rational};

/// What the boxes of a track state; `None` where it has no sample entry that can be read.
#[must_use]
pub fn stated_picture(track: &Track) -> Option<StatedPicture> {
    let entry = track.sample_entries.first()?;
    let parsed = Boxes::new(&entry.raw, 0).next()?.ok()?;
    let skip = entry_children_at(&parsed)?;
    let mut stated = StatedPicture {
        width: entry.width.into(),
        height: entry.height.into(),
        sar: Rational::ONE,
        color: ColorCodes::default(),
        is_full_range: None,
        field_order: None,
        side_data: SideData { matrix: matrix(track.matrix), ..SideData::default() },
    };
    for child in parsed.children_after(skip).ok()?.flatten() {
        read(&child, &mut stated);
    }
    Some(stated)
}

fn matrix(cells: [i32; 9]) -> Option<DisplayMatrix> {
    (cells != UNITY).then_some(DisplayMatrix(cells))
}

/// Takes one child box; one that is cut short states nothing.
fn read(child: &BoxRef<'_>, stated: &mut StatedPicture) {
    let mut fields = child.fields();
    match &child.kind.0 {
        b"pasp" => {
            if let (Ok(horizontal), Ok(vertical)) = (fields.u32(), fields.u32()) {
                stated.sar = Rational::new(horizontal.into(), vertical.into()).unwrap_or(Rational::ONE);
            }
        }
        b"colr" => color(child.payload, stated),
        b"mdcv" => stated.side_data.mastering = mastering(child.payload),
        b"clli" => {
            if let (Ok(max_content), Ok(max_average)) = (fields.u16(), fields.u16()) {
                stated.side_data.light = Some(ContentLight { max_content, max_average });
            }
        }
        b"dvcC" | b"dvvC" | b"dvwC" => stated.side_data.dolby_vision = dolby_vision(child.payload),
        _ => {}
    }
}

/// `nclx`: three code points and a flag; `nclc` of QuickTime lacks the flag. 2 stands for unspecified.
fn color(payload: &[u8], stated: &mut StatedPicture) {
    let Some((kind, rest)) = payload.split_first_chunk::<4>() else { return };
    let (b"nclx" | b"nclc", Some(&[_, primaries, _, transfer, _, matrix])) = (kind, rest.first_chunk::<6>()) else {
        return;
    };
    let [primaries, transfer, matrix] = [primaries, transfer, matrix].map(|code| Some(code).filter(|code| *code != 2));
    stated.color = ColorCodes { primaries, transfer, matrix };
    stated.is_full_range = rest.get(6).map(|flags| flags & 0x80 != 0);
}

fn mastering(payload: &[u8]) -> Option<Mastering> {
    let mut values = payload.first_chunk::<16>()?.chunks_exact(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        _ => 0,
    });
    let mut point = || Some([values.next()?, values.next()?]);
    let (primaries, white) = ([point()?, point()?, point()?], point()?);
    let luminance = |at: usize| Some(u32::from_be_bytes(*payload.get(at..)?.first_chunk::<4>()?));
    Some(Mastering { primaries, white, max_luminance: luminance(16)?, min_luminance: luminance(20)? })
}

/// Seven bits of profile, six of level, and four of compatibility behind three flags.
fn dolby_vision(payload: &[u8]) -> Option<DolbyVision> {
    let &[_, _, high, low, compatibility] = payload.first_chunk::<5>()?;
    Some(DolbyVision { profile: high >> 1, level: ((high & 1) << 5) | (low >> 3), compatibility: compatibility >> 4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmff::BoxWriter;
    use crate::init::{TrackHeader, completed, parse_init, write_init};
    use crate::movie::Handler;

    fn entry(children: impl FnOnce(&mut BoxWriter)) -> Vec<u8> {
        let mut w = BoxWriter::new();
        w.boxed(b"hvc1", |w| {
            w.zeros(24);
            w.u16(640);
            w.u16(360);
            w.zeros(50);
            children(w);
        });
        w.into_bytes().unwrap()
    }

    fn stated(sample_entry: Vec<u8>, matrix: [i32; 9]) -> StatedPicture {
        let header = TrackHeader {
            id: 1,
            handler: Handler::Video,
            timescale: 25,
            language: "und".into(),
            sample_entry,
            width: 640,
            height: 360,
            sar: (1, 1),
            matrix,
            delay: 0,
            name: String::new(),
        };
        stated_picture(&parse_init(&write_init(&[header], None).unwrap()).unwrap().tracks[0]).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let side_data = SideData {
            mastering: Some(Mastering {
                primaries: [[1, 2], [3, 4], [5, 6]],
                white: [7, 8],
                max_luminance: 9,
                min_luminance: 10,
            }),
            light: Some(ContentLight { max_content: 11, max_average: 12 }),
            ..SideData::default()
        };
        let turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30];
        let found = stated(completed(&entry(|_| {}), (4, 3), &side_data).unwrap(), turned);
        assert_eq!((found.width, found.height, found.sar), (640, 360, Rational::new(4, 3).unwrap()));
        assert_eq!(found.side_data, SideData { matrix: Some(DisplayMatrix(turned)), ..side_data });
        assert_eq!((found.color, found.is_full_range), (ColorCodes::default(), None));
    }

    #[test]
    fn colour_aspect_and_dolby_vision_are_read_and_short_boxes_say_nothing() {
        let found = stated(
            entry(|w| {
                w.boxed(b"colr", |w| w.bytes(b"nclx\x00\x09\x00\x10\x00\x02\x80"));
                w.boxed(b"pasp", |w| {
                    w.u32(4);
                    w.u32(3);
                });
                w.boxed(b"dvvC", |w| w.bytes(&[1, 0, 16, 0x25, 0x40]));
                w.boxed(b"mdcv", |w| w.zeros(10));
            }),
            UNITY,
        );
        assert_eq!(found.color, ColorCodes { primaries: Some(9), transfer: Some(16), matrix: None });
        assert_eq!((found.is_full_range, found.sar), (Some(true), Rational::new(4, 3).unwrap()));
        let vision = DolbyVision { profile: 8, level: 4, compatibility: 4 };
        assert_eq!(found.side_data, SideData { dolby_vision: Some(vision), ..SideData::default() });
    }
}
