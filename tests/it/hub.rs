//! The Hub client against scripted servers: a Hub and a CDN on two ports, so that they are two
//! origins.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests, written to be brief"
)]

mod recovery;
mod scripted;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use hubprint::hub::{
    Hub, HubError, HubErrorKind as Kind, HubSettings, ListQuery, Missing, Page, Phase, Refusal, RepoId, Token,
};
use scripted::{Origin, Reply, Seen};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_SHA: &str = "89abcdef0123456789abcdef0123456789abcdef";
const ETAG: &str = "\"xet\"";
const SIGNED: &str =
    "/xet-bridge-us/65a/0f?user_id=public&Expires=4102444800&Policy=eyJ-_~&Signature=s3cret~&Key-Pair-Id=K";

fn id() -> RepoId {
    "org/name".parse().unwrap()
}

fn file() -> Vec<u8> {
    (0..10_000_u32).map(|n| (n % 251) as u8).collect()
}

fn settings(endpoint: &str) -> HubSettings {
    let mut settings = HubSettings::new(endpoint).unwrap();
    settings.token = Some(Token::new("hf_secret").unwrap());
    settings.seed = Some(42);
    settings.retry.base = Duration::from_millis(4);
    settings.retry.cap = Duration::from_millis(20);
    settings.timeouts.progress = Duration::from_millis(300);
    settings
}

fn client(hub: &Origin) -> Hub {
    Hub::new(settings(&hub.url)).unwrap()
}

fn impatient(hub: &Origin) -> Hub {
    let mut settings = settings(&hub.url);
    settings.retry.retries = 0;
    Hub::new(settings).unwrap()
}

/// A Hub that redirects `/resolve/` to the CDN as for an LFS file of [`file`]'s size.
async fn lfs_hub(cdn: &Origin) -> Origin {
    let location = format!("{}{SIGNED}", cdn.url);
    Origin::start(move |_, _| linked(&location)).await
}

fn linked(location: &str) -> Reply {
    Reply::redirect(302, location)
        .with("x-repo-commit", SHA)
        .with("x-linked-size", file().len())
        .with("x-linked-etag", format!("\"{}\"", "ab".repeat(32)))
}

async fn pages(hub: &Hub, query: ListQuery) -> Result<Vec<Page>, HubError> {
    hub.list(query).try_collect().await
}

fn entry(n: usize) -> String {
    format!(r#"{{"_id":"{n:024x}","id":"org/m{n}","sha":"{SHA}","gated":false}}"#)
}

fn names(pages: &[Page]) -> Vec<&str> {
    pages.iter().flat_map(|page| &page.repos).map(|repo| repo.id.as_str()).collect()
}

// ---------------------------------------------------------------- listing

/// Three models, one per page, with absolute links on the server's own host.
fn three_pages(seen: &Seen) -> Reply {
    let n = seen.target.split("cursor=c").nth(1).map_or(0, |n| n.parse().unwrap());
    let reply = Reply::new(200).body(format!("[{}]", entry(n)));
    let link = format!(
        "<http://{}/api/models?limit=1&cursor=c{}>; rel=\"next\"",
        seen.header("host").unwrap(),
        n + 1
    );
    if n < 2 { reply.with("link", link) } else { reply }
}

#[tokio::test]
async fn lists_all_pages_and_resumes() {
    let origin = Origin::start(|seen, _| three_pages(seen)).await;
    let hub = client(&origin);
    let query =
        ListQuery { filters: vec!["safetensors".into()], expand: vec!["sha".into()], ..ListQuery::default() };
    let all = pages(&hub, query.clone()).await.unwrap();
    assert_eq!(names(&all), ["org/m0", "org/m1", "org/m2"]);
    let ours = "GET /api/models?limit=1000&sort=createdAt&direction=1&filter=safetensors&expand=sha";
    assert_eq!(origin.lines(), [ours.to_owned(), format!("{ours}&cursor=c1"), format!("{ours}&cursor=c2")]);
    assert!(origin.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer hf_secret")));
    assert!(origin.seen().iter().all(|seen| seen.header("accept-encoding") == Some("identity")));

    let rest = pages(&hub, ListQuery { start: all[0].next.clone(), ..query }).await.unwrap();
    assert_eq!(rest, all[1..]);
    assert_eq!(hub.usage().requests.api, 5);
}

#[tokio::test]
async fn a_link_to_another_origin_ends_the_listing() {
    let origin = Origin::start(|_, _| {
        Reply::new(200).body("[]").with("link", "<http://127.0.0.1:9/api/models?cursor=x>; rel=\"next\"")
    })
    .await;
    let error = pages(&client(&origin), ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::ForeignRedirect { why: Refusal::LeavesOrigin, .. }), "{error}");
}

#[tokio::test]
async fn bad_links_and_pages_are_malformed() {
    let long = "x".repeat(20_000);
    for link in ["</api/models?limit=1>; rel=\"next\"", "<http://[>; rel=\"next\"", &long] {
        let link = link.to_owned();
        let origin = Origin::start(move |_, _| Reply::new(200).body("[]").with("link", &link)).await;
        let error = pages(&client(&origin), ListQuery::default()).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Malformed { part: "Link header", .. }), "{error}");
    }
    // A next page that is this page would go on for ever.
    let origin =
        Origin::start(|_, _| Reply::new(200).body("[]").with("link", "</api/models?cursor=c>; rel=next"))
            .await;
    let error = pages(&client(&origin), ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Malformed { part: "Link header", .. }), "{error}");
    assert_eq!(origin.seen().len(), 2);

    let origin = Origin::start(|_, _| Reply::new(200).body("<html>")).await;
    let error = pages(&client(&origin), ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Malformed { part: "list page", .. }), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_asked_for_half_pages_at_the_same_cursor() {
    let origin = Origin::start(|seen, before| match before {
        1 | 2 => Reply::new(504),
        _ => three_pages(seen),
    })
    .await;
    let query = ListQuery { expand: vec![], ..ListQuery::default() };
    assert_eq!(names(&pages(&client(&origin), query).await.unwrap()), ["org/m0", "org/m1", "org/m2"]);
    let asked: Vec<_> =
        origin.lines().iter().map(|line| line.replace("&sort=createdAt&direction=1", "")).collect();
    let expected = ["1000", "1000&cursor=c1", "500&cursor=c1", "250&cursor=c1", "500&cursor=c2"];
    assert_eq!(asked, expected.map(|limit| format!("GET /api/models?limit={limit}")));
}

#[tokio::test]
async fn a_page_over_the_limit_is_not_read() {
    let origin = Origin::start(|_, _| Reply::new(200).body(" ".repeat(1 << 16)).endless()).await;
    let mut settings = settings(&origin.url);
    settings.limits.page = 1 << 20;
    let hub = Hub::new(settings).unwrap();
    let error = pages(&hub, ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::TooLarge { cap: 1_048_576, stated: None }), "{error}");
    assert!(hub.usage().bytes_received < 2 << 20);
}

#[tokio::test]
async fn a_refused_query_is_not_repeated() {
    let origin =
        Origin::start(|_, _| Reply::new(400).with("x-error-message", "Invalid sort parameter")).await;
    let error = pages(&client(&origin), ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Rejected { status: 400 }), "{error}");
    assert_eq!((error.attempts(), error.message()), (1, Some("Invalid sort parameter")));

    let proxy = Origin::start(|_, _| Reply::new(404).with("x-error-code", "RepoNotFound")).await;
    let error = pages(&client(&proxy), ListQuery::default()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NotFound { what: Missing::List }), "{error}");
}

// ---------------------------------------------------------------- info

#[tokio::test]
async fn describes_a_renamed_model() {
    let origin = Origin::start(|seen, _| match seen.path() {
        "/api/models/org/name/revision/refs%2Fpr%2F1" => {
            Reply::redirect(307, "/api/models/new/name/revision/refs%2Fpr%2F1")
        }
        _ => Reply::new(200).body(r#"{"_id":"1","id":"new/name"}"#),
    })
    .await;
    let entry = client(&origin).info(&id(), Some("refs/pr/1")).await.unwrap();
    assert_eq!(entry.id.as_str(), "new/name");
    assert_eq!(origin.lines()[1], "GET /api/models/new/name/revision/refs%2Fpr%2F1");
}

#[tokio::test]
async fn refusals_keep_their_reasons() {
    let origin = Origin::start(|seen, _| {
        let code = |status: u16, code: &str| Reply::new(status).with("x-error-code", code);
        match seen.path().rsplit('/').next().unwrap() {
            "missing" => code(404, "RepoNotFound"),
            "hidden" => Reply::new(401).with("x-request-id", "Root=1-2"),
            "gated" => code(403, "GatedRepo").with("x-error-message", "Access restricted"),
            "disabled" => Reply::new(403).with("x-error-message", "Access to this resource is disabled."),
            "loop" => Reply::redirect(307, "/api/models/org/loop"),
            "away" => Reply::redirect(302, "http://127.0.0.1:9/x"),
            "lost" => Reply::new(307),
            "nameless" => Reply::new(200).body(r#"{"id":"org/nameless"}"#),
            _ => Reply::new(204),
        }
    })
    .await;
    let hub = client(&origin);
    let ask = async |name: &str| hub.info(&format!("org/{name}").parse().unwrap(), None).await.unwrap_err();
    assert!(matches!(ask("missing").await.kind(), Kind::NotFound { what: Missing::Repo }));
    let hidden = ask("hidden").await;
    assert!(matches!(hidden.kind(), Kind::Unauthorized { with_token: true }));
    assert_eq!(hidden.request_id(), Some("Root=1-2"));
    let gated = ask("gated").await;
    assert!(matches!(gated.kind(), Kind::Gated { with_token: true }));
    assert!(gated.is_permanent() && gated.to_string().contains("Access restricted"), "{gated}");
    assert!(matches!(ask("disabled").await.kind(), Kind::Disabled));
    assert!(matches!(ask("loop").await.kind(), Kind::TooManyRedirects { followed: 5 }));
    assert!(matches!(ask("away").await.kind(), Kind::ForeignRedirect { why: Refusal::LeavesOrigin, .. }));
    assert!(matches!(ask("lost").await.kind(), Kind::Malformed { part: "Location header", .. }));
    assert!(matches!(ask("nameless").await.kind(), Kind::Malformed { part: "model description", .. }));
    assert!(matches!(ask("odd").await.kind(), Kind::UnexpectedStatus { status: 204 }));
    assert_eq!(hub.usage().retries, hubprint::hub::Retries::default());
}

// ---------------------------------------------------------------- open and ranges

#[tokio::test]
async fn one_resolve_serves_all_ranges_and_the_token_stays_home() {
    let cdn = Origin::start(|seen, _| Reply::part(seen, &file(), ETAG)).await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "sub dir/model.safetensors").await.unwrap();
    assert_eq!((remote.size(), remote.revision()), (10_000, SHA));
    assert_eq!(remote.sha256().unwrap(), "ab".repeat(32));

    let parts: Vec<u64> = (0..20).collect();
    let read = async |n: &u64| hub.read_range(&remote, n * 500..(n + 1) * 500).await.unwrap();
    let parts: Vec<_> = futures_util::future::join_all(parts.iter().map(read)).await;
    assert_eq!(parts.concat(), file());
    assert!(hub.read_range(&remote, 7..7).await.unwrap().is_empty());

    assert_eq!(origin.lines(), [format!("HEAD /org/name/resolve/{SHA}/sub%20dir/model.safetensors")]);
    assert_eq!(origin.seen()[0].header("authorization"), Some("Bearer hf_secret"));
    assert_eq!(origin.seen()[0].header("range"), None, "a ranged resolve would pin the signed URL");
    let seen = cdn.seen();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|seen| seen.target == SIGNED), "the signed URL is used verbatim");
    assert!(
        seen.iter().all(|seen| seen.header("authorization").is_none() && seen.header("cookie").is_none())
    );
    assert!(seen.iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
    assert!(seen.iter().all(|seen| seen.header("user-agent").unwrap().starts_with("hubprint/")));
    let usage = hub.usage();
    assert_eq!((usage.requests.resolvers, usage.requests.cdn, usage.bytes_received), (1, 20, 10_000));
}

#[tokio::test]
async fn small_git_files_are_found_behind_a_relative_redirect() {
    let location = format!("/api/resolve-cache/models/org/name/{SHA}/config.json?%2Forg=&etag=%22d8%22");
    let to = location.clone();
    let origin = Origin::start(move |seen, _| match seen.path() {
        path if path.starts_with("/api/resolve-cache/") => Reply::part(seen, &file(), "\"d8\""),
        _ => Reply::redirect(307, &to).with("x-repo-commit", SHA).with("x-linked-etag", "\"d8\""),
    })
    .await;
    let hub = client(&origin);
    let remote = hub.open(&id(), "main", "config.json").await.unwrap();
    assert_eq!((remote.size(), remote.sha256()), (10_000, None));
    assert_eq!(hub.read_range(&remote, 9_990..10_000).await.unwrap(), file()[9_990..]);
    let expected = [
        "HEAD /org/name/resolve/main/config.json".to_owned(),
        format!("HEAD {location}"),
        format!("GET {location}"),
    ];
    assert_eq!(origin.lines(), expected);
}

#[tokio::test]
async fn through_a_proxy_that_serves_everything_itself() {
    let origin = Origin::start(|seen, _| Reply::part(seen, &file(), "\"p\"")).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "model.safetensors").await.unwrap();
    assert_eq!((remote.size(), remote.sha256()), (10_000, None));
    assert_eq!(hub.read_range(&remote, 5..25).await.unwrap(), file()[5..25]);
    let seen = origin.seen();
    assert_eq!((seen[1].method.as_str(), &seen[1].target), ("GET", &seen[0].target));
    assert_eq!(seen[1].header("authorization"), Some("Bearer hf_secret"), "it is the endpoint's own origin");
    assert_eq!(hub.usage().requests.resolvers, 2);
}

#[tokio::test]
async fn a_file_without_a_size_or_of_another_commit_is_not_opened() {
    let cdn = Origin::start(|_, _| Reply::new(500)).await;
    let location = format!("{}{SIGNED}", cdn.url);
    let origin = Origin::start(move |seen, _| match seen.path().rsplit('/').next().unwrap() {
        "nosize" => Reply::redirect(302, &location).with("x-repo-commit", SHA),
        "other" => linked(&location).with("x-repo-commit", OTHER_SHA),
        _ => Reply::new(404).with("x-repo-commit", SHA),
    })
    .await;
    let hub = client(&origin);
    let error = hub.open(&id(), SHA, "nosize").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Malformed { part: "X-Linked-Size header", .. }), "{error}");
    let error = hub.open(&id(), OTHER_SHA, "nosize").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Changed { mark: "commit", .. }), "{error}");
    let error = hub.open(&id(), SHA, "missing").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NotFound { what: Missing::File }), "{error}");
    let error = hub.open(&id(), SHA, "../escape").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Unaddressable { what: "path", .. }), "{error}");
    assert!(cdn.seen().is_empty());
}

#[tokio::test]
async fn redirects_to_strangers_are_refused() {
    for (location, why) in [
        ("http://evil.example/f", Refusal::UnknownHost),
        ("http://169.254.169.254/latest/meta-data", Refusal::UnknownHost),
        ("http://10.0.0.1/f", Refusal::UnknownHost),
        ("ftp://127.0.0.1/f", Refusal::Scheme),
        ("http://user:s3cret@127.0.0.1:9/f", Refusal::UserInfo),
    ] {
        let origin = Origin::start(move |_, _| linked(location)).await;
        let error = client(&origin).open(&id(), SHA, "f").await.unwrap_err();
        assert!(
            matches!(error.kind(), Kind::ForeignRedirect { why: got, .. } if *got == why),
            "{location}: {error}"
        );
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn an_ignored_range_is_not_read() {
    let cdn = Origin::start(|_, _| Reply::new(200).body(vec![0; 1 << 16]).endless()).await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..100).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::RangeIgnored { asked, .. } if *asked == (0..100)), "{error}");
    let usage = hub.usage();
    assert_eq!((usage.bytes_received, usage.ranges_ignored, cdn.seen().len()), (0, 2, 2));
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_range_ignored_once_by_a_host_that_serves_ranges_is_asked_for_again() {
    let cdn = Origin::start(|seen, before| match before {
        1 => Reply::new(200).body(vec![0; 1 << 16]).endless(),
        _ => Reply::part(seen, &file(), ETAG),
    })
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    for _ in 0..2 {
        assert_eq!(hub.read_range(&remote, 0..100).await.unwrap(), file()[..100]);
    }
    assert_eq!((hub.usage().ranges_ignored, cdn.seen().len()), (1, 3));
}

#[tokio::test]
async fn any_other_content_range_is_refused() {
    for content_range in
        ["bytes 0-98/10000", "bytes 1-100/10000", "bytes 0-99/10001", "bytes 0-99/*", "bytes */10000", ""]
    {
        let cdn = Origin::start(move |_, _| {
            let reply = Reply::new(206).with("etag", ETAG).body(vec![0; 100]);
            if content_range.is_empty() { reply } else { reply.with("content-range", content_range) }
        })
        .await;
        let origin = lfs_hub(&cdn).await;
        let hub = client(&origin);
        let remote = hub.open(&id(), SHA, "f").await.unwrap();
        let error = hub.read_range(&remote, 0..100).await.unwrap_err();
        let Kind::WrongRange { asked, size: 10_000, got } = error.kind() else { panic!("{error}") };
        assert_eq!((asked.clone(), got.as_deref().unwrap_or_default()), (0..100, content_range));
    }
}

#[tokio::test]
async fn ranges_outside_the_file_cost_nothing() {
    let cdn = Origin::start(|seen, _| Reply::part(seen, &file(), ETAG)).await;
    let origin = lfs_hub(&cdn).await;
    let mut settings = settings(&origin.url);
    settings.limits.range = 1000;
    let hub = Hub::new(settings).unwrap();
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 9_999..10_001).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::OutOfFile { size: 10_000, .. }), "{error}");
    let error = hub.read_range(&remote, 0..1001).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::TooLarge { cap: 1000, stated: Some(1001) }), "{error}");
    assert!(cdn.seen().is_empty());
}

/// Sends at most `most` bytes of the asked part and closes.
fn cut(seen: &Seen, etag: &str, most: usize) -> Reply {
    let range = seen.range().unwrap();
    let file = file();
    let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, file.len());
    let sent = range.start..range.end.min(range.start + most);
    let reply = Reply::new(206).with("etag", etag).with("content-range", content_range);
    reply.claiming(range.len() as u64).body(&file[sent])
}

#[tokio::test]
async fn a_cut_body_goes_on_from_its_last_byte() {
    let cdn = Origin::start(
        |seen, before| if before < 2 { cut(seen, ETAG, 400) } else { Reply::part(seen, &file(), ETAG) },
    )
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    assert_eq!(hub.read_range(&remote, 100..2100).await.unwrap(), file()[100..2100]);
    let ranges: Vec<_> = cdn.seen().iter().map(|seen| seen.range().unwrap()).collect();
    assert_eq!(ranges, [100..2100, 500..2100, 900..2100]);
    assert_eq!((hub.usage().retries.cut_body, hub.usage().bytes_received), (2, 2000));
}

#[tokio::test]
async fn a_cut_body_with_a_weak_etag_starts_over() {
    let weak = "W/\"xet\"";
    let cdn = Origin::start(
        move |seen, before| if before < 1 { cut(seen, weak, 400) } else { Reply::part(seen, &file(), weak) },
    )
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    assert_eq!(hub.read_range(&remote, 100..2100).await.unwrap(), file()[100..2100]);
    assert_eq!(cdn.seen()[1].range().unwrap(), 100..2100);
}

#[tokio::test]
async fn a_cut_body_runs_out_of_retries() {
    let cdn = Origin::start(|seen, _| cut(seen, ETAG, 10)).await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..1000).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Truncated { received: 10, expected: Some(950), .. }), "{error}");
    assert_eq!((error.attempts(), cdn.seen().len()), (6, 6));
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn another_etag_is_another_file() {
    let cdn =
        Origin::start(
            |seen, before| if before < 1 { cut(seen, ETAG, 10) } else { Reply::part(seen, &file(), "\"b\"") },
        )
        .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..1000).await.unwrap_err();
    assert!(
        matches!(error.kind(), Kind::Changed { mark: "ETag", before, now } if before == ETAG && now == "\"b\""),
        "{error}"
    );
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let cdn =
        Origin::start(|seen, _| Reply::part(seen, &file(), ETAG).with("content-encoding", "gzip")).await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..10).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Malformed { part: "Content-Encoding header", .. }), "{error}");
}

#[tokio::test]
async fn a_standing_body_is_given_up() {
    let cdn =
        Origin::start(|seen, _| Reply::part(seen, &file(), ETAG).dripping(Duration::from_millis(20))).await;
    let origin = lfs_hub(&cdn).await;
    let hub = impatient(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let began = Instant::now();
    let error = hub.read_range(&remote, 0..1000).await.unwrap_err(); // would take 20 s
    let Kind::Stalled { phase: Phase::Body, received, .. } = error.kind() else { panic!("{error}") };
    assert!(*received > 0 && *received < 100 && began.elapsed() < Duration::from_secs(5), "{error}");
}

// ---------------------------------------------------------------- expiry

/// A Hub that signs `/1`, `/2`, ... in turn, so that the CDN can tell old from new.
async fn signing_hub(cdn: &Origin, expires: u64) -> Origin {
    let cdn = cdn.url.clone();
    Origin::start(move |_, before| {
        linked(&format!("{cdn}/{}?Expires={expires}&Signature=s3cret", before + 1))
    })
    .await
}

const FAR: u64 = 4_102_444_800;

#[tokio::test]
async fn an_expired_url_is_resolved_once_for_all_readers() {
    let cdn = Origin::start(|seen, _| match seen.path() {
        "/1" => Reply::new(403),
        _ => Reply::part(seen, &file(), ETAG),
    })
    .await;
    let origin = signing_hub(&cdn, FAR).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let read = async |n: u64| hub.read_range(&remote, n * 10..n * 10 + 10).await.unwrap();
    let parts = futures_util::future::join_all((0..8).map(read)).await;
    assert_eq!(parts.concat(), file()[..80]);
    assert_eq!(origin.seen().len(), 2, "one open, one renewal: {:?}", origin.lines());
    assert_eq!(hub.usage().expired_urls, 1);
}

#[tokio::test]
async fn a_fresh_url_that_is_refused_is_an_error() {
    let cdn = Origin::start(|_, _| Reply::new(403)).await;
    let origin = signing_hub(&cdn, FAR).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..10).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Expired), "{error}");
    // Once at once, then as often as the retry budget allows.
    let tries = 2 + hub.settings().retry.retries as usize;
    assert_eq!((origin.seen().len(), cdn.seen().len()), (tries, tries));
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_url_past_its_time_is_not_even_tried() {
    let cdn = Origin::start(|seen, _| Reply::part(seen, &file(), ETAG)).await;
    let location = cdn.url.clone();
    let origin = Origin::start(move |_, before| {
        let expires = if before == 0 { 1000 } else { FAR };
        linked(&format!("{location}/{before}?Expires={expires}"))
    })
    .await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    hub.read_range(&remote, 0..10).await.unwrap();
    hub.read_range(&remote, 0..10).await.unwrap();
    assert_eq!(cdn.seen().iter().map(Seen::path).collect::<Vec<_>>(), ["/1", "/1"]);
}

#[tokio::test]
async fn a_renewed_url_of_another_content_is_refused() {
    let cdn = Origin::start(|_, _| Reply::new(403)).await;
    let location = cdn.url.clone();
    let origin = Origin::start(move |_, before| {
        let digest = if before == 0 { "ab" } else { "cd" }.repeat(32);
        Reply::redirect(302, format!("{location}/f")).with("x-linked-size", 10).with("x-linked-etag", digest)
    })
    .await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let error = hub.read_range(&remote, 0..10).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Changed { mark: "sha256", .. }), "{error}");
}

// ---------------------------------------------------------------- small files

#[tokio::test]
async fn small_files_take_the_short_cut() {
    let origin = Origin::start(|_, _| Reply::new(200).body("{}")).await;
    let hub = client(&origin);
    assert_eq!(hub.read_small(&id(), SHA, "config.json", 100).await.unwrap(), "{}");
    assert_eq!(origin.lines(), [format!("GET /api/resolve-cache/models/org/name/{SHA}/config.json")]);
    assert_eq!(hub.capabilities().resolve_cache, Some(true));
    // A branch has no short cut.
    hub.read_small(&id(), "main", "config.json", 100).await.unwrap();
    assert_eq!(origin.lines()[1], "GET /org/name/resolve/main/config.json");
}

#[tokio::test]
async fn a_missing_short_cut_is_remembered() {
    let origin = Origin::start(|seen, _| match seen.path() {
        path if path.starts_with("/api/") => Reply::new(404).with("x-error-code", "RepoNotFound"),
        _ => Reply::new(200).body("{}"),
    })
    .await;
    let hub = client(&origin);
    for _ in 0..3 {
        assert_eq!(hub.read_small(&id(), SHA, "config.json", 100).await.unwrap(), "{}");
    }
    assert_eq!(hub.capabilities().resolve_cache, Some(false));
    assert_eq!(origin.seen().len(), 4, "{:?}", origin.lines());
}

#[tokio::test]
async fn a_missing_file_says_nothing_about_the_short_cut() {
    let origin = Origin::start(|_, _| Reply::new(404).with("x-error-code", "EntryNotFound")).await;
    let hub = client(&origin);
    let error = hub.read_small(&id(), SHA, "config.json", 100).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NotFound { what: Missing::File }), "{error}");
    assert_eq!(hub.capabilities().resolve_cache, None);
}

#[tokio::test]
async fn a_small_lfs_file_comes_from_the_cdn_without_the_token() {
    let cdn = Origin::start(|_, _| Reply::new(200).body("weights")).await;
    let location = format!("{}{SIGNED}", cdn.url);
    let origin = Origin::start(move |seen, _| match seen.path() {
        path if path.starts_with("/api/") => Reply::new(404),
        _ => linked(&location),
    })
    .await;
    let hub = client(&origin);
    assert_eq!(hub.read_small(&id(), SHA, "tiny.bin", 100).await.unwrap(), "weights");
    assert_eq!(cdn.seen()[0].header("authorization"), None);
    assert_eq!(hub.capabilities().resolve_cache, None, "the short cut may exist for other files");
}

#[tokio::test]
async fn small_files_are_bounded_whatever_the_length_claims() {
    let origin = Origin::start(|seen, _| match seen.path().rsplit('/').next().unwrap() {
        "claims" => Reply::new(200).body("{}").claiming(u64::MAX / 2),
        "endless" => Reply::new(200).body("x".repeat(4096)).endless(),
        "nonsense" => Reply::new(200).body("{}").with("content-length", "2"),
        _ => Reply::new(200).body("x".repeat(101)),
    })
    .await;
    let hub = client(&origin);
    let read = async |path: &str| hub.read_small(&id(), SHA, path, 100).await;
    for (path, stated) in [("claims", Some(u64::MAX / 2)), ("endless", None), ("exact", Some(101))] {
        let error = read(path).await.unwrap_err();
        let Kind::TooLarge { cap: 100, stated: got } = error.kind() else { panic!("{path}: {error}") };
        assert_eq!(*got, stated, "{path}");
    }
    assert_eq!(read("nonsense").await.unwrap(), "{}");
    assert!(hub.usage().bytes_received < 1 << 20);
}

// ---------------------------------------------------------------- politeness and patience

fn described() -> Reply {
    Reply::new(200).body(r#"{"_id":"1","id":"org/name"}"#)
}

#[tokio::test]
async fn a_full_window_is_waited_out() {
    let limit =
        |r: u32| Reply::new(if r == 0 { 429 } else { 200 }).with("ratelimit", format!("\"api\";r={r};t=1"));
    let origin = Origin::start(move |_, before| match before {
        0 => limit(0).body("<html>".repeat(9000)),
        _ => limit(500).body(r#"{"_id":"1","id":"org/name"}"#),
    })
    .await;
    let mut settings = settings(&origin.url);
    settings.retry.retries = 0; // waiting for a window is no retry
    let hub = Hub::new(settings).unwrap();
    let began = Instant::now();
    hub.info(&id(), None).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "t + 1 seconds: {:?}", began.elapsed());
    let usage = hub.usage();
    assert_eq!((usage.requests.api, usage.retries.rate_limited), (2, 1));
    assert!(usage.waited_for_rate >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_window_too_long_to_wait_for_is_an_error() {
    let origin = Origin::start(|_, _| Reply::new(429).with("ratelimit", "\"api\";r=0;t=3600")).await;
    let error = client(&origin).info(&id(), None).await.unwrap_err();
    let Kind::RateLimited { reset, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(*reset, Some(Duration::from_hours(1)));
}

#[tokio::test]
async fn a_refusal_without_a_window_backs_off() {
    let origin = Origin::start(|_, before| if before < 3 { Reply::new(429) } else { described() }).await;
    let hub = client(&origin);
    hub.info(&id(), None).await.unwrap();
    assert_eq!(hub.usage().retries.rate_limited, 3);
}

/// Counts requests in fixed windows of a second and refuses what is over the quota.
#[tokio::test]
async fn the_stated_limit_is_never_exceeded() {
    const QUOTA: usize = 10;
    let began = Instant::now();
    let windows = Arc::new(std::sync::Mutex::new(vec![0_usize; 60]));
    let counted = Arc::clone(&windows);
    let origin = Origin::start(move |_, _| {
        let n = began.elapsed().as_secs() as usize;
        counted.lock().unwrap()[n] += 1;
        let left = QUOTA.saturating_sub(counted.lock().unwrap()[n]);
        described()
            .with("ratelimit", format!("\"api\";r={left};t=0"))
            .with("ratelimit-policy", format!("\"fixed window\";\"api\";q={QUOTA};w=1"))
    })
    .await;
    let hub = client(&origin);
    let ids: Vec<RepoId> = (0..25).map(|n| format!("org/m{n}").parse().unwrap()).collect();
    futures_util::stream::iter(&ids)
        .for_each_concurrent(25, async |id| drop(hub.info(id, None).await.unwrap()))
        .await;
    let windows = windows.lock().unwrap();
    assert!(windows.iter().all(|count| *count <= QUOTA), "{windows:?}");
    assert_eq!(hub.usage().retries.rate_limited, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_first_request_of_a_bucket_is_alone() {
    let most = Arc::new(AtomicUsize::new(0));
    let cdn = Origin::start(|_, _| Reply::new(500)).await;
    let location = format!("{}{SIGNED}", cdn.url);
    let seen_most = Arc::clone(&most);
    let origin = Origin::start(move |_, before| {
        seen_most.fetch_max(before + 1, Ordering::SeqCst);
        if before == 0 {
            // Blocks one of the runtime's threads; the others would bring further requests.
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(seen_most.load(Ordering::SeqCst), 1, "others came before the limit was known");
        }
        linked(&location).with("ratelimit", "\"resolvers\";r=900;t=100")
    })
    .await;
    let hub = client(&origin);
    let opens = (0..6).map(|n| {
        let hub = hub.clone();
        tokio::spawn(async move { hub.open(&id(), SHA, &format!("f{n}")).await.map(drop) })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn server_failures_are_retried_and_counted() {
    let origin = Origin::start(|_, before| if before < 2 { Reply::new(503) } else { described() }).await;
    let hub = client(&origin);
    hub.info(&id(), None).await.unwrap();
    assert_eq!(hub.usage().retries.server, 2);

    let origin = Origin::start(|_, _| Reply::new(502)).await;
    let error = client(&origin).info(&id(), None).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Server { status: 502 }));
    assert_eq!((error.attempts(), origin.seen().len()), (6, 6));
    assert!(error.elapsed() > Duration::ZERO && error.to_string().contains("after 6 attempts"), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let closed = Origin::start(|_, _| Reply::new(200)).await.url.clone();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let hub = Hub::new(settings(&closed)).unwrap();
    let error = hub.info(&id(), None).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Unreachable { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some() && error.hint().is_some());
    assert_eq!(hub.usage().retries.unreachable, 5);
}

#[tokio::test]
async fn offline_sends_nothing() {
    let origin = Origin::start(|_, _| described()).await;
    let mut settings = settings(&origin.url);
    settings.offline = true;
    let hub = Hub::new(settings).unwrap();
    let error = hub.info(&id(), None).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Offline), "{error}");
    assert!(origin.seen().is_empty() && hub.usage().requests == hubprint::hub::Requests::default());
}

#[test]
fn all_operations_can_be_spawned() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let hub = Hub::new(settings("http://127.0.0.1:9")).unwrap();
    let id = id();
    drop(sendable(hub.list(ListQuery::default())));
    drop(sendable(hub.info(&id, None)));
    drop(sendable(hub.open(&id, SHA, "f")));
    drop(sendable(hub.read_small(&id, SHA, "f", 1)));
}
