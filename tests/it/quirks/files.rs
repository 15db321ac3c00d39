//! Which files are the model, and what a file is that has another's name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hubprint::store::Database;

use super::*;
use crate::support::{Hub, Models};

const INDEX: &str = "model.safetensors.index.json";

fn base() -> Tensors {
    demo_tensors(BASE)
}

/// Every `of`th of these tensors, from the `part`th on.
fn part(tensors: &Tensors, part: usize, of: usize) -> Tensors {
    tensors.iter().skip(part).step_by(of).map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
}

fn put(folder: &Path, name: &str, tensors: &Tensors) {
    write(&folder.join(name), file_of(tensors));
}

/// Writes shards; which tensor is in which.
fn shards(folder: &Path, prefix: &str, tensors: &Tensors, of: usize) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for number in 0..of {
        let name = format!("{prefix}-{:05}-of-{of:05}.safetensors", number + 1);
        let shard = part(tensors, number, of);
        map.extend(shard.keys().map(|tensor| (tensor.clone(), name.clone())));
        put(folder, &name, &shard);
    }
    map
}

fn index(folder: &Path, map: &BTreeMap<String, String>) {
    write(&folder.join(INDEX), json!({"metadata": {}, "weight_map": map}).to_string());
}

/// Tensors without elements, as ZeRO-3 leaves them.
fn emptied(tensors: &Tensors) -> Tensors {
    let empty = Tensor { dtype: Dtype::F16, shape: vec![0], bytes: Vec::new() };
    tensors.keys().map(|name| (name.clone(), empty.clone())).collect()
}

fn one(name: &str, shape: &[usize]) -> Tensors {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32).sin()).collect();
    [(name.to_owned(), Tensor::f32(shape, &values))].into()
}

/// Asserts that these files are read as the base model.
fn is_the_base(bench: &Bench, folder: &Path) -> Value {
    let answer = bench.compare(folder, &demo(BASE));
    let verdict = answer["verdict"].as_str().unwrap();
    assert!(["derived", "identical"].contains(&verdict), "{}: {answer:#}", folder.display());
    if verdict == "derived" {
        assert_is(&answer, "derived", "copy or cast", "undetermined");
    }
    answer
}

/// What a comparison with a model that cannot be read says.
fn refused(bench: &Bench, folder: &Path) -> String {
    let base = demo(BASE);
    let args = ["compare", folder.to_str().unwrap(), base.to_str().unwrap()];
    bench.user.expect(2, &args).stderr
}

/// The rows of a crawl of these folders, by repository and component: outcome, and files that were read.
fn crawled(folders: &[(&str, &Path)]) -> BTreeMap<String, (String, Vec<String>)> {
    let models = Models::new();
    for (id, folder) in folders {
        for file in crate::support::files_below(folder) {
            write(&models.folder(id).join(file.strip_prefix(folder).unwrap()), read(&file));
        }
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    let ended = cli.run(&["crawl", "--db", "DB", "--json"]);
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    let db = Database::open(&cli.db()).unwrap();
    let places: Vec<_> = db.live().unwrap().places().collect();
    let rows = db.rows(&places).unwrap();
    let row = |row: hubprint::store::Row| {
        let files = row.weight_files.iter().map(|file| file.path.clone()).collect();
        let outcome = row.reason.clone().unwrap_or_else(|| row.outcome.name().to_owned());
        (row.name(), (outcome, files))
    };
    rows.into_iter().map(row).collect()
}

fn indexed(files: &[&str]) -> (String, Vec<String>) {
    ("indexed".to_owned(), files.iter().map(|file| (*file).to_owned()).collect())
}

const TWO: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

#[test]
fn a_stray_file_does_not_hide_shards() {
    let bench = Bench::new();
    let other = demo_tensors(UNRELATED);
    let head = one("lm_head.weight", &[1024, 96]);
    for (name, stray) in [("empty", &emptied(&base())), ("head", &head), ("other", &other)] {
        for with_index in [true, false] {
            let folder = bench.folder(&format!("{name}-{with_index}"));
            let map = shards(&folder, "model", &base(), 2);
            if with_index {
                index(&folder, &map);
            }
            put(&folder, "model.safetensors", stray);
            is_the_base(&bench, &folder);
        }
    }
    let folder = |name: &str| bench.dir.path().join(name);
    let rows = crawled(&[("o/empty", &folder("empty-true")), ("o/other", &folder("other-true"))]);
    assert_eq!(rows["o/empty"], indexed(&TWO));
    assert_eq!(
        (&rows["o/other"], &rows["o/other[model]"]),
        (&indexed(&TWO), &indexed(&["model.safetensors"]))
    );
    assert_eq!(rows.len(), 3);
}

#[test]
fn the_file_whose_tensors_are_the_model_is_read() {
    let bench = Bench::new();
    let lora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let unrelated = demo_tensors(UNRELATED);
    for (name, beside) in [
        ("draft", &one("fc.weight", &[96, 192])),
        ("lora", &one(lora, &[4, 96])),
        ("0_optimizer", &one("state.exp_avg.0", &[9, 9])),
        ("a_vision_tower", &one("blocks.0.attn.qkv.weight", &[96, 32])),
        ("ema", &unrelated),
    ] {
        let folder = bench.folder(name);
        put(&folder, &format!("{name}.safetensors"), beside);
        put(&folder, "pytorch_model.safetensors", &base());
        is_the_base(&bench, &folder);
        // The same where its name says nothing.
        std::fs::rename(folder.join("pytorch_model.safetensors"), folder.join("zz.safetensors")).unwrap();
        is_the_base(&bench, &folder);
    }
    let ema = bench.dir.path().join("ema");
    let rows = crawled(&[("o/ema", &ema)]);
    let expected = [("o/ema", indexed(&["zz.safetensors"])), ("o/ema[ema]", indexed(&["ema.safetensors"]))];
    assert_eq!(rows, expected.map(|(name, row)| (name.to_owned(), row)).into());
}

#[test]
fn config_says_which_of_two_models_it_describes() {
    let bench = Bench::new();
    let folder = bench.folder("deep");
    // Twice as deep, and so larger.
    let mut deeper = demo_tensors(UNRELATED);
    for (name, tensor) in demo_tensors(UNRELATED) {
        if let Some(rest) = name.strip_prefix("model.layers.") {
            let (layer, rest) = rest.split_once('.').unwrap();
            deeper.insert(format!("model.layers.{}.{rest}", layer.parse::<u32>().unwrap() + 6), tensor);
        }
    }
    put(&folder, "a.safetensors", &deeper);
    put(&folder, "b.safetensors", &base());
    is_the_base(&bench, &folder);
}

#[test]
fn the_same_weights_twice_are_one_model() {
    let bench = Bench::new();
    let folder = bench.folder("twice");
    index(&folder, &shards(&folder, "model", &base(), 2));
    put(&folder, "model.safetensors", &base());
    put(&folder, "consolidated.safetensors", &base());
    put(&folder, "original/consolidated.safetensors", &base());
    put(&folder, "model.fp16.safetensors", &base());
    is_the_base(&bench, &folder);
    assert_eq!(crawled(&[("o/twice", &folder)]), [("o/twice".to_owned(), indexed(&TWO))].into());
}

#[test]
fn two_sets_of_shards_are_two_models() {
    let bench = Bench::new();
    let folder = bench.folder("two");
    shards(&folder, "policy", &base(), 2);
    shards(&folder, "reference", &demo_tensors(UNRELATED), 3);
    let rows = crawled(&[("o/two", &folder)]);
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["o/two", "o/two[reference]"]);
    assert_eq!((rows["o/two"].1.len(), rows["o/two[reference]"].1.len()), (2, 3));
    is_the_base(&bench, &folder);
}

#[test]
fn shards_that_are_not_named_as_such_are_one_model() {
    let bench = Bench::new();
    let folder = bench.folder("parts");
    // The layers are apart from the embedding.
    let (layers, rest): (Tensors, Tensors) =
        base().into_iter().partition(|(name, _)| name.contains(".layers."));
    put(&folder, "layers.safetensors", &layers);
    put(&folder, "rest.safetensors", &rest);
    is_the_base(&bench, &folder);
}

#[test]
fn a_set_that_cannot_be_read_leaves_the_other_alone() {
    let bench = Bench::new();
    let folder = bench.folder("damaged");
    write(&folder.join("model.safetensors"), b"<!doctype html><title>Sign in</title>");
    put(&folder, "ema.safetensors", &base());
    is_the_base(&bench, &folder);
    assert_eq!(crawled(&[("o/x", &folder)]), [("o/x".to_owned(), indexed(&["ema.safetensors"]))].into());
    // Where none can be read, the reason is that of the first.
    write(&folder.join("ema.safetensors"), b"GGUF\x03\0\0\0");
    assert!(refused(&bench, &folder).contains("model.safetensors: the file is an HTML page"));
}

#[test]
fn a_stale_index_is_no_reason_to_give_up() {
    let bench = Bench::new();
    let of = |total: usize, prefix: &str| -> BTreeMap<String, String> {
        let shard = |i: usize| format!("{prefix}-{:05}-of-{total:05}.safetensors", i % total + 1);
        base().into_keys().enumerate().map(|(i, name)| (name, shard(i))).collect()
    };
    let exl2 = bench.folder("exl2");
    put(&exl2, "output.safetensors", &base());
    index(&exl2, &of(4, "model"));
    // The shards were renamed, and another file is there.
    let renamed = bench.folder("renamed");
    shards(&renamed, "model", &base(), 2);
    index(&renamed, &of(2, "pytorch_model"));
    put(&renamed, "value_head.safetensors", &one("v_head.summary.weight", &[1, 96]));
    // The index is that of the pickles beside.
    let pickles = bench.folder("pickles");
    let map = shards(&pickles, "model", &base(), 3);
    let bins = map.into_iter().map(|(name, file)| (name, file.replace(".safetensors", ".bin")));
    index(&pickles, &bins.collect());
    put(&pickles, "value_head.safetensors", &one("v_head.summary.weight", &[1, 96]));
    for number in 1..=3 {
        write(&pickles.join(format!("model-{number:05}-of-00003.bin")), b"\x80\x02}q\0.");
    }
    // Three of six are there, and hold everything.
    let coser = bench.folder("coser");
    for number in 0..3 {
        put(&coser, &format!("model-{:05}-of-00006.safetensors", number + 1), &part(&base(), number, 3));
    }
    index(&coser, &of(6, "model"));
    for folder in [&exl2, &renamed, &pickles, &coser] {
        is_the_base(&bench, folder);
    }
    let rows =
        crawled(&[("o/exl2", &exl2), ("o/renamed", &renamed), ("o/pickles", &pickles), ("o/coser", &coser)]);
    assert!(rows.values().all(|(outcome, _)| outcome == "indexed"), "{rows:?}");
    assert_eq!(rows["o/exl2"].1, ["output.safetensors"]);
    assert_eq!(rows["o/renamed"].1, TWO);
    assert_eq!((rows["o/pickles"].1.len(), rows["o/coser"].1.len()), (3, 3));
    // Nothing is left to be read.
    std::fs::remove_file(exl2.join("output.safetensors")).unwrap();
    let said = refused(&bench, &exl2);
    assert!(said.contains("4 of 4 shards are missing"), "{said}");
}

#[test]
fn an_index_that_python_reads_is_read() {
    let bench = Bench::new();
    let text = |map: &BTreeMap<String, String>, metadata: &str| {
        format!(r#"{{"metadata": {metadata}, "weight_map": {}}}"#, json!(map))
    };
    for (name, metadata, before) in [
        ("null", "null", ""),
        ("dot", "{}", "./"),
        ("windows", "{}", ".\\"),
        ("infinity", r#"{"total_size": Infinity}"#, ""),
        ("nan", r#"{"total_size": [-Infinity, NaN]}"#, ""),
        ("text", r#""none""#, ""),
    ] {
        let folder = bench.folder(name);
        let map = shards(&folder, "x", &base(), 2);
        let map = map.into_iter().map(|(tensor, file)| (tensor, format!("{before}{file}"))).collect();
        write(&folder.join(INDEX), text(&map, metadata));
        // So that the names do not tell.
        put(&folder, "value_head.safetensors", &one("v_head.summary.weight", &[1, 96]));
        is_the_base(&bench, &folder);
    }
}

#[test]
fn a_file_that_the_index_names_is_part_of_the_model() {
    let bench = Bench::new();
    let folder = bench.folder("more");
    let (norms, rest): (Tensors, Tensors) = base().into_iter().partition(|(name, _)| name.contains("norm"));
    let mut map = shards(&folder, "model", &rest, 2);
    put(&folder, "norms.safetensors", &norms);
    map.extend(norms.keys().map(|name| (name.clone(), "norms.safetensors".to_owned())));
    index(&folder, &map);
    is_the_base(&bench, &folder);
    let expected = indexed(&[TWO[0], TWO[1], "norms.safetensors"]);
    assert_eq!(crawled(&[("o/more", &folder)]), [("o/more".to_owned(), expected)].into());
}

#[test]
fn numbers_that_json_does_not_have_are_read_past() {
    let bench = Bench::new();
    let mut folders = Vec::new();
    for name in ["one", "twelve"] {
        let folder = bench.folder(name);
        let path = folder.join("config.json");
        let config = String::from_utf8(read(&path)).unwrap();
        let said = r#""time_step_limit": [0.0, Infinity], "x": NaN, "y": -Infinity, "use_cache""#;
        assert!(config.contains(r#""use_cache""#));
        write(&path, config.replace(r#""use_cache""#, said));
        folders.push(folder);
    }
    put(&folders[0], "model.safetensors", &base());
    index(&folders[1], &shards(&folders[1], "model", &base(), 12));
    assert_is(&bench.compare(&folders[0], &demo(BASE)), "identical", "identical", "undetermined");
    is_the_base(&bench, &folders[1]);
    let rows = crawled(&[("o/one", &folders[0]), ("o/twelve", &folders[1])]);
    assert!(rows.values().all(|(outcome, _)| outcome == "indexed"), "{rows:?}");
}

#[test]
fn a_file_is_named_for_what_it_is() {
    let bench = Bench::new();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1136880\n", "a".repeat(64));
    let html = "<!doctype html><title>Sign in</title>".repeat(20);
    let zeros = vec![0; 4096];
    let mut zip = b"PK\x03\x04\x14\0\0\0".to_vec();
    zip.resize(4096, 7);
    for (name, content, words) in [
        ("pointer", pointer.as_bytes(), &["Git LFS pointer", "git lfs pull"][..]),
        ("html", html.as_bytes(), &["an HTML page"]),
        ("zip", &zip, &["zip archive"]),
        ("pickle", b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94.", &["a Python pickle"]),
        ("gguf", b"GGUF\x03\0\0\0\x22\x01\0\0\0\0\0\0", &["a GGUF file"]),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48", &["gzip"]),
        ("zeros", &zeros, &["all zeros"]),
        ("text", b"Entry not found\n", &["is a text"]),
    ] {
        let folder = bench.folder(name);
        write(&folder.join("model.safetensors"), content);
        let said = refused(&bench, &folder);
        for word in words.iter().chain(&["model.safetensors"]) {
            assert!(said.contains(word), "{name}: {said}");
        }
        assert!(!said.contains(" bytes"), "{said}");
    }
    let folder = bench.model("small", &base(), &json!({}));
    write(&folder.join("config.json"), &pointer);
    let said = refused(&bench, &folder);
    assert!(
        said.contains("config.json: the file is a Git LFS pointer") && said.contains("git lfs pull"),
        "{said}"
    );
    write(&folder.join("config.json"), read(&demo(BASE).join("config.json")));
    write(&folder.join("tokenizer.json"), &pointer);
    let reason = bench.compare(&folder, &demo(BASE))["signals"]["VOA"]["reason"].to_string();
    assert!(reason.contains("tokenizer.json: the file is a Git LFS pointer"), "{reason}");
}

/// A folder with the base model's weights and small files in a folder below.
fn nested(bench: &Bench, name: &str, below: &str) -> PathBuf {
    let folder = bench.dir.path().join(name);
    let inner = folder.join(below);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        write(&inner.join(file), read(&demo(BASE).join(file)));
    }
    folder
}

#[test]
fn weights_in_a_folder_below_are_found() {
    let bench = Bench::new();
    let modules = |path: &str| {
        json!([
            {"idx": 0, "name": "0", "path": path, "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ])
        .to_string()
    };
    let st = nested(&bench, "st", "0_Transformer");
    write(&st.join("modules.json"), modules("0_Transformer"));
    let run = nested(&bench, "run", "checkpoint-500");
    put(&run, "checkpoint-90/model.safetensors", &demo_tensors(UNRELATED));
    put(&run, "checkpoint-500/optimizer.safetensors", &one("state.0", &[9]));
    let speech = nested(&bench, "speech", "LLM");
    put(&speech, "codec/model.safetensors", &one("encoder.conv.weight", &[9, 9]));
    // Only modules.json tells; its paths were written on Windows.
    let listed = nested(&bench, "listed", "parts/text");
    put(&listed, "old/model.safetensors", &demo_tensors(UNRELATED));
    put(&listed, "2_Dense/model.safetensors", &one("linear.weight", &[9, 96]));
    write(&listed.join("modules.json"), modules("parts\\\\text\\\\").replace("\\\\\\\\", "\\\\"));
    // Shards with their index.
    let sharded = nested(&bench, "sharded", "weights");
    std::fs::remove_file(sharded.join("weights/model.safetensors")).unwrap();
    let map = shards(&sharded.join("weights"), "x", &base(), 2);
    index(&sharded.join("weights"), &map);
    let all = [
        ("o/st", &st),
        ("o/run", &run),
        ("o/speech", &speech),
        ("o/listed", &listed),
        ("o/sharded", &sharded),
    ];
    for (_, folder) in all {
        let answer = is_the_base(&bench, folder);
        // config.json and the tokenizer are those beside the weights.
        assert_eq!(answer["signals"]["MFI"]["value"], 1.0, "{answer:#}");
        assert_eq!(answer["signals"]["VOA"]["value"], 1.0, "{answer:#}");
    }
    let rows = crawled(&all.map(|(id, folder)| (id, folder.as_path())));
    let files: Vec<_> = rows
        .iter()
        .map(|(name, (outcome, files))| (name.as_str(), outcome.as_str(), files[0].as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("o/listed", "indexed", "parts/text/model.safetensors"),
            ("o/run", "indexed", "checkpoint-500/model.safetensors"),
            ("o/sharded", "indexed", "weights/x-00001-of-00002.safetensors"),
            ("o/speech", "indexed", "LLM/model.safetensors"),
            ("o/st", "indexed", "0_Transformer/model.safetensors"),
        ]
    );
}

#[test]
fn two_transformers_are_two_components() {
    let bench = Bench::new();
    let folder = nested(&bench, "router", "query_encoder");
    put(&folder, "document_encoder/model.safetensors", &demo_tensors(UNRELATED));
    let module = |path| json!({"name": path, "path": path});
    write(
        &folder.join("modules.json"),
        json!([module("query_encoder"), module("document_encoder")]).to_string(),
    );
    let rows = crawled(&[("o/router", &folder)]);
    let names: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(names, ["o/router", "o/router[query_encoder]"]);
    assert!(rows.values().all(|(outcome, _)| outcome == "indexed"), "{rows:?}");
    // A folder of models is no model.
    std::fs::remove_file(folder.join("modules.json")).unwrap();
    let rows = crawled(&[("o/router", &folder)]);
    assert!(rows["o/router"].0.contains("no safetensors or PyTorch weights"), "{rows:?}");
}

#[test]
fn other_names_and_cases_of_letters() {
    let bench = Bench::new();
    for name in ["model.SafeTensors", "MODEL.SAFETENSORS", "diffusion_pytorch_model.safetensors"] {
        let folder = bench.folder(name);
        put(&folder, name, &base());
        is_the_base(&bench, &folder);
    }
    let folder = bench.folder("fp16");
    put(&folder, "model.fp16.safetensors", &demo_tensors(UNRELATED));
    put(&folder, "model.safetensors", &base());
    is_the_base(&bench, &folder);
    assert_eq!(crawled(&[("o/x", &folder)]), [("o/x".to_owned(), indexed(&["model.safetensors"]))].into());
}

#[test]
fn the_usual_repository_costs_what_it_did() {
    let bench = Bench::new();
    let single = bench.model("single", &base(), &json!({}));
    let sharded = bench.folder("sharded");
    index(&sharded, &shards(&sharded, "model", &base(), 3));
    put(&sharded, "consolidated.safetensors", &base());
    put(&sharded, "adapter_model.safetensors", &base());
    for (folder, resolved) in [(single, 1), (sharded, 3)] {
        let models = Models::new();
        for file in crate::support::files_below(&folder) {
            write(&models.folder("o/x").join(file.file_name().unwrap()), read(&file));
        }
        let hub = Hub::serve(models.path(), &[]);
        Cli::new(hub.url()).crawl(0, &[]);
        assert_eq!(hub.counters().requests.resolvers, resolved, "{}", folder.display());
    }
}

/// The bytes that a token of a byte-level BPE stands for: every character stands for one.
fn bytes_of(token: &str) -> Vec<u8> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let moved: Vec<u32> = (0..256).filter(|byte| !printable(byte)).collect();
    let byte = |c: char| match u32::from(c) {
        n if n < 256 => n as u8,
        n => moved[n as usize - 256] as u8,
    };
    token.chars().map(byte).collect()
}

#[test]
fn vocabularies_of_bytes_and_ranks_are_read() {
    let bench = Bench::new();
    let tokenizer: Value = serde_json::from_slice(&read(&demo(BASE).join("tokenizer.json"))).unwrap();
    let mut tokens: Vec<(u64, String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.clone()))
        .collect();
    tokens.sort();
    // The first ones are special, and steer the model.
    let special: Vec<&(u64, String)> =
        tokens.iter().take_while(|(_, token)| token.starts_with('<')).collect();
    let first = special.len() as u64;
    let learned: Vec<(u64, String)> = tokens
        .iter()
        .filter(|(id, _)| *id >= first)
        .map(|(id, token)| (*id, STANDARD.encode(bytes_of(token))))
        .collect();
    let lines: Vec<String> = learned.iter().map(|(id, bytes)| format!("{bytes} {id}")).collect();
    let decoder: serde_json::Map<String, Value> = special
        .iter()
        .map(|(id, token)| (id.to_string(), json!({"content": token, "special": true})))
        .collect();
    let settings = json!({"added_tokens_decoder": decoder}).to_string();
    let tekken = json!({
        "config": {"version": "v7", "default_num_special_tokens": first, "default_vocab_size": tokens.len()},
        "vocab": learned.iter().map(|(id, bytes)| json!({"rank": id - first, "token_bytes": bytes})).collect::<Vec<_>>(),
        "special_tokens": special.iter().map(|(id, token)| json!({"rank": id, "token_str": token})).collect::<Vec<_>>(),
    });
    for (name, text) in [
        ("tekken.json", tekken.to_string()),
        ("qwen.tiktoken", lines.join("\n")),
        ("tiktoken.model", lines.join("\n")),
        ("tokenizer.model", lines.join("\n")),
    ] {
        let folder = bench.folder(name);
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
        write(&folder.join(name), text);
        write(&folder.join("tokenizer_config.json"), &settings);
        put(&folder, "model.safetensors", &base());
        let answer = bench.compare(&folder, &demo(BASE));
        assert_eq!(answer["signals"]["VOA"]["value"], 1.0, "{name}: {}", answer["signals"]);
    }
}
