//! Small databases with an index.

use sha2::Digest;

use crate::retrieval::codes::CODES;
use crate::retrieval::metadata::{CHECKPOINTS, FAMILIES, LINEAGE, POSTINGS, REPRESENTATIVES};
use crate::retrieval::payload::PAYLOAD;
use crate::retrieval::segments::{Paths, Segments};
use crate::retrieval::vectors::VECTORS;
use crate::retrieval::{BuildSettings, Built, build};
use crate::signals::testing::Model;
use crate::store::schema::testing::row;
use crate::store::{Database, Row, Task};

pub(in crate::retrieval) fn settings() -> BuildSettings {
    BuildSettings { recall_queries: 20, negatives: 20, ..BuildSettings::default() }
}

pub(in crate::retrieval) fn built(db: &mut Database, from_nothing: bool) -> Built {
    build(db, &settings(), from_nothing, &|_, _| {}, &|| false).unwrap()
}

pub(in crate::retrieval) fn named(names: &[&str], models: &[&Model]) -> Vec<Row> {
    names.iter().zip(models).map(|(name, model)| row(name, Some(model.fingerprint()))).collect()
}

/// A repository with the checkpoint of `a`, and another file around it.
pub(in crate::retrieval) fn copy_of_a(name: &str) -> Row {
    let fingerprint = Model::random(0, 4, 64).fingerprint();
    Row { sample_digest: Some("s-a".into()), ..row(name, Some(fingerprint)) }
}

/// Four shards of three families: bases, children near and far, and a copy.
pub(in crate::retrieval) fn database() -> (tempfile::TempDir, Database) {
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
pub(in crate::retrieval) fn tables_of(db: &Database) -> Vec<(&'static str, String)> {
    let entries = &db.manifest().index.as_ref().unwrap().files;
    let tables = [CHECKPOINTS, FAMILIES, REPRESENTATIVES, LINEAGE, POSTINGS];
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
        all.push((name, crate::store::checksum::hex(&hasher.finalize())));
    }
    all
}

pub(in crate::retrieval) fn paths_of(db: &Database) -> Paths {
    let entries = &db.manifest().index.as_ref().unwrap().files;
    entries.iter().map(|(name, e)| (name.clone(), db.files().local(e).unwrap())).collect()
}
