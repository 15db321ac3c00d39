//! Structural relations come from facts of the checkpoint, a copy is equal in everything, and what was not read is said.

use super::*;

/// The base model's tensors with these of its layers, in this order.
fn with_layers(chosen: &[usize]) -> Tensors {
    let base = demo_tensors(BASE);
    let mut tensors: Tensors = base
        .iter()
        .filter(|(name, _)| !name.contains(".layers."))
        .map(|(n, t)| (n.clone(), t.clone()))
        .collect();
    for (new, old) in chosen.iter().enumerate() {
        let (from, to) = (format!("model.layers.{old}."), format!("model.layers.{new}."));
        let of_layer = base.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&from)?, tensor)));
        tensors.extend(of_layer.map(|(inside, tensor)| (format!("{to}{inside}"), tensor.clone())));
    }
    tensors
}

/// The same tensors, with noise of this size relative to the spread of each.
fn noisy(tensors: &Tensors, size: f32) -> Tensors {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut noisy = |tensor: &Tensor| {
        let values = tensor.values();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
        // A uniform value on an interval of length 1 has a deviation of one over the root of 12.
        let changed: Vec<f32> = values.iter().map(|v| v + size * sd * 12f32.sqrt() * uniform()).collect();
        Tensor::f32(&tensor.shape, &changed)
    };
    let mut changed = Tensors::new();
    for (name, tensor) in tensors {
        changed.insert(name.clone(), noisy(tensor));
    }
    changed
}

fn depth(layers: usize) -> Value {
    json!({ "num_hidden_layers": layers })
}

#[test]
fn the_same_tensors_are_a_copy_and_an_unrelated_model_is_none() {
    let bench = Bench::new();
    let copy = bench.model("copy", &demo_tensors(BASE), &json!({}));
    let moved = renamed(&demo_tensors(BASE), |name| format!("module.{name}"));
    let moved = bench.model("moved", &moved, &json!({}));
    let answer = bench.compare(&moved, &copy);
    assert_is(&answer, "derived", "copy or cast", "undetermined");
    for model in answer["models"].as_array().unwrap() {
        assert!(model["coverage"]["share"].as_f64().unwrap() > 0.99, "{model:#}");
    }
    let other = bench.model("other", &demo_tensors(UNRELATED), &json!({}));
    let answer = bench.compare(&other, &copy);
    assert_eq!((&answer["verdict"], &answer["related"]), (&json!("independent"), &json!(false)));
}

#[test]
fn a_stack_built_of_copies_of_layers_is_the_child() {
    let bench = Bench::new();
    for (name, chosen) in [
        ("solar", &[0, 1, 2, 3, 2, 3, 4, 5][..]),
        ("goliath", &[0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]),
        ("one_more", &[0, 1, 2, 3, 4, 5, 5]),
    ] {
        let tensors = with_layers(chosen);
        let deeper = bench.model(name, &tensors, &depth(chosen.len()));
        let answer = bench.compare(&deeper, &demo(BASE));
        assert_is(&answer, "derived", "layers added", "a descends from b");
        let used: Vec<u64> =
            answer["layer_map"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).collect();
        assert_eq!(used, chosen.iter().map(|layer| *layer as u64).collect::<Vec<_>>());
        assert_is(&bench.compare(&demo(BASE), &deeper), "derived", "layers added", "b descends from a");
        let trained = bench.model(&format!("{name}_trained"), &noisy(&tensors, 0.2), &depth(chosen.len()));
        assert_is(&bench.compare(&trained, &demo(BASE)), "derived", "layers added", "a descends from b");
    }
}

#[test]
fn blocks_that_begin_as_copies_and_write_nothing_are_layers_added() {
    let bench = Bench::new();
    let mut tensors = with_layers(&[0, 1, 1, 2, 3, 3, 4, 5, 5]);
    for (name, tensor) in &mut tensors {
        let is_new = ["2", "5", "8"].iter().any(|layer| name.starts_with(&format!("model.layers.{layer}.")));
        if is_new && (name.contains("o_proj") || name.contains("down_proj")) {
            tensor.bytes.fill(0);
        }
    }
    let expanded = bench.model("expanded", &tensors, &depth(9));
    assert_is(&bench.compare(&expanded, &demo(BASE)), "derived", "layers added", "a descends from b");
}

#[test]
fn a_pruned_stack_is_the_child() {
    let bench = Bench::new();
    let pruned = bench.model("pruned", &with_layers(&[0, 2, 3, 5]), &depth(4));
    assert_is(&bench.compare(&pruned, &demo(BASE)), "derived", "depth-pruned", "a descends from b");
}

#[test]
fn layers_whose_names_are_not_known_are_layers_all_the_same() {
    let bench = Bench::new();
    // The matrices of the last three layers under names that nobody knows.
    let tensors = renamed(&demo_tensors(BASE), |name| {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
        match layer {
            Some("3" | "4" | "5") => name.replace("_proj.weight", "_kernel"),
            _ => name.to_owned(),
        }
    });
    let half_known = bench.model("half_known", &tensors, &json!({}));
    let answer = bench.compare(&half_known, &demo(BASE));
    assert_eq!(answer["related"], true);
    assert_ne!(answer["relation"], "depth-pruned");
    assert_ne!(answer["relation"], "copy or cast", "half of it was not read");
    assert_eq!(answer["models"][0]["layers"], 6);
}

#[test]
fn averaged_key_heads_are_no_copy() {
    let bench = Bench::new();
    let mut tensors = demo_tensors(BASE);
    for (name, tensor) in &mut tensors {
        if name.ends_with("k_proj.weight") || name.ends_with("v_proj.weight") {
            let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
            let values = tensor.values();
            let (first, second) = values.split_at(rows / 2 * columns);
            let mean: Vec<f32> = first.iter().zip(second).map(|(x, y)| (x + y) / 2.0).collect();
            *tensor = Tensor::f32(&[rows / 2, columns], &mean);
        }
    }
    let grouped = bench.model("grouped", &tensors, &json!({ "num_key_value_heads": 1 }));
    assert_is(&bench.compare(&grouped, &demo(BASE)), "derived", "width-pruned", "a descends from b");
}

#[test]
fn gains_alone_say_that_models_are_related_and_not_how() {
    let bench = Bench::new();
    let gains = |id: &str| {
        let mut tensors = demo_tensors(id);
        for tensor in tensors.values_mut().filter(|tensor| tensor.shape.len() == 2) {
            (tensor.shape, tensor.bytes) = (vec![0], Vec::new());
        }
        tensors
    };
    let norms = bench.model("norms", &gains(BASE), &json!({}));
    let answer = bench.compare(&norms, &demo(BASE));
    assert_eq!((&answer["related"], &answer["relation"]), (&json!(true), &Value::Null), "{answer:#}");
    assert_eq!(answer["direction"], "undetermined");
    let answer = bench.compare(&norms, &demo(UNRELATED));
    assert_eq!(answer["related"], Value::Null, "{answer:#}");
}

#[test]
fn rows_beyond_the_tokenizer_are_padding() {
    let bench = Bench::new();
    let mut tensors = demo_tensors(BASE);
    let embedding = tensors.get_mut("model.embed_tokens.weight").unwrap();
    let (rows, columns) = (embedding.shape[0], embedding.shape[1]);
    embedding.shape[0] = rows + 64;
    embedding.bytes.extend(vec![0; 64 * columns * embedding.bytes.len() / (rows * columns)]);
    let padded = bench.model("padded", &tensors, &json!({ "vocab_size": rows + 64 }));
    assert_is(&bench.compare(&padded, &demo(BASE)), "derived", "copy or cast", "undetermined");
    assert_is(&bench.compare(&demo(BASE), &padded), "derived", "copy or cast", "undetermined");
}

#[test]
fn a_table_of_embeddings_says_nothing_of_the_layers() {
    let bench = Bench::new();
    let embedding = demo_tensors(BASE).remove("model.embed_tokens.weight").unwrap();
    let table =
        bench.model("table", &[("embedding.weight".to_owned(), embedding.clone())].into(), &json!({}));
    let answer = bench.compare(&table, &demo(BASE));
    assert_eq!(answer["related"], true, "{answer:#}");
    assert_eq!(answer["relation"], Value::Null);
    // Its first dimensions: nothing can be held against the matrices of the other.
    let columns = embedding.shape[1];
    let cut: Vec<f32> =
        embedding.values().chunks(columns).flat_map(|row| row[..columns / 2].to_vec()).collect();
    let cut = Tensor::f32(&[embedding.shape[0], columns / 2], &cut);
    let cut = bench.model("cut", &[("embedding.weight".to_owned(), cut)].into(), &json!({}));
    assert_ne!(bench.compare(&cut, &demo(BASE))["related"], false);
}

/// Tensors that stand beside the language model under names that nobody knows.
fn tower(seed: u64, rows: usize) -> Tensors {
    let mut state = seed;
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..rows * 96).map(|_| value()).collect();
    [("vision_tower.blocks.kernel".to_owned(), Tensor::f32(&[rows, 96], &values))].into()
}

#[test]
fn independent_language_models_with_one_tower_are_not_called_independent() {
    let bench = Bench::new();
    let with = |name: &str, id: &str, tower: &Tensors| {
        let mut tensors = demo_tensors(id);
        tensors.extend(tower.clone());
        bench.model(name, &tensors, &json!({}))
    };
    // A large tower: most of the model was not compared, whatever is in it.
    let large = |seed| tower(seed, 6000);
    let a = with("a", BASE, &large(1));
    for (name, seed) in [("same", 1), ("other", 2)] {
        let answer = bench.compare(&a, &with(name, UNRELATED, &large(seed)));
        assert_eq!(answer["related"], Value::Null, "{name} {answer:#}");
        let why = answer["why"].as_str().unwrap();
        assert!(why.contains("shares nothing") && why.contains("vision_tower"), "{why}");
    }
    // A small one: nine tenths were compared, and the rest is looked at for equal bytes.
    let small = |seed| tower(seed, 300);
    let a = with("b", BASE, &small(1));
    let answer = bench.compare(&a, &with("small_same", UNRELATED, &small(1)));
    assert_eq!(answer["related"], Value::Null, "{answer:#}");
    assert!(answer["why"].as_str().unwrap().contains("equal bytes"), "{answer:#}");
    let answer = bench.compare(&a, &with("small_other", UNRELATED, &small(2)));
    assert_eq!(answer["related"], false, "{answer:#}");
    // What is equal in all that was read and not there is no copy.
    let answer = bench.compare(&a, &with("changed", BASE, &small(2)));
    assert_is(&answer, "derived", "partial fine-tune", "undetermined");
}

/// The base model in a packing that nobody reads: only embedding and gains are as they were.
fn exl3(seed: u64) -> Tensors {
    let mut state = seed;
    let mut tensors = Tensors::new();
    for (name, tensor) in demo_tensors(BASE) {
        let Some(layer) = name.strip_suffix(".weight").filter(|_| name.contains("_proj")) else {
            tensors.insert(name, tensor);
            continue;
        };
        let mut code = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 48) as i16
        };
        let bytes = (0..6 * 6 * 64).flat_map(|_| code().to_le_bytes()).collect();
        let trellis = Tensor { dtype: Dtype::I16, shape: vec![6, 6, 64], bytes };
        tensors.insert(format!("{layer}.trellis"), trellis);
        let ones = |n: usize| Tensor { dtype: Dtype::F16, shape: vec![n], bytes: [0x00, 0x3c].repeat(n) };
        tensors.insert(format!("{layer}.suh"), ones(tensor.shape[1]));
        tensors.insert(format!("{layer}.svh"), ones(tensor.shape[0]));
    }
    tensors
}

#[test]
fn a_packing_that_is_not_read_is_quantised_and_two_of_them_are_not_one_checkpoint() {
    let bench = Bench::new();
    let packed = json!({ "quantization_config": { "quant_method": "exl3" } });
    let of_base = bench.model("of_base", &exl3(1), &packed);
    let of_tuned = bench.model("of_tuned", &exl3(2), &packed);
    let answer = bench.compare(&of_base, &demo(BASE));
    assert_is(&answer, "derived", "quantised", "a descends from b");
    let coverage = &answer["models"][0]["coverage"];
    assert!(coverage["share"].as_f64().unwrap() < 0.9, "{coverage:#}");
    assert_eq!(coverage["rest"][0]["kind"], "unreadable_packing");
    assert!(answer["why"].as_str().unwrap().contains("of the parameters of a were not compared"));
    let answer = bench.compare(&of_base, &of_tuned);
    assert_eq!(answer["related"], true);
    assert_ne!(answer["relation"], "copy or cast", "{answer:#}");

    let mut models = Models::new();
    for (id, folder) in [("o/base", &demo(BASE)), ("o/exl3", &of_base), ("o/tuned-exl3", &of_tuned)] {
        models.add_folder(id, folder);
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    let rows = cli.rows();
    assert_ne!(rows["o/exl3"].sample_digest, rows["o/tuned-exl3"].sample_digest);
    cli.expect(0, &["index", "--db", "DB"]);
    let answer =
        cli.expect(0, &["scan", "--db", "DB", demo(BASE).to_str().unwrap(), "--json"]).lines().remove(0);
    let members = answer["families"][0]["members"].as_array().unwrap();
    let named: Vec<(&Value, &Value)> = members.iter().map(|m| (&m["repo_id"], &m["relation"])).collect();
    assert_eq!(named[0].0, "o/base");
    for member in &members[1..] {
        assert_eq!(
            (&member["relation"], &member["similarity"]),
            (&json!("quantised"), &Value::Null),
            "{member:#}"
        );
        assert_eq!(member["copies"], json!([]));
    }
}

#[test]
fn a_repository_with_a_further_model_is_not_called_independent() {
    let bench = Bench::new();
    let two = bench.folder("two");
    write(&two.join("first.safetensors"), file_of(&demo_tensors(UNRELATED)));
    write(&two.join("second.safetensors"), file_of(&demo_tensors(BASE)));
    let answer = bench.compare(&two, &demo(BASE));
    assert_ne!(answer["related"], false, "{answer:#}");
}

#[test]
fn independent_models_with_one_adapter_beside_them_are_not_called_independent() {
    let bench = Bench::new();
    let adapter =
        |seed: u64| file_of(&renamed(&tower(seed, 40), |_| "base_model.model.lora_A.weight".into()));
    let with = |name: &str, id: &str, seed: u64| {
        let folder = bench.model(name, &demo_tensors(id), &json!({}));
        write(&folder.join("adapter_model.safetensors"), adapter(seed));
        folder
    };
    let a = with("a", BASE, 1);
    assert_eq!(bench.compare(&a, &with("same", UNRELATED, 1))["related"], Value::Null);
    assert_eq!(bench.compare(&a, &with("other", UNRELATED, 2))["related"], false);
}
