//! What goes wrong in a night, and that the client comes through it with the right result.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use hubprint::{
    hub::{BreakerSettings, Hub, HubErrorKind as Kind, HubSettings, Usage},
    local_hub::{self, Settings},
};

use super::{
    ETAG, FAR, SHA, client, cut, described, file, id, lfs_hub,
    scripted::{Origin, Reply, Seen},
    settings, signing_hub,
};
use crate::support::{nobody, write};

/// A client that takes a host for down after `failures` failures in a row.
fn wary(endpoint: &str, failures: u32) -> HubSettings {
    let mut settings = settings(endpoint);
    let (pause, longest_pause) = (Duration::from_millis(30), Duration::from_millis(60));
    settings.breaker = BreakerSettings { failures, pause, longest_pause, give_up: Duration::from_mins(5) };
    settings
}

/// Reads a range through a CDN that answers its first ranged request by `fault`; returns what it
/// cost, and what the CDN was asked. One good range is read before.
async fn read_despite(fault: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Usage, Vec<Seen>) {
    let cdn = Origin::start(move |seen, before| match before {
        1 => fault(seen),
        _ => Reply::part(seen, &file(), ETAG),
    })
    .await;
    let origin = signing_hub(&cdn, FAR).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    for range in [0..100, 100..2100] {
        let bytes = hub.read_range(&remote, range.clone()).await.unwrap();
        assert_eq!(bytes, file()[range.start as usize..range.end as usize]);
    }
    (hub.usage(), cdn.seen())
}

#[tokio::test]
async fn edge_errors_without_a_word_of_the_hub() {
    // The first answer at all may be the edge's: it must not be taken for a Hub without limits.
    let origin = Origin::start(|_, before| match before {
        0 => Reply::new(502).with("content-type", "text/html").body("<html>Bad Gateway</html>"),
        1 => Reply::new(503).with("content-type", "text/html").body("<html>Unavailable</html>"),
        2 => Reply::new(429).with("content-type", "text/html").body("<html>Slow down</html>"),
        _ => described().with("ratelimit", "\"api\";r=5;t=60"),
    })
    .await;
    let hub = client(&origin);
    assert_eq!(hub.info(&id(), None).await.unwrap().id.as_str(), "org/name");
    let usage = hub.usage();
    assert_eq!((usage.retries.server, usage.retries.rate_limited, usage.requests.api), (2, 1, 4));

    let (usage, seen) = read_despite(|_| Reply::new(503).body("<html>")).await;
    assert_eq!((usage.retries.server, seen.len()), (1, 3));
}

#[tokio::test]
async fn a_slow_body_goes_on_from_where_it_stood() {
    let slow = |seen: &Seen| Reply::part(seen, &file(), ETAG).dripping(Duration::from_millis(100));
    let (usage, seen) = read_despite(slow).await;
    assert_eq!((usage.retries.stalled, usage.limit_decreases), (1, 1));
    assert!(seen[2].range().unwrap().start > 100, "{:?}", seen[2].range());
}

#[tokio::test]
async fn a_cut_body_lowers_the_limit() {
    let (usage, seen) = read_despite(|seen| cut(seen, ETAG, 500)).await;
    assert_eq!((usage.retries.cut_body, usage.limit_decreases, usage.limits.cdn), (1, 1, 2));
    assert_eq!(seen[2].range().unwrap(), 600..2100);
}

#[tokio::test]
async fn a_wrong_range_is_asked_for_again_where_ranges_were_served() {
    for wrong in ["bytes 0-1999/10000", "bytes 100-2099/10001", "bytes */10000"] {
        let lie = move |_: &Seen| {
            Reply::new(206).with("etag", ETAG).with("content-range", wrong).body(vec![7; 2000])
        };
        let (_, seen) = read_despite(lie).await;
        assert_eq!(seen.len(), 3, "{wrong}");
    }
    let (_, seen) = read_despite(|_| Reply::new(416).with("content-range", "bytes */50")).await;
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn one_answer_with_another_etag_has_the_file_resolved_again() {
    let other: Vec<u8> = file().iter().map(|byte| !byte).collect();
    let (usage, seen) = read_despite(move |seen| Reply::part(seen, &other, "\"other\"")).await;
    assert_eq!((usage.requests.resolvers, usage.expired_urls), (2, 1));
    assert_eq!((seen[2].path(), seen[2].range().unwrap()), ("/2", 100..2100), "from the start");
}

/// A file that is replaced after its first range: the two are never mixed.
#[tokio::test]
async fn a_file_that_changes_between_two_ranges_is_an_error_with_both_values() {
    let other: Vec<u8> = file().iter().map(|byte| !byte).collect();
    let cdn = Origin::start(move |seen, before| match before {
        0 => Reply::part(seen, &file(), ETAG),
        _ => Reply::part(seen, &other, "\"other\""),
    })
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    assert_eq!(hub.read_range(&remote, 0..10).await.unwrap(), file()[..10]);
    let error = hub.read_range(&remote, 10..20).await.unwrap_err();
    let Kind::Changed { mark: "ETag", before, now } = error.kind() else { panic!("{error}") };
    assert_eq!((before.as_str(), now.as_str()), (ETAG, "\"other\""));
    assert_eq!((origin.seen().len(), cdn.seen().len()), (2, 3), "resolved again once");

    // Another size, under the same tag.
    let longer = [file(), file()].concat();
    let cdn = Origin::start(move |seen, before| match before {
        0 => Reply::part(seen, &file(), ETAG),
        _ => Reply::part(seen, &longer, ETAG),
    })
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = client(&origin);
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    hub.read_range(&remote, 0..10).await.unwrap();
    let error = hub.read_range(&remote, 10..20).await.unwrap_err();
    let Kind::WrongRange { size: 10_000, got: Some(got), .. } = error.kind() else { panic!("{error}") };
    assert_eq!(got, "bytes 10-19/20000");
}

#[tokio::test]
async fn a_host_that_is_away_for_a_while_is_waited_for() {
    // Bound once to learn a free port; then nobody listens there.
    let address = Origin::start(|_, _| described()).await.shut().await;
    let mut settings = wary(&format!("http://{address}"), 3);
    settings.retry.retries = 2; // three attempts would be the end, were the breaker's time not free
    let hub = Hub::new(settings).unwrap();
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move { hub.info(&id(), None).await.map(|entry| entry.id) })
        })
        .collect();
    while hub.usage().retries.unreachable < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await; // probes go on, at no cost
    }
    let origin = Origin::start_at(address, |_, _| described()).await;
    for answer in join_all(asked).await {
        assert_eq!(answer.unwrap().unwrap().as_str(), "org/name");
    }
    let usage = hub.usage();
    assert_eq!(usage.breaker_openings, 1);
    assert!(usage.waited_for_host > Duration::ZERO && usage.limit_decreases > 0, "{usage:?}");
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn a_host_that_stays_away_fails_all_who_wait() {
    let mut settings = wary(&nobody(), 3);
    settings.breaker.give_up = Duration::from_millis(300);
    let hub = Hub::new(settings).unwrap();
    let name = id();
    for answer in join_all((0..12).map(|_| hub.info(&name, None))).await {
        let error = answer.unwrap_err();
        let Kind::HostDown { host, since } = error.kind() else { panic!("{error}") };
        assert!(host == "127.0.0.1" && *since < chrono::Utc::now(), "{error}");
        assert!(!error.is_permanent() && error.hint().is_some());
    }
    let sent = hub.usage().requests.api;
    let later = join_all((0..12).map(|_| hub.info(&name, None))).await;
    assert!(later.iter().all(|answer| matches!(answer.as_ref().unwrap_err().kind(), Kind::HostDown { .. })));
    assert!(hub.usage().requests.api <= sent + 2, "nothing but a probe is sent any more");
}

/// A CDN that fails does not keep the Hub from being asked; when it is back, so are the ranges.
#[tokio::test]
async fn the_hub_is_asked_while_a_cdn_is_down() {
    let back = Arc::new(AtomicBool::new(false));
    let serves = Arc::clone(&back);
    let cdn = Origin::start(move |seen, _| {
        if serves.load(Ordering::SeqCst) { Reply::part(seen, &file(), ETAG) } else { Reply::new(503) }
    })
    .await;
    let origin = lfs_hub(&cdn).await;
    let hub = Hub::new(wary(&origin.url, 2)).unwrap();
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let reading = tokio::spawn({
        let (hub, remote) = (hub.clone(), remote.clone());
        async move { join_all((0..20).map(|n| hub.read_range(&remote, n * 10..n * 10 + 10))).await }
    });
    while hub.usage().breaker_openings == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    hub.open(&id(), SHA, "g").await.unwrap();
    assert!(!reading.is_finished());
    back.store(true, Ordering::SeqCst);
    let parts: Vec<_> = reading.await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(parts.concat(), file()[..200]);
}

/// One broken repository must not wait for ever for a host that is well.
#[tokio::test]
async fn a_repository_that_always_fails_comes_to_an_end() {
    let origin = Origin::start(|_, _| Reply::new(500)).await;
    let hub = Hub::new(wary(&origin.url, 2)).unwrap();
    let error = hub.info(&id(), None).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Server { status: 500 }), "{error}");
    assert_eq!((error.attempts(), origin.seen().len()), (6, 6));
}

#[tokio::test]
async fn settings_of_a_breaker_that_cannot_work_are_refused() {
    assert!(Hub::new(wary("http://127.0.0.1:9", 0)).is_err());
}

// ---------------------------------------------------------------- the limit on parallel requests

/// A host that refuses what is over three requests at a time, and a client that would send more.
#[tokio::test]
async fn settles_at_what_the_host_bears() {
    const BEARS: usize = 3;
    let cdn = Origin::start(move |seen, _| {
        let reply = Reply::part(seen, &file(), ETAG);
        if seen.at_once > BEARS { Reply::new(503) } else { reply }.after(Duration::from_millis(3))
    })
    .await;
    let origin = lfs_hub(&cdn).await;
    let mut settings = settings(&origin.url);
    settings.parallel.cdn = 32;
    settings.retry.retries = 1000;
    let hub = Hub::new(settings).unwrap();
    let remote = hub.open(&id(), SHA, "f").await.unwrap();
    let read = async |n: u64| hub.read_range(&remote, n * 10..n * 10 + 10).await.unwrap();
    let parts = join_all((0..400).map(read)).await;
    assert_eq!(parts.concat(), file()[..4000]);
    let (usage, seen) = (hub.usage(), cdn.seen());
    assert!(usage.limit_decreases > 2, "{usage:?}");
    // Sixteen at a time would be refused nearly always.
    let refused = seen.iter().filter(|seen| seen.at_once > BEARS).count();
    assert!(refused * 3 < seen.len(), "{refused} of {}", seen.len());
}

// ---------------------------------------------------------------- the rate

/// A folder with one model with one small file.
fn folder(root: &Path) {
    write(&root.join("models/org/name/config.json"), "{}");
}

/// Reads small files without end for some windows of the local Hub; the share of the allowed
/// requests that were granted. Asserts that none was refused.
async fn share(quota: u64, window: u64, windows: u32) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let mut limits = Settings::default();
    limits.set(&format!("limits.resolvers={quota}")).unwrap();
    limits.set(&format!("limits.window_seconds={window}")).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let running = local_hub::start(dir.path(), any, any, limits).await.unwrap();
    let hub = Hub::new(HubSettings { token: None, ..settings(running.hub_url()) }).unwrap();
    let sha = hub.info(&id(), None).await.unwrap().sha.unwrap();

    let time = Duration::from_secs(window) * windows;
    let began = Instant::now();
    let work = futures_util::stream::iter(0..).for_each_concurrent(16, async |_: u64| {
        drop(hub.read_small(&id(), &sha, "config.json", 100).await.unwrap());
    });
    let _ = tokio::time::timeout(time, work).await;
    let elapsed = began.elapsed().as_secs_f64();
    let counters = running.counters();
    assert_eq!((counters.too_many_requests, hub.usage().retries.rate_limited), (0, 0));
    assert!(counters.max_in_window.resolvers <= quota);
    // A window opens with the first request in it, so no more than `windows` have been opened.
    counters.requests.resolvers as f64 / (quota as f64 * elapsed / window as f64)
}

/// Three tries, as a machine that is busy with something else uses nothing fully.
#[tokio::test]
async fn the_rate_limit_is_used_and_never_exceeded() {
    let mut shares = Vec::new();
    for _ in 0..3 {
        shares.push(share(250, 3, 4).await);
        if shares.last().is_some_and(|share| *share >= 0.95) {
            return;
        }
    }
    panic!("{shares:?}");
}

/// The figures in the report: `cargo test --test it shares_of_the_rate -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn shares_of_the_rate() {
    for (quota, window, windows) in [(250, 3, 5), (250, 10, 4)] {
        println!("{quota} in {window} s: {:.4}", share(quota, window, windows).await);
    }
}
