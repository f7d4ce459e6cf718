//! Which files of a crate need each other: imports and paths by `crate::` and `super::`, and imports from own child
//! modules, resolved to the file that defines the name. A module that only re-exports is looked through.

use super::source::{blanked, without_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Module path (`a::b`, the crate's root is empty) to source.
type Modules = BTreeMap<String, String>;

/// Groups of files that need each other in a circle, by module path in order; the crate's root is `lib`.
pub fn circles(sources: &Path, files: &[std::path::PathBuf]) -> Vec<Vec<String>> {
    let modules: Modules = files
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            Some((module_of(path.strip_prefix(sources).ok()?)?, without_tests(&blanked(&text))))
        })
        .collect();
    circles_of(&modules)
}

fn circles_of(modules: &Modules) -> Vec<Vec<String>> {
    let exports: BTreeMap<&str, BTreeMap<String, String>> =
        modules.iter().map(|(name, text)| (name.as_str(), exports(modules, name, text))).collect();
    let needs: BTreeMap<&str, BTreeSet<String>> = modules
        .iter()
        .map(|(name, text)| {
            let used = used(modules, name, text).into_iter().map(|path| owner(modules, &exports, &path));
            (name.as_str(), used.filter(|other| other != name).collect())
        })
        .collect();
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        modules.keys().map(|name| (name.as_str(), reachable(&needs, name))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (name, others) in &reach {
        let circle: Vec<String> = others
            .iter()
            .filter(|other| reach[*other].contains(name))
            .map(|other| if other.is_empty() { "lib" } else { *other }.to_owned())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn module_of(path: &Path) -> Option<String> {
    let mut parts: Vec<String> = path.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if matches!(parts.last()?.as_str(), "mod" | "lib" | "main") {
        parts.pop();
    }
    Some(parts.join("::"))
}

fn reachable<'a>(needs: &'a BTreeMap<&str, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = needs.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(needs.get(next).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

/// Paths of the crate, from its root, that a module names.
fn used(modules: &Modules, name: &str, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, statement) in imports(text) {
        let is_export = text[..at].trim_end().ends_with(['b', ')']);
        for path in tree(statement) {
            if is_export && path.split("::").next().is_some_and(|first| modules.contains_key(&join(name, first))) {
                continue;
            }
            found.extend(absolute(modules, name, &path));
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            if text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let path: String =
                text[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            found.extend(absolute(modules, name, path.trim_end_matches(':')));
        }
    }
    found
}

/// Name to path of what a module re-exports.
fn exports(modules: &Modules, name: &str, text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, statement) in imports(text) {
        if text[..at].trim_end().ends_with(['b', ')']) {
            for path in tree(statement) {
                let (path, alias) = path.split_once(" as ").unwrap_or((&path, ""));
                let last = if alias.is_empty() { path.rsplit("::").next().unwrap_or(path) } else { alias };
                if let Some(full) = absolute(modules, name, path) {
                    found.insert(last.trim().to_owned(), full);
                }
            }
        }
    }
    found
}

/// Position and tree of each `use` statement.
fn imports(text: &str) -> Vec<(usize, &str)> {
    text.match_indices("use ")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '<')))
        .filter_map(|(at, _)| Some((at, &text[at + 4..at + text[at..].find(';')?])))
        .collect()
}

/// The paths of an import's tree.
fn tree(statement: &str) -> Vec<String> {
    let statement = statement.trim();
    let Some(open) = statement.find('{') else { return vec![statement.to_owned()] };
    let (prefix, inner) = (&statement[..open], &statement[open + 1..statement.rfind('}').unwrap_or(statement.len())]);
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(tree).map(|part| format!("{prefix}{part}").replace("::self", "")).collect()
}

fn join(module: &str, rest: &str) -> String {
    if module.is_empty() { rest.to_owned() } else { format!("{module}::{rest}") }
}

/// The path from the crate's root; `None` for other crates.
fn absolute(modules: &Modules, name: &str, path: &str) -> Option<String> {
    let path = path.split(" as ").next()?.trim();
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let (mut module, mut rest) = (name, path);
    while let Some(next) = rest.strip_prefix("super::") {
        module = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        rest = next;
    }
    rest = rest.strip_prefix("self::").unwrap_or(rest);
    let is_own = rest != path || modules.contains_key(&join(name, rest.split("::").next()?));
    is_own.then(|| join(module, rest))
}

/// The module whose file defines what a path names.
fn owner(modules: &Modules, exports: &BTreeMap<&str, BTreeMap<String, String>>, path: &str) -> String {
    let mut path = path.to_owned();
    // Each turn looks through one re-export; a chain of more would be a circle of its own.
    for _ in 0..8 {
        let parts: Vec<&str> = path.split("::").collect();
        let depth = (0..=parts.len()).rev().find(|n| modules.contains_key(&parts[..*n].join("::"))).unwrap_or(0);
        let module = parts[..depth].join("::");
        let through = parts.get(depth).and_then(|item| exports.get(module.as_str())?.get(*item));
        match through {
            Some(next) if *next != path => path = [&[next.as_str()], &parts[depth + 1..]].concat().join("::"),
            _ => return module,
        }
    }
    path
}

#[test]
fn circles_are_found_through_re_exports_and_not_where_there_is_none() {
    let modules = |list: &[(&str, &str)]| list.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    let root = ("", "mod a; mod b; mod c; pub use a::{A, More as Other};");
    let one_way = modules(&[root, ("a", "use crate::b::{self, B};"), ("b", ""), ("c", "use crate::{A, b::B};")]);
    assert_eq!(circles_of(&one_way), Vec::<Vec<String>>::new());
    let circle = modules(&[root, ("a", "use super::b;"), ("b", "fn f() -> crate::Other {}"), ("c", "use crate::A;")]);
    assert_eq!(circles_of(&circle), [["a", "b"]]);
}
