//! Profile files: TOML, read with all mistakes at once, each with its line and what to do.

use crate::exit::Problem;
use splitreel_core::profile::{Profile, ProfileError};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A built-in profile by name, or a file ending in `.toml`.
pub fn resolve(name: &str) -> Result<Profile, Problem> {
    if let Some(p) = Profile::built_in(name) {
        return Ok(p);
    }
    if Path::new(name).extension().is_none_or(|e| e != "toml") {
        return Err(Problem::usage(format!(
            "there is no profile {name:?}: use {}, or a file ending in .toml",
            Profile::BUILT_IN.join(", ")
        )));
    }
    let text = std::fs::read_to_string(name)
        .map_err(|e| Problem::usage(format!("{name}: the profile cannot be read: {e}")))?;
    parse(&text).map_err(|mistakes| {
        let count = if mistakes.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) };
        mistakes.iter().fold(Problem::usage(format!("{name}: {count} in the profile")), |p, m| {
            let at = m.line.map_or_else(String::new, |l| format!("line {l}: "));
            p.line(format!("{at}{}", m.text))
        })
    })
}

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1, where known.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub text: String,
}

/// Reads a profile; on failure every mistake that can be found, in the order of the lines.
pub fn parse(text: &str) -> Result<Profile, Vec<Mistake>> {
    let line_at = |offset: usize| text.get(..offset).map_or(1, |t| t.matches('\n').count() + 1);
    let spanned = DeTable::parse(text)
        .map_err(|e| vec![Mistake { line: e.span().map(|s| line_at(s.start)), text: e.message().to_owned() }])?;
    let mut mistakes = Vec::new();
    let mut value: toml::Table =
        toml::from_str(text).map_err(|e| vec![Mistake { line: None, text: e.message().to_owned() }])?;
    let line_of = |path: &str| find(spanned.get_ref(), path).map(line_at);

    for (field, known) in unknown_fields(&value) {
        let near = known.iter().min_by_key(|k| strsim::levenshtein(k, field.rsplit('.').next().unwrap_or(&field)));
        let advice =
            near.map_or_else(String::new, |n| format!("; did you mean {n}? Fields here: {}", known.join(", ")));
        mistakes.push(Mistake { line: line_of(&field), text: format!("{field}: there is no such field{advice}") });
        remove(&mut value, &field);
    }
    // The deserialiser stops at the first wrong type: note it, take it out, look for the next.
    let mut profile = None;
    for _ in 0..64 {
        match serde_path_to_error::deserialize::<_, Profile>(toml::Value::Table(value.clone())) {
            Ok(p) => {
                profile = Some(p);
                break;
            }
            Err(e) => {
                let path = e.path().to_string();
                let why = e.inner().message().trim().to_owned();
                if path == "." {
                    mistakes.push(Mistake { line: None, text: why.clone() });
                    if !why.contains("missing field `name`") {
                        break;
                    }
                    value.insert("name".into(), toml::Value::String("unnamed".into()));
                    continue;
                }
                mistakes.push(Mistake { line: line_of(&path), text: format!("{path}: {why}") });
                if !remove(&mut value, &path) {
                    break;
                }
            }
        }
    }
    if let Some(p) = &profile {
        mistakes.extend(
            p.validate().into_iter().map(|e: ProfileError| Mistake { line: line_of(&e.field), text: e.to_string() }),
        );
    }
    mistakes.sort_by_key(|m| m.line.unwrap_or(usize::MAX));
    match profile {
        Some(p) if mistakes.is_empty() => Ok(p),
        _ => Err(mistakes),
    }
}

/// Fields that no table knows, as dotted paths with the known ones.
fn unknown_fields(root: &toml::Table) -> Vec<(String, &'static [&'static str])> {
    let mut out = Vec::new();
    let tables = Profile::tables();
    let known = |table: &str| tables.iter().find(|(t, _)| *t == table).map(|(_, f)| *f);
    let mut check = |prefix: &str, schema: &str, table: &toml::Table| {
        for key in table.keys() {
            if let Some(fields) = known(schema).filter(|f| !f.contains(&key.as_str())) {
                out.push((if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, fields));
            }
        }
    };
    check("", "", root);
    for (name, value) in root {
        let Some(table) = value.as_table() else { continue };
        check(name, name, table);
        for (i, rung) in table.get("rungs").and_then(toml::Value::as_array).into_iter().flatten().enumerate() {
            if let Some(rung) = rung.as_table() {
                check(&format!("{name}.rungs[{i}]"), "video.rungs", rung);
            }
        }
    }
    out
}

/// `video.rungs[1].crf` as steps.
fn steps(path: &str) -> Vec<Result<usize, &str>> {
    path.split('.')
        .flat_map(|part| {
            let (name, index) =
                part.split_once('[').map_or((part, None), |(n, i)| (n, i.trim_end_matches(']').parse().ok()));
            std::iter::once(Err(name)).chain(index.map(Ok))
        })
        .collect()
}

fn remove(root: &mut toml::Table, path: &str) -> bool {
    let steps = steps(path);
    let Some((last, way)) = steps.split_last() else { return false };
    let Some((Err(first), rest)) = way.split_first() else {
        return matches!(last, Err(name) if root.remove(*name).is_some());
    };
    let mut at = root.get_mut(*first);
    for step in rest {
        at = match (at, step) {
            (Some(toml::Value::Table(t)), Err(name)) => t.get_mut(*name),
            (Some(toml::Value::Array(a)), Ok(i)) => a.get_mut(*i),
            _ => None,
        };
    }
    match (at, last) {
        (Some(toml::Value::Table(t)), Err(name)) => t.remove(*name).is_some(),
        (Some(toml::Value::Array(a)), Ok(i)) if *i < a.len() => {
            a.remove(*i);
            true
        }
        _ => false,
    }
}

/// Byte offset of a path, or of its nearest ancestor that is written.
fn find(root: &DeTable<'_>, path: &str) -> Option<usize> {
    let mut table = Some(root);
    let mut value: Option<&DeValue<'_>> = None;
    let mut offset = None;
    for step in steps(path) {
        match step {
            Err(name) => {
                let t = match value {
                    Some(DeValue::Table(t)) => Some(t),
                    Some(_) => None,
                    None => table.take(),
                };
                let Some((key, v)) = t.and_then(|t| t.iter().find(|(k, _)| k.get_ref().as_ref() == name)) else {
                    return offset;
                };
                offset = Some(key.span().start);
                value = Some(v.get_ref());
            }
            Ok(i) => {
                let Some(v) = value.and_then(|v| if let DeValue::Array(a) = v { a.get(i) } else { None }) else {
                    return offset;
                };
                offset = Some(v.span().start);
                value = Some(v.get_ref());
            }
        }
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_read() {
        let p =
            parse("name = \"x\"\n[video]\npreset = \"fast\"\n[[video.rungs]]\nheight = \"source\"\nqp = 0\n").unwrap();
        assert_eq!((p.video.preset.as_str(), p.video.rungs.len()), ("fast", 1));
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_lines() {
        let text = "name = \"x\"\ncolour = 1\n[video]\ncodec = \"h265\"\npreest = \"fast\"\ngop_seconds = 0\n[[video.rungs]]\nheight = 720\ncrf = \"good\"\n[packaging]\nchunk_mb = 4\n";
        let lines: Vec<_> = parse(text).unwrap_err().into_iter().map(|m| (m.line, m.text)).collect();
        let at = |l: usize| {
            lines
                .iter()
                .find(|(line, _)| *line == Some(l))
                .unwrap_or_else(|| panic!("no mistake on line {l}: {lines:?}"))
        };
        assert!(at(2).1.contains("no such field"));
        assert!(at(4).1.contains("h265"));
        assert_eq!(
            at(5).1,
            "video.preest: there is no such field; did you mean preset? \
             Fields here: codec, encoder, preset, gop_seconds, pixel_format, deinterlace, rungs, upscale"
        );
        assert!(at(6).1.contains("0.1 to 20"));
        assert!(at(9).1.contains("crf"));
        assert!(at(11).1.contains("16 to 128"));
    }

    #[test]
    fn broken_syntax_names_its_line() {
        let e = parse("name = \"x\"\n[video\n").unwrap_err();
        assert_eq!(e[0].line, Some(2));
    }
}
