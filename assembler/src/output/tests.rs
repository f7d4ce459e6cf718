//! Whatever lies next to and in an output directory, and wherever the process ends: nothing of the user's is deleted.

use super::names::{PREFIX, id_of};
use super::place::{Moment, place_step_by_step};
use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const JOB: &str = "0192b1a0-0000-7000-8000-000000000001";
const MOMENTS: [Moment; 4] = [Moment::Staged, Moment::Looked, Moment::Exchanged, Moment::Replaced];

/// Files of the presentation that is exported.
const MADE: [(&str, &str); 4] = [
    ("master.m3u8", "playlist"),
    ("report.json", r#"{"run": {"job": "0192b1a0-0000-7000-8000-000000000001", "base": "film"}}"#),
    ("film.mp4", "mp4"),
    ("v/720p/seg-00001.m4s", "segment"),
];

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn fill(folder: &Path) {
    for (path, content) in MADE {
        write(&folder.join(path), content);
    }
}

/// Content of every file below a directory, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let contents = Contents::look(root).unwrap().unwrap_or_default();
    let files = contents.paths().filter(|(_, is_dir)| !is_dir);
    files.map(|(path, _)| (path.to_owned(), std::fs::read_to_string(root.join(path)).unwrap())).collect()
}

fn permit(whose: Whose) -> Permit {
    Permit { job: JOB.into(), base: "film".into(), whose }
}

/// One run: lock, clear, preview, export; ends at `end` if that moment comes. `intrude` is called at every moment.
fn run(dir: &Path, whose: &Whose, end: Option<Moment>, intrude: &dyn Fn(Moment)) -> Result<(), PlaceError> {
    let lock = OutputLock::acquire(dir, "source").unwrap();
    clear_leftovers(&lock)?;
    let preview = preview_names(dir).find(|name| std::fs::create_dir(name).is_ok()).unwrap();
    mark(&preview, dir, "film")?;
    write(&preview.join("v/720p/init.mp4"), "header");
    let helper = Staging::make(&lock, JOB, "film")?;
    fill(&helper.folder());
    place_step_by_step(&helper, &lock, &permit(whose.clone()), &|moment| {
        intrude(moment);
        if end == Some(moment) { Err(std::io::Error::other("the process ends here")) } else { Ok(()) }
    })
}

/// Names that look like ours, and others.
fn names() -> impl Strategy<Value = String> {
    let lock = format!("{PREFIX}{}.lock", id_of(Path::new("site")));
    prop::sample::select(vec![
        "site.staging/a".to_owned(),
        "site.partial/master.m3u8".to_owned(),
        "site.partial/.splitreel".to_owned(),
        format!("{PREFIX}{JOB}/new/film.mp4"),
        format!("{PREFIX}{JOB}/.splitreel"),
        format!("{PREFIX}{JOB}-1/replaced"),
        lock.clone(),
        format!("{lock}/inside"),
        "other/film.mp4".to_owned(),
        "notes.txt".to_owned(),
    ])
}

/// What the user has in the output directory itself.
fn inside() -> impl Strategy<Value = String> {
    let names =
        ["report.json", "film.mp4", "v/720p/seg-00001.m4s", "notes.txt", "v/notes.txt", ".splitreel", "replaced"];
    prop::sample::select(names.map(|name| format!("site/{name}")).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Files of the user's keep their place and content, whether there before or new at any moment.
    #[test]
    fn nothing_of_the_users_is_deleted(
        beside in prop::collection::btree_set(names(), 0..6),
        held in prop::collection::btree_set(inside(), 0..4),
        is_earlier in any::<bool>(),
        end in prop::option::of(0usize..4),
        appears in prop::option::of((0usize..4, 0usize..3)),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let dir = root.join("site");
        if is_earlier {
            fill(&dir);
        }
        let mut users = BTreeMap::new();
        for path in beside.iter().chain(held.iter().filter(|path| !is_earlier || !MADE.iter().any(|(p, _)| path.ends_with(p)))) {
            // A name cannot be a file and a folder.
            if !users.keys().any(|u: &PathBuf| u.starts_with(path) || Path::new(path).starts_with(u)) {
                write(&root.join(path), "the user's");
                users.insert(PathBuf::from(path), "the user's".to_owned());
            }
        }
        let late = appears.map(|(moment, name)| (MOMENTS[moment], ["site/late.txt", "site.partial/late.txt", "site/v/late.txt"][name]));
        let late = late.filter(|(_, path)| !users.keys().any(|u| Path::new(path).starts_with(u)));
        let is_late = Cell::new(false);
        let intrude = |moment: Moment| {
            if let Some((when, path)) = late && moment == when {
                write(&root.join(path), "late");
                is_late.set(true);
            }
        };
        for (end, intrude) in [(end.map(|n| MOMENTS[n]), &intrude as &dyn Fn(Moment)), (None, &|_| {})] {
            let _ = run(&dir, &Whose::Job, end, intrude);
            let left = tree(root);
            for (path, content) in &users {
                prop_assert_eq!(left.get(path), Some(content), "{:?} of {:?}", path, left.keys().collect::<Vec<_>>());
            }
            // After a crash between exchange and second look, the file is in the helper.
            prop_assert!(!is_late.get() || left.values().any(|content| content == "late"), "{:?}", left);
        }
    }
}

#[test]
fn files_that_appear_between_look_and_exchange_are_put_back() {
    for whose in [Whose::Job, Whose::Source("s".into())] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("site");
        fill(&dir);
        let refused = run(&dir, &whose, None, &|moment| {
            if moment == Moment::Looked {
                write(&dir.join("late.txt"), "late");
            }
        });
        assert!(matches!(&refused, Err(PlaceError::Holds(path)) if path == Path::new("late.txt")), "{refused:?}");
        assert_eq!(tree(&dir).get(Path::new("late.txt")).map(String::as_str), Some("late"));
    }
}

#[test]
fn what_was_seen_when_the_user_agreed_is_replaced_and_nothing_newer() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("site");
    write(&dir.join("old/a.txt"), "old");
    let seen = Whose::Seen(Contents::look(&dir).unwrap().unwrap());
    write(&dir.join("old/b.txt"), "new");
    assert!(matches!(run(&dir, &seen, None, &|_| {}), Err(PlaceError::Holds(path)) if path == Path::new("old/b.txt")));
    std::fs::remove_file(dir.join("old/b.txt")).unwrap();
    run(&dir, &seen, None, &|_| {}).unwrap();
    assert_eq!(tree(&dir).len(), MADE.len());
}

#[test]
fn the_next_run_deletes_what_a_dead_one_left() {
    for end in MOMENTS {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("site");
        fill(&dir);
        assert!(run(&dir, &Whose::Job, Some(end), &|_| {}).is_err(), "{end:?}");
        let lock = OutputLock::acquire(&dir, "source").unwrap();
        assert_eq!(clear_leftovers(&lock).unwrap(), Vec::<PathBuf>::new());
        for preview in preview_names(&dir).filter(|name| is_marked(name, &dir)) {
            remove_ours(&preview, "film").unwrap();
        }
        drop(lock);
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["site"], "{end:?}");
    }
}

#[test]
fn one_of_two_holders_gets_the_lock_and_the_other_learns_who_has_it() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("site");
    let lock = OutputLock::acquire(&dir, "first").unwrap();
    let Err(LockError::Busy(holder)) = OutputLock::acquire(&dir, "second") else { panic!("locked twice") };
    assert_eq!(holder, Holder { process: Some(std::process::id()), source: Some("first".into()) });
    OutputLock::acquire(&scratch.path().join("other"), "second").unwrap();
    drop(lock);
    OutputLock::acquire(&dir, "second").unwrap();
    assert_eq!(tree(scratch.path()), BTreeMap::new(), "lock files go with their locks");
}

#[test]
fn names_stay_within_255_bytes_and_whole_characters() {
    for name in ["y".repeat(255), "\u{52d5}".repeat(85), "film".to_owned()] {
        let dir = PathBuf::from("/out").join(&name);
        let names: Vec<PathBuf> = preview_names(&dir).collect();
        assert!(names.len() >= 16);
        for path in &names {
            let file = path.file_name().unwrap().to_str().unwrap();
            assert!(file.len() <= NAME_MAX && path.parent() == dir.parent(), "{file}");
        }
    }
    assert_eq!(preview_names(Path::new("a/film.streams")).next().unwrap(), Path::new("a/film.streams.partial"));
}
