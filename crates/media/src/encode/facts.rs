//! What ffmpeg says about samples at the end of a run (`-loglevel verbose`).

use serde::{Deserialize, Serialize};
use splitreel_core::levels::AudioFormat;

/// Samples per channel that passed through an audio encode, as ffmpeg counted them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFacts {
    /// Samples that the decoder delivered, at the source's rate. `None` for copies.
    pub decoded_samples: Option<u64>,
    /// The same samples at the output's rate, before silence is added or overlaps are cut. `None` for copies.
    pub converted_samples: Option<u64>,
    /// Samples that the encoder was given, at the output's rate. `None` for copies.
    pub encoded_samples: Option<u64>,
    /// Packets that the decoder could not make sense of, when ffmpeg says so.
    pub decode_errors: Option<u64>,
    /// Rates and layouts that the decoder delivered, one after the other. Empty for copies.
    pub formats: Vec<AudioFormat>,
}

impl AudioFacts {
    /// Counts of an encode that two processes make: one decodes and converts, the other one encodes.
    pub(crate) fn of(decoding: &[String], encoding: &[String]) -> Self {
        let decoding = AudioFacts::read(decoding);
        let encoded_samples = AudioFacts::read(encoding).encoded_samples;
        AudioFacts { converted_samples: decoding.encoded_samples, encoded_samples, ..decoding }
    }

    /// Reads the last lines of standard error. Spellings differ: `173 frames decoded (176400 samples)` until 6,
    /// `173 frames decoded; 0 decode errors (176400 samples)` since.
    fn read(tail: &[String]) -> Self {
        let mut facts = AudioFacts { formats: formats(tail), ..AudioFacts::default() };
        for line in tail {
            let is_input = line.contains("Input stream #") && line.contains("(audio)");
            let is_output = line.contains("Output stream #") && line.contains("(audio)");
            if is_input && let Some(rest) = after(line, "frames decoded") {
                // Other streams of the source are listed without samples.
                facts.decoded_samples = samples(rest).or(facts.decoded_samples);
                facts.decode_errors = number_before(rest, "decode errors").or(facts.decode_errors);
            }
            if is_output && let Some(rest) = after(line, "frames encoded") {
                facts.encoded_samples = samples(rest).or(facts.encoded_samples);
            }
        }
        facts
    }
}

/// Rates and layouts that ffmpeg names when it builds a filter graph: at the start, and where the decoded sound changes.
pub(crate) fn formats(tail: &[String]) -> Vec<AudioFormat> {
    let word = |line: &str, name: &str| Some(after(line, name)?.split_whitespace().next()?.to_owned());
    let format = |line: &String| {
        let sample_rate = word(line, " samplerate:")?.parse().ok()?;
        Some(AudioFormat { sample_rate, layout: word(line, " chlayout:")? })
    };
    let mut formats: Vec<AudioFormat> = tail.iter().filter_map(format).collect();
    formats.dedup();
    formats
}

fn after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    line.split_once(words).map(|(_, rest)| rest)
}

fn samples(rest: &str) -> Option<u64> {
    let (head, _) = rest.split_once(" samples)")?;
    head.rsplit_once('(')?.1.trim().parse().ok()
}

fn number_before(text: &str, words: &str) -> Option<u64> {
    let (head, _) = text.split_once(words)?;
    head.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> AudioFacts {
        AudioFacts::read(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn old_and_new_spelling() {
        let old = read(&[
            "[verbose]   Input stream #0:0 (video): 0 packets read (0 bytes); ",
            "[verbose]   Input stream #0:1 (audio): 174 packets read (34918 bytes); 173 frames decoded (177152 samples); ",
            "[verbose]   Output stream #0:0 (audio): 189 frames encoded (192819 samples); 190 packets muxed (48424 bytes); ",
        ]);
        assert_eq!(
            old,
            AudioFacts {
                decoded_samples: Some(177_152),
                converted_samples: None,
                encoded_samples: Some(192_819),
                decode_errors: None,
                formats: Vec::new(),
            }
        );
        let new = read(&[
            "[out#0/mp4 @ 0x1] [verbose]   Output stream #0:0 (audio): 188 frames encoded (192000 samples); 189 packets muxed (48438 bytes); ",
            "[in#0/mov @ 0x2] [verbose]   Input stream #0:1 (audio): 174 packets read (34918 bytes); 173 frames decoded; 2 decode errors (176400 samples); ",
        ]);
        assert_eq!(
            new,
            AudioFacts {
                decoded_samples: Some(176_400),
                converted_samples: None,
                encoded_samples: Some(192_000),
                decode_errors: Some(2),
                formats: Vec::new(),
            }
        );
        assert_eq!(read(&["Input stream #0:1 (audio): 5 packets read"]), AudioFacts::default());
    }

    #[test]
    fn changes_of_rate_and_layout_are_listed_in_order() {
        let line = |rate: u32, layout: &str| {
            format!("[graph_0_in_0_1 @ 0x1] [verbose] tb:1/{rate} samplefmt:fltp samplerate:{rate} chlayout:{layout}")
        };
        let lines =
            [line(48_000, "5.1(side)"), "[verbose] other".into(), line(48_000, "stereo"), line(48_000, "stereo")];
        let found = formats(&lines);
        let layouts: Vec<&str> = found.iter().map(|format| format.layout.as_str()).collect();
        assert_eq!((layouts, found[0].sample_rate), (vec!["5.1(side)", "stereo"], 48_000));
    }
}
