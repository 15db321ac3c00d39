//! Indexes that are damaged, foreign, stale or of another version.

use std::fs;
use std::path::Path;

use super::databases::{built, database, named, paths_of};
use crate::retrieval::metadata::{FOLDER, INDEX_VERSION, METADATA};
use crate::retrieval::segments::Paths;
use crate::retrieval::{Index, codes, verify};
use crate::signals::testing::Model;
use crate::store::{Database, StoreError, Task, atomic};

#[test]
fn a_lost_checkpoint_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    // Of so many members not every one is looked at exactly.
    let base = Model::random(0, 1, 32);
    let models: Vec<Model> = (0..200).map(|i| base.tuned(0.99, 100 + i)).collect();
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    assert_eq!(built(&mut db, true).representatives, 1);
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
    assert_eq!(
        (verified.lost_checkpoints, verified.lost_representatives, verified.lost_repositories),
        (1, 0, 0)
    );
    assert!(!verified.is_whole());
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
        let newer = serde_json::json!({ "index_version": INDEX_VERSION + 1 }).to_string();
        std::io::Write::write_all(file, newer.as_bytes()).map_err(StoreError::io(Path::new("")))
    };
    let entry = db.files().add(FOLDER, "json", other).unwrap();
    entries.files.insert(METADATA.into(), entry);
    db.set_index(&entries).unwrap();
    let error = Index::open(&db).unwrap_err();
    assert!(matches!(error, StoreError::Version { found, .. } if found == INDEX_VERSION + 1), "{error}");
    assert!(error.hint().contains("hubprint index"));
    // And put right by building again.
    assert!(!built(&mut db, false).incremental);
    assert!(Index::open(&db).is_ok());
}
