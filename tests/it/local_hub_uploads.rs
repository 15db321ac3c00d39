//! Writing to the local Hub server over real HTTP: new datasets, uploads, commits, and what they leave behind.
//!
//! The requests are made by a plain HTTP client, so nothing here shares code with the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hubprint::local_hub::{self, LocalHubError, Received, Running, Settings, UploadError};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, redirect};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// May write everything.
const WRITER: &str = "hf_writer";
/// May write below `acme`.
const ACME: &str = "hf_acme";
/// May read everything.
const READER: &str = "hf_reader";
const ID: &str = "acme/prints";

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Bytes that no codec makes smaller, another series for another seed.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_add(seed << 20).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A running server that may be written to, and a client that follows nothing.
struct World {
    served: TempDir,
    written: TempDir,
    running: Option<Running>,
    client: Client,
}

impl World {
    async fn new(settings: &[&str]) -> Self {
        let mut world = Self {
            served: tempfile::tempdir().unwrap(),
            written: tempfile::tempdir().unwrap(),
            running: None,
            client: Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap(),
        };
        world.restart(settings).await;
        world
    }

    async fn start(&self, settings: &[&str]) -> Result<Running, LocalHubError> {
        let mut chosen = Settings::default();
        let folder = format!("write.folder={}", self.written.path().display());
        let tokens = [
            &format!("tokens.{WRITER}=[\"write:*\"]"),
            &format!("tokens.{ACME}=[\"write:acme\"]"),
            &format!("tokens.{READER}=[\"*\"]"),
        ];
        for setting in tokens.into_iter().chain([&folder]) {
            chosen.set(setting).unwrap();
        }
        for setting in settings {
            chosen.set(setting).unwrap();
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        local_hub::start(self.served.path(), any, any, chosen).await
    }

    /// Ends the server, and starts another one on the same folders.
    async fn restart(&mut self, settings: &[&str]) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
        self.running = Some(self.start(settings).await.unwrap());
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        token: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let url = if target.starts_with('/') {
            format!("{}{target}", self.running().hub_url())
        } else {
            target.to_owned()
        };
        let mut request = self.client.request(method, url).body(body);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, READER, "").await
    }

    async fn post(&self, target: &str, token: &str, body: &Value) -> Answer {
        self.send(Method::POST, target, token, body.to_string()).await
    }

    /// A new dataset, and the sha of its first commit.
    async fn create(&self, id: &str) -> String {
        let (org, name) = id.split_once('/').unwrap();
        let body = json!({ "name": name, "organization": org, "type": "dataset", "private": false });
        let answer = self.post("/api/repos/create", WRITER, &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["url"], format!("{}/datasets/{id}", self.running().hub_url()));
        self.head(id).await
    }

    async fn head(&self, id: &str) -> String {
        self.get(&format!("/api/datasets/{id}")).await.json()["sha"].as_str().unwrap().to_owned()
    }

    async fn commit(&self, id: &str, token: &str, parent: Option<&str>, lines: &[Value]) -> Answer {
        let header = json!({ "key": "header", "value": {
            "summary": format!("{} lines", lines.len()), "description": "why", "parentCommit": parent,
        }});
        let lines: Vec<String> = [&header].into_iter().chain(lines).map(Value::to_string).collect();
        self.send(Method::POST, &format!("/api/datasets/{id}/commit/main"), token, lines.join("\n")).await
    }

    async fn batch(&self, id: &str, token: &str, objects: &[&[u8]]) -> Answer {
        let objects: Vec<Value> =
            objects.iter().map(|data| json!({ "oid": sha256(data), "size": data.len() })).collect();
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
        });
        self.post(&format!("/datasets/{id}.git/info/lfs/objects/batch"), token, &body).await
    }

    /// The actions that the batch route offers for one object.
    async fn actions(&self, data: &[u8]) -> Value {
        self.batch(ID, WRITER, &[data]).await.json()["objects"][0]["actions"].clone()
    }

    /// A whole file through resolve, however it is redirected.
    async fn read(&self, id: &str, revision: &str, path: &str) -> Answer {
        let first = self.get(&format!("/datasets/{id}/resolve/{revision}/{path}")).await;
        let location = match first.status {
            302 | 307 => first.header("location").to_owned(),
            _ => return first,
        };
        // The CDN refuses tokens.
        self.send(Method::GET, &location, "", "").await
    }
}

fn inline(path: &str, content: &[u8]) -> Value {
    let value = json!({ "path": path, "content": STANDARD.encode(content), "encoding": "base64" });
    json!({ "key": "file", "value": value })
}

fn pointer(path: &str, content: &[u8]) -> Value {
    let value = json!({ "path": path, "algo": "sha256", "oid": sha256(content), "size": content.len() });
    json!({ "key": "lfsFile", "value": value })
}

fn deleted(key: &str, path: &str) -> Value {
    json!({ "key": key, "value": { "path": path } })
}

#[tokio::test]
async fn a_dataset_is_created_filled_and_read_back() {
    let world = World::new(&[]).await;
    let first = world.create(ID).await;
    let (shard, model) = (noise(300_000, 1), noise(70_000, 2));

    let asked = json!({ "files": [
        { "path": "README.md", "size": 40, "sample": "" },
        { "path": "shards/0.parquet", "size": shard.len(), "sample": "" },
        { "path": "large.txt", "size": 20_000_000, "sample": "" },
        { "path": "empty.parquet", "size": 0, "sample": "" },
    ]});
    let modes = world.post(&format!("/api/datasets/{ID}/preupload/main"), WRITER, &asked).await.json();
    let modes: Vec<&str> =
        modes["files"].as_array().unwrap().iter().map(|file| file["uploadMode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["regular", "lfs", "lfs", "regular"]);

    let actions = world.actions(&shard).await;
    let upload = actions["upload"]["href"].as_str().unwrap();
    assert!(upload.starts_with(world.running().cdn_url()), "{upload}");
    assert_eq!(world.send(Method::PUT, upload, "", shard.clone()).await.status, 200);
    let verify = actions["verify"]["href"].as_str().unwrap();
    let stored = json!({ "oid": sha256(&shard), "size": shard.len() });
    assert_eq!(world.post(verify, WRITER, &stored).await.status, 200);
    assert!(world.actions(&shard).await.is_null(), "what is stored is not asked for again");

    let readme = b"---\nlicense: mit\ntags: [prints]\n---\n# Prints\n";
    // A large file without an upload of its own, as clients send it that only know Xet.
    let lines = [inline("README.md", readme), pointer("shards/0.parquet", &shard), inline("d/m.bin", &model)];
    let answer = world.commit(ID, WRITER, Some(&first), &lines).await;
    assert_eq!(answer.status, 200);
    let commit = answer.json();
    let head = commit["commitOid"].as_str().unwrap();
    assert_eq!(commit["commitUrl"], format!("{}/datasets/{ID}/commit/{head}", world.running().hub_url()));
    assert!(commit["pullRequest"].is_null());

    let info = world.get(&format!("/api/datasets/{ID}")).await.json();
    assert_eq!((info["id"].as_str(), info["author"].as_str()), (Some(ID), Some("acme")));
    assert_eq!((info["sha"].as_str(), info["cardData"]["license"].as_str()), (Some(head), Some("mit")));
    assert!(info["tags"].as_array().unwrap().contains(&json!("prints")));
    let tree = world.get(&format!("/api/datasets/{ID}/tree/main?recursive=true&expand=true")).await.json();
    let paths: Vec<&str> = tree.as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [".gitattributes", "README.md", "d", "d/m.bin", "shards", "shards/0.parquet"]);
    assert_eq!(tree[5]["lfs"]["oid"], sha256(&shard));
    assert_eq!(
        (&tree[0]["lastCommit"]["title"], &tree[4]["lastCommit"]["id"]),
        (&json!("initial commit"), &json!(head))
    );
    let target = format!("/api/datasets/{ID}/paths-info/main");
    let found = world.send(Method::POST, &target, READER, "paths=d/m.bin&paths=x").await;
    assert_eq!(found.json()[0]["lfs"]["size"], model.len());

    let small = world.get(&format!("/datasets/{ID}/resolve/main/README.md")).await;
    assert_eq!((small.status, small.header("x-repo-commit")), (307, head));
    assert!(
        small.header("location").starts_with(&format!("/api/resolve-cache/datasets/{ID}/{head}/README.md?"))
    );
    assert_eq!(world.read(ID, "main", "README.md").await.body, readme);
    assert_eq!(world.read(ID, "main", "shards/0.parquet").await.body, shard);
    assert_eq!(world.read(ID, head, "d/m.bin").await.body, model);
    let large =
        world.send(Method::HEAD, &format!("/datasets/{ID}/resolve/main/shards/0.parquet"), READER, "").await;
    assert_eq!((large.status, large.header("x-linked-size")), (302, "300000"));
    assert_eq!(large.header("x-linked-etag"), format!("\"{}\"", sha256(&shard)));
    let part =
        world.client.get(large.header("location")).header("range", "bytes=100-199").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), shard[100..200]);

    assert!(world.get("/api/models").await.json().as_array().unwrap().is_empty(), "datasets are not listed");
    let received =
        Received { objects: 3, bytes: (readme.len() + shard.len() + model.len()) as u64, commits: 1 };
    assert_eq!(world.running().counters().received, received);
}

#[tokio::test]
async fn old_revisions_tags_and_a_restart() {
    let mut world = World::new(&[]).await;
    let first = world.create(ID).await;
    let (old, new) = (noise(1000, 1), noise(1000, 2));
    assert_eq!(
        world.commit(ID, ACME, Some(&first), &[inline("a.bin", &old), inline("t/x", b"1")]).await.status,
        200
    );
    let second = world.head(ID).await;
    let tag = format!("/api/datasets/{ID}/tag/{second}");
    assert_eq!(world.post(&tag, ACME, &json!({ "tag": "v1" })).await.status, 200);
    assert_eq!(world.post(&tag, ACME, &json!({ "tag": "v1" })).await.status, 409);
    assert_eq!(world.post(&tag, ACME, &json!({ "tag": "../v1" })).await.status, 400);
    let lines = [
        inline("a.bin", &new),
        deleted("deletedFolder", "t/"),
        inline("u", b"2"),
        deleted("deletedFile", "u"),
    ];
    assert_eq!(world.commit(ID, ACME, Some(&second[..7]), &lines).await.status, 200);
    let third = world.head(ID).await;

    let behind = world.commit(ID, ACME, Some(&second), &[inline("late", b"")]).await;
    assert_eq!(behind.status, 412);
    let absent = world.commit(ID, ACME, None, &[deleted("deletedFile", "absent")]).await;
    assert_eq!((absent.status, absent.header("x-error-code")), (404, "EntryNotFound"));
    assert_eq!(world.head(ID).await, third);

    for restarted in [false, true] {
        if restarted {
            world.restart(&[]).await;
        }
        assert_eq!(world.head(ID).await, third);
        assert_eq!(world.read(ID, "main", "a.bin").await.body, new);
        for revision in [second.as_str(), "v1", &second[..7]] {
            assert_eq!(world.read(ID, revision, "a.bin").await.body, old, "{revision}");
            assert_eq!(world.read(ID, revision, "t/x").await.body, b"1");
            let info = world.get(&format!("/api/datasets/{ID}/revision/{revision}")).await.json();
            assert_eq!(info["sha"], second);
        }
        assert_eq!(world.read(ID, "main", "t/x").await.status, 404);
        assert_eq!(world.read(ID, "v2", "a.bin").await.header("x-error-code"), "RevisionNotFound");
        let refs = world.get(&format!("/api/datasets/{ID}/refs")).await.json();
        assert_eq!(refs["branches"][0]["targetCommit"], third);
        assert_eq!(
            (&refs["tags"][0]["ref"], &refs["tags"][0]["targetCommit"]),
            (&json!("refs/tags/v1"), &json!(second))
        );
        let commits = world.get(&format!("/api/datasets/{ID}/commits/main?limit=2")).await;
        let ids: Vec<Value> = commits.json().as_array().unwrap().iter().map(|c| c["id"].clone()).collect();
        assert_eq!((ids, commits.header("x-total-count")), (vec![json!(third), json!(second)], "3"));
        let next = commits.header("link").strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
        let rest = world.get(&next).await.json();
        assert_eq!((&rest[0]["id"], &rest[0]["title"]), (&json!(first), &json!("initial commit")));
    }
    let again = world.start(&[]).await.map(|_| ());
    assert!(matches!(again, Err(LocalHubError::Uploads(UploadError::Locked(_)))), "one server at a time");
}

#[tokio::test]
async fn uploads_that_are_not_what_they_say_are_refused() {
    let world = World::new(&["write.max_object_bytes=5000", "write.max_commit_bytes=4000"]).await;
    let first = world.create(ID).await;
    let data = noise(3000, 1);
    let href = world.actions(&data).await["upload"]["href"].as_str().unwrap().to_owned();
    assert_eq!(world.send(Method::PUT, &href, "", noise(3000, 2)).await.status, 400, "other bytes");
    assert_eq!(world.send(Method::PUT, &href, "", data[..2999].to_vec()).await.status, 400, "too few");
    let stream = |data: Vec<u8>| {
        reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(data)]))
    };
    assert_eq!(
        world.send(Method::PUT, &href, "", stream(data[..2999].to_vec())).await.status,
        400,
        "unannounced"
    );
    assert_eq!(world.send(Method::PUT, &href, "", stream(noise(3001, 1))).await.status, 400, "too many");
    assert_eq!(
        world.send(Method::PUT, &href.replace("/3000?", "/2999?"), "", "").await.status,
        403,
        "not signed"
    );
    assert_eq!(world.send(Method::GET, &href, "", "").await.status, 405);
    let verify = format!("/datasets/{ID}.git/info/lfs/objects/verify");
    let object = json!({ "oid": sha256(&data), "size": 3000 });
    assert_eq!(world.post(&verify, WRITER, &object).await.status, 404);
    assert_eq!(world.commit(ID, WRITER, None, &[pointer("a.bin", &data)]).await.status, 400, "never sent");

    let large = world.batch(ID, WRITER, &[&noise(5001, 1)]).await.json();
    assert_eq!(large["objects"][0]["error"]["code"], 422);
    assert_eq!(
        world.commit(ID, WRITER, None, &[inline("a.bin", &data)]).await.status,
        413,
        "3000 bytes in base64"
    );
    for lines in
        [&[inline("../a", b"")][..], &[json!({ "key": "file" })], &[inline("a/b", b""), inline("a", b"")]]
    {
        assert_eq!(world.commit(ID, WRITER, None, lines).await.status, 400, "{lines:?}");
    }
    let no_header = inline("a", b"").to_string();
    let commit = format!("/api/datasets/{ID}/commit/main");
    assert_eq!(world.send(Method::POST, &commit, WRITER, no_header).await.status, 400);
    assert_eq!(world.head(ID).await, first, "nothing of it was committed");

    assert_eq!(
        world.send(Method::PUT, &href, "", stream(data.clone())).await.status,
        200,
        "the address is still good"
    );
    assert_eq!(world.commit(ID, WRITER, None, &[pointer("a.bin", &data)]).await.status, 200);
    assert_eq!(world.read(ID, "main", "a.bin").await.body, data);
}

#[tokio::test]
async fn only_those_write_who_may() {
    let mut world = World::new(&["tokens.hf_one=[\"write:acme/other\"]"]).await;
    let new = |org: &str| json!({ "name": "x", "organization": org, "type": "dataset" });
    world.create(ID).await;
    for (token, org, status) in [
        ("", "acme", 401),
        ("hf_unknown", "acme", 401),
        (READER, "acme", 403),
        (ACME, "else", 403),
        (ACME, "acme", 200),
    ] {
        assert_eq!(world.post("/api/repos/create", token, &new(org)).await.status, status, "{token} {org}");
    }
    let again = world.post("/api/repos/create", ACME, &new("acme")).await;
    let url = format!("{}/datasets/acme/x", world.running().hub_url());
    assert_eq!((again.status, again.json()["url"].as_str()), (409, Some(&*url)));
    assert_eq!(world.post("/api/repos/create", ACME, &new("Acme")).await.status, 403, "names are exact");
    assert_eq!(world.post("/api/repos/create", WRITER, &new("..")).await.status, 400);
    let model = json!({ "name": "acme/model", "type": "model" });
    assert_eq!(world.post("/api/repos/create", WRITER, &model).await.status, 403);
    for (token, status) in [("", 401), (READER, 403), ("hf_one", 403), (ACME, 200)] {
        assert_eq!(world.commit(ID, token, None, &[inline("a", b"1")]).await.status, status, "{token}");
        let tag = json!({ "tag": format!("t{token}") });
        assert_eq!(world.post(&format!("/api/datasets/{ID}/tag/main"), token, &tag).await.status, status);
        assert_eq!(world.batch(ID, token, &[b"x"]).await.status, status);
    }
    assert_eq!(world.commit("acme/absent", WRITER, None, &[]).await.status, 404);
    assert_eq!(
        world.send(Method::GET, &format!("/api/datasets/{ID}/commit/main"), WRITER, "").await.status,
        405
    );

    // Private ones are there for those who may read them, or write them.
    let secret = json!({ "name": "acme/secret", "type": "dataset", "visibility": "private" });
    assert_eq!(world.post("/api/repos/create", ACME, &secret).await.status, 200);
    for (token, status) in [("", 401), ("hf_one", 404), (READER, 200), (ACME, 200)] {
        assert_eq!(
            world.send(Method::GET, "/api/datasets/acme/secret", token, "").await.status,
            status,
            "{token}"
        );
    }
    for (token, role, orgs) in [(READER, "read", json!([])), (ACME, "write", json!(["acme"]))] {
        let who = world.send(Method::GET, "/api/whoami-v2", token, "").await.json();
        assert_eq!(who["auth"]["accessToken"]["role"], role);
        assert_eq!(
            who["orgs"].as_array().unwrap().iter().map(|org| org["name"].clone()).collect::<Value>(),
            orgs
        );
    }
    assert_eq!(world.send(Method::GET, "/api/whoami-v2", "", "").await.status, 401);

    // Without the setting nobody writes.
    world.restart(&[]).await;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = Settings::default();
    settings.set(&format!("tokens.{WRITER}=[\"write:*\"]")).unwrap();
    world.running = Some(local_hub::start(world.served.path(), any, any, settings).await.unwrap());
    assert_eq!(world.post("/api/repos/create", WRITER, &new("acme")).await.status, 403);
    assert_eq!(world.post("/api/repos/create", "", &new("acme")).await.status, 401);
}

#[tokio::test]
async fn datasets_of_the_folder_are_read_and_not_written() {
    let mut world = World::new(&[]).await;
    let put = |path: &str, content: &[u8]| {
        let path = world.served.path().join("datasets/acme/kept").join(path);
        hubprint::store::atomic::write(&path, content).unwrap();
    };
    let rows = noise(2000, 1);
    put("README.md", b"---\nlicense: mit\n---\n");
    put("data/rows.parquet", &rows);
    put("config.json", b"{\"model_type\":\"llama\"}");
    put(".hub.json", b"{\"gated\":\"manual\"}");
    world.restart(&["tokens.hf_one=[\"datasets/acme/kept\"]", "tokens.hf_none=[]"]).await;

    let info = world.get("/api/datasets/acme/kept").await.json();
    assert_eq!((info["id"].as_str(), info["gated"].as_str()), (Some("acme/kept"), Some("manual")));
    assert!(info.get("config").is_none() && info.get("modelId").is_none());
    assert_eq!(info["siblings"].as_array().unwrap().len(), 3);
    let page = world.get("/api/datasets/acme/kept/tree/main?recursive=true&limit=1").await;
    assert!(page.header("link").contains("/api/datasets/acme/kept/tree/main?"));
    assert_eq!(world.read("acme/kept", "main", "data/rows.parquet").await.body, rows);
    let target = "/datasets/acme/kept/resolve/main/config.json";
    for (token, status) in [("", 401), ("hf_none", 403), ("hf_one", 307), (READER, 307)] {
        assert_eq!(world.send(Method::GET, target, token, "").await.status, status, "{token}");
    }
    let refused = world.send(Method::GET, target, "hf_none", "").await;
    assert!(refused.header("x-error-message").starts_with("Access to dataset acme/kept is restricted"));
    assert_eq!(world.get("/api/models/acme/kept").await.status, 404, "no model");
    assert!(world.get("/api/models").await.json().as_array().unwrap().is_empty());

    assert_eq!(world.commit("acme/kept", WRITER, None, &[inline("a", b"")]).await.status, 403);
    let taken = json!({ "name": "kept", "organization": "acme", "type": "dataset" });
    assert_eq!(world.post("/api/repos/create", WRITER, &taken).await.status, 409);
}

#[tokio::test]
async fn the_served_folder_may_be_the_one_that_is_written() {
    let mut world = World::new(&[]).await;
    let here = format!("write.folder={}", world.served.path().display());
    world.restart(&[&here]).await;
    world.create(ID).await;
    world.restart(&[&here]).await;
    assert!(Path::new(&world.served.path().join("datasets/acme/prints.json")).is_file());
    assert_eq!(world.commit(ID, WRITER, None, &[inline("a", b"1")]).await.status, 200);
    world.running().rescan().await.unwrap();
    assert_eq!(world.read(ID, "main", "a").await.body, b"1");
}
