//! extract and the decoders before it: hostile and damaged files end as a row that says why, and hurt nobody else.

use std::fs;

use serde_json::json;

use crate::support::{Cli, Hub, Models, TINY_CONFIG, assert_adds_up, tiny, tiny_with, write};

/// A safetensors file of this header, then `data` zeros.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

fn tensor(shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// What a file ends as, and a word of the reason.
type Case = (&'static str, Vec<(&'static str, Vec<u8>)>, &'static str, &'static str);

fn cases() -> Vec<Case> {
    let weights =
        |content: Vec<u8>| vec![("config.json", TINY_CONFIG.into()), ("model.safetensors", content)];
    let with_config = |config: Vec<u8>| vec![("config.json", config), ("model.safetensors", tiny(1))];
    let index = |shard: &str| {
        let json = json!({"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": shard}});
        vec![("model.safetensors.index.json", json.to_string().into_bytes()), ("other.safetensors", tiny(1))]
    };
    let name = "model.norm.weight";
    let one = tensor("[2]", 0, 8);

    let mut huge = (1_u64 << 60).to_le_bytes().to_vec();
    huge.extend_from_slice(&[b' '; 100]);
    let mut past_end = 5000_u64.to_le_bytes().to_vec();
    past_end.extend_from_slice(b"{}");
    let mut large_config = br#"{"model_type":"llama","padding":""#.to_vec();
    large_config.resize(10 << 20, b'x');
    large_config.extend_from_slice(b"\"}");
    let deep = format!(r#"{{"{name}":{}"#, "[".repeat(100_000));
    let not_finite = tiny_with(3, |_, values| values.fill(f32::NAN));

    let malformed = "malformed";
    vec![
        ("h/claims-2-to-60", weights(huge), malformed, "1152921504606846976 bytes"),
        ("h/claims-more-than-it-has", weights(past_end), malformed, "ends after 10"),
        ("h/zero-bytes", weights(Vec::new()), malformed, "0 bytes"),
        ("h/seven-bytes", weights(vec![0; 7]), malformed, "7 bytes"),
        (
            "h/shape-overflows",
            weights(file(&format!(r#"{{"{name}":{}}}"#, tensor("[4294967296,4294967296,4]", 0, 64)), 64)),
            malformed,
            "4294967296",
        ),
        (
            "h/shape-and-bytes-differ",
            weights(file(&format!(r#"{{"{name}":{}}}"#, tensor("[3]", 0, 8)), 8)),
            malformed,
            "shape [3]",
        ),
        (
            "h/negative-shape",
            weights(file(&format!(r#"{{"{name}":{}}}"#, tensor("[-2]", 0, 8)), 8)),
            malformed,
            "-2",
        ),
        (
            "h/end-before-begin",
            weights(file(&format!(r#"{{"{name}":{}}}"#, tensor("[0]", 8, 0)), 8)),
            malformed,
            "8..0",
        ),
        (
            "h/overlap",
            weights(file(&format!(r#"{{"{name}":{one},"b":{}}}"#, tensor("[2]", 4, 12)), 12)),
            malformed,
            "begins at byte 4",
        ),
        (
            "h/hole",
            weights(file(&format!(r#"{{"{name}":{one},"b":{}}}"#, tensor("[2]", 12, 20)), 20)),
            malformed,
            "begins at byte 12",
        ),
        (
            "h/duplicate-key",
            weights(file(&format!(r#"{{"{name}":{one},"{name}":{one}}}"#), 8)),
            malformed,
            "occurs twice",
        ),
        ("h/too-long", weights(file(&format!(r#"{{"{name}":{one}}}"#), 9)), malformed, "the file has"),
        ("h/header-is-no-json", weights(file("no json", 8)), malformed, "not valid"),
        ("h/header-is-a-list", weights(file("[1,2,3]", 8)), malformed, "not valid"),
        ("h/header-without-end", weights(file(&deep, 8)), malformed, "not valid"),
        ("h/no-tensors", weights(file("{}", 0)), "unsupported", "none of 0 tensors"),
        (
            "h/unknown-names",
            weights(file(&format!(r#"{{"\u001b[31m\n; rm -rf":{one}}}"#), 8)),
            "unsupported",
            "none of 1 tensors",
        ),
        ("h/not-a-number", weights(not_finite), "unsupported", "usable"),
        ("h/constant", weights(tiny_with(4, |_, values| values.fill(0.0))), "unsupported", "usable"),
        ("h/config-is-no-json", with_config(b"{\"model_type\": ".to_vec()), malformed, "config.json"),
        ("h/config-is-a-list", with_config(b"[]".to_vec()), malformed, "config.json"),
        ("h/config-of-10-mb", with_config(large_config), malformed, "4194304"),
        (
            "h/index-names-missing-shard",
            vec![(
                "model.safetensors.index.json",
                br#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#.to_vec(),
            )],
            malformed,
            "model-00001-of-00002.safetensors",
        ),
        (
            "h/index-leaves-the-folder",
            index("../good/model.safetensors"),
            malformed,
            "../good/model.safetensors",
        ),
        ("h/index-with-absolute-path", index("/etc/passwd"), malformed, "/etc/passwd"),
        (
            "h/index-of-nothing",
            vec![("model.safetensors.index.json", br#"{"weight_map":{}}"#.to_vec())],
            malformed,
            "maps no tensor",
        ),
        (
            "h/index-is-no-json",
            vec![("model.safetensors.index.json", b"PK".to_vec())],
            malformed,
            "model.safetensors.index.json",
        ),
        (
            "h/nothing",
            vec![("README.md", b"# empty\n".to_vec())],
            "unsupported",
            "no safetensors or PyTorch or gguf or ONNX weights",
        ),
        (
            "h/adapter",
            vec![("adapter_model.safetensors", tiny(5)[..200].to_vec())],
            "malformed",
            "adapter_model.safetensors",
        ),
    ]
}

#[test]
fn hostile_files_end_as_rows_that_name_the_evidence() {
    let mut models = Models::new();
    models.add_tiny("a/before", 100);
    let cases = cases();
    for (id, files, _, _) in &cases {
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
        models.add(id, &files);
    }
    // A few broken values in a good model are no reason to drop it.
    let speckled = tiny_with(101, |name, values| {
        if name.contains("layers.0.mlp.up_proj") {
            values[0] = f32::NAN;
            values[1] = f32::INFINITY;
        }
    });
    models.add("a/speckled", &[("model.safetensors", &speckled)]);
    models.add_tiny("a/after", 102);

    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    // With config.json, which plain weights are read without.
    let file = cli.home().join("p.toml");
    write(&file, "[database]\npath = 'db'\n[enumerate]\n[fetch]\nsmall_files = 'all'\n");
    let report = cli.expect(1, &["run", "--json", &file.display().to_string()]).json()["crawl"].clone();
    let rows = cli.rows();
    assert_adds_up(&report, &rows);
    assert_eq!(rows.len(), cases.len() + 3, "{report}");
    for good in ["a/before", "a/speckled", "a/after"] {
        assert_eq!(rows[good].outcome.name(), "indexed", "{good}: {:?}", rows[good].reason);
    }
    let mut wrong = Vec::new();
    for (id, _, outcome, word) in &cases {
        let row = &rows[*id];
        let reason = row.reason.as_deref().unwrap_or_default();
        if row.outcome.name() != *outcome || !reason.contains(word) {
            wrong.push(format!(
                "{id}: {} because {reason:?}, expected {outcome} with {word:?}",
                row.outcome.name()
            ));
        }
        if reason.len() > 2000 || reason.contains(|c: char| c.is_control()) {
            wrong.push(format!(
                "{id}: a reason of {} bytes: {:?}",
                reason.len(),
                &reason[..reason.len().min(200)]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The same files as local folders end the same way: an error with a message, or no evidence and the reason
    // why; no panic.
    for (id, _, outcome, word) in &cases {
        let folder = models.folder(id).display().to_string();
        let good = models.folder("a/after").display().to_string();
        if *outcome == "malformed" {
            let ended = cli.expect(2, &["compare", &folder, &good]);
            assert!(
                ended.stderr.contains("error: ") && ended.stderr.contains(word),
                "{id}: {}",
                ended.stderr
            );
        } else {
            // Values that say nothing were read; weights that were not read are a part that failed.
            let code = i32::from(*word != "usable");
            let answer = cli.expect(code, &["compare", "--json", &folder, &good]).json();
            assert!(answer["related"].is_null(), "{id}: {answer}");
            let reason = answer["not_read"][0].to_string();
            assert!(*word == "usable" || reason.contains(word), "{id}: {reason}");
        }
    }
    cli.expect(0, &["index", "--db", "DB"]);
    let scan = cli.expect(0, &["scan", "--db", "DB", "--json", "a/after"]).json();
    assert_eq!(
        (&scan["searched"], &scan["families"][0]["members"][0]["verdict"]),
        (&json!(3), &json!("identical"))
    );
}

#[test]
fn an_index_cannot_make_a_folder_read_elsewhere() {
    let mut models = Models::new();
    let secret = models.add_tiny("a/secret", 1);
    let index = json!({"weight_map": {"model.norm.weight": "../secret/model.safetensors"}}).to_string();
    let hostile = models.add("a/hostile", &[("model.safetensors.index.json", index.as_bytes())]);
    assert!(fs::metadata(hostile.join("../secret/model.safetensors")).is_ok(), "there is something to steal");
    let cli = Cli::new(&crate::support::nobody());
    let (hostile, secret) = (hostile.display().to_string(), secret.display().to_string());
    cli.expect(2, &["compare", &hostile, &secret]).says(&["is not a plain file name"]);
}

#[test]
fn shards_and_one_file_of_the_same_tensors_have_one_fingerprint() {
    use safetensors::SafeTensors;
    let whole = tiny(1);
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    let shards: Vec<Vec<u8>> = names
        .chunks(5)
        .map(|chunk| {
            safetensors::serialize(chunk.iter().map(|n| (*n, tensors.tensor(n).unwrap())), None).unwrap()
        })
        .collect();
    assert!(shards.len() > 1);
    let shard_name = |i: usize| format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
    let map: serde_json::Map<String, serde_json::Value> =
        names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), json!(shard_name(i / 5)))).collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    let shard_names: Vec<String> = (0..shards.len()).map(shard_name).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("model.safetensors.index.json", index.as_bytes())];
    files.extend(shard_names.iter().map(String::as_str).zip(shards.iter().map(Vec::as_slice)));

    let mut models = Models::new();
    models.add_tiny("a/whole", 1);
    models.add("a/sharded", &files);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let rows = cli.rows();
    let (whole, sharded) = (&rows["a/whole"], &rows["a/sharded"]);
    assert_eq!(whole.sample_digest, sharded.sample_digest);
    assert_eq!(whole.fingerprint, sharded.fingerprint);
    assert_eq!(whole.parameters, sharded.parameters);
    assert_ne!(whole.weights_digest, sharded.weights_digest);
    assert_eq!(sharded.weight_files.len(), shards.len());
}
