//! publish and pull: what is published comes back as it was, and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hubprint::publication::key::Key;
use hubprint::publication::list;
use hubprint::store::checksum::sha256;
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

/// A folder's files and what is in them; locks and mirrors of theirs aside.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_below(folder).into_iter().filter(|path| !path.starts_with(folder.join("locks")));
    files.map(|path| (path.clone(), read(&path))).collect()
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
        "| recall of the ten nearest, over ",
        "| false positive rate, over ",
        " %), at most ",
        "hubprint db pull shelf\n",
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

/// A publication as a hubprint with another index would have made it.
#[test]
fn an_index_of_another_version_is_not_taken_unasked() {
    let cli = published();
    pull(&cli, 0, "copy", &[]);
    night(&cli, "80", "90");
    let version = publish(&cli, 0, &[]).json()["version"].as_u64().unwrap();
    let shelf = shelf(&cli);
    let text = |path: &Path| String::from_utf8(read(path)).unwrap();
    // What names a file names the beginning of its SHA-256.
    let swap = |text: &str, old: &str, new: &str| {
        let (old, new) = (sha256(old.as_bytes()), sha256(new.as_bytes()));
        text.replace(&old, &new).replace(&old[..32], &new[..32])
    };
    let list_path = shelf.join(list::name(version));
    let manifest_path = shelf.join(format!("manifests/{version:012}.json"));
    let (list, manifest) = (text(&list_path), text(&manifest_path));
    let is_metadata = |path: &&PathBuf| path.extension().is_some_and(|e| e == "json");
    let indexes = files_below(&shelf.join("index"));
    let index = indexes.iter().filter(is_metadata).map(|path| text(path));
    let index = index.into_iter().find(|index| manifest.contains(&sha256(index.as_bytes()))).unwrap();
    let (before, after) = index.split_once("\"index_version\": ").unwrap();
    // Another one of as many digits.
    let version_of_index = if after.starts_with('9') { 8 } else { 9 };
    let other = format!("{before}\"index_version\": {version_of_index}{}", &after[1..]);
    let says = format!("index version {version_of_index}");
    assert_eq!(other.len(), index.len());
    let new_manifest = swap(&manifest, &index, &other);
    let new_list = swap(&swap(&list, &index, &other), &manifest, &new_manifest);
    write(&shelf.join(format!("index/{}.json", &sha256(other.as_bytes())[..32])), other.as_bytes());
    write(&manifest_path, new_manifest.as_bytes());
    write(&list_path, new_list.as_bytes());
    let key = Key::from_pem(&text(&cli.home().join("key")), "key").unwrap();
    write(&shelf.join(list::signature_name(version)), key.sign(new_list.as_bytes()));

    let before = contents(&cli.home().join("copy"));
    pull(&cli, 2, "copy", &[]).says(&[&says, "--any-index"]);
    assert_eq!(contents(&cli.home().join("copy")), before);
    pull(&cli, 0, "copy", &["--any-index"]);
    cli.expect(2, &["scan", "--db", "copy", "--from-db", "DB"]).says(&[&says]);
    // Who builds another has a database of their own, until they give it up.
    cli.expect(0, &["index", "--db", "copy"]);
    cli.expect(0, &["scan", "--db", "copy", "--from-db", "DB"]);
    pull(&cli, 2, "copy", &["--any-index"]).says(&["a database of its own", "--replace"]);
    pull(&cli, 0, "copy", &["--any-index", "--replace"]);
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
    let files: Vec<PathBuf> = contents(&shelf(&cli)).into_keys().collect();
    assert!(files.len() > 12);
    for (i, path) in files.iter().enumerate() {
        let good = read(path);
        let name = path.strip_prefix(shelf(&cli)).unwrap().display().to_string();
        for (attack, bad) in attacks(path, &files[(i + 1) % files.len()]) {
            if bad == good {
                continue;
            }
            write(path, &bad);
            // What was fetched and checked before is not fetched again.
            let _ = fs::remove_dir_all(cli.home().join("victim"));
            let ended = pull(&cli, 2, "victim", &[]);
            ended.says(&["error: ", "hint: ", named(&name)]);
            assert!(
                !cli.home().join("victim/manifests").exists(),
                "{attack} of {name}: nothing became visible"
            );
        }
        fs::remove_file(path).unwrap();
        let _ = fs::remove_dir_all(cli.home().join("victim"));
        // Without its list there is no publication at all.
        let told = if name.ends_with(".json") && name.starts_with("pub") { "no publication" } else { &name };
        pull(&cli, 2, "victim", &[]).says(&["error: ", told]);
        write(path, &good);
    }
    pull(&cli, 0, "victim", &[]);
    pull(&cli, 0, "copy", &[]);
}

/// What an error says of a changed file: its name. A signature speaks of the list that it signs.
fn named(name: &str) -> &str {
    name.trim_end_matches(".sig")
}

#[test]
fn every_change_to_every_file_of_a_copy_is_found_and_named() {
    let cli = published();
    pull(&cli, 0, "copy", &[]);
    let copy = cli.home().join("copy");
    let said = cli.expect(0, &["db", "verify", "--db", "copy"]).stdout;
    assert!(said.contains("signed with key"), "{said}");
    let files: Vec<PathBuf> = contents(&copy).into_keys().collect();
    assert!(files.len() > 12);
    for (i, path) in files.iter().enumerate() {
        let name = path.strip_prefix(&copy).unwrap().display().to_string();
        // What is remembered of the pull is this machine's own.
        if name == "pulled.json" {
            continue;
        }
        let good = read(path);
        for (_, bad) in attacks(path, &files[(i + 1) % files.len()]) {
            if bad != good {
                write(path, &bad);
                cli.expect(2, &["db", "verify", "--db", "copy"]).says(&["error: ", named(&name)]);
            }
        }
        fs::remove_file(path).unwrap();
        let told = if name.starts_with("manifests") { "no manifest" } else { &name };
        cli.expect(2, &["db", "verify", "--db", "copy"]).says(&["error: ", told]);
        write(path, &good);
    }
    // What has changed here is brought again.
    let shard = files_below(&copy.join("shards")).remove(0);
    let mut bytes = read(&shard);
    bytes[100] ^= 1;
    write(&shard, &bytes);
    let again = pull(&cli, 0, "copy", &[]).json();
    assert_eq!(again["files_fetched"], 1, "{again}");
    // With commits of somebody else it is no copy, whoever signed what was there before.
    add(&cli, "120", "80", "90");
    cli.expect(0, &["db", "merge", "--db", "copy", "DB"]);
    cli.expect(2, &["db", "verify", "--db", "copy"]).says(&["a database of its own"]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let cli = published();
    let folder = cli.home().join("thesis");
    for name in ["README.md", "chapter.txt", "shards/mine.parquet", "shards/.tmp-draft"] {
        write(&folder.join(name), name);
    }
    let before = contents(&folder);
    pull(&cli, 2, "thesis", &[]).says(&["holds other files than a copy of a publication", "an empty place"]);
    let to_thesis = ["publish", "--db", "DB", "--to", "thesis", "--key", "key"];
    for more in [&[][..], &["--yes"], &["--yes", "--replace", "--new-key"]] {
        cli.expect(2, &[&to_thesis[..], more].concat()).says(&["holds other files than publications"]);
    }
    assert_eq!(contents(&folder), before);
    assert!(!folder.join("locks").exists(), "not even a lock");
    // A lone README is somebody's, too, and so is a file that is called like our marker.
    for name in ["README.md", "shelf.txt"] {
        let lone = cli.home().join(format!("with-{name}"));
        write(&lone.join(name), "mine");
        let lone = lone.display().to_string();
        cli.expect(2, &["publish", "--db", "DB", "--to", &lone, "--key", "key", "--yes"]).says(&[name]);
        pull(&cli, 2, &lone, &[]).says(&[name]);
    }
    // An empty folder, or one in which a pull has left nothing but its lock, is as good as none.
    fs::create_dir_all(cli.home().join("empty/locks")).unwrap();
    pull(&cli, 0, "empty", &[]);
    // Nor is anything removed from a shelf that publishing has not put there.
    let notes = ["index/notes.txt", "publications/notes.md", "shards/mine.parquet"];
    for name in notes {
        write(&shelf(&cli).join(name), "mine");
    }
    for (begin, end) in [("80", "90"), ("90", "100"), ("100", "110")] {
        night(&cli, begin, end);
        publish(&cli, 0, &[]);
    }
    for name in notes {
        assert!(shelf(&cli).join(name).exists(), "{name}");
    }
    pull(&cli, 0, "copy", &[]);
}

#[test]
fn keys_are_neither_told_nor_overwritten() {
    let cli = population("60", &["60"]);
    write(&cli.home().join("old.pub"), "somebody's");
    cli.expect(2, &["db", "keygen", "old"]).says(&["old.pub"]);
    assert_eq!(read(&cli.home().join("old.pub")), b"somebody's");
    assert!(!cli.home().join("old").exists(), "no key without its public half");
    cli.expect(0, &["db", "keygen", "key"]);
    let pem = String::from_utf8(read(&cli.home().join("key"))).unwrap();
    let body = pem.lines().nth(1).unwrap();
    let publish = ["publish", "--db", "DB", "--to", "shelf"];
    for secret in
        [body.to_owned(), pem.replace("PRIVATE", "SECRET"), format!("\u{feff}{body}"), pem.replace('\n', " ")]
    {
        let ended = self::with_key(&cli, &secret).expect(2, &publish);
        ended.says(&["HUBPRINT_SIGNING_KEY"]);
        assert!(
            !ended.stderr.contains(&body[..16]) && !ended.stdout.contains(&body[..16]),
            "{}",
            ended.stderr
        );
    }
    let ended = with_key(&cli, &pem).expect(0, &publish);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    let said = cli.expect(0, &[&publish[..], &["--key", "key"]].concat()).stderr;
    assert!(!said.contains("warning"), "{said}");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(cli.home().join("key"), readable).unwrap();
    cli.expect(0, &[&publish[..], &["--key", "key"]].concat()).says(&["can be read by others", "chmod 600"]);
}

/// The same database, with a key in the environment.
fn with_key(cli: &Cli, key: &str) -> Cli {
    let other = Cli::new(&crate::support::nobody()).with("HUBPRINT_SIGNING_KEY", key);
    copy(&cli.db(), &other.db());
    other
}

#[test]
fn what_is_there_is_held_against_what_is_published() {
    let cli = published();
    // The same length is not the same content.
    let shard = files_below(&shelf(&cli).join("shards")).remove(0);
    let good = read(&shard);
    let mut bad = good.clone();
    bad[50] ^= 1;
    write(&shard, &bad);
    assert_eq!(publish(&cli, 0, &[]).json()["files_sent"], 1);
    assert_eq!(read(&shard), good);
    pull(&cli, 0, "copy", &[]);
    // What is damaged here does not get there.
    night(&cli, "80", "90");
    let before = contents(&shelf(&cli));
    let new = files_below(&cli.db().join("shards")).into_iter();
    let new = new.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    let good = read(&new);
    let mut bad = good.clone();
    let place = bad.len() / 3;
    bad[place] ^= 1;
    write(&new, &bad);
    let name = new.file_name().unwrap().to_string_lossy().into_owned();
    publish(&cli, 2, &["--any-index"]).says(&[&name, "damaged"]);
    assert_eq!(contents(&shelf(&cli)), before);
    write(&new, &good);
    // An index that is behind, or none, is published only if that is wanted.
    add(&cli, "120", "90", "100");
    publish(&cli, 2, &[]).says(&["1 shards that its index does not cover", "hubprint index", "--any-index"]);
    publish(&cli, 0, &["--any-index"]);
    let bare = Cli::new(&crate::support::nobody());
    add(&bare, "60", "0", "60");
    bare.expect(0, &["db", "keygen", "key"]);
    publish(&bare, 2, &[]).says(&["no index"]);
    publish(&bare, 0, &["--any-index"]);
    pull(&bare, 0, "copy", &[]);
    // Somebody else is publishing there.
    let files = hubprint::store::DatabaseFiles::open(shelf(&cli).as_path().into()).unwrap();
    let lock = hubprint::store::lock::Lock::acquire(&files, hubprint::store::Task::Maintenance).unwrap();
    publish(&cli, 75, &["--any-index"]).says(&["is being written by process"]);
    drop(lock);
    publish(&cli, 0, &["--any-index"]);
}

#[test]
fn one_version_has_one_content() {
    let cli = published();
    copy(&cli.db(), &cli.home().join("twin"));
    night(&cli, "80", "90");
    publish(&cli, 0, &[]);
    pull(&cli, 0, "copy", &[]);
    // Another state of the same number, from a backup that was gone on with.
    let args = [
        "dev",
        "population",
        "--models",
        "120",
        "--seed",
        "5",
        "--db",
        "twin",
        "--begin",
        "100",
        "--end",
        "110",
    ];
    cli.expect(0, &args);
    cli.expect(0, &["index", "--db", "twin"]);
    let twin = ["publish", "--db", "twin", "--to", "shelf", "--key", "key", "--yes"];
    let before = contents(&shelf(&cli));
    cli.expect(2, &twin).says(&["with other content", "--replace"]);
    assert_eq!(contents(&shelf(&cli)), before);
    cli.expect(0, &[&twin[..], &["--replace"]].concat());
    pull(&cli, 2, "copy", &[]).says(&["with other content", "--replace"]);
    pull(&cli, 0, "copy", &["--replace"]);
    assert!(rows(&cli.home().join("copy")).keys().eq(rows(&cli.home().join("twin")).keys()));
    cli.expect(0, &["db", "verify", "--db", "copy"]);
    // The card alone may change.
    cli.expect(0, &[&twin[..], &["--title", "Better words"]].concat());
    pull(&cli, 0, "copy", &[]);
    // What a newer hubprint has put there is not overwritten, whatever is asked for.
    let newer = shelf(&cli).join("publications/000000000099.json");
    for (text, told) in [("{\"publication_version\": 2}", "update hubprint"), ("{", "is no publication")] {
        write(&newer, text);
        for more in [&[][..], &["--replace", "--new-key"]] {
            cli.expect(2, &[&twin[..], more].concat()).says(&["000000000099.json", told]);
        }
        assert_eq!(read(&newer), text.as_bytes());
    }
}

#[test]
fn readers_of_a_copy_keep_what_they_read() {
    let cli = published();
    for (begin, end) in [("80", "90"), ("90", "100"), ("100", "110")] {
        pull(&cli, 0, "copy", &[]);
        night(&cli, begin, end);
        publish(&cli, 0, &[]);
    }
    // Opened in this process, before two more publications came.
    let copy = cli.home().join("copy");
    let reader = hubprint::store::Database::open(&copy).unwrap();
    pull(&cli, 0, "copy", &[]);
    night(&cli, "110", "120");
    publish(&cli, 0, &[]);
    pull(&cli, 0, "copy", &[]);
    assert_eq!(reader.verify(&|_, _| {}).unwrap(), 100);
    assert_eq!(files_below(&copy.join("manifests")).len(), 5);
    // A day later they are gone, with their lists.
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(25);
    for path in files_below(&copy) {
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    pull(&cli, 0, "copy", &[]);
    assert_eq!(files_below(&copy.join("manifests")).len(), 2);
    assert_eq!(files_below(&copy.join("publications")).len(), 8);
    cli.expect(0, &["db", "verify", "--db", "copy"]);
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
    let by_mallory = ["publish", "--db", "DB", "--to", "shelf", "--key", "mallory", "--yes"];
    cli.expect(2, &by_mallory).says(&["is signed with the key", "--new-key"]);
    cli.expect(0, &[&by_mallory[..], &["--new-key"]].concat());
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
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[index]\n[publish]\nto = 'shelf'\nkey = 'key'\nlicence = 'mit'\n");
    // That there is no key is told before anything is done.
    let before = contents(&cli.db());
    cli.expect(2, &["run", "p.toml"]).says(&["key"]);
    assert_eq!(contents(&cli.db()), before);
    cli.expect(0, &["db", "keygen", "key"]);
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
    // What was there before is older than any reader: a pull removes it, so that a death may come in between.
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
