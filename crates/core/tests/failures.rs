//! `docs/failures.md` is written from the table of failure codes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use splitreel_core::{FailureClass, FailureCode};
use std::path::Path;

/// Writes the document when set.
const REGENERATE: &str = "SPLITREEL_WRITE_FAILURES";

const HEAD: &str = "\
# Failures

A failed attempt or job has a `class`, which decides what happens next, a `code`, which never changes its meaning, and a
message that says what happened this time. The table is [`FailureCode`](../crates/core/src/failure.rs); this page is
written from it by `SPLITREEL_WRITE_FAILURES=1 cargo test -p splitreel-core --test failures`.

The metric `splitreel_attempts_failed_total` counts failed attempts by code; codes of newer versions count as `other`.

| class | what happens next |
|---|---|
| `infra` | the machine, network or storage failed: the task runs again soon, many times |
| `media` | this attempt failed on this media: the task runs again later, elsewhere if possible, a few times |
| `permanent` | no attempt can succeed: the job fails at once |
| `source` | the source cannot be used: the job fails at once |
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for class in [FailureClass::Infra, FailureClass::Media, FailureClass::Permanent, FailureClass::Source] {
        let name = class.as_str();
        text += &format!(
            "\n## {name}\n\nUnless the table says more: {}.\n\n| code | meaning | what to do |\n|---|---|---|\n",
            class.hint()
        );
        for code in FailureCode::ALL.iter().filter(|code| code.class() == Some(class)) {
            text += &format!("| `{code}` | {} | {} |\n", code.sentence(), code.own_hint().unwrap_or_default());
        }
    }
    text
}

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/failures.md");
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), document(), "write it with {REGENERATE}=1");
}
