//! dev checkpoint: made-up checkpoints are read as those that they stand for.

use std::os::unix::fs::MetadataExt;

use crate::support::{Cli, Hub, files_below, nobody, temp};

#[test]
fn a_related_pair_is_told_from_an_unrelated_one() {
    let cli = Cli::new(&nobody());
    for args in [
        &["--to", "base", "--json"][..],
        &["--to", "child", "--seed", "2", "--from", "1", "--correlation", "0.5"],
        &["--to", "stranger", "--seed", "2"],
    ] {
        let ended = cli.expect(0, &[&["dev", "checkpoint", "bert-base"], args].concat());
        if args.contains(&"--json") {
            let written = ended.json();
            assert_eq!((&written["shape"], &written["files"]), (&"bert-base".into(), &5.into()));
            assert_eq!((&written["tensors"], &written["parameters"]), (&206.into(), &110_106_428.into()));
            assert!(written["bytes"].as_u64().unwrap() > 440_449_768, "{written}");
        }
    }
    let verdict = |other: &str| {
        let ended = cli.expect(0, &["compare", "--json", "./base", other]);
        ended.json()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!((verdict("./child"), verdict("./stranger")), ("derived".into(), "independent".into()));

    let again = cli.expect(2, &["dev", "checkpoint", "bert-base", "--to", "base"]);
    again.says(&["base is there already", "--to"]);
    cli.expect(2, &["dev", "checkpoint", "bert-bass", "--to", "other"]).says(&["bert-base", "deepseek-v3"]);
    cli.expect(2, &["dev", "checkpoint", "bert-base", "--to", "other", "--from", "1"])
        .says(&["--correlation"]);
}

#[test]
fn a_cache_is_served_and_crawled_without_being_read() {
    let folder = temp();
    let to = folder.path().display().to_string();
    let cli = Cli::new(&nobody());
    for (shape, name) in [("gpt2", "made-up/gpt2"), ("llama-3.1-8b", "made-up/llama")] {
        cli.expect(0, &["dev", "checkpoint", shape, "--to", &to, "--as", name]);
    }
    let on_disk: u64 = files_below(&folder.path().join("models--made-up--llama/blobs"))
        .iter()
        .map(|path| path.metadata().unwrap().blocks() * 512)
        .sum();
    assert!(on_disk < 100_000_000, "{on_disk}");

    // Sixteen gigabytes would take a minute to hash.
    let hub = Hub::serve(folder.path(), &[]);
    let cli = Cli::new(hub.url());
    let report = cli.crawl(0, &[]);
    assert_eq!(report["outcomes"]["indexed"], 2, "{report}");
    let rows = cli.rows();
    let llama = &rows["made-up/llama"];
    assert_eq!((llama.weight_files.len(), llama.parameters), (4, Some(8_030_261_248)));
    assert_eq!(llama.fingerprint.as_ref().unwrap().layers, 32);
    assert_eq!(rows["made-up/gpt2"].model_type.as_deref(), Some("gpt2"));
}
