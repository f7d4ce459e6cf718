//! Real files, where a corpus is at hand (`SPLITREEL_CORPUS`): what must be refused is refused in words; a few
//! quick ones come out whole. `scripts/corpus` looks at all of them, and closer.

use crate::decoded;
use crate::output::Output;
use crate::reel::Reel;
use std::path::PathBuf;

fn corpus() -> Option<PathBuf> {
    let dir = std::env::var_os("SPLITREEL_CORPUS").map(PathBuf::from)?;
    dir.join("MANIFEST.tsv").is_file().then_some(dir)
}

/// Names and nasty features of the rows with an expectation.
fn rows(dir: &std::path::Path, expectation: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(dir.join("MANIFEST.tsv")).unwrap();
    let mut lines = text.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (name, expected, nasty) = (column("name"), column("expectation"), column("nasty"));
    lines.filter(|l| l[expected] == expectation).map(|l| (l[name].to_owned(), l[nasty].to_owned())).collect()
}

#[test]
fn what_cannot_be_decoded_is_refused_in_words() {
    let Some(dir) = corpus() else {
        eprintln!("left out: no corpus");
        return;
    };
    let refusals: Vec<_> =
        rows(&dir, "clear error").into_iter().filter(|(_, nasty)| !nasty.contains("depends on FFmpeg")).collect();
    assert!(!refusals.is_empty());
    for (name, _) in refusals {
        let reel = Reel::new();
        let ended = reel.run(&dir.join(&name), &reel.path("out"), &[]);
        assert_eq!(ended.code, 3, "{name}: {}", ended.stderr);
        assert!(ended.stderr.len() > 20 && !ended.stderr.contains("panicked"), "{name}: {:?}", ended.stderr);
        assert!(ended.wall.as_secs() < 60, "{name}: {:?}", ended.wall);
        assert!(!reel.path("out").exists(), "{name} has an output");
    }
}

#[test]
fn quick_files_come_out_whole() {
    let Some(dir) = corpus() else {
        eprintln!("left out: no corpus");
        return;
    };
    for name in
        ["mei_sample.3g2", "mb_edts_sar.mp4", "fate_mov-3elist.mov", "ax_firstpts_10s_sar.mp4", "lpms_portrait.ts"]
    {
        let reel = Reel::new();
        let out = reel.path("out");
        reel.run(&dir.join(name), &out, &["--segment-seconds", "2"]).done();
        let source = decoded::frames(&dir.join(name)).unwrap();
        let output = decoded::frames(&Output::open(&out).mp4().unwrap()).unwrap();
        decoded::assert_same_times(name, &source, &output);
    }
}
