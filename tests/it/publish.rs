//! publish and pull: what is published comes back as it was, and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::maintenance::{add, copy, kill_often, population};
use crate::support::{Cli, Ended, Hub, comparable, files_below, read, rows, write};

/// A made-up database, published into a folder.
fn published() -> Cli {
    let cli = population("120", &["40", "80"]);
    cli.expect(0, &["db", "keygen", "key"]);
    publish(&cli, 0, &[]);
    cli
}

fn publish(cli: &Cli, code: i32, more: &[&str]) -> Ended {
    cli.expect(
        code,
        &[&["publish", "--db", "DB", "--to", "shelf", "--key", "key", "--yes", "--json"], more].concat(),
    )
}

/// Pulls from the shelf into a folder.
fn pull(cli: &Cli, code: i32, into: &str, more: &[&str]) -> Ended {
    cli.expect(code, &[&["db", "pull", "shelf", "--db", into, "--json"], more].concat())
}

fn shelf(cli: &Cli) -> PathBuf {
    cli.home().join("shelf")
}

fn night(cli: &Cli, begin: &str, end: &str) {
    add(cli, "120", begin, end);
    cli.expect(0, &["index", "--db", "DB"]);
}

#[test]
fn what_is_published_comes_back_as_it_was() {
    let cli = population("120", &["40", "80"]);
    cli.expect(2, &["publish", "--db", "DB", "--to", "shelf"]).says(&["no key", "hubprint db keygen"]);
    cli.expect(0, &["db", "keygen", "key"]);
    cli.expect(2, &["db", "keygen", "key"]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(cli.home().join("key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = cli.expect(0, &["publish", "--db", "DB", "--to", "shelf", "--key", "key"]).stdout;
    assert!(text.contains("would be published") && text.contains("--yes"), "{text}");
    assert!(!shelf(&cli).exists(), "nothing is written without --yes");

    let sent = publish(&cli, 0, &[]).json();
    assert_eq!((&sent["done"], &sent["before"]), (&json!(true), &Value::Null));
    let pulled = pull(&cli, 0, "copy", &[]).json();
    assert_eq!(
        (&pulled["version"], &pulled["key"], &pulled["key_is_new"]),
        (&sent["version"], &sent["key"], &json!(true))
    );
    assert_eq!(comparable(rows(&cli.home().join("copy"))), comparable(cli.rows()));
    cli.expect(0, &["db", "verify", "--db", "copy"]);
    assert_eq!(
        cli.expect(0, &["scan", "--db", "copy", "--from-db", "DB"]).stdout,
        cli.expect(0, &["scan", "--db", "DB", "--from-db", "DB"]).stdout
    );
    // Once more costs nothing.
    let again = pull(&cli, 0, "copy", &[]).json();
    assert_eq!((&again["files_fetched"], &again["key_is_new"]), (&json!(0), &json!(false)));
    assert_eq!(publish(&cli, 0, &[]).json()["files_sent"], 0);
    // A shelf is a database that can be read where it is.
    cli.expect(0, &["db", "verify", "--db", "shelf"]);
    let card = String::from_utf8(read(&shelf(&cli).join("README.md"))).unwrap();
    for word in [
        "license: \"cc-by-4.0\"",
        "config_name: models",
        "config_name: lineage",
        "80 indexed",
        "of the ten nearest",
    ] {
        assert!(card.contains(word), "{word}: {card}");
    }
}

#[test]
fn the_database_that_was_pulled_is_the_default_of_scan() {
    let cli = published();
    cli.expect(2, &["scan", "x/y"]).says(&["is not a hubprint database"]);
    cli.expect(0, &["db", "pull", "shelf"]);
    assert!(cli.home().join(".local/share/hubprint/db/manifests").is_dir());
    assert_eq!(cli.expect(0, &["scan", "--from-db", "DB"]).lines().len(), 80);
}

#[test]
fn only_what_has_changed_is_sent_and_fetched() {
    let cli = published();
    pull(&cli, 0, "copy", &[]);
    let before: BTreeMap<PathBuf, Vec<u8>> =
        files_below(&cli.home().join("copy/shards")).into_iter().map(|p| (p.clone(), read(&p))).collect();
    night(&cli, "80", "90");
    let sent = publish(&cli, 0, &[]).json();
    let pulled = pull(&cli, 0, "copy", &[]).json();
    let all = sent["files"].as_u64().unwrap();
    for (what, files, bytes) in
        [(&sent, "files_sent", "bytes_sent"), (&pulled, "files_fetched", "bytes_fetched")]
    {
        assert!(what[files].as_u64().unwrap() < all - 3, "{what}");
        assert!(what[bytes].as_u64().unwrap() < sent["bytes"].as_u64().unwrap() / 2, "{what}");
    }
    for (path, content) in before {
        assert_eq!(read(&path), content, "shards never change");
    }
    assert_eq!(comparable(rows(&cli.home().join("copy"))), comparable(cli.rows()));
    // Two publications stay; a third night pushes the first out, and with it what only it needs.
    night(&cli, "90", "100");
    let third = publish(&cli, 0, &[]).json();
    assert!(third["files_removed"].as_u64().unwrap() > 3, "{third}");
    assert_eq!(files_below(&shelf(&cli).join("publications")).len(), 8);
    pull(&cli, 0, "other", &["--version", &sent["version"].to_string()]);
    assert_eq!(rows(&cli.home().join("other")).len(), 90);
}

/// What an attacker does to one file of the shelf.
fn attacks(path: &Path, other: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let good = read(path);
    let mut first = good.clone();
    first[0] ^= 1;
    let mut middle = good.clone();
    middle[good.len() / 2] ^= 0x40;
    let mut last = good.clone();
    last[good.len() - 1] ^= 1;
    let longer = [&good[..], b"\n"].concat();
    vec![
        ("first byte", first),
        ("a byte", middle),
        ("last byte", last),
        ("cut", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("longer", longer),
        ("swapped", read(other)),
    ]
}

#[test]
fn every_change_to_every_file_is_refused_and_named() {
    let cli = published();
    pull(&cli, 0, "copy", &[]);
    let files = files_below(&shelf(&cli));
    assert!(files.len() > 12);
    for (i, path) in files.iter().enumerate() {
        let good = read(path);
        let name = path.strip_prefix(shelf(&cli)).unwrap().display().to_string();
        let other = &files[(i + 1) % files.len()];
        for (attack, bad) in attacks(path, other) {
            if bad == good {
                continue;
            }
            write(path, &bad);
            // What was fetched and checked before is not fetched again.
            let _ = fs::remove_dir_all(cli.home().join("victim"));
            let ended = pull(&cli, 2, "victim", &[]);
            ended.says(&["error: ", "hint: "]);
            // A key that is no key, or another one, is told as that.
            let told = ended.stderr.contains(&name)
                || ended.stderr.contains(name.trim_end_matches(".sig").trim_end_matches(".pem"))
                || ended.stderr.contains("README.md");
            assert!(told, "{attack} of {name}: {}", ended.stderr);
            assert!(
                !cli.home().join("victim/manifests").exists(),
                "{attack} of {name}: nothing became visible"
            );
        }
        write(path, &good);
        fs::remove_file(path).unwrap();
        let _ = fs::remove_dir_all(cli.home().join("victim"));
        // Without its list there is no publication at all.
        pull(&cli, 2, "victim", &[]).says(&["error: "]);
        write(path, &good);
    }
    pull(&cli, 0, "victim", &[]);
    pull(&cli, 0, "copy", &[]);
}

#[test]
fn rollbacks_foreign_keys_and_other_databases_are_refused_unless_asked_for() {
    let cli = published();
    let old = cli.home().join("old");
    copy(&shelf(&cli), &old);
    night(&cli, "80", "90");
    publish(&cli, 0, &[]);
    let newer = pull(&cli, 0, "copy", &[]).json()["version"].as_u64().unwrap();
    // The old shelf is put back in the place of the new one.
    fs::rename(shelf(&cli), cli.home().join("new")).unwrap();
    copy(&old, &shelf(&cli));
    pull(&cli, 2, "copy", &[]).says(&["offers publication", "replays an old one", "--accept-rollback"]);
    assert_eq!(rows(&cli.home().join("copy")).len(), 90);
    let back = pull(&cli, 0, "copy", &["--accept-rollback"]).json();
    assert_eq!(back["before"], newer);
    assert_eq!(rows(&cli.home().join("copy")).len(), 80, "the older one is what is read now");
    // An old list under the name of a new one.
    let named = |version: u64, end: &str| shelf(&cli).join(format!("publications/{version:012}.{end}"));
    let offered = back["version"].as_u64().unwrap();
    for end in ["json", "json.sig", "json.pem", "md"] {
        fs::copy(named(offered, end), named(newer, end)).unwrap();
    }
    pull(&cli, 2, "copy", &[]).says(&["under another name"]);
    fs::remove_dir_all(shelf(&cli)).unwrap();
    fs::rename(cli.home().join("new"), shelf(&cli)).unwrap();

    // Another key.
    pull(&cli, 0, "copy", &[]);
    cli.expect(0, &["db", "keygen", "mallory"]);
    night(&cli, "90", "100");
    cli.expect(0, &["publish", "--db", "DB", "--to", "shelf", "--key", "mallory", "--yes"]);
    pull(&cli, 2, "copy", &[]).says(&["is signed with the key", "--accept-key"]);
    pull(&cli, 2, "copy", &["--key", "key.pub"]).says(&["is signed with the key"]);
    pull(&cli, 2, "fresh", &["--key", "key.pub"]).says(&["is signed with the key"]);
    pull(&cli, 2, "copy", &["--key", "mallory.pub"]).says(&["is signed with the key"]);
    assert_eq!(rows(&cli.home().join("copy")).len(), 90);
    pull(&cli, 0, "copy", &["--key", "mallory.pub", "--accept-key"]);
    assert_eq!(rows(&cli.home().join("copy")).len(), 100);

    // Another database, here and there.
    let stranger = published();
    stranger.expect(0, &["db", "keygen", "own"]);
    let theirs = shelf(&stranger).display().to_string();
    cli.expect(2, &["publish", "--db", "DB", "--to", &theirs, "--key", "key", "--yes"])
        .says(&["holds the database", "--replace"]);
    cli.expect(2, &["db", "pull", &theirs, "--db", "copy", "--accept-key"])
        .says(&["holds the database", "--replace"]);
    cli.expect(0, &["db", "pull", &theirs, "--db", "copy", "--accept-key", "--replace"]);
    assert_eq!(rows(&cli.home().join("copy")).len(), 80);
    // A database of one's own is not overwritten.
    cli.expect(2, &["db", "pull", "shelf", "--db", "DB"]).says(&["a database of its own"]);
    cli.expect(2, &["publish", "--db", "shelf", "--to", "DB", "--key", "key", "--yes"])
        .says(&["holds other files than publications", "an empty place"]);
    cli.expect(2, &["publish", "--db", "shelf", "--to", "./shelf/", "--key", "key", "--yes"])
        .says(&["a database of its own"]);
    cli.expect(2, &["db", "pull", "nowhere", "--db", "copy"]).says(&["has no publication"]);
    pull(&cli, 2, "copy", &["--version", "77"]).says(&["no publication 77", "there are: "]);
    // Nor is what somebody has added to a copy.
    cli.expect(0, &["db", "merge", "--db", "copy", "DB"]);
    pull(&cli, 2, "copy", &[]).says(&["a database of its own"]);
}

#[test]
fn a_publication_is_pulled_from_a_dataset_on_the_hub() {
    let cli = published();
    let served = cli.home().join("served");
    let dataset = served.join("datasets/acme/prints");
    fs::create_dir_all(served.join("models")).unwrap();
    copy(&shelf(&cli), &dataset);
    let faults = ["faults.error_5xx=0.02", "faults.truncate=0.05", "faults.expire=0.02"];
    let hub = Hub::serve(&served, &faults);
    let from = ["db", "pull", "hf://datasets/acme/prints", "--hub", hub.url(), "--db", "copy", "--json"];
    let pulled = cli.expect(0, &from).json();
    assert_eq!(pulled["files_fetched"], pulled["files"]);
    assert_eq!(comparable(rows(&cli.home().join("copy"))), comparable(cli.rows()));
    let requests = hub.counters().requests.resolvers;
    cli.expect(0, &from);
    assert!(hub.counters().requests.resolvers - requests < 20, "what is here is not asked for");

    night(&cli, "80", "90");
    publish(&cli, 0, &[]);
    fs::remove_dir_all(&dataset).unwrap();
    copy(&shelf(&cli), &dataset);
    hub.rescan();
    let second = cli.expect(0, &from).json();
    assert!(second["bytes_fetched"].as_u64().unwrap() < second["bytes"].as_u64().unwrap() / 2, "{second}");
    assert_eq!(rows(&cli.home().join("copy")).len(), 90);
    let shard = files_below(&dataset.join("shards")).remove(0);
    let mut bytes = read(&shard);
    bytes[99] ^= 1;
    write(&shard, &bytes);
    hub.rescan();
    let fresh = ["db", "pull", "hf://datasets/acme/prints", "--hub", hub.url(), "--db", "victim"];
    cli.expect(2, &fresh).says(&["is not as published", "hint: "]);
    cli.expect(2, &["db", "pull", "hf://datasets/acme/none", "--hub", hub.url()]).says(&["hint: "]);
    cli.expect(2, &["db", "pull", "hf://acme/prints"]).says(&["hf://datasets/org/name"]);
    #[cfg(not(feature = "hf-hub"))]
    cli.expect(2, &["publish", "--db", "DB", "--to", "hf://datasets/acme/prints", "--key", "key"])
        .says(&["built without", "--features hf-hub"]);
}

#[test]
fn a_pipeline_publishes() {
    let cli = population("60", &["60"]);
    cli.expect(0, &["db", "keygen", "key"]);
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[index]\n[publish]\nto = 'shelf'\nkey = 'key'\nlicence = 'mit'\n");
    let all = cli.expect(0, &["run", "--json", "p.toml"]).json();
    assert_eq!((&all["publish"]["done"], &all["publish"]["before"]), (&json!(true), &Value::Null));
    pull(&cli, 0, "copy", &["--key", "key.pub"]);
    assert_eq!(rows(&cli.home().join("copy")).len(), 60);
}

fn killed(times: usize) {
    let cli = published();
    let publish_args = ["publish", "--db", "DB", "--to", "shelf", "--key", "key", "--yes"];
    let pull_args = ["db", "pull", "shelf", "--db", "copy"];
    pull(&cli, 0, "copy", &[]);
    let first = comparable(cli.rows());
    copy(&shelf(&cli), &cli.home().join("shelf-1"));
    copy(&cli.home().join("copy"), &cli.home().join("copy-1"));
    night(&cli, "80", "110");
    let second = comparable(cli.rows());
    let reset = |name: &str| {
        fs::remove_dir_all(cli.home().join(name)).unwrap();
        copy(&cli.home().join(format!("{name}-1")), &cli.home().join(name));
    };
    let pulls = std::cell::Cell::new(0);
    let mut tries = kill_often(&cli, &publish_args, times, 3, |cli| {
        // Whoever pulls gets the one or the other, whole.
        let into = format!("reader-{}", pulls.replace(pulls.get() + 1));
        let ended = cli.run(&["db", "pull", "shelf", "--db", &into]);
        if ended.code == Some(2) {
            // Between the list and the copy of its card.
            ended.says(&["README.md", "try again later"]);
        } else {
            let found = comparable(rows(&cli.home().join(&into)));
            assert!(found == first || found == second, "{ended:?}");
            fs::remove_dir_all(cli.home().join(&into)).unwrap();
        }
        if files_below(&shelf(cli).join("publications")).len() == 8 {
            reset("shelf");
        }
    });
    cli.expect(0, &publish_args);
    tries += kill_often(&cli, &pull_args, times, 4, |cli| {
        let found = comparable(rows(&cli.home().join("copy")));
        assert!(found == first || found == second);
        cli.expect(0, &["db", "verify", "--db", "copy"]);
        if found == second {
            reset("copy");
        }
    });
    cli.expect(0, &pull_args);
    assert_eq!(comparable(rows(&cli.home().join("copy"))), second);
    let litter =
        files_below(&cli.home().join("copy")).into_iter().filter(|p| p.to_string_lossy().contains(".tmp-"));
    assert_eq!(litter.count(), 0, "after {tries} tries");
}

#[test]
fn killed_in_publish_and_pull_everything_is_whole() {
    killed(8);
}

/// The same at full length: `cargo test --test it fifty_times -- --ignored`.
#[test]
#[ignore = "takes some minutes"]
fn killed_fifty_times_in_publish_and_pull_everything_is_whole() {
    killed(50);
}
