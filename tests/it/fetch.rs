//! fetch: faults, rate limits and secrets.

use hubprint::store::Outcome;
use serde_json::{Value, json};

use crate::support::{Cli, Hub, Models, assert_adds_up, comparable, files_below, read, tiny, write};

/// Models of other weights each.
fn many(n: usize) -> Models {
    let mut models = Models::new();
    let config = crate::support::TINY_CONFIG.as_bytes();
    for i in 0..n {
        let id = format!("owner{}/model-{i:03}", i % 7);
        models.add(&id, &[("config.json", config), ("model.safetensors", &tiny(i as u64))]);
    }
    models
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {report}"))
}

#[test]
fn two_hundred_repositories_arrive_through_faults_and_a_low_rate_limit() {
    let models = many(200);
    let hub = Hub::serve(
        models.path(),
        &[
            "page_limit=25",
            "limits.api=10",
            "limits.resolvers=60",
            "limits.window_seconds=3",
            "faults.error_5xx=0.02",
            "faults.truncate=0.04", // of the CDN's answers, which are half of all
            "faults.too_many=0.01",
            "faults.expire=0.01",
            "faults.ignore_range=0.01",
            "faults.seed=7",
        ],
    );
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &[]);
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    assert_eq!(report["outcomes"], json!({"indexed": 200}));
    assert_eq!(rows.len(), 200);

    let counters = hub.counters();
    let faults = counters.faults;
    assert_eq!(counters.too_many_requests, 0, "the limiter never had to refuse: {counters:?}");
    assert!(counters.max_in_window.resolvers <= 60 && counters.max_in_window.api <= 10, "{counters:?}");
    assert!(counters.requests.resolvers > 200, "the limit was in the way: {counters:?}");
    assert!(report["rate_limit_wait_seconds"].as_f64().unwrap() > 0.0);

    // What the client reports is what the server did.
    assert!(faults.error_5xx > 0 && faults.too_many > 0 && faults.truncate > 0, "{faults:?}");
    assert!(faults.expire > 0 && faults.ignore_range > 0, "{faults:?}");
    assert_eq!(number(&report, "/ranges_ignored"), faults.ignore_range);
    assert_eq!(number(&report, "/retries/server"), faults.error_5xx);
    assert_eq!(number(&report, "/retries/rate_limited"), faults.too_many);
    // A body can be cut where nothing is missing of what was wanted, and a cut may look like a broken connection.
    let cut = number(&report, "/retries/cut_body") + number(&report, "/retries/unreachable");
    assert!(cut > 0 && cut <= faults.truncate, "{cut} of {faults:?}");
    assert_eq!(number(&report, "/retries/stalled"), 0);
    assert_eq!(number(&report, "/requests/cdn"), counters.cdn_requests);

    // Faults change nothing in the data.
    let plain = Hub::serve(models.path(), &[]);
    let other = Cli::new(plain.url());
    other.crawl(0, &[]);
    assert_eq!(comparable(rows), comparable(other.rows()));
}

#[test]
fn expired_addresses_are_resolved_again() {
    let models = many(30);
    let hub = Hub::serve(models.path(), &["faults.expire=0.1", "faults.seed=1"]);
    let cli = Cli::new(hub.url());
    // One request after the other, so that the seed decides which of them fail: no address twice in a row.
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n[fetch]\nrepos_in_flight = 1\n");
    let report = cli.expect(0, &["run", "--json", &file.display().to_string()]).json()["crawl"].clone();
    assert_eq!(report["outcomes"], json!({"indexed": 30}));
    let expired = hub.counters().faults.expire;
    assert!(expired > 0);
    assert_eq!(number(&report, "/expired_urls"), expired);
}

#[test]
fn behaviours_on_which_nobody_agrees_change_nothing() {
    let models = many(4);
    let plain = Hub::serve(models.path(), &[]);
    let cli = Cli::new(plain.url());
    cli.crawl(0, &[]);
    let expected: Vec<_> =
        cli.rows().into_values().map(|row| (row.repo_id, row.sha, row.fingerprint)).collect();
    for settings in [
        &["behaviour.pin_ranges=false"][..],
        &["behaviour.bare_resolve_cache=false"],
        &["behaviour.direct_files=true"],
        &["behaviour.xet=true", "behaviour.suffix_range=false"],
        &["behaviour.multi_range=multipart", "behaviour.count_second_hop=false"],
        &["url_ttl_seconds=1"],
    ] {
        let hub = Hub::serve(models.path(), settings);
        let cli = Cli::new(hub.url());
        let report = cli.crawl(0, &[]);
        assert_eq!(report["outcomes"], json!({"indexed": 4}), "{settings:?}");
        let rows: Vec<_> =
            cli.rows().into_values().map(|row| (row.repo_id, row.sha, row.fingerprint)).collect();
        assert_eq!(rows, expected, "{settings:?}");
    }
}

#[test]
fn a_crawl_reads_a_few_megabytes_of_a_large_file() {
    // 24 MB, of which the plan reads at most 6.
    let mut models = Models::new();
    let rows = 90_000_usize;
    let data: Vec<u8> = (0..rows * 64).flat_map(|i| ((i * 7919 % 1009) as f32).to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![rows, 64], &data).unwrap();
    let file = safetensors::serialize([("model.embed_tokens.weight", view)], None).unwrap();
    models.add("a/large", &[("model.safetensors", &file)]);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &[]);
    let fetched = number(&report, "/bytes_fetched");
    assert_eq!(number(&report, "/bytes_in_repos"), file.len() as u64);
    assert!(fetched > 0 && fetched <= 6_100_000, "{fetched} bytes");
    assert!(hub.counters().bytes_sent <= fetched + 100_000, "{:?}", hub.counters());
    assert_eq!(cli.rows()["a/large"].bytes_fetched, fetched);
}

#[test]
fn a_repository_that_cannot_be_reached_is_tried_again_next_time() {
    let models = many(2);
    let hub = Hub::serve(models.path(), &["faults.expire=1"]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(1, &[]);
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    for row in rows.values() {
        assert!(!row.outcome.is_final() && row.outcome != Outcome::Indexed, "{row:?}");
    }
    drop(hub);
    let hub = Hub::serve(models.path(), &[]);
    let cli = cli.with("HF_ENDPOINT", hub.url());
    assert_eq!(cli.crawl(0, &[])["outcomes"], json!({"indexed": 2}));
    assert_eq!(cli.rows().len(), 2, "the new rows replace the old ones");
}

#[test]
fn a_cdn_without_ranges_is_not_read_whole() {
    let models = many(2);
    let hub = Hub::serve(models.path(), &["faults.ignore_range=1"]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(1, &[]);
    assert_eq!(report["outcomes"], json!({"unreachable": 2}));
    assert_eq!(number(&report, "/ranges_ignored"), hub.counters().faults.ignore_range);
    assert!(number(&report, "/bytes_received") < tiny(0).len() as u64, "{report}");
    for row in cli.rows().values() {
        assert!(row.reason.as_ref().unwrap().contains("the server would send all"), "{:?}", row.reason);
    }
}

const TOKEN: &str = "hf_PlantedSecretPlantedSecret";

/// Asserts that neither output nor database have the token or a signature.
fn assert_no_secret(cli: &Cli, outputs: &[String]) {
    let written = files_below(cli.home());
    assert!(written.len() > 1, "{written:?}");
    let files = written.iter().map(|path| (path.display().to_string(), read(path)));
    let outputs =
        outputs.iter().enumerate().map(|(i, text)| (format!("output {i}"), text.as_bytes().to_vec()));
    for (place, content) in files.chain(outputs) {
        // Signed addresses appear with their values masked.
        let content = String::from_utf8_lossy(&content);
        let content =
            ["Signature=***", "Policy=***"].iter().fold(content.into_owned(), |text, m| text.replace(m, ""));
        for secret in [TOKEN, "PlantedSecret", "Signature=", "Policy=", "Bearer "] {
            let around = |(before, after): (&str, &str)| {
                let before: String =
                    before.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                format!("{before}[{secret}]{}", after.chars().take(50).collect::<String>())
            };
            assert_eq!(content.split_once(secret).map(around), None, "{place}");
        }
    }
}

#[test]
fn neither_token_nor_signed_urls_are_printed_or_kept() {
    let mut models = many(6);
    models.describe("owner0/model-000", &json!({"gated": "auto"}));
    models.describe("owner1/model-001", &json!({"disabled": true}));
    models.add("a/bad", &[("model.safetensors", b"bad")]);
    let grant = format!("tokens.{TOKEN}=[\"*\"]");
    for (faults, all_expire) in [
        (
            &["faults.expire=0.2", "faults.truncate=0.1", "faults.ignore_range=0.1", "faults.error_5xx=0.05"]
                [..],
            false,
        ),
        (&["faults.expire=1"], true),
    ] {
        let hub = Hub::serve(models.path(), &[&[grant.as_str()], faults].concat());
        let cli = Cli::new(hub.url()).with("HF_TOKEN", TOKEN);
        let mut outputs = Vec::new();
        let mut run = |args: &[&str]| {
            let ended = cli.run(args);
            outputs.extend([ended.stdout, ended.stderr]);
        };
        run(&["-vv", "crawl", "--db", "DB", "--json"]);
        run(&["-vv", "--log-format", "json", "crawl", "--db", "DB"]);
        run(&["-vv", "index", "--db", "DB"]);
        run(&["-vv", "scan", "--db", "DB", "owner0/model-000", "no/such", "a/bad"]);
        run(&["-vv", "compare", "owner0/model-000", "owner2/model-002"]);
        assert!(outputs.iter().any(|text| text.contains("DEBUG") || text.contains("INFO")), "there is a log");
        assert_no_secret(&cli, &outputs);
        let gated = cli.rows()["owner0/model-000"].outcome;
        assert_ne!(gated, Outcome::Gated, "the token was used");
        assert!(!all_expire || (gated == Outcome::Unreachable && hub.counters().faults.expire > 0));
    }
}

#[test]
fn a_bad_token_is_refused_without_repeating_it() {
    let cli = Cli::new("http://127.0.0.1:9").with("HF_TOKEN", "hf_Planted\nSecret");
    let ended = cli.expect(2, &["crawl", "--db", "DB"]);
    ended.says(&["error: ", "HF_TOKEN"]);
    assert!(!ended.stderr.contains("Planted"), "{}", ended.stderr);
}
