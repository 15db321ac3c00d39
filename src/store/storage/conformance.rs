//! What every place for files has to do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;

use super::{Bucket, Folder, Memory, Storage, Version};
use crate::store::checksum::sha256;
use crate::store::{FileEntry, StoreError, atomic};

/// Most bytes of the files here.
const MOST: u64 = 100;

fn text(storage: &dyn Storage, name: &str) -> Option<Vec<u8>> {
    storage.read(name, MOST).unwrap().map(|(bytes, _)| bytes)
}

fn entry(name: &str, bytes: &[u8]) -> FileEntry {
    FileEntry { file: name.into(), bytes: bytes.len() as u64, sha256: sha256(bytes) }
}

fn copied(storage: &dyn Storage, name: &str, bytes: u64) -> Result<Vec<u8>, StoreError> {
    let mut to = Vec::new();
    storage.copy(name, bytes, &mut to).map(|()| to)
}

fn is_damaged<T>(result: &Result<T, StoreError>, word: &str) -> bool {
    matches!(result, Err(StoreError::Damaged { what, .. }) if what.contains(word))
}

/// Runs it all on an empty place.
fn conforms(storage: &dyn Storage) {
    nothing_is_there(storage);
    files_are_written_read_and_removed(storage);
    creation_is_exclusive(storage);
    replacement_has_a_condition(storage);
    of_many_one_wins(storage);
    files_are_imported_as_stated(storage);
    folders_are_listed(storage);
    other_names_are_refused(storage);
}

fn nothing_is_there(storage: &dyn Storage) {
    assert_eq!(text(storage, "a/b"), None);
    assert!(is_damaged(&copied(storage, "a/b", 3), "not there"));
    assert_eq!(storage.list("a").unwrap().len(), 0);
    assert_eq!(storage.foreign(|_| false).unwrap(), None);
    storage.remove("a/b").unwrap();
    assert!(!storage.replace("a/b", b"x", &Version::default()).unwrap());
    assert_eq!(text(storage, "a/b"), None);
}

fn files_are_written_read_and_removed(storage: &dyn Storage) {
    for bytes in [&b"one"[..], b"", b"another"] {
        storage.put("small/x", bytes).unwrap();
        assert_eq!(text(storage, "small/x").unwrap(), bytes);
        assert_eq!(copied(storage, "small/x", bytes.len() as u64).unwrap(), bytes);
    }
    assert!(is_damaged(&storage.read("small/x", 6), "more than 6"));
    assert_eq!(storage.read("small/x", 7).unwrap().unwrap().0, b"another");
    for other in [6, 8] {
        assert!(is_damaged(&copied(storage, "small/x", other), "7 bytes"), "{other}");
    }
    // A file is no folder.
    assert_eq!(text(storage, "small/x/y"), None);
    assert_eq!(storage.list("small/x").unwrap().len(), 0);
    storage.put("top.txt", b"1").unwrap();
    assert_eq!(text(storage, "top.txt").unwrap(), b"1");
    for name in ["small/x", "small/x", "top.txt"] {
        storage.remove(name).unwrap();
        assert_eq!(text(storage, name), None);
    }
}

fn creation_is_exclusive(storage: &dyn Storage) {
    assert!(storage.create("made/x", b"first").unwrap());
    assert!(!storage.create("made/x", b"second").unwrap());
    assert_eq!(text(storage, "made/x").unwrap(), b"first");
    storage.remove("made/x").unwrap();
    assert!(storage.create("made/x", b"third").unwrap());
    storage.remove("made/x").unwrap();
}

fn replacement_has_a_condition(storage: &dyn Storage) {
    let version = || storage.read("lock/x", MOST).unwrap().unwrap().1;
    storage.put("lock/x", b"1").unwrap();
    let first = version();
    assert!(storage.replace("lock/x", b"2", &first).unwrap());
    assert!(!storage.replace("lock/x", b"3", &first).unwrap());
    assert_eq!(text(storage, "lock/x").unwrap(), b"2");
    let second = version();
    storage.remove("lock/x").unwrap();
    assert!(!storage.replace("lock/x", b"4", &second).unwrap());
    assert_eq!(text(storage, "lock/x"), None);
}

fn of_many_one_wins(storage: &dyn Storage) {
    let count = |act: &(dyn Fn(u8) -> bool + Sync)| -> usize {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || act(i))).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        })
    };
    assert_eq!(count(&|i| storage.create("race/x", &[i; 50]).unwrap()), 1);
    let made = text(storage, "race/x").unwrap();
    assert!(made.len() == 50 && made.iter().all(|byte| *byte == made[0]), "one of them, whole");
    let version = storage.read("race/x", MOST).unwrap().unwrap().1;
    assert_eq!(count(&|i| storage.replace("race/x", &[100 + i; 60], &version).unwrap()), 1);
    // Whoever reads meanwhile sees the one or the other.
    count(&|i| {
        storage.put("race/y", &[i; 70]).unwrap();
        let seen = text(storage, "race/y").unwrap();
        assert!(seen.len() == 70 && seen.iter().all(|byte| *byte == seen[0]), "{seen:?}");
        true
    });
    for name in ["race/x", "race/y"] {
        storage.remove(name).unwrap();
    }
}

fn files_are_imported_as_stated(storage: &dyn Storage) {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    // Longer than what a bucket takes in one part.
    let bytes = vec![7; (9 << 20) + 5];
    atomic::write(&from, &bytes).unwrap();
    let good = entry("big/x", &bytes);
    for wrong in [FileEntry { bytes: 1, ..good.clone() }, FileEntry { sha256: sha256(b""), ..good.clone() }] {
        assert!(is_damaged(&storage.import(&wrong, &from), "stated"));
        assert_eq!(text(storage, "big/x"), None);
    }
    storage.import(&good, &from).unwrap();
    assert!(copied(storage, "big/x", good.bytes).unwrap() == bytes);
    assert!(matches!(storage.import(&good, &dir.path().join("none")), Err(StoreError::Io { .. })));
    storage.remove("big/x").unwrap();
}

fn folders_are_listed(storage: &dyn Storage) {
    let names = ["list/a", "list/b.json", "list/deep/c", "listed/d", "e"];
    for (name, length) in names.iter().zip(1..) {
        storage.put(name, &vec![0; length]).unwrap();
    }
    let found: BTreeSet<(String, u64)> =
        storage.list("list").unwrap().into_iter().map(|present| (present.file, present.bytes)).collect();
    assert_eq!(found, [("list/a".into(), 1), ("list/b.json".into(), 2)].into());
    assert_eq!(storage.list("list/deep").unwrap().len(), 1);
    let ours: fn(&str) -> bool = |name| name != "e";
    assert_eq!(storage.foreign(ours).unwrap().as_deref(), Some("e"));
    storage.remove("e").unwrap();
    // Folders that are empty are left where a place has folders at all.
    assert_eq!(storage.foreign(ours).unwrap(), None);
    let in_a_folder = storage.foreign(|name| name != "listed").unwrap().unwrap();
    assert!(in_a_folder.starts_with("listed"), "{in_a_folder}");
    for name in &names {
        storage.remove(name).unwrap();
    }
}

fn other_names_are_refused(storage: &dyn Storage) {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    atomic::write(&from, b"x").unwrap();
    for name in ["", "/", "../x", "a/../../x", "/etc/x", "a//b", "a/", "./a", "a/.", "a\\b", "a\0b"] {
        let refused = [
            storage.read(name, MOST).map(drop),
            copied(storage, name, 1).map(drop),
            storage.put(name, b"x"),
            storage.create(name, b"x").map(drop),
            storage.replace(name, b"x", &Version::default()).map(drop),
            storage.import(&entry(name, b"x"), &from),
            storage.list(name).map(drop),
            storage.remove(name),
        ];
        for (i, result) in refused.iter().enumerate() {
            assert!(matches!(result, Err(StoreError::Name { .. })), "{name:?}, {i}: {result:?}");
        }
    }
}

#[test]
fn a_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&Folder::new(dir.path().join("not/there/yet")));
    assert_eq!(Folder::new(dir.path()).folder(), Some(dir.path()));
}

#[test]
fn memory_conforms() {
    let memory = Memory::default();
    conforms(&memory);
    assert_eq!(memory.folder(), None);
    assert!(memory == memory.clone() && memory != Memory::default());
}

#[test]
fn a_bucket_conforms() {
    for prefix in ["", "prefix", "long/prefix"] {
        conforms(&Bucket::of(Arc::new(InMemory::new()), prefix, "memory://bucket"));
    }
}

#[test]
#[ignore = "needs an S3 server; tests/bucket/run.sh starts one"]
fn a_bucket_of_a_server_conforms() {
    let bucket = std::env::var("HUBPRINT_TEST_BUCKET").expect("run tests/bucket/run.sh");
    let url = format!("{bucket}/conformance-{:08x}", rand::random::<u32>());
    let bucket = Bucket::open(&url.parse().unwrap()).unwrap();
    conforms(&bucket);
    assert_eq!(bucket.address("a/b"), Path::new(&format!("{url}/a/b")));
}
