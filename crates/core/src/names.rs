//! Names of outputs, made from names of sources: letters, digits and marks of all scripts, within the length of a file
//! name, and different for different sources.

use crate::digest::sha256_hex;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longest base name in bytes. What is added to a base name (`.streams`, `.wp.chunks`, a hash, a number) fits into the 255
/// bytes of a file name.
pub const BASE_MAX: usize = 180;

/// The name of an output when nothing of the source's name can be used.
const NAMELESS: &str = "video";
/// Numbered names that are offered.
const NUMBERS: std::ops::RangeInclusive<u32> = 2..=99;

/// A base name for the files of a presentation, from the file name of any source: in Unicode normalization form C, with
/// `_` for everything but letters, digits, marks, `.`, `_` and `-`; never empty, never starting with `.` or `-`, at most
/// [`BASE_MAX`] bytes long.
pub fn output_base(name: &str) -> String {
    let (stem, _) = split(name);
    let safe: String = stem.nfc().map(|c| if is_kept(c) { c } else { '_' }).collect();
    // A mark without a letter before it would join the separator in front of the name.
    let safe = safe.trim_start_matches(|c| matches!(c, '.' | '-') || is_combining_mark(c));
    let safe = safe.get(..safe.floor_char_boundary(BASE_MAX)).unwrap_or_default();
    if safe.chars().any(char::is_alphanumeric) { safe.to_owned() } else { NAMELESS.to_owned() }
}

/// Whether a text is a base name as [`output_base`] makes them.
pub fn is_output_base(text: &str) -> bool {
    let is_whole = text.len() <= BASE_MAX && !text.starts_with(['.', '-']) && text.nfc().eq(text.chars());
    is_whole && text.chars().all(is_kept) && text.chars().any(char::is_alphanumeric)
}

/// Names for the output of a source, the preferred first: the base name, then with what distinguishes sources whose base
/// names are alike: the extension, a hash of the locator, a number.
pub fn output_names(name: &str, locator: &str) -> impl Iterator<Item = String> + use<> {
    let base = output_base(name);
    let extended = split(name).1.map(|extension| format!("{base}.{extension}"));
    let hash: String = sha256_hex(locator.as_bytes()).chars().take(8).collect();
    let hashed = format!("{base}-{hash}");
    let numbered = NUMBERS.map({
        let hashed = hashed.clone();
        move |n| format!("{hashed}-{n}")
    });
    std::iter::once(base).chain(extended).chain([hashed]).chain(numbered)
}

/// The stem and the extension of a file name. Extensions have one to five ASCII letters and digits.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, "")) if !stem.is_empty() => (stem, None),
        Some((stem, ext)) if !stem.is_empty() && ext.len() <= 5 && ext.chars().all(|c| c.is_ascii_alphanumeric()) => {
            (stem, Some(ext))
        }
        _ => (name, None),
    }
}

fn is_kept(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn output_names_hold_only_safe_characters() {
        assert_eq!(output_base("My film (1).mp4"), "My_film__1_");
        assert_eq!(output_base("-video-with-dash-.mp4"), "video-with-dash-");
        assert_eq!(output_base("a%d\n'\"b.mkv"), "a_d___b");
        assert_eq!(output_base("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(output_base("..."), "video");
        assert_eq!(output_base("v1.final.mp4"), "v1.final");
        assert_eq!(output_base("\u{202e}gpj.mp4"), "_gpj", "no direction marks");
    }

    #[test]
    fn letters_of_all_scripts_are_kept() {
        assert_eq!(output_base("\u{43c}\u{43e}\u{439} \u{444}.mp4"), "\u{43c}\u{43e}\u{439}_\u{444}");
        assert_eq!(output_base("\u{4e88}\u{544a}\u{7de8}.mp4"), "\u{4e88}\u{544a}\u{7de8}");
        // Devanagari with vowel signs, which are marks.
        assert_eq!(output_base("\u{939}\u{93f}\u{902}\u{926}\u{940}.mkv"), "\u{939}\u{93f}\u{902}\u{926}\u{940}");
        assert_eq!(output_base("cafe\u{301}.mp4"), "caf\u{e9}", "normalization form C");
        assert_eq!(output_base("\u{301}a.mp4"), "a");
    }

    #[test]
    fn alike_names_differ_by_extension_then_hash_then_number() {
        let names = |name, locator| output_names(name, locator).take(4).collect::<Vec<_>>();
        let [mp4, mov] = [names("film.mp4", "/a/film.mp4"), names("film.mov", "/a/film.mov")];
        assert_eq!((mp4[0].as_str(), mov[0].as_str()), ("film", "film"));
        assert_eq!((mp4[1].as_str(), mov[1].as_str()), ("film.mp4", "film.mov"));
        assert!(mp4[2].starts_with("film-") && mp4[2].len() == 13 && mp4[2] != mov[2], "{mp4:?} {mov:?}");
        assert_eq!(mp4[3], format!("{}-2", mp4[2]));
        assert_ne!(names("a#1", "/a#1")[1], names("a?1", "/a?1")[1]);
    }

    proptest! {
        #[test]
        fn any_name_gives_a_safe_base(name in any::<String>()) {
            let base = output_base(&name);
            prop_assert!(is_output_base(&base), "{:?}", base);
            prop_assert!(output_names(&name, "/x").all(|n| n.len() + ".0123456789abcdef-16.partial".len() + 8 <= 255));
        }

        #[test]
        fn long_names_are_cut_between_characters(name in "[\u{4e00}-\u{9fff}x]{200,300}") {
            let base = output_base(&name);
            prop_assert!(name.starts_with(&base) && base.len() > BASE_MAX - 4);
        }
    }
}
