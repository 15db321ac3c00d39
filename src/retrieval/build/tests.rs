use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest;

use super::super::codes;
use super::super::index::{CONTENTS, FAMILIES, HEADS, LINEAGE, Look, POSTINGS, Sought};
use super::super::segments::Segments;
use super::super::verify::verify;
use super::*;
use crate::signals::Fingerprint;
use crate::signals::testing::Model;
use crate::signals::verdict::{Relation, VerdictKind};
use crate::store::schema::testing::row;
use crate::store::{Outcome, Row, Tag, Task};

fn settings() -> BuildSettings {
    BuildSettings { recall_queries: 20, strangers: 20, ..BuildSettings::default() }
}

fn built(db: &mut Database, from_nothing: bool) -> Built {
    build(db, &settings(), from_nothing, &|_, _| {}, &|| false).unwrap()
}

fn named(names: &[&str], models: &[&Model]) -> Vec<Row> {
    names.iter().zip(models).map(|(name, model)| row(name, Some(model.fingerprint()))).collect()
}

/// A repository with the content of `a`, and another file around it.
fn copy_of_a(name: &str) -> Row {
    let fingerprint = Model::random(0, 4, 64).fingerprint();
    Row { sample_digest: Some("s-a".into()), ..row(name, Some(fingerprint)) }
}

/// Four shards of three families: bases, children near and far, and a copy.
fn database() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let bases: Vec<Model> = (0..3).map(|s| Model::random(s, 4, 64)).collect();
    db.append(&named(&["a", "b", "c"], &bases.iter().collect::<Vec<_>>())).unwrap();
    let (near, far) = (bases[0].tuned(0.98, 5), bases[0].tuned(0.6, 6));
    db.append(&named(&["a-near", "a-far"], &[&near, &far])).unwrap();
    db.append(&[copy_of_a("a-copy")]).unwrap();
    db.append(&named(&["a-far-near", "b-near"], &[&far.tuned(0.97, 7), &bases[1].tuned(0.99, 8)])).unwrap();
    (dir, db)
}

/// Every file of the index in use, by checksum.
fn tables_of(db: &Database) -> Vec<(&'static str, String)> {
    let entries = &db.manifest().index.as_ref().unwrap().files;
    let tables = [CONTENTS, FAMILIES, HEADS, LINEAGE, POSTINGS];
    let mut all: Vec<(&'static str, String)> =
        tables.iter().map(|name| (*name, entries[*name].sha256.clone())).collect();
    let paths = paths_of(db);
    for name in [CODES, PAYLOAD, VECTORS] {
        let mut hasher = sha2::Sha256::new();
        let parts = Segments::open(&paths, name).unwrap();
        parts
            .for_each_piece(100, |piece| {
                hasher.update(piece);
                Ok(())
            })
            .unwrap();
        all.push((name, atomic::hex(&hasher.finalize())));
    }
    all
}

fn paths_of(db: &Database) -> Paths {
    let entries = &db.manifest().index.as_ref().unwrap().files;
    entries.iter().map(|(name, e)| (name.clone(), db.files().local(e).unwrap())).collect()
}

#[test]
fn families_heads_and_copies() {
    let (_dir, mut db) = database();
    let whole = built(&mut db, true);
    assert_eq!((whole.models, whole.contents, whole.families), (8, 7, 3));
    assert_eq!(whole.heads, 4, "the far child stands for itself and what is near it");
    assert!(whole.complete && !whole.incremental && whole.quality.false_families == 0);
    assert!(whole.quality.recall_at_10 > 0.99);
    let index = Index::open(&db).unwrap();
    let query = Model::random(0, 4, 64).tuned(0.6, 6).tuned(0.95, 99).fingerprint();
    for look in [Look::Usual, Look::Exact] {
        let found = index.find(&query, 3, look).unwrap();
        let names: Vec<&str> = found.related[0]
            .closest
            .iter()
            .map(|hit| index.repositories(hit.number)[0].repo_id.as_str())
            .collect();
        assert_eq!(found.related.len(), 1);
        assert_eq!(names[0], "org/a-far");
    }
    let content = index.content_of(Tag::of("s-a")).unwrap();
    assert_eq!(index.repositories(content).len(), 2);
    assert_eq!(index.family(index.family_of(content)).contents, 4);
    let stranger = index.find(&Model::random(77, 4, 64).fingerprint(), 3, Look::Exact).unwrap();
    assert!(stranger.related.is_empty());
    assert!(verify(&db, false, &|_, _| {}).unwrap().is_whole());
}

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
    assert!(!part.complete && part.committed && part.contents == 3);
    assert_eq!(db.manifest().index.as_ref().unwrap().shards, 1);
    let rest = built(&mut db, false);
    assert!(rest.complete && rest.incremental && rest.added == 4);
    assert_eq!(rest.quality.strangers, settings().strangers);
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
    let (asked, last) = (AtomicU64::new(0), std::sync::Mutex::new((0, 0)));
    let progress = |done, all| *last.lock().unwrap() = (done, all);
    // After the last shard.
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= shards;
    let part = build(&mut db, &settings(), true, &progress, &stop).unwrap();
    assert!(part.complete && part.committed);
    assert_eq!((part.quality.queries, part.quality.strangers), (0, 0));
    let whole = build(&mut db, &settings(), true, &progress, &|| false).unwrap();
    assert_eq!((whole.quality.queries, whole.quality.strangers), (7, 20));
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
    // Known content under another name, and new content.
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
fn a_repository_is_no_relative_of_its_own() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let index = Index::open(&db).unwrap();
    let (a, b) = (Model::random(0, 4, 64), Model::random(1, 4, 64));
    let far = a.tuned(0.6, 6);
    // Of each: who else holds what was judged, and the nearest.
    let cases = [
        ("a", a.clone(), Some("org/a-copy"), "org/a-copy"),
        ("a-near", a.tuned(0.98, 5), Some("org/a"), "org/a"),
        ("a-far", far.clone(), None, "org/a-far-near"),
        ("a-far-near", far.tuned(0.97, 7), Some("org/a-far"), "org/a-far"),
        ("b", b, None, "org/b-near"),
    ];
    for (name, model, judged, nearest) in cases {
        let (fingerprint, own) = (model.fingerprint(), format!("org/{name}"));
        let tag = |kind: &str| Some(Tag::of(&format!("{kind}-{name}")));
        let (weights, samples, but) = (tag("w"), tag("s"), Some(own.as_str()));
        for look in [Look::Usual, Look::Exact] {
            let sought = Sought { fingerprint: &fingerprint, weights, samples, but };
            let found = index.find(sought, 9, look).unwrap();
            let [family] = &found.related[..] else { panic!("{name}: {found:?}") };
            let other = |content: u32| index.others(content, but).next().map(|p| p.repo_id.as_str());
            assert_eq!(other(family.judged), judged, "{name}");
            assert_eq!(family.verdict.kind, VerdictKind::Derived, "{name}");
            assert_eq!(other(family.closest[0].number), Some(nearest), "{name}");
            assert!(family.closest.iter().all(|hit| other(hit.number).is_some()), "{name}");
        }
    }
    let fingerprint = Model::random(2, 4, 64).fingerprint();
    let alone = Sought { but: Some("org/c"), samples: Some(Tag::of("s-c")), ..Sought::from(&fingerprint) };
    assert!(index.find(alone, 9, Look::Usual).unwrap().related.is_empty());
    assert_eq!(index.find(Sought { but: None, ..alone }, 9, Look::Usual).unwrap().related.len(), 1);
}

#[test]
fn an_older_copy_makes_its_content_the_root() {
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
    let more = BuildSettings { strangers: 30, seed: 2, ..settings() };
    let again = build(&mut db, &more, false, &|_, _| {}, &|| false).unwrap();
    assert!(again.incremental && again.added == 0);
    assert_eq!((again.quality.queries, again.quality.strangers), (7, 30));
}

#[test]
fn an_index_of_many_parts_is_not_gone_on_with() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let live = db.live().unwrap().places().collect();
    let mut index = Index::open(&db).unwrap();
    let part = index.paths["vectors-0000.bin"].clone();
    for n in 0..=MOST_PARTS {
        index.paths.insert(format!("{VECTORS}-{n:04}.bin"), part.clone());
        assert_eq!(is_reusable(&index, &live), n < MOST_PARTS, "{} parts", n + 1);
    }
}

#[test]
fn a_lost_content_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    // Of so many members not every one is looked at exactly.
    let base = Model::random(0, 1, 32);
    let models: Vec<Model> = (0..200).map(|i| base.tuned(0.99, 100 + i)).collect();
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    assert_eq!(built(&mut db, true).heads, 1);
    // The code of the last one says the opposite of its vector.
    let mut all = codes::read(&paths_of(&db)).unwrap();
    let last = all.last_mut().unwrap();
    *last = last.map(|word| !word);
    let folder = tempfile::tempdir().unwrap();
    codes::write(&Paths::new(), folder.path(), &all).unwrap();
    let part = "codes-0000.bin";
    let mut entry = db.manifest().index.clone().unwrap();
    entry.files.insert(part.into(), db.files().adopt(&folder.path().join(part), FOLDER, "bin").unwrap());
    db.set_index(&entry).unwrap();
    let verified = verify(&db, false, &|_, _| {}).unwrap();
    assert_eq!((verified.lost_contents, verified.lost_heads, verified.lost_repositories), (1, 0, 0));
    assert!(!verified.is_whole());
}

#[test]
fn nights_add_to_what_was_measured() {
    let (_dir, mut db) = database();
    let first = built(&mut db, true).quality;
    assert_eq!(built(&mut db, false).quality, first, "nothing came");
    db.append(&[copy_of_a("a-again")]).unwrap();
    assert_eq!(built(&mut db, false).quality, first, "no content came");
    db.append(&named(&["d"], &[&Model::random(9, 4, 64)])).unwrap();
    let night = built(&mut db, false).quality;
    assert_eq!((night.queries, night.strangers), (first.queries + 2, first.strangers + 2));
}

#[test]
fn what_is_gone_is_not_found_and_families_keep_their_names() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let id = |db: &Database| {
        let index = Index::open(db).unwrap();
        let content = index.content_of(Tag::of("s-a-near")).unwrap();
        index.family(index.family_of(content)).id.clone()
    };
    let before = id(&db);
    // Both repositories of the founder's content end otherwise today.
    let gone = |name: &str| Row { outcome: Outcome::Missing, ..row(name, None) };
    db.append(&[gone("a"), gone("a-copy")]).unwrap();
    assert!(built(&mut db, false).incremental);
    assert_eq!(id(&db), before);
    let index = Index::open(&db).unwrap();
    assert!(index.content_of(Tag::of("s-a")).is_none());
    let found = index.find(&Model::random(0, 4, 64).fingerprint(), 9, Look::Usual).unwrap();
    let [family] = &found.related[..] else { panic!("{found:?}") };
    assert_eq!(family.closest.len(), 3);
    assert_ne!(index.repositories(index.family(family.family).root), []);
    assert!(verify(&db, true, &|_, _| {}).unwrap().is_whole());
    // A build from nothing does not know the founder, whose digest the name comes from.
    assert!(!built(&mut db, true).incremental);
    assert_eq!(id(&db), before);
}

#[test]
fn an_equal_content_is_found_by_its_digests_alone() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let index = Index::open(&db).unwrap();
    let empty = Fingerprint {
        cells: Vec::new(),
        vector: [0; VECTOR_DIMENSIONS],
        row_gram: None,
        ..Model::random(5, 4, 64).fingerprint()
    };
    assert!(index.find(&empty, 3, Look::Usual).unwrap().related.is_empty());
    let (weights, samples) = (Some(Tag::of("w-a-copy")), Some(Tag::of("s-a-near")));
    let by_weights = Sought { weights, ..Sought::from(&empty) };
    let by_samples = Sought { weights: Some(Tag::of("w-else")), samples, ..Sought::from(&empty) };
    for (sought, name, kind) in [
        (by_weights, "org/a", VerdictKind::Identical),
        (by_samples, "org/a-near", VerdictKind::NoWeightEvidence),
    ] {
        for look in [Look::Usual, Look::Exact] {
            let found = index.find(sought, 1, look).unwrap();
            let [related] = &found.related[..] else { panic!("{found:?}") };
            assert_eq!(related.verdict.kind, kind);
            let [closest] = &related.closest[..] else { panic!("{found:?}") };
            assert_eq!(index.repositories(closest.number)[0].repo_id, name);
        }
    }
}

#[test]
fn copies_with_moved_dimensions_are_of_their_family() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let base = Model::random(0, 8, 128);
    let kept: Vec<usize> = (0..96).map(|i| i * 37 % 128).collect();
    let (permuted, narrow) = (base.tuned(0.95, 1).permuted(2), base.with_dimensions(&kept));
    let strangers: Vec<Model> = (10..20).map(|seed| Model::random(seed, 8, 128)).collect();
    let mut names = vec!["base", "permuted", "narrow", "of-permuted"];
    let of_permuted = permuted.tuned(0.8, 3);
    let mut models = vec![&base, &permuted, &narrow, &of_permuted];
    names.extend(["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]);
    models.extend(&strangers);
    db.append(&named(&names[..2], &models[..2])).unwrap();
    // Behind heads of the index, and behind those of one batch.
    built(&mut db, true);
    db.append(&named(&names[2..], &models[2..])).unwrap();
    let grown = built(&mut db, false);
    assert_eq!(grown.families, 11, "{grown:?}");
    let index = Index::open(&db).unwrap();
    for (query, relation) in [
        (base.tuned(0.9, 7).permuted(9), Relation::BasisChanged),
        (base.with_dimensions(&kept[..80]), Relation::WidthPruned),
    ] {
        for look in [Look::Usual, Look::Exact] {
            let found = index.find(&query.fingerprint(), 3, look).unwrap();
            let [related] = &found.related[..] else { panic!("{found:?}") };
            assert_eq!(related.verdict.relation, Some(relation), "{:?}", related.verdict);
            let family = index.family(related.family);
            assert_eq!(family.contents, 4);
            assert_eq!(index.repositories(family.root)[0].repo_id, "org/base");
            assert!(related.closest[0].cosine > 0.6, "{related:?}");
        }
    }
    for seed in 20..60 {
        let found = index.find(&Model::random(seed, 8, 128).fingerprint(), 3, Look::Usual).unwrap();
        assert!(found.related.is_empty(), "{found:?}");
    }
}

#[test]
fn a_copy_of_a_member_far_from_the_nearest_heads_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let base = Model::random(0, 2, 64);
    // Heads of one family, each with near members; what lies between two of them is near both.
    let heads: Vec<Model> = (0..12).map(|seed| base.tuned(0.75, 100 + seed)).collect();
    let mut models = vec![base.clone()];
    for (head, seed) in heads.iter().zip(1000..) {
        models.push(head.clone());
        models.extend((0..8).map(|i| head.tuned(0.93, 100 * seed + i)));
    }
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    let whole = built(&mut db, true);
    assert!(whole.families == 1 && whole.heads > 5, "{whole:?}");
    let index = Index::open(&db).unwrap();
    for (name, model) in names.iter().zip(&models) {
        for k in [1, 5] {
            let found = index.find(&model.fingerprint(), k, Look::Usual).unwrap();
            let nearest = found.related[0].closest[0];
            assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
        }
    }
}

/// Puts other metadata in the place of the index's own.
fn with_metadata(db: &mut Database, change: impl Fn(&mut serde_json::Value)) {
    let mut entry = db.manifest().index.clone().unwrap();
    let path = db.files().local(&entry.files[METADATA]).unwrap();
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    let write = |file: &mut fs::File| {
        std::io::Write::write_all(file, value.to_string().as_bytes()).map_err(StoreError::io(Path::new("")))
    };
    entry.files.insert(METADATA.into(), db.files().add(FOLDER, "json", write).unwrap());
    db.set_index(&entry).unwrap();
}

#[test]
fn foreign_stale_newer_and_lying_indexes_are_told_apart() {
    use serde_json::{Value, json};
    type Change = fn(&mut Value);
    type Is = fn(&StoreError) -> bool;
    let (_dir, mut db) = database();
    built(&mut db, true);
    let good = db.manifest().index.clone().unwrap();
    let cases: [(&str, Change, Is, &str); 12] = [
        (
            "foreign",
            |m| m["database"] = json!("0123"),
            |e| matches!(e, StoreError::ForeignIndex { .. }),
            "anew",
        ),
        ("shards", |m| m["shards"][1] = json!("00"), |e| matches!(e, StoreError::StaleIndex { .. }), "anew"),
        ("fewer", |m| m["shards"] = json!([]), |e| matches!(e, StoreError::StaleIndex { .. }), "anew"),
        (
            "extraction",
            |m| m["extraction_version"] = json!(0),
            |e| matches!(e, StoreError::StaleIndex { .. }),
            "anew",
        ),
        (
            "older",
            |m| m["index_version"] = json!(INDEX_VERSION - 1),
            |e| matches!(e, StoreError::Version { .. }),
            "anew",
        ),
        (
            "newer",
            |m| m["index_version"] = json!(99),
            |e| matches!(e, StoreError::Version { .. }),
            "newer hubprint",
        ),
        (
            "contents",
            |m| m["contents"] = json!(1u64 << 60),
            |e| matches!(e, StoreError::Damaged { .. }),
            "index",
        ),
        ("heads", |m| m["heads"] = json!(1u64 << 60), |e| matches!(e, StoreError::Damaged { .. }), "index"),
        ("families", |m| m["families"] = json!(2), |e| matches!(e, StoreError::Damaged { .. }), "index"),
        ("postings", |m| m["postings"] = json!(7), |e| matches!(e, StoreError::Damaged { .. }), "index"),
        (
            "many",
            |m| m["postings"] = json!(1u64 << 60),
            |e| matches!(e, StoreError::StaleIndex { .. }),
            "anew",
        ),
        ("no number", |m| m["heads"] = json!("x"), |e| matches!(e, StoreError::Damaged { .. }), "index"),
    ];
    for (name, change, is, hint) in cases {
        with_metadata(&mut db, change);
        let error = Index::open(&db).unwrap_err();
        assert!(is(&error), "{name}: {error}");
        assert!(
            error.hint().contains(hint) && error.hint().contains("hubprint index"),
            "{name}: {}",
            error.hint()
        );
        db.set_index(&good).unwrap();
    }
    assert!(Index::open(&db).is_ok());
    // Whatever is wrong, a build puts it right.
    with_metadata(&mut db, |m| m["database"] = json!("0123"));
    assert!(!built(&mut db, false).incremental);
    assert!(Index::open(&db).is_ok());
}

#[test]
fn damage_and_other_versions_are_refused_with_advice() {
    let (_dir, mut db) = database();
    assert!(matches!(Index::open(&db), Err(StoreError::NoIndex { .. })));
    built(&mut db, true);
    let paths = paths_of(&db);
    for (name, path) in &paths {
        let bytes = fs::read(path).unwrap();
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        atomic::write(path, &flipped).unwrap();
        let error = verify(&db, false, &|_, _| {}).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
        assert!(error.hint().contains("hubprint index"), "{name}");
        atomic::write(path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(Index::open(&db), Err(StoreError::Damaged { .. })), "{name} cut");
        atomic::write(path, &bytes).unwrap();
    }
    assert!(Index::open(&db).is_ok());
    let mut entries = db.manifest().index.clone().unwrap();
    let other = |file: &mut fs::File| {
        std::io::Write::write_all(file, br#"{"index_version": 8}"#).map_err(StoreError::io(Path::new("")))
    };
    let entry = db.files().add(FOLDER, "json", other).unwrap();
    entries.files.insert(METADATA.into(), entry);
    db.set_index(&entries).unwrap();
    let error = Index::open(&db).unwrap_err();
    assert!(matches!(error, StoreError::Version { found: 8, .. }), "{error}");
    assert!(error.hint().contains("hubprint index"));
    // And put right by building again.
    assert!(!built(&mut db, false).incremental);
    assert!(Index::open(&db).is_ok());
}

#[test]
fn an_empty_database_has_an_empty_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    assert_eq!(built(&mut db, false).contents, 0);
    let query = Model::random(1, 2, 64).fingerprint();
    assert!(Index::open(&db).unwrap().find(&query, 5, Look::Usual).unwrap().related.is_empty());
}

#[test]
fn a_crowd_of_near_duplicates_is_found_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let models: Vec<Model> = (0..3)
        .flat_map(|s| {
            let base = Model::random(s, 1, 32);
            (0..60).map(move |i| base.tuned(0.99, 1000 + i)).collect::<Vec<_>>()
        })
        .collect();
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    assert_eq!(built(&mut db, true).families, 3);
    let index = Index::open(&db).unwrap();
    for (name, model) in names.iter().zip(&models) {
        let found = index.find(&model.fingerprint(), 1, Look::Usual).unwrap();
        let nearest = found.related[0].closest[0];
        assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
    }
}
