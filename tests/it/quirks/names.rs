//! Names: what stands in front of them, between their components, and beside the model.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// The base model with names made by this.
fn named(bench: &Bench, folder: &str, rename: impl Fn(&str) -> String) -> PathBuf {
    bench.model(folder, &renamed(&demo_tensors(BASE), rename), &json!({}))
}

/// Asserts that a folder is a copy of the base model, read whole.
fn assert_is_a_copy(bench: &Bench, folder: &Path) {
    let answer = bench.compare(folder, &demo(BASE));
    assert_is(&answer, "derived", "copy or cast", "undetermined");
    assert_eq!(answer["models"][0]["layers"], answer["models"][1]["layers"], "{answer:#}");
}

/// Layers of the base model wrapped one by one.
fn wrap(name: &str, wrapper: &str) -> String {
    match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => format!("model.layers.{layer}.{wrapper}{rest}"),
        None => name.to_owned(),
    }
}

#[test]
fn a_known_model_is_found_below_any_prefix() {
    let bench = Bench::new();
    for prefix in [
        "pretrained_model.",
        "_forward_module.",
        "_fsdp_wrapped_module.",
        "vlm.",
        "model.vlm_with_expert.vlm.",
        "decoder.",
        "encoder.",
        "model.",
        "0.auto_model.",
        "nobody.has.seen.this.",
    ] {
        assert_is_a_copy(&bench, &named(&bench, "prefixed", |name| format!("{prefix}{name}")));
    }
}

#[test]
fn a_prefix_may_take_the_place_of_the_models_own() {
    let bench = Bench::new();
    for prefix in ["embedding_model.", "backbone_model.", "encoder.", "decoder."] {
        let bare = |name: &str| format!("{prefix}{}", name.trim_start_matches("model."));
        assert_is_a_copy(&bench, &named(&bench, "bare", bare));
    }
}

#[test]
fn wrappers_around_layers_and_matrices_are_seen_through() {
    let bench = Bench::new();
    for wrapper in ["_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module._orig_mod.", "module."]
    {
        assert_is_a_copy(&bench, &named(&bench, "wrapped", |name| wrap(name, wrapper)));
        let both = |name: &str| format!("trainer.policy.{}", wrap(name, wrapper));
        assert_is_a_copy(&bench, &named(&bench, "both", both));
    }
    let inner = |name: &str| match name.strip_suffix(".weight") {
        Some(module) if module.ends_with("_proj") => format!("base_model.model.{module}.base_layer.weight"),
        _ => format!("base_model.model.{name}"),
    };
    assert_is_a_copy(&bench, &named(&bench, "adapted", inner));
}

#[test]
fn an_adapter_beside_its_base_is_not_the_base() {
    let bench = Bench::new();
    let mut tensors = renamed(&demo_tensors(BASE), |name| match name.strip_suffix("_proj.weight") {
        Some(module) => format!("base_model.model.{module}_proj.base_layer.weight"),
        None => format!("base_model.model.{name}"),
    });
    let bases: Vec<(String, Vec<usize>)> = tensors
        .iter()
        .filter_map(|(name, t)| Some((name.strip_suffix(".base_layer.weight")?.to_owned(), t.shape.clone())))
        .collect();
    assert!(!bases.is_empty());
    for (module, shape) in bases {
        let noise =
            |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 500.0).collect() };
        let (rows, columns) = (shape[0], shape[1]);
        tensors.insert(
            format!("{module}.lora_A.default.weight"),
            Tensor::f32(&[4, columns], &noise(4 * columns)),
        );
        tensors.insert(format!("{module}.lora_B.default.weight"), Tensor::f32(&[rows, 4], &noise(4 * rows)));
    }
    // Not a copy: an adapter that was not merged changes what the model computes.
    let answer = bench.compare(&bench.model("lora", &tensors, &json!({})), &demo(BASE));
    assert_eq!((&answer["related"], &answer["relation"]), (&json!(true), &Value::Null), "{answer:#}");
    assert_eq!(answer["models"][0]["layers"], 6);
}

/// The base model and a further one: related, no copy, and what was not compared is named.
fn assert_holds_the_base(bench: &Bench, folder: &Path, other: &str) {
    let answer = bench.compare(folder, &demo(BASE));
    assert_eq!((&answer["related"], &answer["relation"]), (&json!(true), &Value::Null), "{answer:#}");
    let model = &answer["models"][0];
    assert_eq!((&model["layers"], &model["hidden_size"]), (&json!(6), &json!(96)), "{answer:#}");
    let rest = &model["coverage"]["rest"][0];
    assert_eq!((&rest["kind"], &rest["what"]), (&json!("other_component"), &json!(other)), "{answer:#}");
}

#[test]
fn two_whole_models_are_never_mixed() {
    let bench = Bench::new();
    let mut tensors = renamed(&demo_tensors(BASE), |name| format!("policy.{name}"));
    tensors.extend(renamed(&demo_tensors(UNRELATED), |name| format!("reference.{name}")));
    let both = bench.model("both", &tensors, &json!({}));
    // Equal in size: the first by name is the model.
    assert_holds_the_base(&bench, &both, "reference.model");
    let answer = bench.compare(&both, &demo(UNRELATED));
    assert_eq!(answer["related"], Value::Null, "the other one is in it: {answer:#}");
    // The larger one is, whatever its name.
    let part = |name: &str| !name.contains("layers.5.");
    tensors.retain(|name, _| name.starts_with("reference.") || part(name));
    let both = bench.model("both", &tensors, &json!({}));
    let answer = bench.compare(&both, &demo(UNRELATED));
    assert_eq!(answer["related"], true, "{answer:#}");
}

#[test]
fn each_of_two_whole_models_in_one_file_has_a_row() {
    let bench = Bench::new();
    let mut tensors = renamed(&demo_tensors(BASE), |name| format!("policy.{name}"));
    tensors.extend(renamed(&demo_tensors(UNRELATED), |name| format!("reference.{name}")));
    let both = bench.model("both", &tensors, &json!({}));
    let mut models = Models::new();
    // The second has the same files: what is known by them is not the row of the first model alone.
    for (id, folder) in
        [("o/base", &demo(BASE)), ("o/other", &demo(UNRELATED)), ("o/x", &both), ("o/y", &both)]
    {
        models.add_folder(id, folder);
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    for expected in ["crawled", "crawled again"] {
        cli.crawl(0, &[]);
        let rows = cli.rows();
        let names: Vec<&str> = rows.keys().map(String::as_str).collect();
        let of_one = |name: &str| [name.to_owned(), format!("{name}[reference.model.*]")];
        let all =
            [vec!["o/base".to_owned(), "o/other".to_owned()], of_one("o/x").into(), of_one("o/y").into()];
        assert_eq!(names, all.concat(), "{expected}");
        for (component, original) in [("o/x", "o/base"), ("o/y[reference.model.*]", "o/other")] {
            let (row, whole) = (&rows[component], &rows[original]);
            assert_eq!(row.sample_digest.is_some(), whole.sample_digest.is_some());
            assert_eq!(
                row.fingerprint.as_ref().map(|f| f.hidden_size),
                whole.fingerprint.as_ref().map(|f| f.hidden_size)
            );
        }
        let part = &rows["o/x[reference.model.*]"];
        assert_eq!(part.sample_digest, rows["o/other"].sample_digest, "it is whole, and the same");
        assert_eq!(part.coverage.as_ref().map(hubprint::signals::Coverage::share), Some(1.0));
        assert_ne!(part.weights_digest, rows["o/x"].weights_digest);
    }
    cli.expect(0, &["index", "--db", "DB"]);
    for (model, found) in [(BASE, "o/x"), (UNRELATED, "o/x[reference.model.*]")] {
        let model = demo(model);
        let answer =
            cli.expect(0, &["scan", "--db", "DB", model.to_str().unwrap(), "--json"]).lines().remove(0);
        let members = answer["families"][0]["members"].as_array().unwrap();
        let is_it = |member: &Value| {
            member["repo_id"] == found
                || member["copies"].as_array().is_some_and(|c| c.contains(&json!(found)))
        };
        assert!(members.iter().any(is_it), "{answer:#}");
    }
}

#[test]
fn a_tower_beside_the_model_is_not_the_model() {
    let bench = Bench::new();
    let mut tensors = renamed(&demo_tensors(BASE), |name| format!("vlm.language_model.{name}"));
    let (hidden, inner) = (64, 128);
    let filled = |shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        Tensor::f32(shape, &(0..n).map(|i| ((i * 31 % 97) as f32 - 48.0) / 300.0).collect::<Vec<_>>())
    };
    // More layers than the model has: of CLIP's names, and of a whole speech encoder's.
    for layer in 0..12 {
        for (tower, names) in [
            ("vlm.vision_tower.vision_model.encoder", ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]),
            ("vlm.audio_tower.encoder", ["self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"]),
        ] {
            let name = |inside: &str| format!("{tower}.layers.{layer}.{inside}.weight");
            for matrix in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                tensors.insert(name(&format!("self_attn.{matrix}")), filled(&[hidden, hidden]));
            }
            for (inside, shape) in
                names.into_iter().zip([vec![hidden], vec![hidden], vec![inner, hidden], vec![hidden, inner]])
            {
                tensors.insert(name(inside), filled(&shape));
            }
        }
    }
    assert_holds_the_base(&bench, &bench.model("towers", &tensors, &json!({})), "vlm.audio_tower");
}

#[test]
fn an_index_of_twelve_shards_below_an_unknown_prefix() {
    let bench = Bench::new();
    let tensors = renamed(&demo_tensors(BASE), |name| format!("wrapped.in.{}", wrap(name, "_orig_mod.")));
    let folder = bench.folder("shards");
    let mut map = serde_json::Map::new();
    for shard in 0..12 {
        let file = format!("model-{:05}-of-00012.safetensors", shard + 1);
        let part: Tensors =
            tensors.iter().skip(shard).step_by(12).map(|(name, t)| (name.clone(), t.clone())).collect();
        map.extend(part.keys().map(|name| (name.clone(), json!(file))));
        write(&folder.join(file), file_of(&part));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    write(&folder.join("model.safetensors.index.json"), index.to_string());
    let answer = bench.compare(&folder, &demo(BASE));
    assert_is(&answer, "derived", "copy or cast", "undetermined");
}

/// A small BERT with random weights: name and values of each tensor.
fn bert(seed: u64) -> Tensors {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (hidden, inner, vocabulary) = (96, 256, 512);
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        let center = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| center + rng.random_range(-0.1_f32..0.1)).collect();
        tensors.insert(name, Tensor::f32(shape, &values));
    };
    add("embeddings.word_embeddings.weight".into(), &[vocabulary, hidden]);
    add("embeddings.LayerNorm.weight".into(), &[hidden]);
    for layer in 0..6 {
        let name = |inside: &str| format!("encoder.layer.{layer}.{inside}.weight");
        for matrix in ["self.query", "self.key", "self.value", "output.dense"] {
            add(name(&format!("attention.{matrix}")), &[hidden, hidden]);
        }
        add(name("attention.output.LayerNorm"), &[hidden]);
        add(name("intermediate.dense"), &[inner, hidden]);
        add(name("output.dense"), &[hidden, inner]);
        add(name("output.LayerNorm"), &[hidden]);
    }
    tensors
}

fn bert_model(bench: &Bench, folder: &str, tensors: &Tensors) -> PathBuf {
    let config =
        json!({ "model_type": "bert", "vocab_size": 512, "num_hidden_layers": 6, "hidden_size": 96 });
    bench.model(folder, tensors, &config)
}

#[test]
fn bert_below_the_roots_of_its_descendants() {
    let bench = Bench::new();
    let base = bert(1);
    let plain = bert_model(&bench, "plain", &base);
    for root in [
        "longformer.",
        "lilt.",
        "data2vec_text.",
        "question_encoder.bert_model.",
        "text_decoder.bert.",
        "text_model.roberta.",
        "model.text_backbone.",
        "token_rep_layer.bert_layer.model.",
        "0.auto_model.",
        "encoder.",
    ] {
        let rooted = bert_model(&bench, "rooted", &renamed(&base, |name| format!("{root}{name}")));
        assert_is(&bench.compare(&rooted, &plain), "derived", "copy or cast", "undetermined");
    }
    let other = bert_model(&bench, "other", &renamed(&bert(2), |name| format!("longformer.{name}")));
    assert_ne!(bench.compare(&other, &plain)["related"], true);
}

/// BERT with its attention fused, under the names of Nomic.
fn nomic(bert: &Tensors) -> Tensors {
    let mut tensors = Tensors::new();
    for (name, tensor) in bert {
        let Some((layer, inside)) = name.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.'))
        else {
            tensors.insert(name.replace("embeddings.LayerNorm", "emb_ln"), tensor.clone());
            continue;
        };
        let to = |inside: &str| format!("encoder.layers.{layer}.{inside}.weight");
        let part = |part: &str| &bert[&format!("encoder.layer.{layer}.attention.self.{part}.weight")];
        match inside.trim_end_matches(".weight") {
            "attention.self.query" => {
                let parts: Vec<f32> =
                    ["query", "key", "value"].iter().flat_map(|p| part(p).values()).collect();
                tensors.insert(to("attn.Wqkv"), Tensor::f32(&[3 * 96, 96], &parts));
            }
            "attention.output.dense" => drop(tensors.insert(to("attn.out_proj"), tensor.clone())),
            "attention.output.LayerNorm" => drop(tensors.insert(to("norm1"), tensor.clone())),
            "intermediate.dense" => drop(tensors.insert(to("mlp.fc11"), tensor.clone())),
            "output.dense" => drop(tensors.insert(to("mlp.fc2"), tensor.clone())),
            "output.LayerNorm" => drop(tensors.insert(to("norm2"), tensor.clone())),
            _ => {}
        }
    }
    tensors
}

#[test]
fn fused_attention_of_embedding_models_compares_with_its_parts() {
    let bench = Bench::new();
    let base = bert(1);
    let plain = bert_model(&bench, "plain", &base);
    let nomic = nomic(&base);
    let jina = |name: &str| format!("roberta.{}", name.replace("attn.", "mixer."));
    let gte = |name: &str| {
        let names = [
            ("encoder.layers", "encoder.layer"),
            ("attn.Wqkv", "attention.qkv_proj"),
            ("attn.out_proj", "attention.o_proj"),
            ("norm1", "attn_ln"),
            ("norm2", "mlp_ln"),
            ("mlp.fc11", "mlp.fc1"),
        ];
        let name = names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        format!("new.{name}")
    };
    let prefixed = |name: &str| format!("embedder.{name}");
    for tensors in [nomic.clone(), renamed(&nomic, jina), renamed(&nomic, gte), renamed(&nomic, prefixed)] {
        let fused = bert_model(&bench, "fused", &tensors);
        let answer = bench.compare(&fused, &plain);
        assert_eq!(answer["verdict"], "derived", "{answer:#}");
        assert_ne!(answer["relation"], "depth-pruned", "{answer:#}");
    }
    // Another embedding, the same layers.
    let mut moved = nomic.clone();
    let embedding = bert(2).remove("embeddings.word_embeddings.weight").unwrap();
    moved.insert("embeddings.word_embeddings.weight".into(), embedding);
    let moved = bert_model(&bench, "moved", &moved);
    assert_eq!(bench.compare(&moved, &plain)["verdict"], "derived");
}

#[test]
fn mistrals_own_names_compare_with_everybody_elses() {
    let bench = Bench::new();
    let own = |name: &str| {
        let names = [
            ("model.embed_tokens", "tok_embeddings"),
            ("model.", ""),
            ("self_attn.q_proj", "attention.wq"),
            ("self_attn.k_proj", "attention.wk"),
            ("self_attn.v_proj", "attention.wv"),
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("lm_head", "output"),
        ];
        names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
    };
    let answer = bench.compare(&named(&bench, "consolidated", own), &demo(BASE));
    assert_eq!(answer["verdict"], "derived", "{answer:#}");
    // One expert of a mixture is as good as the plain layer.
    let experts = |name: &str| own(name).replace("feed_forward.", "feed_forward.experts.0.");
    let answer = bench.compare(&named(&bench, "mixture", experts), &demo(BASE));
    assert_eq!(answer["verdict"], "derived", "{answer:#}");
}
