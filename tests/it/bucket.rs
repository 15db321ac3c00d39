//! Databases in a bucket, on a real S3 server: `tests/bucket/run.sh` starts one and runs these.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hubprint::store::{Database, DatabaseFiles, Location, Partition, Row, StoreError, Task};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Cli, Hub, Models, comparable, files_below, read};

/// A prefix of its own in the bucket of the environment.
fn place(name: &str) -> String {
    let bucket = std::env::var("HUBPRINT_TEST_BUCKET").expect("run tests/bucket/run.sh");
    format!("{bucket}/{name}-{:08x}", rand::random::<u32>())
}

/// The place, as a machine of its own sees it.
fn machine(place: &str) -> (TempDir, Location) {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::parse(place, dir.path()).unwrap();
    (dir, location)
}

/// The command line with the credentials of this environment.
fn cli(endpoint: &str) -> Cli {
    let cli = Cli::new(endpoint);
    let keys = ["AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    keys.into_iter().fold(cli, |cli, key| cli.with(key, &std::env::var(key).unwrap()))
}

/// Rows that each writer commits, one by one.
const ROWS: u64 = 101;
/// Reads between the first commit and the last.
const READS: u64 = 1000;

#[test]
#[ignore = "needs an S3 server"]
fn two_writers_and_a_reader_see_whole_snapshots_only() {
    let place = place("race");
    let (_dir, location) = machine(&place);
    drop(Database::open_or_create(&location, Task::CRAWL).unwrap());
    let writing = AtomicU64::new(2);
    let reads = AtomicU64::new(0);
    let (writing, reads) = (&writing, &reads);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|number| {
                let place = place.clone();
                scope.spawn(move || {
                    let (_dir, location) = machine(&place);
                    let task = Task::Crawl(Partition { number, of: 2 });
                    let mut db = Database::open_to_write(&location, task).unwrap();
                    for i in 0..ROWS {
                        // Both at once, and spread over all reads.
                        while reads.load(Ordering::Relaxed) < i * READS / (ROWS - 1) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        let row = hubprint::checkpoint::row::bare(
                            &format!("w{number}/{i}"),
                            hubprint::store::Outcome::Unsupported,
                            "made up".into(),
                        );
                        db.append(&[row]).unwrap();
                    }
                    writing.fetch_sub(1, Ordering::Relaxed);
                })
            })
            .collect();
        scope.spawn(|| {
            let (_dir, location) = machine(&place);
            let mut last = 0;
            while writing.load(Ordering::Relaxed) > 0 {
                let db = Database::open(&location).unwrap();
                let manifest = db.manifest();
                // One commit made it, and each adds one row: a torn state would break this.
                assert_eq!(manifest.rows(), manifest.generation - 1);
                assert!(manifest.generation >= last, "a reader never goes back");
                last = manifest.generation;
                if reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(10) {
                    assert_eq!(db.live().unwrap().repos.len() as u64, manifest.rows());
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
    });
    assert!(reads.load(Ordering::Relaxed) >= READS, "the last commits came after so many reads");
    let db = Database::open(&location).unwrap();
    assert_eq!(db.manifest().generation, 1 + 2 * ROWS, "no commit is lost");
    assert_eq!(db.live().unwrap().repos.len() as u64, 2 * ROWS);
    assert_eq!(db.verify(&|_, _| {}).unwrap(), 2 * ROWS);
}

#[test]
#[ignore = "needs an S3 server"]
fn locks_hold_across_machines() {
    let place = place("locks");
    let (_dir, location) = machine(&place);
    let first = Database::open_or_create(&location, Task::CRAWL).unwrap();
    let (_other, elsewhere) = machine(&place);
    for task in [Task::CRAWL, Task::Maintenance, Task::Crawl(Partition { number: 1, of: 2 })] {
        let refused = Database::open_to_write(&elsewhere, task);
        assert!(matches!(refused, Err(StoreError::Locked { owner: Some(_), .. })), "{task:?}");
    }
    drop(Database::open_to_write(&elsewhere, Task::Index).unwrap());
    assert_eq!(first.writers().unwrap().len(), 1);
    drop(first);
    drop(Database::open_to_write(&elsewhere, Task::Maintenance).unwrap());
}

#[test]
#[ignore = "needs an S3 server"]
fn every_command_works_on_a_bucket_as_on_a_folder() {
    let mut models = Models::new();
    for seed in 1..=4 {
        models.add_tiny(&format!("a/model-{seed}"), seed);
    }
    models.add_tiny("b/copy", 1);
    let hub = Hub::serve(models.path(), &[]);
    let (bucket, cli) = (place("db"), cli(hub.url()));
    let local = Cli::new(hub.url());
    local.crawl(0, &[]);
    local.expect(0, &["index", "--db", "DB"]);
    // Another machine has made it, and nothing is in it yet when the parts begin, each on a machine of its own.
    let (_dir, elsewhere) = machine(&bucket);
    drop(Database::open_or_create(&elsewhere, Task::CRAWL).unwrap());
    cli.expect(0, &["crawl", "--db", &bucket, "--partition", "1/2"]);
    self::cli(hub.url()).expect(0, &["crawl", "--db", &bucket, "--partition", "2/2"]);
    cli.expect(0, &["index", "--db", &bucket]);
    cli.expect(0, &["db", "compact", "--db", &bucket]);
    cli.expect(0, &["db", "verify", "--db", &bucket]);
    let info = cli.expect(0, &["db", "info", "--db", &bucket, "--json"]).json();
    assert_eq!((&info["models"], &info["contents"]), (&json!(5), &json!(4)));
    cli.expect(0, &["status", "--db", &bucket]);
    // What counts is the object, whatever this machine has a copy of; and a copy that differs is fetched again.
    let location = Location::parse(&bucket, &cli.home().join(".cache/hubprint")).unwrap();
    let files = DatabaseFiles::open(location.clone()).unwrap();
    let shard = Database::open(&location).unwrap().manifest().shards[0].entry.clone();
    let good = files.get(&shard.file).unwrap().unwrap();
    let mut bad = good.clone();
    bad[77] ^= 1;
    files.put(&shard.file, &bad).unwrap();
    cli.expect(2, &["db", "verify", "--db", &bucket]).says(&[&shard.file, "is damaged"]);
    files.put(&shard.file, &good).unwrap();
    cli.expect(0, &["db", "verify", "--db", &bucket]);
    let copies = files_below(cli.home()).into_iter().filter(|path| path.ends_with(&shard.file));
    for copy in copies.collect::<Vec<_>>() {
        crate::support::write(&copy, &bad);
        cli.expect(0, &["db", "verify", "--db", &bucket]);
        assert_eq!(read(&copy), good);
    }
    // Another machine has nothing of it yet.
    let fresh = self::cli(hub.url());
    let answer = fresh.expect(0, &["scan", "--db", &bucket, "--json", "a/model-1"]).json();
    let expected = local.expect(0, &["scan", "--db", "DB", "--json", "a/model-1"]).json();
    assert_eq!(answer["families"][0]["root"]["repo_id"], expected["families"][0]["root"]["repo_id"]);
    assert_eq!(answer["families"][0]["root"]["verdict"], "identical");

    fresh.expect(0, &["db", "keygen", "key"]);
    let shelf = place("shelf");
    cli.expect(0, &["db", "keygen", "key"]);
    cli.expect(2, &["publish", "--db", &bucket, "--to", &bucket, "--key", "key", "--yes"]);
    let foreign = place("foreign");
    let theirs = DatabaseFiles::open(Location::parse(&foreign, fresh.home()).unwrap()).unwrap();
    theirs.put("README.md", b"mine").unwrap();
    fresh
        .expect(2, &["publish", "--db", &bucket, "--to", &foreign, "--key", "key", "--yes"])
        .says(&["holds other files than publications: README.md"]);
    fresh.expect(0, &["publish", "--db", &bucket, "--to", &shelf, "--key", "key", "--yes"]);
    fresh.expect(0, &["db", "pull", &shelf, "--db", "DB"]);
    // Two parts do not know of each other that they read the same weights.
    let content = |cli: &Cli| -> Vec<Row> {
        comparable(cli.rows()).into_values().map(|row| Row { bytes_fetched: 0, ..row }).collect()
    };
    assert_eq!(content(&fresh), content(&local));
    // Killed while it sends, it goes on.
    models.add_tiny("c/new", 9);
    hub.rescan();
    fresh.expect(0, &["crawl", "--db", &bucket]);
    fresh.expect(0, &["index", "--db", &bucket]);
    let publish = ["publish", "--db", &bucket, "--to", &shelf, "--key", "key", "--yes"];
    for delay in [40, 120, 250] {
        let mut child = fresh.command(&publish).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fresh.expect(0, &publish);
    fresh.expect(0, &["db", "pull", &shelf, "--db", "DB"]);
    assert_eq!(fresh.rows().len(), 6);
    let vacuumed = fresh
        .expect(0, &["db", "vacuum", "--db", &bucket, "--keep", "1", "--older-than", "0s", "--json"])
        .json();
    assert!(vacuumed["files_removed"].as_u64().unwrap() > 5, "{vacuumed}");
    fresh.expect(0, &["db", "verify", "--db", &bucket]);
    for path in files_below(fresh.home()) {
        let text = read(&path);
        assert!(!text.windows(14).any(|w| w == b"planted-secret"), "{}", path.display());
    }
}

#[test]
#[ignore = "needs an S3 server"]
fn a_bucket_that_refuses_is_told_without_secrets() {
    let missing = place("db").replace("hubprint/", "no-such-bucket/");
    let ended = cli("http://127.0.0.1:9").expect(2, &["db", "info", "--db", &missing]);
    ended.says(&["no-such-bucket", "hint: "]);
    assert!(!ended.stderr.contains("planted-secret"), "{}", ended.stderr);
}
