//! The repositories that the local Hub server makes up, seen by our own client over real HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use hubprint::hub::{Direction, Hub, HubSettings, ListQuery, RepoEntry, RepoId};
use hubprint::local_hub::{self, Running, Settings};
use serde_json::{Value, json};

use super::support::{Models, TINY_CONFIG, tiny};

/// A Hub, as it is on one night, and its client.
struct Night {
    running: Running,
    hub: Hub,
}

impl Night {
    async fn of(folder: &Path, settings: &[&str]) -> Self {
        let mut chosen = Settings::default();
        for setting in settings {
            chosen.set(setting).unwrap();
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = local_hub::start(folder, any, any, chosen).await.unwrap();
        let hub = Hub::new(HubSettings::new(running.hub_url()).unwrap()).unwrap();
        Self { running, hub }
    }

    async fn list(&self, query: ListQuery) -> Vec<RepoEntry> {
        let pages: Vec<_> = self.hub.list(query).try_collect().await.unwrap();
        assert!(pages.iter().all(|page| page.rejected.is_empty()));
        pages.into_iter().flat_map(|page| page.repos).collect()
    }

    async fn answer(&self, target: &str) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let url = format!("{}{target}", self.running.hub_url());
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }
}

/// Three models: created before, among and after those of 2020.
fn folder() -> Models {
    let mut models = Models::new();
    for (id, created) in [("zoo/early", "2019"), ("zoo/among", "2020-01-01T10:00"), ("zoo/late", "2024")] {
        let rest = &"2000-01-01T00:00:00.000Z"[created.len()..];
        models.add_tiny(id, 7);
        models.describe(id, &json!({"createdAt": format!("{created}{rest}")}));
    }
    models
}

fn id(text: &str) -> RepoId {
    text.parse().unwrap()
}

fn names(repos: &[RepoEntry]) -> Vec<&str> {
    repos.iter().map(|repo| repo.id.as_str()).collect()
}

/// Continues a list by creation behind everything of before `created`.
fn cursor(created: &str) -> String {
    let query = json!({"$or": [{"createdAt": created, "_id": {"$gt": ""}}, {"createdAt": {"$gt": created}}]});
    STANDARD.encode(query.to_string()).replace('+', "%2B").replace('=', "%3D")
}

#[tokio::test]
async fn a_sweep_sees_each_exactly_once_in_order_among_those_of_the_folder() {
    let folder = folder();
    let night = Night::of(folder.path(), &["made_up.repos=5000", "made_up.template=zoo/early"]).await;
    let query = ListQuery { filters: vec!["safetensors".to_owned()], ..ListQuery::default() };
    let repos = night.list(query.clone()).await;
    assert_eq!(night.running.counters().requests.api, 6, "pages of 1000");
    let seen = names(&repos);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 5003);
    // Ten hours are 2,400 times 15 seconds.
    assert_eq!((seen[0], seen[2401], seen[5002]), ("zoo/early", "zoo/among", "zoo/late"));
    assert_eq!(
        (seen[1], seen[43], seen[5001]),
        ("made-up-0000/model-0000000", "made-up-0042/model-0000042", "made-up-4999/model-0004999",)
    );
    assert!(repos.is_sorted_by_key(|repo| (repo.created_at, repo.object_id.clone())));

    let repo = &repos[43];
    assert_eq!(repo.siblings.as_deref().unwrap(), ["config.json", "model.safetensors"]);
    assert_eq!(repo.config.as_ref().unwrap()["model_type"], "llama");
    assert_eq!(repo.safetensors, repos[0].safetensors);
    assert!(repo.safetensors.is_some() && repo.last_modified >= repo.created_at);
    assert!(repo.tags.iter().any(|tag| tag.starts_with("license:")));
    assert_eq!(
        *repo,
        RepoEntry { siblings: repo.siblings.clone(), ..night.hub.info(&repo.id, None).await.unwrap() }
    );

    let small = ListQuery { page_size: 7, author: Some("made-up-0042".to_owned()), ..query.clone() };
    assert_eq!(names(&night.list(small).await), ["made-up-0042/model-0000042"]);
    let newest_first = night.list(ListQuery { direction: Direction::Descending, ..query }).await;
    assert!(names(&newest_first).iter().rev().eq(&names(&repos)));
}

#[tokio::test]
async fn any_page_of_three_million_is_answered() {
    let folder = folder();
    let night = Night::of(folder.path(), &["made_up.repos=3000000"]).await;
    // 1,500,000 times 15 seconds after the first.
    for (created, first, last) in [
        ("2020-09-17T10:00:00.000Z", "model-1500000", "model-1500999"),
        ("2021-06-04T19:50:00.000Z", "model-2999960", "late"),
    ] {
        let start = Some(cursor(created).try_into().unwrap());
        let mut pages = Box::pin(night.hub.list(ListQuery { start, ..ListQuery::default() }));
        let page = pages.try_next().await.unwrap().unwrap();
        let names: Vec<&str> = page.repos.iter().map(|repo| repo.id.name()).collect();
        assert_eq!((names[0], *names.last().unwrap()), (first, last));
        assert_eq!(page.next.is_some(), names.len() == 1000);
    }
    // An owner has one in 10,000; a licence one in five; GGUF none.
    let of = |author: &str, filter: &str| ListQuery {
        author: Some(author.to_owned()),
        filters: vec![filter.to_owned()],
        ..ListQuery::default()
    };
    let owned = night.list(of("made-up-0042", "region:us")).await;
    assert!(owned.len() == 300 && owned.iter().all(|repo| repo.id.owner() == Some("made-up-0042")));
    let licensed = night.list(of("made-up-0042", "license:mit")).await;
    assert!((25..100).contains(&licensed.len()), "{}", licensed.len());
    assert!(licensed.iter().all(|repo| repo.tags.contains(&"license:mit".to_owned())));
    let gguf = ListQuery { filters: vec!["gguf".to_owned()], ..ListQuery::default() };
    assert!(night.list(gguf).await.is_empty());
    for query in ["", "?sort=likes", "?sort=createdAt&search=model-0000042"] {
        let (status, body) = night.answer(&format!("/api/models{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body["error"].as_str().unwrap().contains("sort=createdAt"), "{body}");
    }
}

#[tokio::test]
async fn files_are_the_templates_under_hashes_of_their_own() {
    let folder = folder();
    let night = Night::of(folder.path(), &["made_up.repos=3000000", "made_up.template=zoo/early"]).await;
    let weights = tiny(7);
    let mut hashes = BTreeSet::new();
    for name in ["made-up-0042/model-0000042", "made-up-9999/model-2999999"] {
        let info = night.hub.info(&id(name), None).await.unwrap();
        let sha = info.sha.unwrap();
        let file = night.hub.open(&id(name), &sha, "model.safetensors").await.unwrap();
        assert_eq!((file.size(), file.revision()), (weights.len() as u64, sha.as_str()));
        assert_eq!(night.hub.read_range(&file, 5..2_000).await.unwrap(), weights[5..2_000]);
        let config = night.hub.open(&id(name), "main", "config.json").await.unwrap();
        assert_eq!(night.hub.read_range(&config, 0..config.size()).await.unwrap(), TINY_CONFIG.as_bytes());

        let stated = file.sha256().unwrap();
        let (_, tree) = night.answer(&format!("/api/models/{name}/tree/{sha}")).await;
        assert_eq!(tree[1]["lfs"]["oid"], stated);
        let (_, info) = night.answer(&format!("/api/models/{name}?blobs=true")).await;
        assert_eq!(info["siblings"][1]["lfs"]["sha256"], stated);
        assert_eq!(info["siblings"][1]["blobId"], tree[1]["oid"]);
        hashes.insert(stated.to_owned());
    }
    let template = night.hub.open(&id("zoo/early"), "main", "model.safetensors").await.unwrap();
    assert!(hashes.len() == 2 && !hashes.contains(template.sha256().unwrap()));

    let missing = Night::of(folder.path(), &[]).await;
    assert_eq!(missing.answer("/api/models/made-up-0042/model-0000042").await.0, 401);
    let mut settings = Settings::default();
    settings.set("made_up.template=zoo/absent").unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let error = local_hub::start(folder.path(), any, any, settings).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("zoo/absent"), "{error}");
}

#[tokio::test]
async fn a_night_later_the_stated_shares_are_changed_gone_renamed_and_new() {
    let folder = folder();
    let before = Night::of(folder.path(), &["made_up.repos=5000"]).await;
    let after = Night::of(
        folder.path(),
        &["made_up.repos=5500", "made_up.changed=0.1", "made_up.gone=0.05", "made_up.renamed=0.02"],
    )
    .await;
    let by_id = |repos: Vec<RepoEntry>| -> BTreeMap<String, RepoEntry> {
        repos.into_iter().map(|repo| (repo.object_id.clone(), repo)).collect()
    };
    let (old, new) =
        (by_id(before.list(ListQuery::default()).await), by_id(after.list(ListQuery::default()).await));
    let both: Vec<_> = old.iter().filter_map(|(object_id, old)| Some((old, new.get(object_id)?))).collect();
    let gone: Vec<_> = old.iter().filter(|(object_id, _)| !new.contains_key(*object_id)).collect();
    let changed: Vec<_> = both.iter().filter(|(old, new)| old.sha != new.sha).collect();
    let renamed: Vec<_> = both.iter().filter(|(old, new)| old.id != new.id).collect();
    // Five standard deviations on either side.
    assert!((423..=577).contains(&changed.len()), "{} of 5000 changed", changed.len());
    assert!((172..=328).contains(&gone.len()), "{} of 5000 gone", gone.len());
    assert!((50..=150).contains(&renamed.len()), "{} of 5000 renamed", renamed.len());
    let fresh: Vec<_> = new.iter().filter(|(object_id, _)| !old.contains_key(*object_id)).collect();
    assert!((451..=499).contains(&fresh.len()), "{} of 500 came and stayed", fresh.len());
    assert!(fresh.iter().all(|(_, repo)| ordinal(repo) >= 5000), "the new ones have the last numbers");
    assert!(changed.iter().all(|(old, new)| old.last_modified < new.last_modified));
    assert!(both.iter().all(|(old, new)| old.created_at == new.created_at));

    let (old, new) = renamed[0];
    let info = after.hub.info(&old.id, None).await.unwrap();
    assert_eq!((&info.id, &info.object_id), (&new.id, &old.object_id), "the old name leads to the new one");
    assert_eq!(before.answer(&format!("/api/models/{}", new.id.as_str())).await.0, 401);
    assert_eq!(after.answer(&format!("/api/models/{}", gone[0].1.id.as_str())).await.0, 401);
}

/// The number in a made-up name.
fn ordinal(repo: &RepoEntry) -> u32 {
    repo.id.name().rsplit_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_script_can_ask_what_was_let_through() {
    let folder = folder();
    let night = Night::of(folder.path(), &["limits.api=2", "limits.window_seconds=600"]).await;
    for status in [200, 200, 429] {
        assert_eq!(night.answer("/api/models").await.0, status);
    }
    for _ in 0..2 {
        let (status, body) = night.answer("/_hubprint/counters").await;
        assert_eq!(status, 200);
        assert_eq!(body["totals"], serde_json::to_value(night.running.counters()).unwrap());
        assert_eq!(body["totals"]["requests"], json!({"api": 3, "resolvers": 0, "pages": 0}));
        assert_eq!(body["totals"]["too_many_requests"], 1);
        let window = &body["windows"]["api"][0];
        assert_eq!((&window["admitted"], &window["refused"]), (&json!(2), &json!(1)));
        assert_eq!(body["windows"], serde_json::to_value(night.running.windows()).unwrap());
        assert_eq!(body["windows"]["pages"], json!([]), "it does not count itself");
    }
}
