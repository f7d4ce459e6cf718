//! Plain English: phrases that no log line, help text, message, comment or document may use, crate by crate as they are
//! cleaned.

use super::source::blanked;
use super::{assert_none, files, root};

/// What has been cleaned: folders of sources and documents.
const CLEAN: [&str; 4] = ["README.md", "cli/src", "crates/telemetry/src", "scripts"];
/// Words and phrases, in lower case.
const BANNED: [&str; 9] =
    ["told", "tells", "held up", "so many", "for so long", "whoever", "those that", "to be had", "made-up"];

/// Comments and literals of a Rust source, code left out.
fn prose(text: &str) -> String {
    let code = blanked(text);
    text.chars().zip(code.chars()).map(|(c, code)| if c == code && c != '\n' { ' ' } else { c }).collect()
}

/// Number and phrase of each line that has one.
fn banned(text: &str) -> Vec<(usize, &'static str)> {
    let words = |text: &str| {
        let lower = text.to_lowercase();
        let letters: String = lower.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { ' ' }).collect();
        format!(" {} ", letters.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let lines: Vec<&str> = text.lines().collect();
    let phrases = |at: usize, line: &str| {
        // A phrase may go on in the next line.
        let next = lines.get(at + 1).and_then(|next| words(next).split_whitespace().next().map(str::to_owned));
        let (here, both) = (words(line), words(&format!("{line} {}", next.unwrap_or_default())));
        BANNED.into_iter().filter(move |phrase| {
            let phrase = format!(" {phrase} ");
            here.contains(&phrase) || (phrase.trim().contains(' ') && both.contains(&phrase))
        })
    };
    lines.iter().enumerate().flat_map(|(at, line)| phrases(at, line).map(move |phrase| (at + 1, phrase))).collect()
}

#[test]
fn cleaned_texts_use_no_banned_phrase() {
    let mut wrong = Vec::new();
    for place in CLEAN.map(|place| root().join(place)) {
        let found = if place.is_dir() { files(&place) } else { vec![place] };
        for path in found {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let text = if path.extension().is_some_and(|e| e == "rs") { prose(&text) } else { text };
            wrong.extend(
                banned(&text).into_iter().map(|(line, phrase)| format!("{}:{line}: {phrase:?}", path.display())),
            );
        }
    }
    assert_none(&wrong);
}

#[test]
fn phrases_are_found_in_prose_and_not_in_code() {
    let text = "fn told() {}\n// It tells\nlet x = \"So many\"; // held\nlet y = 1; // up, untold\n";
    assert_eq!(banned(&prose(text)), [(2, "tells"), (3, "held up"), (3, "so many")]);
}
