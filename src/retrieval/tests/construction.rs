//! Builds from nothing, night by night and interrupted.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::databases::{built, copy_of_a, database, named, settings, tables_of};
use crate::retrieval::metadata::FOLDER;
use crate::retrieval::{BuildSettings, Index, SearchMode, build, verify};
use crate::signals::testing::Model;
use crate::store::schema::testing::row;
use crate::store::{Database, Outcome, Row, Tag, Task};

#[test]
fn night_by_night_gives_the_index_of_one_build() {
    let (dir, mut db) = database();
    built(&mut db, true);
    // Another build, so that nothing is marked as new.
    built(&mut db, false);
    let at_once = tables_of(&db);
    let (other_dir, mut other) = database();
    let all = other.manifest().shards.clone();
    for n in 1..=all.len() {
        other
            .commit(|manifest| {
                manifest.shards = all[..n].to_vec();
                Ok(())
            })
            .unwrap();
        let night = built(&mut other, false);
        assert_eq!((night.incremental, night.complete), (n > 1, true));
    }
    built(&mut other, false);
    assert_eq!(tables_of(&Database::open(other_dir.path()).unwrap()), at_once);
    drop(dir);
}

#[test]
fn an_interrupted_build_is_gone_on_with() {
    let (_dir, mut db) = database();
    let part = build(&mut db, &settings(), true, &|_, _| {}, &|| true).unwrap();
    assert!(!part.complete && part.committed && part.checkpoints == 3);
    assert_eq!(db.manifest().index.as_ref().unwrap().shards, 1);
    let rest = built(&mut db, false);
    assert!(rest.complete && rest.incremental && rest.added == 4);
    assert_eq!(rest.quality.negatives, settings().negatives);
    let (_other_dir, mut other) = database();
    built(&mut other, true);
    assert_eq!(tables_of(&db), tables_of(&other));
}

#[test]
fn an_interrupted_build_leaves_a_fuller_index_as_it_is() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let before = db.manifest().clone();
    let part = build(&mut db, &settings(), true, &|_, _| {}, &|| true).unwrap();
    assert!(!part.complete && !part.committed);
    assert_eq!(*db.manifest(), before);
    let files = fs::read_dir(db.folder().join(FOLDER)).unwrap().count();
    assert_eq!(files, before.index.unwrap().files.len(), "nothing is left behind");
    assert!(verify(&db, false, &|_, _| {}).unwrap().is_whole());
}

#[test]
fn a_build_is_measured_until_it_is_stopped() {
    let (_dir, mut db) = database();
    let shards = db.manifest().shards.len() as u64;
    let (asked, last) = (AtomicU64::new(0), Mutex::new((0, 0)));
    let progress = |done, all| *last.lock().unwrap() = (done, all);
    // After the last shard.
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= shards;
    let part = build(&mut db, &settings(), true, &progress, &stop).unwrap();
    assert!(part.complete && part.committed);
    assert_eq!((part.quality.queries, part.quality.negatives), (0, 0));
    let whole = build(&mut db, &settings(), true, &progress, &|| false).unwrap();
    assert_eq!((whole.quality.queries, whole.quality.negatives), (7, 20));
    let (_, all) = *last.lock().unwrap();
    assert_eq!(all, 8 + 40);
}

/// The repositories that are new, by name.
fn new_in(db: &Database) -> Vec<String> {
    let index = Index::open(db).unwrap();
    let mut names: Vec<String> = index.added_last().map(|p| p.repo_id.clone()).collect();
    names.sort();
    names
}

#[test]
fn what_is_new_came_after_the_last_complete_build() {
    let (_dir, mut db) = database();
    let interrupted = |db: &mut Database| build(db, &settings(), false, &|_, _| {}, &|| true).unwrap();
    assert!(!interrupted(&mut db).complete);
    assert_eq!(new_in(&db), ["org/a", "org/b", "org/c"]);
    built(&mut db, false);
    assert_eq!(new_in(&db).len(), 8, "what came before the interruption as well");
    built(&mut db, false);
    assert!(new_in(&db).is_empty());
    // Known checkpoint under another name, and new checkpoint.
    db.append(&[copy_of_a("a-again")]).unwrap();
    db.append(&named(&["d"], &[&Model::random(9, 4, 64)])).unwrap();
    assert!(!interrupted(&mut db).complete);
    assert_eq!(new_in(&db), ["org/a-again"]);
    built(&mut db, false);
    assert_eq!(new_in(&db), ["org/a-again", "org/d"]);
    built(&mut db, true);
    assert!(new_in(&db).is_empty(), "a build from nothing finds them again");
}

#[test]
fn an_older_copy_makes_its_checkpoint_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let base = Model::random(0, 4, 64);
    let dated = |name: &str, model: &Model, created_at: i64| Row {
        created_at: Some(created_at),
        ..row(name, Some(model.fingerprint()))
    };
    let root = |db: &Database| {
        let index = Index::open(db).unwrap();
        index.repositories(index.family(0).root)[0].repo_id.clone()
    };
    db.append(&[dated("copy", &base, 30), dated("child", &base.tuned(0.98, 5), 20)]).unwrap();
    built(&mut db, true);
    assert_eq!(root(&db), "org/child");
    let original = dated("original", &base, 10);
    db.append(&[Row { sample_digest: Some("s-copy".into()), ..original }]).unwrap();
    let night = built(&mut db, false);
    assert!(night.incremental && night.added == 0);
    assert_eq!(root(&db), "org/original");
}

#[test]
fn other_settings_keep_the_index_and_measure_anew() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let more = BuildSettings { negatives: 30, seed: 2, ..settings() };
    let again = build(&mut db, &more, false, &|_, _| {}, &|| false).unwrap();
    assert!(again.incremental && again.added == 0);
    assert_eq!((again.quality.queries, again.quality.negatives), (7, 30));
}

#[test]
fn nights_add_to_what_was_measured() {
    let (_dir, mut db) = database();
    let first = built(&mut db, true).quality;
    assert_eq!(built(&mut db, false).quality, first, "nothing came");
    db.append(&[copy_of_a("a-again")]).unwrap();
    assert_eq!(built(&mut db, false).quality, first, "no checkpoint came");
    db.append(&named(&["d"], &[&Model::random(9, 4, 64)])).unwrap();
    let night = built(&mut db, false).quality;
    assert_eq!((night.queries, night.negatives), (first.queries + 2, first.negatives + 2));
}

#[test]
fn what_is_gone_is_not_found_and_families_keep_their_names() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let id = |db: &Database| {
        let index = Index::open(db).unwrap();
        let checkpoint = index.checkpoint_of(Tag::of("s-a-near")).unwrap();
        index.family(index.family_of(checkpoint)).id.clone()
    };
    let before = id(&db);
    // Both repositories of the founder's checkpoint end otherwise today.
    let gone = |name: &str| Row { outcome: Outcome::Missing, ..row(name, None) };
    db.append(&[gone("a"), gone("a-copy")]).unwrap();
    assert!(built(&mut db, false).incremental);
    assert_eq!(id(&db), before);
    let index = Index::open(&db).unwrap();
    assert!(index.checkpoint_of(Tag::of("s-a")).is_none());
    let found = index.find(&Model::random(0, 4, 64).fingerprint(), 9, SearchMode::Usual).unwrap();
    let [family] = &found.related[..] else { panic!("{found:?}") };
    assert_eq!(family.closest.len(), 3);
    assert_ne!(index.repositories(index.family(family.family).root), []);
    assert!(verify(&db, true, &|_, _| {}).unwrap().is_whole());
    // A build from nothing does not know the founder, whose digest the name comes from.
    assert!(!built(&mut db, true).incremental);
    assert_eq!(id(&db), before);
}
