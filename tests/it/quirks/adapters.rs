//! Adapters: differences to the weights of another model.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const RANK: usize = 8;
/// Hidden size and layers of the base model.
const HIDDEN: usize = 96;
const LAYERS: usize = 6;

/// Two thin matrices for each layer's query and value projection, as peft names them.
fn lora(seed: u64) -> Tensors {
    lora_of(seed, HIDDEN, LAYERS)
}

fn lora_of(seed: u64, hidden: usize, layers: usize) -> Tensors {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |shape: [usize; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::f32(&shape, &values)
    };
    let mut all = Tensors::new();
    for layer in 0..layers {
        for (module, rows) in [("q_proj", hidden), ("v_proj", 48)] {
            let name = format!("base_model.model.model.layers.{layer}.self_attn.{module}");
            all.insert(format!("{name}.lora_A.weight"), draw([RANK, hidden]));
            all.insert(format!("{name}.lora_B.weight"), draw([rows, RANK]));
        }
    }
    all
}

/// The same products, with the rank space in another basis.
fn turned(adapter: &Tensors) -> Tensors {
    let turn = |name: &String, stored: &Tensor| {
        let values = stored.values();
        let turned: Vec<f32> = if name.contains("lora_A") {
            // The rows in reverse order, each twice as large.
            values.chunks(HIDDEN).rev().flatten().map(|v| 2.0 * v).collect()
        } else {
            values.chunks(RANK).flat_map(|row| row.iter().rev().map(|v| v / 2.0)).collect()
        };
        (name.clone(), Tensor::f32(&stored.shape, &turned))
    };
    adapter.iter().map(|(name, stored)| turn(name, stored)).collect()
}

/// As further training leaves it: most of each matrix, and something else.
fn moved(adapter: &Tensors, seed: u64) -> Tensors {
    let other = lora(seed);
    let moved = |(name, stored): (&String, &Tensor)| {
        let values: Vec<f32> =
            stored.values().iter().zip(other[name].values()).map(|(v, noise)| v + 0.3 * noise).collect();
        (name.clone(), Tensor::f32(&stored.shape, &values))
    };
    adapter.iter().map(moved).collect()
}

/// The same as mlx-lm stores it: without the names of peft around that of the layer, and turned.
fn of_mlx(bench: &Bench, name: &str, adapter: &Tensors) -> PathBuf {
    let stored = adapter.iter().map(|(name, stored)| {
        let name = name.strip_prefix("base_model.model.").unwrap().strip_suffix(".weight").unwrap();
        let (rows, columns, values) = (stored.shape[0], stored.shape[1], stored.values());
        let values: Vec<f32> =
            (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).map(|at| values[at]).collect();
        (name.to_lowercase(), Tensor::f32(&[columns, rows], &values))
    });
    let folder = bench.dir.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join("adapters.safetensors"), file_of(&stored.collect()));
    // As it was after a hundred steps.
    write(&folder.join("0000100_adapters.safetensors"), file_of(&lora(9)));
    let config = json!({"fine_tune_type": "lora", "model": "o/base", "num_layers": LAYERS,
                        "lora_parameters": {"rank": RANK, "scale": 20.0, "dropout": 0.0}});
    write(&folder.join("adapter_config.json"), config.to_string());
    folder
}

fn adapter(bench: &Bench, name: &str, tensors: &Tensors) -> PathBuf {
    let folder = bench.dir.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join("adapter_model.safetensors"), file_of(tensors));
    let config =
        json!({"base_model_name_or_path": "o/base", "revision": "abc", "peft_type": "LORA", "r": RANK});
    write(&folder.join("adapter_config.json"), config.to_string());
    folder
}

#[test]
fn copies_are_told_in_whatever_basis_and_others_are_left_open() {
    let bench = Bench::new();
    let one = adapter(&bench, "one", &lora(1));
    let copy = bench.compare(&one, &adapter(&bench, "turned", &turned(&lora(1))));
    assert_is(&copy, "derived", "copy or cast", "undetermined");
    let facts = &copy["models"][0]["adapter"];
    assert_eq!(
        facts,
        &json!({"rank": 8, "targets": ["q_proj", "v_proj"], "base": "o/base", "revision": "abc"}),
        "{copy:#}"
    );
    assert_eq!(copy["models"][0]["coverage"]["share"], 1.0);
    let of_mlx = bench.compare(&one, &of_mlx(&bench, "mlx", &lora(1)));
    assert_is(&of_mlx, "derived", "copy or cast", "undetermined");
    let facts = &of_mlx["models"][1]["adapter"];
    assert_eq!(
        facts,
        &json!({"rank": 8, "targets": ["q_proj", "v_proj"], "base": "o/base", "revision": null})
    );
    let other = bench.compare(&one, &adapter(&bench, "other", &lora(2)));
    assert_eq!((&other["related"], &other["relation"]), (&Value::Null, &Value::Null), "{other:#}");
    assert!(other["why"].as_str().unwrap().starts_with("Both are adapters."), "{other:#}");
    let base = bench.compare(&one, &demo(BASE));
    assert_eq!(base["related"], Value::Null, "{base:#}");
    let why = base["why"].as_str().unwrap();
    assert!(why.starts_with("a is an adapter") && why.contains("It fits the shapes of b"), "{base:#}");
    let wide = bench.compare(&adapter(&bench, "wide", &lora_of(1, 128, LAYERS)), &demo(BASE));
    assert!(
        wide["why"].as_str().unwrap().contains("does not fit b, which is a model: hidden size 128"),
        "{wide:#}"
    );
}

#[test]
fn an_adapter_has_a_row_that_says_what_it_changes() {
    let bench = Bench::new();
    let one = adapter(&bench, "one", &lora(1));
    let copy = adapter(&bench, "copy", &turned(&lora(1)));
    let other = adapter(&bench, "other", &lora(2));
    let mut prompt = Tensors::new();
    prompt.insert("prompt_embeddings".into(), Tensor::f32(&[16, 96], &[0.5; 16 * 96]));
    let prompt = adapter(&bench, "prompt", &prompt);
    // A model with its adapter beside it.
    let merged = bench.model("merged", &demo_tensors(BASE), &json!({}));
    std::fs::copy(one.join("adapter_model.safetensors"), merged.join("adapter_model.safetensors")).unwrap();
    let more = adapter(&bench, "more", &moved(&lora(1), 3));
    let deep = adapter(&bench, "deep", &lora_of(1, HIDDEN, LAYERS + 1));
    let mut models = Models::new();
    for (id, folder) in [
        ("o/base", &demo(BASE)),
        ("o/one", &one),
        ("o/copy", &copy),
        ("o/more", &more),
        ("o/other", &other),
        ("o/prompt", &prompt),
        ("o/merged", &merged),
    ] {
        models.add_folder(id, folder);
    }
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &["--all-small-files"]);
    let rows = cli.rows();
    let names: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["o/base", "o/copy", "o/merged", "o/merged[adapter]", "o/more", "o/one", "o/other", "o/prompt"]
    );
    let facts = rows["o/one"].adapter.as_ref().unwrap();
    assert_eq!(
        (facts.rank, facts.base.as_deref(), facts.revision.as_deref()),
        (8, Some("o/base"), Some("abc"))
    );
    assert_eq!(facts.targets, ["q_proj", "v_proj"]);
    assert_eq!(rows["o/merged"].adapter, None);
    assert_eq!(rows["o/merged[adapter]"].weights_digest, rows["o/one"].weights_digest);
    let reason = rows["o/prompt"].reason.as_deref().unwrap();
    assert!(reason.contains("prompt tuning"), "{reason}");

    cli.expect(0, &["index", "--db", "DB"]);
    let scan = |model: &Path| {
        cli.expect(0, &["scan", "--db", "DB", model.to_str().unwrap(), "--json"]).lines().remove(0)
    };
    let answer = scan(&one);
    assert_eq!(answer["adapter"]["rank"], 8);
    let families = answer["families"].as_array().unwrap();
    assert_eq!(families.len(), 1, "{answer:#}");
    let members = families[0]["members"].to_string() + &families[0]["root"].to_string();
    assert!(members.contains("o/copy") && members.contains("o/merged"), "{members}");
    assert!(!members.contains("o/other") && !members.contains("o/more"), "{members}");
    // A continuation is found, and whether it is one is not told.
    let undecided: Vec<&Value> =
        answer["undecided"].as_array().unwrap().iter().map(|c| &c["repo_id"]).collect();
    assert_eq!(undecided, ["o/more"], "{answer:#}");
    assert!(answer["undecided"][0]["similarity"].as_f64().unwrap() > 0.8, "{answer:#}");
    assert_eq!(answer["undecided"][0]["related"], Value::Null);
    assert_eq!(answer["adapter_base"], json!({"repo_id": "o/base", "fits": true, "misfit": null}));
    assert_eq!(
        scan(&deep)["adapter_base"],
        json!({"repo_id": "o/base", "fits": false, "misfit": "7 layers where the model has 6"})
    );
    // What the base is to them, nobody has measured.
    assert!(!scan(&demo(BASE))["families"].to_string().contains("o/one"));
}
