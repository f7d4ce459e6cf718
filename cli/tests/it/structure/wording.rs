//! Plain English: phrases that no log line, help text, message, comment or document may use.

use super::source::blanked;
use super::{assert_none, files, packages, root};
use std::path::PathBuf;

/// Documents and scripts; the sources of all crates come besides. Migrations are left out: databases remember their text.
const PLACES: [&str; 8] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "deploy", "scripts"];
/// This file names the phrases.
const OWN: &str = "cli/tests/it/structure/wording.rs";
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

/// All texts that are held to the rule.
fn texts() -> Vec<PathBuf> {
    let sources = packages().into_iter().flat_map(|package| {
        ["src", "tests", "examples"]
            .map(|folder| package.folder.join(folder))
            .into_iter()
            .filter(|place| place.is_dir())
    });
    let places = PLACES.map(|place| root().join(place)).into_iter().chain(sources);
    places.flat_map(|place| if place.is_dir() { files(&place) } else { vec![place] }).collect()
}

#[test]
fn texts_use_no_banned_phrase() {
    let mut wrong = Vec::new();
    for path in texts() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let text = if path.extension().is_some_and(|e| e == "rs") { prose(&text) } else { text };
        let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let found = banned(&text);
        if place == OWN {
            continue;
        }
        wrong.extend(found.into_iter().map(|(line, phrase)| format!("{place}:{line}: {phrase:?}")));
    }
    assert_none(&wrong);
}

#[test]
fn phrases_are_found_in_prose_and_not_in_code() {
    let text = "fn told() {}\n// It tells\nlet x = \"So many\"; // held\nlet y = 1; // up, untold\n";
    assert_eq!(banned(&prose(text)), [(2, "tells"), (3, "held up"), (3, "so many")]);
}
