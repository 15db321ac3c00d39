//! The local Hub server over real HTTP: one test for each point of the protocol it promises.
//!
//! The requests are made by a plain HTTP client, so nothing here shares code with the server.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hubprint::local_hub::{self, Running, Settings};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, redirect};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const README: &str =
    "---\nlicense: mit\nbase_model: acme/base\ntags: [demo]\nlibrary_name: transformers\n---\n# Tiny\n";
const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":32}"#;
/// `docs/naïve file+1.txt`, as a client writes it.
const ODD: &str = "docs/na%C3%AFve%20file%2B1.txt";

/// A safetensors file of `count` float tensors that hold `fill`.
fn weights(count: usize, fill: f32) -> Vec<u8> {
    let data: Vec<u8> = std::iter::repeat_n(fill.to_le_bytes(), 6).flatten().collect();
    let view = || TensorView::new(Dtype::F32, vec![2, 3], &data).unwrap();
    let tensors = (0..count).map(|i| (format!("model.layers.{i:05}.self_attn.q_proj.weight"), view()));
    serialize(tensors, None).unwrap()
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(content.as_ref()).unwrap();
}

fn add_model(root: &Path, id: &str, hub: &Value, files: &[(&str, &[u8])]) {
    let folder = root.join("models").join(id);
    write(&folder.join(".hub.json"), hub.to_string());
    for (path, content) in files {
        write(&folder.join(path), content);
    }
}

fn zoo(i: u32) -> (String, Value) {
    // Ties on every key, so that `_id` has to decide.
    let hub = json!({
        "createdAt": if i < 4 { "2022-03-02T23:29:04.000Z".to_owned() } else { format!("2024-02-{i:02}T00:00:00.000Z") },
        "lastModified": format!("2025-01-{:02}T00:00:00.000Z", 28 - i),
        "downloads": i / 3,
        "likes": 1,
        "tags": if i.is_multiple_of(2) { json!(["license:mit"]) } else { json!(["license:mit", "gguf"]) },
    });
    (format!("zoo/model-{i:02}"), hub)
}

/// A folder with every kind of repository that the protocol tells apart.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (single, wide) = (weights(2, 1.0), weights(2000, 2.0));
    assert!(wide.len() > 225_000);
    let small: [(&str, &[u8]); 2] = [("config.json", CONFIG.as_bytes()), ("model.safetensors", &single)];
    add_model(
        root,
        "acme/tiny",
        &json!({"createdAt": "2024-01-05T00:00:00.000Z", "lastModified": "2025-02-01T00:00:00.000Z", "downloads": 9}),
        &[
            ("README.md", README.as_bytes()),
            small[0],
            small[1],
            ("docs/naïve file+1.txt", "gefüllt\n".as_bytes()),
            ("docs/deep/er.json", b"{}"),
            ("empty.txt", b""),
        ],
    );
    add_model(
        root,
        "acme/wide",
        &json!({"createdAt": "2024-01-06T00:00:00.000Z"}),
        &[("model.safetensors", &wide)],
    );
    let index = json!({"metadata": {"total_size": 96}, "weight_map": {}}).to_string();
    add_model(
        root,
        "acme/sharded",
        &json!({"createdAt": "2024-01-07T00:00:00.000Z"}),
        &[
            ("model.safetensors.index.json", index.as_bytes()),
            ("model-00001-of-00002.safetensors", &single),
            ("model-00002-of-00002.safetensors", &weights(2, 3.0)),
        ],
    );
    for (name, key, value) in [
        ("gated", "gated", json!("manual")),
        ("disabled", "disabled", json!(true)),
        ("private", "private", json!(true)),
    ] {
        let mut hub = json!({"createdAt": "2024-01-08T00:00:00.000Z"});
        hub[key] = value;
        add_model(root, &format!("acme/{name}"), &hub, &small);
    }
    for i in 0..12 {
        let (id, hub) = zoo(i);
        add_model(root, &id, &hub, &[("config.json", CONFIG.as_bytes())]);
    }
    write(&root.join("hub.json"), r#"{"renames":{"acme/old":"acme/tiny","tiny":"acme/tiny"}}"#);
    dir
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The body ended before its Content-Length.
    cut: bool,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Ids of a list.
    fn ids(&self) -> Vec<String> {
        self.json().as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Target of the `Link` to the next page.
    fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
    }
}

/// A running server and a client that follows nothing.
struct World {
    dir: TempDir,
    running: Running,
    client: Client,
}

impl World {
    async fn with(settings: &[&str]) -> Self {
        Self::serving(folder(), settings).await
    }

    async fn serving(dir: TempDir, settings: &[&str]) -> Self {
        let mut chosen = Settings::default();
        for setting in ["tokens.hf_reader=[\"*\"]", "tokens.hf_other=[]"].iter().chain(settings) {
            chosen.set(setting).unwrap();
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = local_hub::start(dir.path(), any, any, chosen).await.unwrap();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Self { dir, running, client }
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Answer {
        let url = if target.starts_with('/') {
            format!("{}{target}", self.running.hub_url())
        } else {
            target.to_owned()
        };
        let mut request = self.client.request(method, url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        let mut response = request.send().await.unwrap();
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: vec![],
            cut: false,
        };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Ok(None) => return answer,
                Err(_) => {
                    answer.cut = true;
                    return answer;
                }
            }
        }
    }

    async fn get(&self, target: &str) -> Answer {
        self.send(Method::GET, target, &[], "").await
    }

    async fn range(&self, target: &str, range: &str) -> Answer {
        self.send(Method::GET, target, &[("range", range)], "").await
    }

    async fn with_token(&self, target: &str, token: &str) -> Answer {
        self.send(Method::GET, target, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    /// The CDN address of a weight file.
    async fn signed(&self, id: &str) -> String {
        let answer = self.get(&format!("/{id}/resolve/main/model.safetensors")).await;
        assert_eq!(answer.status, 302);
        answer.header("location").to_owned()
    }

    async fn sha(&self, id: &str) -> String {
        self.get(&format!("/api/models/{id}")).await.json()["sha"].as_str().unwrap().to_owned()
    }

    /// All pages from `target` on, as lists of ids.
    async fn pages(&self, target: &str) -> Vec<Vec<String>> {
        let mut pages = vec![];
        let mut next = Some(target.to_owned());
        while let Some(target) = next {
            let answer = self.get(&target).await;
            assert_eq!(answer.status, 200, "{target}");
            pages.push(answer.ids());
            next = answer.next();
        }
        pages
    }
}

fn keys(item: &Value) -> BTreeSet<&str> {
    item.as_object().unwrap().keys().map(String::as_str).collect()
}

// Topology and transport

#[tokio::test]
async fn item_01_two_origins_and_a_following_client_drops_its_token() {
    let world = World::with(&[]).await;
    assert_ne!(world.running.hub_url(), world.running.cdn_url());
    let url = format!("{}/acme/gated/resolve/main/model.safetensors", world.running.hub_url());
    let following = Client::builder().no_proxy().build().unwrap();
    let answer = following.get(&url).bearer_auth("hf_reader").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.url().as_str().starts_with(world.running.cdn_url()));
    assert_eq!(answer.bytes().await.unwrap(), weights(2, 1.0));
}

#[tokio::test]
async fn item_02_head_is_get_without_a_body() {
    let world = World::with(&[]).await;
    let sha = world.sha("acme/tiny").await;
    let cdn = world.signed("acme/tiny").await;
    for target in [
        "/api/models?limit=2",
        "/api/models/acme/tiny",
        "/api/models/acme/tiny/revision/main",
        "/api/models/acme/tiny/tree/main",
        "/api/models/acme/tiny/refs",
        "/api/models/acme/tiny/commits/main",
        "/acme/tiny/resolve/main/config.json",
        "/acme/tiny/resolve/main/model.safetensors",
        "/acme/tiny/raw/main/config.json",
        &format!("/api/resolve-cache/models/acme/tiny/{sha}/config.json"),
        "/acme/absent/resolve/main/x",
        "/nowhere",
        &cdn,
    ] {
        let (get, head) = (world.get(target).await, world.send(Method::HEAD, target, &[], "").await);
        assert_eq!(get.status, head.status, "{target}");
        assert!(!get.body.is_empty() && head.body.is_empty(), "{target}");
        for (name, value) in &get.headers {
            // What differs from one request to the next, and signed addresses with their time.
            if !["date", "ratelimit", "x-request-id", "location", "content-length"].contains(&name.as_str()) {
                assert_eq!(head.headers.get(name), Some(value), "{target}: {name}");
            }
        }
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{target}");
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{target}");
    }
}

#[tokio::test]
async fn item_03_every_hub_answer_counts_down_its_bucket_and_the_cdn_has_none() {
    let world = World::with(&["limits.api=20", "limits.resolvers=30", "limits.pages=40"]).await;
    for (bucket, quota, targets) in [
        ("api", 20, ["/api/models", "/api/models?sort=x", "/api/models/acme/old", "/api/models/a/b"]),
        (
            "resolvers",
            30,
            [
                "/acme/tiny/resolve/main/config.json",
                "/acme/gated/resolve/main/x",
                "/a/b/resolve/c/d",
                "/acme/tiny/resolve/main/x",
            ],
        ),
        ("pages", 40, ["/", "/nowhere", "/a/b/c", "/datasets/a/b"]),
    ] {
        for (i, target) in targets.iter().enumerate() {
            let answer = world.get(target).await;
            assert_eq!(
                answer.header("ratelimit"),
                format!("\"{bucket}\";r={};t=300", quota - 1 - i),
                "{target}"
            );
            assert_eq!(
                answer.header("ratelimit-policy"),
                format!("\"fixed window\";\"{bucket}\";q={quota};w=300")
            );
        }
    }
    let answer = world.get(&world.signed("acme/tiny").await).await;
    assert!(!answer.has("ratelimit") && !answer.has("ratelimit-policy"));
    let counters = world.running.counters();
    assert_eq!((counters.requests.api, counters.requests.resolvers, counters.requests.pages), (4, 5, 4));
    assert_eq!(counters.max_in_window, counters.requests);
    assert_eq!(counters.cdn_requests, 1);
    assert_eq!(counters.bytes_sent, weights(2, 1.0).len() as u64);
}

#[tokio::test]
async fn item_04_unknown_parameters_are_ignored_and_unknown_routes_are_404() {
    let world = World::with(&[]).await;
    assert_eq!(
        world.get("/api/models?library=timm&x[]=%ff").await.ids(),
        world.get("/api/models").await.ids()
    );
    let head =
        world.send(Method::HEAD, "/datasets/Salesforce/wikitext/resolve/main/.gitattributes", &[], "").await;
    assert_eq!(head.status, 401, "a dataset that is not here, to someone unknown");
    for target in [
        "/",
        "/api",
        "/api/datasets",
        "/api/models/acme/tiny/nonsense",
        "/a/b/c/d/e",
        "/%ff/%ff/resolve/main/x",
    ] {
        assert_eq!(world.get(target).await.status, 404, "{target}");
    }
    assert_eq!(world.send(Method::DELETE, "/api/models/acme/tiny", &[], "").await.status, 405);
}

#[tokio::test]
async fn item_04_no_path_leads_out_of_the_folder() {
    let world = World::with(&[]).await;
    write(&world.dir.path().join("models/secret"), "no");
    for target in [
        "/acme/tiny/resolve/main/..%2F..%2Fsecret",
        "/acme/tiny/resolve/main/%2e%2e/%2e%2e/secret",
        "/acme/tiny/resolve/main/docs/..%2Fconfig.json",
        "/acme/tiny/resolve/main/.hub.json",
        "/acme%2F..%2Facme/tiny/resolve/main/config.json",
        "/acme/tiny/raw/main/%2Fetc%2Fpasswd",
    ] {
        assert!(matches!(world.get(target).await.status, 401 | 404), "{target}");
    }
}

// Listing

#[tokio::test]
async fn item_05_limit_sort_direction_filters_and_flags() {
    let world = World::with(&[]).await;
    let all = world.get("/api/models").await;
    assert_eq!(all.ids().len(), 12 + 5, "all but the private one");
    assert!(all.next().is_none());
    assert_eq!(world.get("/api/models?limit=3").await.ids().len(), 3);

    let item = world.get("/api/models?search=TINY&sort=likes").await.json()[0].clone();
    let default: BTreeSet<_> = [
        "_id",
        "id",
        "likes",
        "trendingScore",
        "private",
        "downloads",
        "tags",
        "library_name",
        "createdAt",
        "modelId",
    ]
    .into();
    assert_eq!(keys(&item), default);
    assert_eq!(
        item["tags"],
        json!([
            "transformers",
            "safetensors",
            "llama",
            "demo",
            "base_model:acme/base",
            "base_model:finetune:acme/base",
            "license:mit",
            "region:us"
        ])
    );
    let full =
        world.get("/api/models?search=tiny&full=true&config=true&cardData=true").await.json()[0].clone();
    let added: BTreeSet<_> = keys(&full).difference(&default).copied().collect();
    assert_eq!(added, ["author", "gated", "lastModified", "sha", "siblings", "config", "cardData"].into());
    assert_eq!(full["config"], json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}));
    assert_eq!(full["cardData"]["base_model"], "acme/base");
    assert_eq!(full["siblings"][0], json!({"rfilename": "README.md"}));

    for (query, count) in [
        ("author=zoo", 12),
        ("author=zo", 0),
        ("filter=gguf", 6),
        ("filter=gguf&filter=license:mit", 6),
        ("filter=license:mit", 13),
        ("filter=license:mit,safetensors", 1),
        ("filter=base_model:finetune:acme/base", 1),
        ("search=model-1", 2),
        ("gated=true", 1),
        ("gated=false", 16),
        ("num_parameters=min:1K", 1),
        ("num_parameters=max:24", 4),
        ("author=acme&skip=2", 3),
        ("inference=warm", 0),
    ] {
        assert_eq!(world.get(&format!("/api/models?{query}")).await.ids().len(), count, "{query}");
    }
    let most = world.get("/api/models?sort=downloads&limit=1").await.ids();
    assert_eq!(most, ["acme/tiny"]);
    for query in ["sort=colour", "limit=0", "limit=x", "cursor=x", "num_parameters=many"] {
        assert_eq!(world.get(&format!("/api/models?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(world.get("/api/models?sort=colour").await.json()["error"], "Invalid sort parameter");
}

#[tokio::test]
async fn item_06_expand_is_exact_in_both_spellings_and_refuses_unknown_names() {
    let world = World::with(&[]).await;
    let plain = world
        .get("/api/models?sort=createdAt&search=tiny&expand=sha&expand=safetensors&expand=baseModels")
        .await;
    let brackets = world.get("/api/models?sort=createdAt&search=tiny&expand[]=sha&expand%5B%5D=safetensors&expand[]=baseModels").await;
    assert_eq!(plain.json(), brackets.json());
    let item = plain.json()[0].clone();
    assert_eq!(keys(&item), ["_id", "id", "sha", "safetensors", "baseModels", "createdAt"].into());
    assert_eq!(item["safetensors"], json!({"parameters": {"F32": 12}, "total": 12}));
    assert_eq!(item["baseModels"]["relation"], "finetune");
    assert_eq!(item["baseModels"]["models"][0]["id"], "acme/base");
    let default_sort = world.get("/api/models?limit=1&expand=sha").await.json();
    assert_eq!(keys(&default_sort[0]), ["_id", "id", "sha", "trendingScore"].into());
    for name in ["nonsense", "_id", "cardData.license", "usedStorage", "childrenModelCount"] {
        let answer = world.get(&format!("/api/models?expand=sha&expand[]={name}")).await;
        assert_eq!(answer.status, 400, "{name}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("✖ Invalid option: expected one of \"author\"|\"baseModels\"|"), "{error}");
    }
}

#[tokio::test]
async fn item_07_pages_are_complete_for_every_order() {
    let world = World::with(&[]).await;
    for sort in [
        "createdAt",
        "lastModified",
        "downloads",
        "likes",
        "trendingScore",
        "num_parameters",
        "mainSize",
        "id",
    ] {
        for direction in ["1", "-1"] {
            let query = format!("/api/models?sort={sort}&direction={direction}&expand[]=sha");
            let whole = world.get(&query).await.ids();
            for limit in [1, 4, 16] {
                let pages = world.pages(&format!("{query}&limit={limit}")).await;
                assert!(pages.iter().rev().skip(1).all(|page| page.len() == limit));
                assert_eq!(pages.concat(), whole, "{sort} {direction} {limit}");
            }
        }
    }
    let legacy = world.get("/api/models?sort=createdAt&direction=1&limit=4").await.json();
    let ids: Vec<_> = legacy.as_array().unwrap().iter().map(|item| item["_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| id.starts_with("621ffdc0")), "{ids:?}");
    assert_eq!(world.pages("/api/models?skip=2&limit=4").await.concat().len(), 15);
}

#[tokio::test]
async fn item_07_links_are_absolute_and_keep_the_query() {
    let world = World::with(&["page_limit=2", "public_host=localhost"]).await;
    assert!(world.running.hub_url().starts_with("http://localhost:"));
    let query = "sort=createdAt&author=zoo&expand[]=sha&expand%5B%5D=tags&limit=1000";
    let first = world.get(&format!("/api/models?{query}")).await;
    assert_eq!(first.ids().len(), 2, "the server's own limit");
    let next = first.next().unwrap();
    assert!(next.starts_with(&format!("{}/api/models?{query}&cursor=", world.running.hub_url())), "{next}");
    let second = world.get(&next).await;
    assert_eq!(second.next().unwrap().matches("cursor=").count(), 1);
    assert_eq!(world.get(&next.replace("sort=createdAt", "sort=likes")).await.status, 400);
}

#[tokio::test]
async fn item_07_changes_between_pages() {
    let world = World::with(&[]).await;
    let root = world.dir.path().to_owned();
    let stable = "/api/models?author=zoo&sort=createdAt&direction=1&limit=6";
    let mutable = "/api/models?author=zoo&sort=lastModified&direction=-1&limit=6";
    let (first_stable, first_mutable) = (world.get(stable).await, world.get(mutable).await);

    let (id, mut hub) = zoo(11);
    hub["lastModified"] = json!("2026-01-01T00:00:00.000Z");
    fs::remove_file(root.join("models").join(&id).join(".hub.json")).unwrap();
    add_model(&root, &id, &hub, &[]);
    add_model(&root, "zoo/new", &json!({"createdAt": "2026-01-01T00:00:00.000Z"}), &[("config.json", b"{}")]);
    world.running.rescan().await.unwrap();

    let rest = world.pages(&first_stable.next().unwrap()).await.concat();
    let seen = [first_stable.ids(), rest].concat();
    assert_eq!(seen.len(), 13);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 13, "no row twice");
    assert_eq!(seen.last().unwrap(), "zoo/new", "a new model is at the end");

    let rest = world.pages(&first_mutable.next().unwrap()).await.concat();
    let seen = [first_mutable.ids(), rest].concat();
    assert!(!seen.contains(&id), "a model that is touched slips past a crawl ordered by lastModified");
}

#[tokio::test]
async fn item_08_default_answers_lack_what_a_typed_client_cannot_decode() {
    let world = World::with(&[]).await;
    let listed = world.get("/api/models?search=tiny&full=true").await.json()[0].clone();
    for item in [listed, world.get("/api/models/acme/tiny").await.json()] {
        assert!(item.get("baseModels").is_none() && item.get("childrenModelCount").is_none());
    }
    let asked = world.get("/api/models/acme/tiny?expand=childrenModelCount&expand=usedStorage").await.json();
    assert_eq!(keys(&asked), ["_id", "id", "childrenModelCount", "usedStorage"].into());
    assert_eq!(asked["childrenModelCount"], json!({"adapter": 0, "merge": 0, "quantized": 0, "finetune": 0}));
}

// Per model

#[tokio::test]
async fn item_09_info_by_revision_with_blobs_and_expand() {
    let world = World::with(&[]).await;
    let info = world.get("/api/models/acme/tiny").await.json();
    let sha = info["sha"].as_str().unwrap();
    assert_eq!((info["modelId"].as_str(), info["author"].as_str()), (Some("acme/tiny"), Some("acme")));
    assert_eq!(info["createdAt"], "2024-01-05T00:00:00.000Z");
    assert_eq!(info["siblings"].as_array().unwrap().len(), 6);
    for revision in ["main", "refs%2Fheads%2Fmain", sha, &sha[..7]] {
        assert_eq!(
            world.get(&format!("/api/models/acme/tiny/revision/{revision}")).await.json(),
            info,
            "{revision}"
        );
    }
    let blobs = world.get("/api/models/acme/tiny?blobs=true").await.json();
    let sibling = |name: &str| {
        let siblings = blobs["siblings"].as_array().unwrap();
        siblings.iter().find(|sibling| sibling["rfilename"] == name).unwrap().clone()
    };
    let data = weights(2, 1.0);
    let sha256 = sha256(&data);
    let lfs = &sibling("model.safetensors")["lfs"];
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n", data.len());
    assert_eq!(lfs, &json!({"sha256": sha256, "size": data.len(), "pointerSize": pointer.len()}));
    assert_eq!(
        sibling("docs/deep/er.json")["blobId"],
        "9e26dfeeb6e641a33dae4961196235bdb965b21b",
        "git hash-object"
    );
    assert!(sibling("config.json").get("lfs").is_none());

    let expanded = world.get("/api/models/acme/tiny?expand[]=sha").await.json();
    assert_eq!(keys(&expanded), ["_id", "id", "sha"].into());
    assert_eq!(world.get("/api/models/acme/sharded").await.json()["safetensors"]["total"], 24);
}

#[tokio::test]
async fn item_10_trees() {
    let world = World::with(&[]).await;
    let paths = |answer: Answer| -> Vec<String> {
        assert_eq!(answer.status, 200);
        answer
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["path"].as_str().unwrap().to_owned())
            .collect()
    };
    let top = ["README.md", "config.json", "docs", "empty.txt", "model.safetensors"];
    let base = "/api/models/acme/tiny/tree/main";
    for target in [base, &format!("{base}/"), &format!("{base}?recursive=false&expand=false")] {
        assert_eq!(paths(world.get(target).await), top, "{target}");
    }
    assert_eq!(paths(world.get(&format!("{base}/docs")).await), ["docs/deep", "docs/naïve file+1.txt"]);
    assert_eq!(paths(world.get(&format!("{base}/docs%2Fdeep/")).await), ["docs/deep/er.json"]);
    assert_eq!(paths(world.get(&format!("{base}?recursive=true")).await).len(), 8);

    let mut pages = vec![];
    let mut next = Some(format!("{base}?recursive=true&limit=3"));
    while let Some(target) = next {
        let answer = world.get(&target).await;
        next = answer.next();
        assert!(next.as_ref().is_none_or(|url| url.starts_with(world.running.hub_url())));
        pages.extend(paths(answer));
    }
    assert_eq!(pages, paths(world.get(&format!("{base}?recursive=true")).await));

    let plain = world.get(base).await.json();
    assert_eq!(keys(&plain[0]), ["type", "oid", "size", "path"].into());
    assert_eq!(keys(&plain[4]["lfs"]), ["oid", "size", "pointerSize"].into());
    assert_eq!(plain[2]["type"], "directory");
    let expanded = world.get(&format!("{base}?expand=true")).await.json();
    assert_eq!(keys(&expanded[0]["lastCommit"]), ["id", "title", "date"].into());
    assert_eq!(keys(&expanded[4]["securityFileStatus"]), ["status", "avScan", "pickleImportScan"].into());
    assert!(expanded[2].get("lastCommit").is_some());
    assert_eq!(world.get(&format!("{base}/absent")).await.header("x-error-code"), "EntryNotFound");
}

#[tokio::test]
async fn item_11_paths_info_takes_json_and_forms() {
    let world = World::with(&[]).await;
    let target = "/api/models/acme/tiny/paths-info/main";
    let post = async |kind: &str, body: &str| {
        world.send(Method::POST, target, &[("content-type", kind)], body).await
    };
    let (form, json) = ("application/x-www-form-urlencoded", "application/json");
    let both = post(json, r#"{"paths":["config.json","docs","absent"],"expand":false}"#).await;
    assert_eq!(both.json().as_array().unwrap().len(), 2);
    assert_eq!(
        both.json(),
        post(form, "paths=config.json&paths=docs&paths=absent&expand=False").await.json()
    );
    assert_eq!(post(json, r#"{"paths":"config.json"}"#).await.json()[0], both.json()[0]);
    assert_eq!(post(form, &format!("paths={ODD}")).await.json()[0]["path"], "docs/naïve file+1.txt");
    assert!(post(form, "paths=config.json&expand=True").await.json()[0].get("lastCommit").is_some());
    assert_eq!(post(json, r#"{"paths":["absent"]}"#).await.json(), json!([]));

    assert_eq!(post(json, "{").await.status, 400);
    assert_eq!(post(form, &"paths=x&".repeat(2001)).await.status, 400);
    assert_eq!(post(form, &format!("paths={}", "x".repeat(5 << 20))).await.status, 413);
    assert_eq!(world.get(target).await.status, 405);
}

// Resolve and CDN

#[tokio::test]
async fn item_12_git_files_redirect_relatively() {
    let world = World::with(&[]).await;
    let sha = world.sha("acme/tiny").await;
    for (path, name) in [("config.json", "config.json"), (ODD, "na?ve file+1.txt")] {
        let answer = world.get(&format!("/acme/tiny/resolve/main/{path}")).await;
        assert_eq!(answer.status, 307);
        assert!(
            answer
                .header("location")
                .starts_with(&format!("/api/resolve-cache/models/acme/tiny/{sha}/{path}?"))
        );
        assert_eq!(answer.header("x-repo-commit"), sha);
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "of the redirect's text");
        assert!(!answer.has("x-linked-size"));
        assert!(answer.header("content-disposition").ends_with(&format!("filename=\"{name}\";")));
        assert_eq!(world.get(answer.header("location")).await.status, 200);
    }
    let answer = world.get(&format!("/acme/tiny/resolve/{}/config.json", &sha[..8])).await;
    assert_eq!((answer.status, answer.header("x-repo-commit")), (307, sha.as_str()));
}

#[tokio::test]
async fn item_13_resolve_cache() {
    let world = World::with(&[]).await;
    let sha = world.sha("acme/tiny").await;
    let base = "/api/resolve-cache/models/acme/tiny";
    let file = format!("{base}/{sha}/config.json");
    let whole = world.get(&file).await;
    assert_eq!((whole.status, whole.text().as_str()), (200, CONFIG));
    let tree = world.get("/api/models/acme/tiny/tree/main").await.json();
    assert_eq!(whole.header("etag"), format!("\"{}\"", tree[1]["oid"].as_str().unwrap()));
    assert_eq!(whole.header("x-repo-commit"), sha);

    let part = world.range(&file, "bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str()), (206, &CONFIG[2..5]));
    assert_eq!(part.header("content-range"), format!("bytes 2-4/{}", CONFIG.len()));
    let beyond = world.range(&file, "bytes=1000-").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, &*format!("bytes */{}", CONFIG.len())));

    let empty = format!("{base}/{sha}/empty.txt");
    assert_eq!(world.get(&empty).await.header("content-length"), "0");
    assert_eq!(world.range(&empty, "bytes=0-0").await.status, 416);

    assert_eq!(world.get(&format!("{base}/main/config.json")).await.status, 400);
    let foreign = world.sha("acme/wide").await;
    assert_eq!(world.get(&format!("{base}/{foreign}/config.json")).await.status, 404);
}

#[tokio::test]
async fn item_14_lfs_files_redirect_to_the_cdn() {
    let world = World::with(&["url_ttl_seconds=1234"]).await;
    for method in [Method::GET, Method::HEAD] {
        let answer = world.send(method, "/acme/tiny/resolve/main/model.safetensors", &[], "").await;
        assert_eq!(answer.status, 302);
        let location = answer.header("location");
        assert!(location.starts_with(world.running.cdn_url()), "{location}");
        assert_eq!(answer.header("x-repo-commit"), world.sha("acme/tiny").await);
        let data = weights(2, 1.0);
        let sha256 = sha256(&data);
        assert_eq!(answer.header("x-linked-etag"), format!("\"{sha256}\""));
        assert_eq!(answer.header("x-linked-size"), data.len().to_string());
        assert_eq!(answer.header("cache-control"), "no-store");
        let expires: i64 =
            location.split("Expires=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
        assert!((expires - chrono::Utc::now().timestamp() - 1234).abs() <= 2);
    }
}

#[tokio::test]
async fn item_15_a_resolve_with_a_range_pins_the_address() {
    let world = World::with(&[]).await;
    let ranged = world.range("/acme/tiny/resolve/main/model.safetensors", "bytes=0-7").await;
    let pinned = ranged.header("location");
    assert_eq!(world.range(pinned, "bytes=0-7").await.status, 206);
    for range in [None, Some("bytes=0-8"), Some("bytes=8-15")] {
        let answer = match range {
            None => world.get(pinned).await,
            Some(range) => world.range(pinned, range).await,
        };
        assert_eq!((answer.status, answer.text().as_str()), (403, "Auth failed: invalid range"), "{range:?}");
    }
    let bare = world.signed("acme/wide").await;
    let data = weights(2000, 2.0);
    let one = |i: usize| {
        let (world, bare) = (&world, &bare);
        async move { world.range(bare, &format!("bytes={}-{}", 1000 * i, 1000 * i + 999)).await }
    };
    let parts = futures_util::future::join_all((0..8).map(one)).await;
    assert!(parts.iter().all(|part| part.status == 206));
    assert_eq!(parts.into_iter().flat_map(|part| part.body).collect::<Vec<_>>(), &data[..8000]);
}

#[tokio::test]
async fn item_16_cdn_ranges_signatures_and_authorization() {
    let world = World::with(&[]).await;
    let data = weights(2, 1.0);
    let url = world.signed("acme/tiny").await;
    let whole = world.get(&url).await;
    assert_eq!((whole.status, &whole.body), (200, &data));
    let etag = whole.header("etag").trim_matches('"').to_owned();
    assert!(etag.len() == 64 && url.contains(&etag), "the Xet hash, by which the CDN names the file");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000");

    for (range, expected) in
        [("bytes=0-0", &data[..1]), ("bytes=10-", &data[10..]), ("bytes=-5", &data[data.len() - 5..])]
    {
        let part = world.range(&url, range).await;
        assert_eq!((part.status, &part.body[..]), (206, expected), "{range}");
    }
    let beyond = world.range(&url, &format!("bytes={}-", data.len())).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, &*format!("bytes */{}", data.len())));

    for changed in [
        format!("{url}&x=1"),
        url.replace("user_id=public", "user_id=private"),
        url.split('?').next().unwrap().to_owned(),
    ] {
        assert_eq!(world.get(&changed).await.status, 403, "{changed}");
    }
    assert_eq!(world.with_token(&url, "hf_reader").await.status, 400);
}

#[tokio::test]
async fn item_16_addresses_expire() {
    let world = World::with(&["url_ttl_seconds=2"]).await;
    let url = world.signed("acme/tiny").await;
    assert_eq!(world.get(&url).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let answer = world.get(&url).await;
    assert_eq!((answer.status, answer.text().contains("expired")), (403, true));
    assert_eq!(world.get(&world.signed("acme/tiny").await).await.status, 200);
}

#[tokio::test]
async fn item_17_xet_is_off_unless_asked_for() {
    for xet in [false, true] {
        let world = World::with(&[&format!("behaviour.xet={xet}")]).await;
        let resolved = world.get("/acme/tiny/resolve/main/model.safetensors").await;
        assert_eq!((resolved.has("x-xet-hash"), resolved.has("link")), (xet, xet));
        let tree = world.get("/api/models/acme/tiny/tree/main").await.json();
        assert_eq!(tree[4].get("xetHash").is_some(), xet);
        assert_eq!(world.get("/api/models/acme/tiny?expand=xetEnabled").await.json()["xetEnabled"], xet);
    }
}

// Errors and faults

#[tokio::test]
async fn item_18_missing_and_private() {
    let world = World::with(&[]).await;
    for id in ["acme/absent", "acme/private", "nobody/x", "single"] {
        let anonymous = world.get(&format!("/api/models/{id}")).await;
        assert_eq!(anonymous.status, 401, "{id}");
        assert_eq!(anonymous.json()["error"], "Invalid username or password.");
        assert_eq!(anonymous.header("x-error-message"), "Invalid username or password.");
        assert!(!anonymous.has("x-error-code"));
        assert_eq!(world.with_token(&format!("/api/models/{id}"), "garbage").await.status, 401, "{id}");
        let known = world.with_token(&format!("/api/models/{id}"), "hf_other").await;
        assert_eq!((known.status, known.header("x-error-code")), (404, "RepoNotFound"), "{id}");
    }
    assert_eq!(world.with_token("/api/models/acme/private", "hf_reader").await.status, 200);
    assert_eq!(world.with_token("/api/models", "hf_reader").await.ids().len(), 18);
}

#[tokio::test]
async fn item_18_gated() {
    let world = World::with(&["tokens.hf_one=[\"acme/gated\"]"]).await;
    for target in ["/api/models/acme/gated", "/api/models/acme/gated/tree/main"] {
        assert_eq!(world.get(target).await.status, 200, "{target}");
    }
    assert_eq!(world.get("/api/models/acme/gated").await.json()["gated"], "manual");
    let sha = world.sha("acme/gated").await;
    for target in [
        "/acme/gated/resolve/main/config.json",
        "/acme/gated/resolve/main/model.safetensors",
        "/acme/gated/resolve/main/absent",
        "/acme/gated/raw/main/config.json",
        "/api/models/acme/gated/commits/main",
        &format!("/api/resolve-cache/models/acme/gated/{sha}/config.json"),
    ] {
        for answer in [world.get(target).await, world.with_token(target, "garbage").await] {
            assert_eq!((answer.status, answer.header("x-error-code")), (401, "GatedRepo"), "{target}");
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer realm=\"Authentication required\", charset=\"UTF-8\""
            );
            assert!(
                answer
                    .header("x-error-message")
                    .starts_with("Access to model acme/gated is restricted. You must")
            );
        }
        let other = world.with_token(target, "hf_other").await;
        assert_eq!((other.status, other.header("x-error-code")), (403, "GatedRepo"), "{target}");
        assert!(other.header("x-error-message").contains("you are not in the authorized list"));
        assert_ne!(world.with_token(target, "hf_one").await.status, 403, "{target}");
    }
    let body = world.get("/acme/gated/resolve/main/config.json").await;
    assert!(body.header("content-type").starts_with("text/plain"));
    assert_eq!(body.text(), body.header("x-error-message"));
}

#[tokio::test]
async fn item_18_unknown_revisions_and_files_and_disabled_models() {
    let world = World::with(&[]).await;
    let sha = world.sha("acme/tiny").await;
    for target in [
        "/api/models/acme/tiny/revision/absent",
        "/api/models/acme/tiny/tree/absent",
        "/acme/tiny/resolve/refs%2Fpr%2F1/config.json",
    ] {
        let answer = world.get(target).await;
        assert_eq!((answer.status, answer.header("x-error-code")), (404, "RevisionNotFound"), "{target}");
    }
    let answer = world.get("/acme/tiny/resolve/main/absent").await;
    assert_eq!((answer.status, answer.header("x-error-code")), (404, "EntryNotFound"));
    assert_eq!(
        (answer.text().as_str(), answer.header("x-error-message")),
        ("Entry not found", "Entry not found")
    );
    assert_eq!(answer.header("x-repo-commit"), sha);

    assert_eq!(world.get("/api/models/acme/disabled").await.json()["disabled"], true);
    let answer = world.get("/acme/disabled/resolve/main/config.json").await;
    assert_eq!(
        (answer.status, answer.header("x-error-message")),
        (403, "Access to this resource is disabled.")
    );
    let answer = world.get("/api/models/acme/disabled/commits/main").await;
    assert_eq!((answer.status, answer.header("x-error-code")), (401, "GatedRepo"));
}

#[tokio::test]
async fn item_18_renamed_models_redirect_relatively_with_their_query() {
    let world = World::with(&[]).await;
    for old in ["acme/old", "tiny", "ACME/Tiny"] {
        for (method, before, after) in [
            (Method::GET, "/api/models/", "?expand[]=sha"),
            (Method::GET, "/api/models/", "/tree/main/docs%2Fdeep?recursive=true"),
            (Method::POST, "/api/models/", "/paths-info/main"),
            (Method::HEAD, "/", "/resolve/main/model.safetensors"),
            (Method::GET, "/", "/resolve/main/docs/na%C3%AFve%20file%2B1.txt?download=true"),
        ] {
            let answer = world.send(method, &format!("{before}{old}{after}"), &[], "").await;
            assert_eq!(
                (answer.status, answer.header("location")),
                (307, &*format!("{before}acme/tiny{after}"))
            );
        }
    }
}

#[tokio::test]
async fn item_19_a_switch_names_the_reason_of_the_bare_401() {
    let world = World::with(&["behaviour.error_code_on_missing=true"]).await;
    let answer = world.get("/api/models/acme/absent").await;
    assert_eq!((answer.status, answer.header("x-error-code")), (401, "RepoNotFound"));
}

#[tokio::test]
async fn item_20_429_of_the_limiter_and_the_next_window() {
    let world = World::with(&["limits.api=2", "limits.window_seconds=2"]).await;
    for _ in 0..2 {
        assert_eq!(world.get("/api/models").await.status, 200);
    }
    let answer = world.get("/api/models").await;
    assert_eq!(answer.status, 429);
    let reset: u64 = answer.header("ratelimit").strip_prefix("\"api\";r=0;t=").unwrap().parse().unwrap();
    assert!((1..=2).contains(&reset));
    assert!(answer.header("content-type").starts_with("text/html") && !answer.has("retry-after"));
    assert!((50_000..60_000).contains(&answer.body.len()), "{}", answer.body.len());
    assert_eq!(world.with_token("/api/models", "hf_other").await.status, 200, "a token has its own window");
    assert_eq!(world.get("/acme/tiny/resolve/main/config.json").await.status, 307, "another bucket");
    tokio::time::sleep(Duration::from_secs(reset)).await;
    assert_eq!(world.get("/api/models").await.status, 200);
    let counters = world.running.counters();
    assert_eq!((counters.too_many_requests, counters.max_in_window.api), (1, 3));
}

#[tokio::test]
async fn item_20_edge_429_and_server_errors() {
    let world = World::with(&["faults.too_many=1"]).await;
    let answer = world.get("/api/models").await;
    assert_eq!(answer.status, 429);
    assert!(!answer.has("ratelimit") && !answer.has("retry-after"));
    assert_eq!(world.running.counters().faults.too_many, 1);

    let world = World::with(&["faults.error_5xx=0.5"]).await;
    let mut statuses = BTreeSet::new();
    for _ in 0..60 {
        statuses.insert(world.get("/api/models?limit=1").await.status);
    }
    assert_eq!(statuses, [200, 500, 502, 503, 504].into());

    let world = World::with(&["faults.heavy_page=5"]).await;
    for (query, status) in [("limit=5&expand=sha", 200), ("limit=6&expand=sha", 504), ("limit=6", 200)] {
        assert_eq!(world.get(&format!("/api/models?{query}")).await.status, status, "{query}");
    }
    assert_eq!(world.running.counters().faults.error_5xx, 1);
}

#[tokio::test]
async fn item_20_faults_of_the_cdn() {
    let data = weights(2, 1.0);
    let world = World::with(&["faults.truncate=1"]).await;
    let url = world.signed("acme/tiny").await;
    let answer = world.get(&url).await;
    assert!(answer.cut && answer.body.len() < data.len() && data.starts_with(&answer.body));
    assert_eq!(answer.header("content-length"), data.len().to_string());

    let world = World::with(&["faults.expire=1"]).await;
    let answer = world.get(&world.signed("acme/tiny").await).await;
    assert_eq!((answer.status, world.running.counters().faults.expire), (403, 1));

    let world = World::with(&["faults.ignore_range=1"]).await;
    let answer = world.range(&world.signed("acme/tiny").await, "bytes=0-7").await;
    assert_eq!((answer.status, &answer.body), (200, &data));
    assert_eq!(world.running.counters().faults.ignore_range, 1);
}

#[tokio::test]
async fn the_line_has_a_delay_and_a_speed_for_both_origins_together() {
    let world = World::with(&["line.latency_ms=200"]).await;
    let before = tokio::time::Instant::now();
    world.get("/api/models").await;
    assert!(before.elapsed() >= Duration::from_millis(200));

    // 10,000 bytes a second.
    let world = World::with(&["line.mbit_per_second=0.08"]).await;
    let (list, signed) = ("/api/models", world.signed("acme/tiny").await);
    let before = tokio::time::Instant::now();
    let (list, file) = tokio::join!(world.get(list), world.get(&signed));
    assert_eq!((list.status, file.status), (200, 200));
    let least = (list.body.len() + file.body.len()) as f64 / 1e4;
    assert!(before.elapsed().as_secs_f64() >= least, "{:?} of {least} s", before.elapsed());
}

#[tokio::test]
async fn item_21_a_switch_for_each_open_point() {
    let world = World::with(&["behaviour.pin_ranges=false"]).await;
    let ranged = world.range("/acme/tiny/resolve/main/model.safetensors", "bytes=0-7").await;
    assert_eq!(world.range(ranged.header("location"), "bytes=8-9").await.status, 206);

    let world = World::with(&["behaviour.bare_resolve_cache=false"]).await;
    let sha = world.sha("acme/tiny").await;
    assert_eq!(
        world.get(&format!("/api/resolve-cache/models/acme/tiny/{sha}/config.json")).await.status,
        403
    );
    let redirect = world.get("/acme/tiny/resolve/main/config.json").await;
    assert_eq!(world.get(redirect.header("location")).await.status, 200);

    let data = weights(2, 1.0);
    let world = World::with(&["behaviour.suffix_range=false"]).await;
    let url = world.signed("acme/tiny").await;
    assert_eq!(world.range(&url, "bytes=-8").await.body, data);
    let full = world.range(&url, "bytes=0-1,4-5").await;
    assert_eq!((full.status, full.body), (200, data.clone()));

    let world = World::with(&["behaviour.multi_range=multipart"]).await;
    let parts = world.range(&world.signed("acme/tiny").await, "bytes=8-9,20-22").await;
    assert_eq!(parts.status, 206);
    let boundary = parts.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(parts.header("content-length"), parts.body.len().to_string());
    let part = |range: std::ops::Range<usize>| {
        let (text, last) = (String::from_utf8(data[range.clone()].to_vec()).unwrap(), range.end - 1);
        format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{last}/{}\r\n\r\n{text}",
            range.start,
            data.len()
        )
    };
    assert_eq!(parts.text(), format!("{}{}\r\n--{boundary}--\r\n", part(8..10), part(20..23)));

    let world = World::with(&["behaviour.count_second_hop=false", "limits.resolvers=9"]).await;
    let first = world.get("/acme/tiny/resolve/main/config.json").await;
    let second = world.get(first.header("location")).await;
    assert_eq!((first.header("ratelimit"), second.status), (second.header("ratelimit"), 200));

    let world = World::with(&["behaviour.direct_files=true"]).await;
    let direct = world.range("/acme/tiny/resolve/main/model.safetensors", "bytes=0-7").await;
    assert_eq!((direct.status, &direct.body[..]), (206, &data[..8]));
    assert!(!direct.has("x-linked-etag") && direct.has("x-repo-commit"));
}

// The folder

#[tokio::test]
async fn a_plain_folder_and_damaged_models_are_served_as_far_as_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    write(&models.join("plain/model/config.json"), CONFIG);
    write(&models.join("plain/broken-card/README.md"), "---\nlicense: mit\n");
    write(&models.join("plain/broken-weights/model.safetensors"), [255; 40]);
    write(&models.join("plain/broken-config/config.json"), "{");
    write(&models.join("plain/broken-hub/.hub.json"), r#"{"private": "yes"}"#);
    write(&models.join("stray.txt"), "");
    let world = World::serving(dir, &[]).await;
    let ids: BTreeSet<String> = world.get("/api/models").await.ids().into_iter().collect();
    let expected = ["plain/model", "plain/broken-card", "plain/broken-weights", "plain/broken-config"];
    assert_eq!(ids, expected.map(str::to_owned).into(), "what may have been private is left out");
    let damaged = world.get("/api/models/plain/broken-weights").await.json();
    assert!(damaged.get("safetensors").is_none());
    let plain = world.get("/api/models/plain/model").await.json();
    assert!(plain["createdAt"].as_str().unwrap().starts_with("20"), "dates come from the files");
}

#[cfg(unix)]
#[tokio::test]
async fn a_cache_is_served_without_hashing_its_blobs_or_reading_them_into_memory() {
    const SIZE: u64 = 20 << 30;
    let dir = tempfile::tempdir().unwrap();
    let cached = dir.path().join("models--org--big");
    let (commit, sha256) = ("c".repeat(40), "5".repeat(64));
    write(&cached.join("refs/main"), &commit);
    write(&cached.join("blobs").join("9e26dfeeb6e641a33dae4961196235bdb965b21b"), "{}");
    // Takes no room: all of it is a hole.
    File::create(cached.join("blobs").join(&sha256)).unwrap().set_len(SIZE).unwrap();
    let snapshot = cached.join("snapshots").join(&commit);
    fs::create_dir_all(&snapshot).unwrap();
    for (name, blob) in [("config.json", "9e26dfeeb6e641a33dae4961196235bdb965b21b"), ("model.bin", &sha256)]
    {
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    write(&dir.path().join("models--single/snapshots").join("d".repeat(40)).join("config.json"), CONFIG);

    let world = World::serving(dir, &[]).await;
    let mut ids = world.get("/api/models").await.ids();
    ids.sort();
    assert_eq!(ids, ["org/big", "single"]);
    assert_eq!(world.sha("org/big").await, commit);
    assert_eq!(world.get("/single/resolve/main/config.json").await.status, 307);
    let answer = world.get("/org/big/resolve/main/model.bin").await;
    assert_eq!(answer.header("x-linked-etag"), format!("\"{sha256}\""));
    let end = world.range(answer.header("location"), "bytes=-3").await;
    assert_eq!(end.header("content-range"), format!("bytes {}-{}/{SIZE}", SIZE - 3, SIZE - 1));
    assert_eq!(end.body, [0; 3]);
}

#[tokio::test]
async fn a_file_that_changes_under_a_snapshot_is_an_error_until_the_next_scan() {
    let world = World::with(&[]).await;
    let before = world.sha("acme/tiny").await;
    write(&world.dir.path().join("models/acme/tiny/config.json"), "{}");
    let target = format!("/api/resolve-cache/models/acme/tiny/{before}/config.json");
    assert_eq!(world.get(&target).await.status, 500);
    world.running.rescan().await.unwrap();
    let after = world.sha("acme/tiny").await;
    assert_ne!(before, after);
    assert_eq!(world.get(&target).await.status, 404);
    assert_eq!(world.get(&target.replace(&before, &after)).await.text(), "{}");
}

#[tokio::test]
async fn a_server_stops_when_told_and_a_bad_folder_or_port_is_an_error() {
    let world = World::with(&[]).await;
    world.get("/api/models").await;
    let hub: SocketAddr = world.running.hub_url().strip_prefix("http://").unwrap().parse().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let taken = local_hub::start(world.dir.path(), hub, any, Settings::default()).await;
    assert!(matches!(taken, Err(local_hub::LocalHubError::Listen { .. })));
    let absent = local_hub::start(&world.dir.path().join("absent"), any, any, Settings::default()).await;
    assert!(matches!(absent, Err(local_hub::LocalHubError::Scan(_))));

    let World { running, client, .. } = world;
    let url = running.hub_url().to_owned();
    tokio::time::timeout(Duration::from_secs(4), running.shutdown()).await.unwrap();
    assert!(client.get(url).send().await.unwrap_err().is_connect());
}
