//! Conformance: the crate `hf-hub`, which shares no code with this one, as a client of the local Hub server.
//!
//! What it gets wrong by itself is not tested: it drops the SHA-256 of LFS files, cannot decode `baseModels` and
//! `childrenModelCount`, and finds no metadata of a single LFS file. Every client below is given its token and
//! cache, so nothing is taken from the environment.

#![expect(clippy::unwrap_used, reason = "a test; a panic is its verdict, also in helpers")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;
use hf_hub::repository::{CommitOperation, RepoTreeEntry};
use hf_hub::{HFClient, HFError, RepoTypeDataset};
use hubprint::local_hub::{self, Running, Settings};
use hubprint::store::{atomic, checksum};
use serde_json::json;
use tempfile::TempDir;

/// Grants nothing; the server treats it as no token at all.
const STRANGER: &str = "hf_unknown";
/// Known, but without a grant for the gated model.
const GUEST: &str = "hf_guest";
/// May write the datasets of `meadow`.
const WRITER: &str = "hf_writer";
/// May read everything.
const READER: &str = "hf_reader";

const CONFIG: &[u8] = br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":8}"#;
const CARD: &[u8] = b"---\nlicense: mit\nbase_model: meadow/extra-0\n---\n# Clover\n";
/// Models that only fill the list.
const EXTRAS: usize = 6;

/// A running server, the folder it serves, and an empty cache.
struct Hub {
    server: Running,
    cache: TempDir,
    _folder: TempDir,
}

impl Hub {
    async fn start(mut settings: Settings) -> Self {
        settings.tokens.insert(READER.to_owned(), vec!["*".to_owned()]);
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = local_hub::start(folder.path(), free, free, settings).await.unwrap();
        Self { server, cache: tempfile::tempdir().unwrap(), _folder: folder }
    }

    fn client(&self, token: &str) -> HFClient {
        let builder = HFClient::builder().endpoint(self.server.hub_url()).token(token);
        builder.cache_dir(self.cache.path()).retry_max_attempts(0).build().unwrap()
    }
}

/// `meadow/clover` with files of both kinds, a gated model, a renamed one, and more to list.
fn fill(folder: &Path) {
    let put = |path: &str, bytes: &[u8]| atomic::write(&folder.join(path), bytes).unwrap();
    let about = |name: &str, value: serde_json::Value| {
        put(&format!("models/meadow/{name}/.hub.json"), value.to_string().as_bytes());
    };
    put("hub.json", json!({ "renames": { "meadow/trefoil": "meadow/clover" } }).to_string().as_bytes());
    about("clover", json!({ "createdAt": "2024-05-01T00:00:00.000Z", "likes": 3, "downloads": 17 }));
    put("models/meadow/clover/README.md", CARD);
    put("models/meadow/clover/config.json", CONFIG);
    put("models/meadow/clover/model.safetensors", &weights());
    put("models/meadow/clover/1 & 2/notes #1.txt", b"a name that has to be escaped");
    about("orchid", json!({ "createdAt": "2024-05-02T00:00:00.000Z", "gated": "manual" }));
    put("models/meadow/orchid/config.json", CONFIG);
    put("models/meadow/orchid/model.safetensors", &weights());
    for i in 0..EXTRAS {
        let name = format!("extra-{i}");
        about(
            &name,
            json!({ "createdAt": format!("2024-04-{:02}T00:00:00.000Z", i + 1), "tags": ["filler"] }),
        );
        put(&format!("models/meadow/{name}/config.json"), CONFIG);
    }
}

/// A safetensors file of 40,000 distinct-looking bytes.
fn weights() -> Vec<u8> {
    let data: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let tensor =
        safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![200, 100], &data).unwrap();
    safetensors::serialize([("model.embed_tokens.weight", tensor)], None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_followed_from_page_to_page() {
    let hub = Hub::start(Settings { page_limit: 3, ..Settings::default() }).await;
    let client = hub.client(STRANGER);
    let all = client.list_models().sort("createdAt").full(true).fetch_config(true).send().unwrap();
    let all: Vec<_> = all.try_collect().await.unwrap();
    let ids: Vec<&str> = all.iter().map(|model| model.id.as_str()).collect();
    let expected = "orchid clover extra-5 extra-4 extra-3 extra-2 extra-1 extra-0";
    assert_eq!(ids, expected.split(' ').map(|name| format!("meadow/{name}")).collect::<Vec<_>>());
    assert_eq!(hub.server.counters().requests.api, 3, "eight models are three pages of three");

    let clover = &all[1];
    assert_eq!(clover.created_at.as_deref(), Some("2024-05-01T00:00:00.000Z"));
    assert_eq!((clover.likes, clover.downloads), (Some(3), Some(17)));
    assert_eq!(clover.config.as_ref().unwrap()["model_type"], "llama");
    assert_eq!(clover.sha.as_ref().map(String::len), Some(40));
    assert!(clover.siblings.as_ref().unwrap().iter().any(|file| file.rfilename == "model.safetensors"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_cut() {
    let hub = Hub::start(Settings { page_limit: 3, ..Settings::default() }).await;
    let client = hub.client(STRANGER);
    let count = async |stream: &mut (dyn futures_util::Stream<Item = _> + Unpin)| {
        let all: Vec<hf_hub::repository::ModelInfo> = stream.try_collect().await.unwrap();
        all.len()
    };
    let mut tagged = Box::pin(client.list_models().filter("filler").author("meadow").send().unwrap());
    assert_eq!(count(&mut tagged).await, EXTRAS);
    let mut found = Box::pin(client.list_models().search("clov").send().unwrap());
    assert_eq!(count(&mut found).await, 1);
    let mut cut = Box::pin(client.list_models().limit(5).send().unwrap());
    assert_eq!(count(&mut cut).await, 5, "more than a page, fewer than all");
    let mut none = Box::pin(client.list_models().author("nobody").send().unwrap());
    assert_eq!(count(&mut none).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn info_by_default_by_revision_and_expanded() {
    let hub = Hub::start(Settings::default()).await;
    let client = hub.client(STRANGER);
    let clover = client.model("meadow", "clover");
    let whole = clover.info().send().await.unwrap();
    assert_eq!((whole.id.as_str(), whole.author.as_deref()), ("meadow/clover", Some("meadow")));
    assert_eq!(whole.card_data.as_ref().unwrap()["license"], "mit");
    assert_eq!(whole.gated, Some(json!(false)));
    let counted = whole.safetensors.as_ref().unwrap();
    assert_eq!((counted.total, counted.parameters["BF16"]), (20_000, 20_000));
    let sha = whole.sha.unwrap();
    let pinned = clover.info().revision(&sha).send().await.unwrap();
    assert_eq!(pinned.sha.as_ref(), Some(&sha));

    let asked = ["sha", "tags", "usedStorage", "trendingScore"].map(str::to_owned).to_vec();
    let expanded = clover.info().expand(asked).send().await.unwrap();
    assert_eq!(expanded.sha.as_ref(), Some(&sha));
    assert!(expanded.tags.unwrap().contains(&"base_model:finetune:meadow/extra-0".to_owned()));
    assert!(expanded.used_storage.unwrap() > 40_000);
    assert!(expanded.trending_score.is_some());
    assert!(expanded.config.is_none() && expanded.siblings.is_none(), "only what was asked for");

    let wrong = clover.info().expand(vec!["nonsense".to_owned()]).send().await;
    let Err(HFError::Http { context }) = wrong else { panic!("{wrong:?}") };
    assert_eq!(context.status.as_u16(), 400);
    assert!(context.server_message.unwrap().contains("Invalid option"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_and_single_paths() {
    let hub = Hub::start(Settings::default()).await;
    let client = hub.client(STRANGER);
    let clover = client.model("meadow", "clover");
    let names = |entries: &[RepoTreeEntry]| -> BTreeSet<String> {
        let name = |entry: &RepoTreeEntry| match entry {
            RepoTreeEntry::File { path, .. } => path.clone(),
            RepoTreeEntry::Directory { path, .. } => format!("{path}/"),
        };
        entries.iter().map(name).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();

    let top: Vec<_> = clover.list_tree().send().unwrap().try_collect().await.unwrap();
    assert_eq!(names(&top), set(&["README.md", "config.json", "model.safetensors", "1 & 2/"]));
    let inside = clover.list_tree().path_in_repo("1 & 2").send().unwrap();
    let inside: Vec<_> = inside.try_collect().await.unwrap();
    assert_eq!(names(&inside), set(&["1 & 2/notes #1.txt"]));
    let deep = clover.list_tree().recursive(true).expand(true).send().unwrap();
    let deep: Vec<_> = deep.try_collect().await.unwrap();
    assert_eq!(deep.len(), 5);
    for entry in &deep {
        let (RepoTreeEntry::File { last_commit, .. } | RepoTreeEntry::Directory { last_commit, .. }) = entry;
        assert!(last_commit.as_ref().unwrap().date.is_some(), "{entry:?}");
    }

    let asked = ["model.safetensors", "config.json", "1 & 2", "missing.bin"].map(str::to_owned).to_vec();
    let found = clover.get_paths_info().paths(asked).send().await.unwrap();
    assert_eq!(names(&found), set(&["model.safetensors", "config.json", "1 & 2/"]));
    for entry in &found {
        let RepoTreeEntry::File { path, size, lfs, xet_hash, .. } = entry else { continue };
        let content = if path == "config.json" { CONFIG.to_vec() } else { weights() };
        assert_eq!(*size, content.len() as u64, "{path}");
        assert_eq!(lfs.as_ref().and_then(|lfs| lfs.size), (path != "config.json").then_some(*size), "{path}");
        assert!(xet_hash.is_none(), "Xet is not announced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_files_and_ranges() {
    let hub = Hub::start(Settings::default()).await;
    let client = hub.client(STRANGER);
    let clover = client.model("meadow", "clover");
    let weights = weights();
    for (name, content) in [
        ("config.json", CONFIG),
        ("model.safetensors", weights.as_slice()),
        ("1 & 2/notes #1.txt", b"a name that has to be escaped"),
    ] {
        let whole = clover.download_file_to_bytes().filename(name).send().await.unwrap();
        assert_eq!(whole, Bytes::copy_from_slice(content), "{name}");
        let end = content.len();
        for range in [0..8, 3..4, end - 9..end] {
            let wanted = range.start as u64..range.end as u64;
            let part = clover.download_file_to_bytes().filename(name).range(wanted).send().await.unwrap();
            assert_eq!(part, Bytes::copy_from_slice(&content[range.clone()]), "{name} {range:?}");
        }
    }
    let past = clover.download_file_to_bytes().filename("config.json").range(5000..6000).send().await;
    assert!(matches!(&past, Err(HFError::Http { context }) if context.status.as_u16() == 416), "{past:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_cached_by_their_etag() {
    let hub = Hub::start(Settings::default()).await;
    let client = hub.client(STRANGER);
    let clover = client.model("meadow", "clover");
    let sha = clover.info().send().await.unwrap().sha.unwrap();
    let snapshot = hub.cache.path().join("models--meadow--clover/snapshots").join(&sha);
    for (name, content) in [("config.json", CONFIG.to_vec()), ("model.safetensors", weights())] {
        let path = clover.download_file().filename(name).send().await.unwrap();
        assert_eq!(path, snapshot.join(name));
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    // The name of an LFS blob is the digest of its content, as the redirect states it.
    let blob = std::fs::canonicalize(snapshot.join("model.safetensors")).unwrap();
    let digest = checksum::checksum(&blob).unwrap().1;
    assert_eq!(blob.file_name().unwrap().to_str(), Some(digest.as_str()));

    let before = hub.server.counters().bytes_sent;
    clover.download_file().filename("model.safetensors").send().await.unwrap();
    assert_eq!(hub.server.counters().bytes_sent, before, "the second download reads no content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_name_leads_to_the_present_one() {
    let hub = Hub::start(Settings::default()).await;
    let client = hub.client(STRANGER);
    let former = client.model("meadow", "trefoil");
    assert_eq!(former.info().send().await.unwrap().id, "meadow/clover");
    let tree: Vec<_> = former.list_tree().send().unwrap().try_collect().await.unwrap();
    assert_eq!(tree.len(), 4);
    let asked = vec!["config.json".to_owned()];
    assert_eq!(
        former.get_paths_info().paths(asked).send().await.unwrap().len(),
        1,
        "a POST is repeated as one"
    );
    let whole = weights();
    for (name, content) in [("config.json", CONFIG), ("model.safetensors", whole.as_slice())] {
        let part = former.download_file_to_bytes().filename(name).range(8..20).send().await.unwrap();
        assert_eq!(part, Bytes::copy_from_slice(&content[8..20]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_opens_for_those_with_a_grant() {
    let mut settings = Settings::default();
    settings.tokens.insert(GUEST.to_owned(), vec!["meadow/clover".to_owned()]);
    let hub = Hub::start(settings).await;
    for token in [STRANGER, GUEST, READER] {
        let client = hub.client(token);
        let orchid = client.model("meadow", "orchid");
        let info = orchid.info().send().await.unwrap();
        assert_eq!(info.gated, Some(json!("manual")), "all may see that it is there");
        for file in ["config.json", "model.safetensors"] {
            let answer = orchid.download_file_to_bytes().filename(file).range(0..4).send().await;
            let context = match (token, answer) {
                (READER, Ok(bytes)) if bytes.len() == 4 => continue,
                (STRANGER, Err(HFError::AuthRequired { context })) if context.status.as_u16() == 401 => {
                    context
                }
                (GUEST, Err(HFError::Forbidden { context })) if context.status.as_u16() == 403 => context,
                (_, other) => panic!("{token} {file}: {other:?}"),
            };
            // The request is a HEAD, so code and message arrive in headers or not at all.
            assert_eq!(context.error_code.as_deref(), Some("GatedRepo"), "{token} {file}");
            assert!(
                context.server_message.unwrap().contains("meadow/orchid is restricted"),
                "{token} {file}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let hub = Hub::start(Settings::default()).await;
    let (stranger, reader) = (hub.client(STRANGER), hub.client(READER));
    let absent = stranger.model("meadow", "absent").info().send().await;
    assert!(matches!(absent, Err(HFError::AuthRequired { .. })), "it may be private: {absent:?}");
    let absent = reader.model("meadow", "absent").info().send().await;
    assert!(matches!(absent, Err(HFError::RepoNotFound { .. })), "{absent:?}");
    let clover = stranger.model("meadow", "clover");
    let entry = clover.download_file_to_bytes().filename("absent.bin").send().await;
    let Err(HFError::EntryNotFound { path, context, .. }) = entry else { panic!("{entry:?}") };
    assert_eq!(
        (path.as_str(), context.unwrap().error_code.as_deref()),
        ("absent.bin", Some("EntryNotFound"))
    );
    let revision = clover.info().revision("v9").send().await;
    let Err(HFError::RevisionNotFound { revision, context, .. }) = revision else { panic!("{revision:?}") };
    assert_eq!((revision.as_str(), context.unwrap().error_code.as_deref()), ("v9", Some("RevisionNotFound")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_uploaded_changed_and_read_back() {
    let written = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.tokens.insert(WRITER.to_owned(), vec!["write:meadow".to_owned()]);
    settings.uploads.folder = Some(written.path().to_owned());
    let hub = Hub::start(settings).await;
    let client = hub.client(WRITER);
    assert_eq!(client.whoami().send().await.unwrap().orgs.unwrap()[0].name.as_deref(), Some("meadow"));
    let create = || client.create_repository().repo_id("meadow/prints").repo_type(RepoTypeDataset);
    let url = create().send().await.unwrap().url;
    assert_eq!(url, format!("{}/datasets/meadow/prints", hub.server.hub_url()));
    assert!(matches!(create().send().await, Err(HFError::Conflict { .. })));
    create().exist_ok(true).send().await.unwrap();

    // This client knows Xet only; without it, files for LFS come inline.
    let (shard, other) = (weights(), [1u8; 5000]);
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| atomic::write(&folder.path().join(path), bytes).unwrap();
    put("README.md", CARD);
    put("shards/0.parquet", &shard);
    put("shards/1.parquet", &other);
    put("empty.txt", b"");
    let prints = client.dataset("meadow", "prints");
    let upload = || prints.upload_folder().folder_path(folder.path()).commit_message("Night 1");
    let first = upload().send().await.unwrap().commit_oid.unwrap();
    assert_eq!(prints.info().send().await.unwrap().sha.as_ref(), Some(&first));
    let received = hub.server.counters().received;
    assert_eq!((received.objects, received.commits), (4, 1));
    assert_eq!(received.bytes as usize, CARD.len() + shard.len() + other.len());

    let operations = || {
        vec![
            CommitOperation::add_bytes("manifest.json", &b"{}"[..]),
            CommitOperation::delete("shards/1.parquet"),
        ]
    };
    let commit =
        || prints.create_commit().operations(operations()).commit_message("Night 2").parent_commit(&*first);
    let second = commit().send().await.unwrap().commit_oid.unwrap();
    assert!(commit().send().await.is_err(), "the parent is not the head any more");
    prints.create_tag().tag("night-1").revision(&first).send().await.unwrap();

    let entries: Vec<RepoTreeEntry> =
        prints.list_tree().recursive(true).send().unwrap().try_collect().await.unwrap();
    let files: BTreeSet<String> = entries
        .into_iter()
        .filter_map(|entry| if let RepoTreeEntry::File { path, .. } = entry { Some(path) } else { None })
        .collect();
    let expected = [".gitattributes", "README.md", "empty.txt", "manifest.json", "shards/0.parquet"];
    assert_eq!(files, expected.map(str::to_owned).into());
    let commits: Vec<_> = prints.list_commits().send().unwrap().try_collect().await.unwrap();
    let ids: Vec<&str> = commits.iter().take(2).map(|commit| commit.id.as_str()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()]);

    let read = async |path: &str, revision: &str| {
        prints.download_file_to_bytes().filename(path).revision(revision).send().await.unwrap()
    };
    assert_eq!(read("shards/0.parquet", "main").await, shard);
    assert_eq!(read("shards/1.parquet", "night-1").await, &other[..]);
    assert_eq!(read("README.md", &second).await, CARD);
}

/// `hubprint` with these variables, in a folder of its own.
fn hubprint(home: &Path, hub: &Hub, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hubprint"));
    command.env_clear().env("HOME", home).env("HF_ENDPOINT", hub.server.hub_url()).env("HF_TOKEN", WRITER);
    command.current_dir(home).args(args).stdin(std::process::Stdio::null());
    command
}

/// Runs it to its end beside the server, and reads its JSON if it prints some.
async fn ran(mut command: std::process::Command) -> serde_json::Value {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains(WRITER), "the token is told: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_many_commits_goes_on_where_it_was_cut() {
    let written = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.tokens.insert(WRITER.to_owned(), vec!["write:meadow".to_owned()]);
    settings.uploads.folder = Some(written.path().to_owned());
    // So that a death finds it at work.
    settings.line.latency_ms = 20;
    let hub = Hub::start(settings).await;
    let home = tempfile::tempdir().unwrap();
    let run = async |args: &[&str]| ran(hubprint(home.path(), &hub, args)).await;
    for begin in (0..120).step_by(2) {
        let (begin, end) = (begin.to_string(), (begin + 2).to_string());
        let population =
            ["dev", "population", "--models", "120", "--db", "db", "--begin", &begin, "--end", &end];
        run(&population).await;
    }
    run(&["index", "--db", "db"]).await;
    run(&["db", "keygen", "key"]).await;
    let to = [
        "publish",
        "--db",
        "db",
        "--to",
        "hf://datasets/meadow/atlas",
        "--key",
        "key",
        "--private",
        "--json",
    ];
    let go = [&to[..], &["--yes"]].concat();
    let all = run(&to).await["files_sent"].as_u64().unwrap();
    assert!(all > 60, "{all}");
    let mut child = hubprint(home.path(), &hub, &go).stdout(std::process::Stdio::null()).spawn().unwrap();
    let commits = || hub.server.counters().received.commits;
    while commits() < 1 && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let of_the_first = commits();
    // Fifty of them are there; nobody sees a publication yet.
    let left = run(&to).await["files_sent"].as_u64().unwrap();
    assert!(left > 0 && left <= all - 50, "{left} of {all}");
    let mut pulled =
        hubprint(home.path(), &hub, &["db", "pull", "hf://datasets/meadow/atlas", "--db", "copy"]);
    let early = tokio::task::spawn_blocking(move || pulled.output()).await.unwrap().unwrap();
    assert_eq!(early.status.code(), Some(2), "{early:?}");
    let rest = run(&go).await;
    assert_eq!((&rest["files_sent"], &rest["done"]), (&json!(left), &json!(true)));
    assert!(commits() > of_the_first);
    run(&["db", "pull", "hf://datasets/meadow/atlas", "--db", "copy"]).await;
    assert_eq!(run(&["db", "verify", "--db", "copy", "--json"]).await["rows"], 120);
    // A dataset of somebody is left alone.
    let client = hub.client(WRITER);
    client.create_repository().repo_id("meadow/diary").repo_type(RepoTypeDataset).send().await.unwrap();
    let diary = client.dataset("meadow", "diary");
    let mine = vec![CommitOperation::add_bytes("README.md", b"mine".to_vec())];
    diary.create_commit().operations(mine).commit_message("mine").send().await.unwrap();
    let before = commits();
    let mut publish = hubprint(
        home.path(),
        &hub,
        &["publish", "--db", "db", "--to", "hf://datasets/meadow/diary", "--key", "key", "--yes"],
    );
    let refused = tokio::task::spawn_blocking(move || publish.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("holds other files than publications: README.md"), "{said}");
    assert_eq!(commits(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_published_as_a_dataset_and_pulled() {
    let written = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.tokens.insert(WRITER.to_owned(), vec!["write:meadow".to_owned()]);
    settings.uploads.folder = Some(written.path().to_owned());
    let hub = Hub::start(settings).await;
    let home = tempfile::tempdir().unwrap();
    let run = async |args: &[&str]| ran(hubprint(home.path(), &hub, args)).await;
    let population = ["dev", "population", "--models", "120", "--seed", "5", "--db", "db", "--begin"];
    run(&[&population[..], &["0", "--end", "80"]].concat()).await;
    run(&["index", "--db", "db"]).await;
    run(&["db", "keygen", "key"]).await;
    let to = ["publish", "--db", "db", "--to", "hf://datasets/meadow/atlas", "--key", "key", "--json"];
    let go = [&to[..], &["--yes"]].concat();
    assert_eq!(run(&to).await["done"], false);
    assert_eq!(hub.server.counters().received.commits, 0, "a dry run writes nothing");

    let first = run(&go).await;
    let received = hub.server.counters().received;
    assert!(received.bytes >= first["bytes"].as_u64().unwrap());
    let from = ["db", "pull", "hf://datasets/meadow/atlas", "--db", "copy", "--json"];
    let pulled = run(&from).await;
    assert_eq!((&pulled["version"], &pulled["key"]), (&first["version"], &first["key"]));
    run(&["db", "verify", "--db", "copy"]).await;

    // A night later only what is new is sent; killed on the way, it goes on.
    run(&[&population[..], &["80", "--end", "120"]].concat()).await;
    run(&["index", "--db", "db"]).await;
    for delay in [30, 90, 150] {
        let mut child = hubprint(home.path(), &hub, &go);
        let mut child =
            child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = run(&from).await;
        assert!(seen["version"] == first["version"] || seen["version"].as_u64() > first["version"].as_u64());
    }
    let second = run(&go).await;
    assert!(second["version"].as_u64() > first["version"].as_u64());
    let all = second["bytes"].as_u64().unwrap();
    let sent = hub.server.counters().received.bytes - received.bytes;
    assert!(sent < 2 * all, "{sent} of {all}, with three deaths");
    let again = run(&go).await;
    assert_eq!((&again["files_sent"], &again["files_removed"]), (&json!(0), &json!(0)));
    let pulled = run(&from).await;
    assert_eq!(pulled["version"], second["version"]);
    assert!(pulled["bytes_fetched"].as_u64().unwrap() < all);
    let verified = run(&["db", "verify", "--db", "copy", "--json"]).await;
    assert_eq!(verified["rows"], 120);
}
