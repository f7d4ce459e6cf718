//! Reads Rust sources as text: without comments and literals, without tests, function by function.

/// The text with comments, strings and characters blanked out; lines and columns stay where they are.
pub fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(c);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment or literal ends that begins at `at`; `at` when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let is_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', '/') => find(chars, at, "\n").unwrap_or(chars.len()),
        ('/', '*') => find(chars, at + 2, "*/").map_or(chars.len(), |end| end + 2),
        ('"', _) => quoted_end(chars, at + 1, '"'),
        ('b', '"') if !is_word => quoted_end(chars, at + 2, '"'),
        ('b', '\'') if !is_word => quoted_end(chars, at + 2, '\''),
        ('r', '"' | '#') if !is_word => raw_end(chars, at, at + 1),
        ('b', 'r') if !is_word && matches!(next(2), '"' | '#') => raw_end(chars, at, at + 2),
        // A character, not a lifetime.
        ('\'', '\\') => quoted_end(chars, at + 1, '\''),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, what: &str) -> Option<usize> {
    let what: Vec<char> = what.chars().collect();
    chars.get(from..)?.windows(what.len()).position(|w| w == what).map(|p| from + p)
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r"…"` or `r#"…"#`, whose hashes begin at `hashes`; `at` for a raw identifier.
fn raw_end(chars: &[char], at: usize, hashes: usize) -> usize {
    let num = chars[hashes..].iter().take_while(|c| **c == '#').count();
    if chars.get(hashes + num) != Some(&'"') {
        return at;
    }
    let close = format!("\"{}", "#".repeat(num));
    find(chars, hashes + num + 1, &close).map_or(chars.len(), |end| end + 1 + num)
}

/// The text without what is only compiled for tests.
pub fn without_tests(blanked: &str) -> String {
    let mut text = blanked.to_owned();
    while let Some(from) = text.find("#[cfg(test)]") {
        let body = text[from..].find(['{', ';']).map_or(text.len(), |p| from + p);
        let end = if text[body..].starts_with('{') { closing(&text, body) } else { body };
        let gone: String =
            text[from..=end.min(text.len() - 1)].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        text.replace_range(from..=end.min(text.len() - 1), &gone);
    }
    text
}

/// Where the brace closes that opens at `open`.
fn closing(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    text.len().saturating_sub(1)
}

/// Name and number of lines, signature included, of each function that has a body.
pub fn functions(blanked: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = blanked[from..].find("fn ").map(|p| from + p) {
        from = at + 3;
        let is_word = blanked[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let name: String = blanked[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if is_word || name.is_empty() {
            continue;
        }
        let mut depth = 0;
        let body = blanked[from..].char_indices().find(|(_, c)| {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(c, '{' | ';')
        });
        if let Some((open, '{')) = body {
            let end = closing(blanked, from + open);
            found.push((name, blanked[at..=end].lines().count()));
        }
    }
    found
}

#[test]
fn literals_and_comments_are_blanked_and_lifetimes_are_not() {
    let text = r###"fn f<'a>(x: &'a str) { /* { */ let y = ['{', '\'', b'}']; r#"}"#; "\"}"; } // }"###;
    let plain = blanked(text);
    assert_eq!(plain.len(), text.len());
    assert_eq!((plain.matches('{').count(), plain.matches('}').count()), (1, 1), "{plain}");
    assert!(plain.contains("<'a>"));
}

#[test]
fn functions_are_measured_and_tests_are_cut() {
    let text = "fn a(x: [u8; 2])\n-> u8 {\n 1\n}\ntrait T { fn b(); }\n#[cfg(test)]\nmod tests {\n fn c() {\n}\n}\nfn d() {}\n";
    let all = [("a".to_owned(), 4), ("c".to_owned(), 2), ("d".to_owned(), 1)];
    assert_eq!(functions(&blanked(text)), all);
    assert_eq!(functions(&without_tests(&blanked(text))).len(), 2);
}
