//! GGUF: files as llama.cpp's converter makes them of a trained model, in several types of ggml.

use half::f16;

use super::*;
use crate::support::files_below;

/// A type of ggml: its number, and how rows are written in it.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    code: u32,
    /// Bytes of 32 values.
    write: fn(&[f32]) -> Vec<u8>,
}

const F16: Kind = Kind { name: "F16", code: 1, write: halves };
const Q4_0: Kind = Kind { name: "Q4_0", code: 2, write: q4_0 };
const Q8_0: Kind = Kind { name: "Q8_0", code: 8, write: q8_0 };

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
}

/// As `quantize_row_q8_0_ref`.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let d = values.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
    let codes = values.iter().map(|v| if d == 0.0 { 0 } else { (v / d).round() as i8 as u8 });
    f16::from_f32(d).to_le_bytes().into_iter().chain(codes).collect()
}

/// As `quantize_row_q4_0_ref`.
fn q4_0(values: &[f32]) -> Vec<u8> {
    let most = values.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
    let d = most / -8.0;
    let code = |v: &f32| if d == 0.0 { 8 } else { (v / d + 8.5).clamp(0.0, 15.0) as u8 };
    let codes: Vec<u8> = values.iter().map(code).collect();
    let (low, high) = codes.split_at(16);
    let bytes = low.iter().zip(high).map(|(low, high)| low | high << 4);
    f16::from_f32(d).to_le_bytes().into_iter().chain(bytes).collect()
}

/// What the converter calls a tensor of Llama.
fn ggml_name(name: &str) -> String {
    let outside =
        [("model.embed_tokens.", "token_embd."), ("model.norm.", "output_norm."), ("lm_head.", "output.")];
    let inside = [
        ("model.layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    outside.iter().chain(&inside).fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

const HEADS: [(&str, usize); 2] = [("attn_q", 4), ("attn_k", 2)];

/// The values of a tensor as the converter writes them: the two halves of the heads of queries and keys alternate.
fn converted(name: &str, tensor: &Tensor) -> Vec<f32> {
    let values = tensor.values();
    let Some((_, heads)) = HEADS.iter().find(|(part, _)| name.contains(part)) else { return values };
    let columns = tensor.shape[1];
    let half = tensor.shape[0] / heads / 2;
    let stored = |row: usize| {
        let (head, within) = (row / (2 * half), row % (2 * half));
        head * 2 * half + within % 2 * half + within / 2
    };
    (0..tensor.shape[0]).flat_map(|row| values[stored(row) * columns..][..columns].to_vec()).collect()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// What the converter says of the base model, and what it was made from.
fn said(base: &str) -> Vec<(&'static str, u32, Vec<u8>)> {
    let number = |n: u32| n.to_le_bytes().to_vec();
    let tokens: Vec<u8> = (0..1024).flat_map(|i| text(&format!("token {i}"))).collect();
    let tokens = [&8u32.to_le_bytes()[..], &1024u64.to_le_bytes(), &tokens].concat();
    let scores = [&6u32.to_le_bytes()[..], &1024u64.to_le_bytes(), &[0; 4096]].concat();
    vec![
        ("general.architecture", 8, text("llama")),
        ("general.base_model.0.repo_url", 8, text(&format!("https://huggingface.co/{base}"))),
        ("llama.block_count", 4, number(6)),
        ("llama.embedding_length", 4, number(96)),
        ("llama.feed_forward_length", 4, number(128)),
        ("llama.attention.head_count", 4, number(4)),
        ("llama.attention.head_count_kv", 4, number(2)),
        ("llama.attention.layer_norm_rms_epsilon", 6, 1e-6f32.to_le_bytes().to_vec()),
        ("llama.rope.freq_base", 6, 1e4f32.to_le_bytes().to_vec()),
        ("tokenizer.ggml.tokens", 9, tokens),
        ("tokenizer.ggml.scores", 9, scores),
    ]
}

/// These tensors as one file.
fn written(tensors: &[(String, Tensor)], kind: Kind, said: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((said.len() as u64).to_le_bytes());
    for (key, of_kind, value) in said {
        file.extend([text(key), of_kind.to_le_bytes().to_vec(), value.clone()].concat());
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, tensor) in tensors {
        let name = ggml_name(name);
        data.resize(data.len().next_multiple_of(32), 0);
        let code = if tensor.shape.len() == 1 { 0 } else { kind.code };
        file.extend([text(&name), (tensor.shape.len() as u32).to_le_bytes().to_vec()].concat());
        file.extend(tensor.shape.iter().rev().flat_map(|n| (*n as u64).to_le_bytes()));
        file.extend([&code.to_le_bytes()[..], &(data.len() as u64).to_le_bytes()].concat());
        let values = converted(&name, tensor);
        if code == 0 {
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        } else {
            data.extend(values.chunks(32).flat_map(kind.write));
        }
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file.resize(file.len().next_multiple_of(32), 0);
    file
}

/// A demo model as one GGUF file.
fn gguf(id: &str, kind: Kind) -> Vec<u8> {
    let tensors: Vec<(String, Tensor)> = demo_tensors(id).into_iter().collect();
    written(&tensors, kind, &said("org/base"))
}

#[test]
fn a_converted_model_is_a_copy_of_the_published_one() {
    let bench = Bench::new();
    let folder = bench.folder("f16");
    write(&folder.join("model-F16.gguf"), gguf(BASE, F16));
    let answer = bench.compare(&folder, &demo(BASE));
    assert_is(&answer, "derived", "copy or cast", "undetermined");
    assert_eq!(answer["models"][0]["coverage"]["parameters"], answer["models"][1]["coverage"]["parameters"]);
    // The file alone, without what stands beside it: what it says of itself is enough.
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    for path in [folder.clone(), folder.join("model-F16.gguf")] {
        let answer = bench.compare(&path, &demo(BASE));
        assert_is(&answer, "derived", "copy or cast", "undetermined");
        assert_eq!(answer["models"][0]["layers"], 6, "{answer:#}");
    }
    let answer = bench.compare(&folder, &demo(UNRELATED));
    assert_eq!(answer["verdict"], "independent", "{answer:#}");
}

#[test]
fn codes_in_blocks_are_a_quantisation() {
    let bench = Bench::new();
    for kind in [Q8_0, Q4_0] {
        let folder = bench.folder(kind.name);
        write(&folder.join(format!("model.{}.gguf", kind.name)), gguf(BASE, kind));
        let answer = bench.compare(&folder, &demo(BASE));
        assert_is(&answer, "derived", "quantised", "a descends from b");
        assert_eq!(answer["models"][0]["dtype"], kind.name, "{answer:#}");
        let answer = bench.compare(&folder, &demo(UNRELATED));
        assert_eq!(answer["verdict"], "independent", "{answer:#}");
    }
}

#[test]
fn a_split_file_is_read_as_a_whole() {
    let bench = Bench::new();
    let folder = bench.folder("split");
    let tensors: Vec<(String, Tensor)> = demo_tensors(BASE).into_iter().collect();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    // What the model is, the first one says alone.
    write(&folder.join("m-Q8_0-00001-of-00002.gguf"), written(first, Q8_0, &said("org/base")));
    write(&folder.join("m-Q8_0-00002-of-00002.gguf"), written(second, Q8_0, &[]));
    for path in [folder.clone(), folder.join("m-Q8_0-00001-of-00002.gguf")] {
        let answer = bench.compare(&path, &demo(BASE));
        assert_is(&answer, "derived", "quantised", "a descends from b");
        let models = &answer["models"];
        assert_eq!(models[0]["coverage"]["parameters"], models[1]["coverage"]["parameters"], "{answer:#}");
    }
}

#[test]
fn repositories_of_quantisations_are_crawled_and_found() {
    let mut models = Models::new();
    for (id, name) in [("org/base", BASE), ("org/other", UNRELATED)] {
        let files: Vec<_> = files_below(&demo(name))
            .into_iter()
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path)))
            .collect();
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .filter(|(name, _)| !name.starts_with('.') && name != "README.md")
            .map(|(name, content)| (name.as_str(), &content[..]))
            .collect();
        models.add(id, &files);
    }
    models
        .add("q/base-GGUF", &[("base.Q8_0.gguf", &gguf(BASE, Q8_0)), ("base.Q4_0.gguf", &gguf(BASE, Q4_0))]);
    models.add("q/other-GGUF", &[("other-f16.gguf", &gguf(UNRELATED, F16))]);
    // Something else under that name, and a file that ends too early.
    let tower = [("v.blk.0.attn_q.weight".to_owned(), Tensor::f32(&[32, 32], &[0.5; 1024]))];
    let clip = written(&tower, F16, &[("general.architecture", 8, text("clip"))]);
    models.add("q/clip", &[("clip.gguf", &clip)]);
    models.add("q/cut", &[("cut.gguf", &gguf(BASE, Q8_0)[..200_000])]);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(1, &[]);
    let rows = cli.rows();
    let row = &rows["q/base-GGUF"];
    let said =
        (row.outcome.name(), row.model_type.as_deref(), row.quantization.as_deref(), row.dtype.as_deref());
    assert_eq!(said, ("indexed", Some("llama"), Some("gguf"), Some("Q8_0")));
    assert_eq!((row.declared_bases.as_slice(), row.weight_files.len()), (&["org/base".to_owned()][..], 1));
    let config = row.config.as_ref().unwrap();
    assert_eq!((config.layers, config.heads, config.rope_theta), (Some(6), Some(4), Some(1e4)));
    let rest = &row.coverage.as_ref().unwrap().rest;
    assert!(rest.iter().any(|rest| rest.what.starts_with("base.Q4_0.gguf: the same model")), "{rest:?}");
    assert_eq!((rows["q/clip"].outcome.name(), rows["q/cut"].outcome.name()), ("unsupported", "malformed"));
    let reason = rows["q/cut"].reason.as_deref().unwrap();
    assert!(reason.starts_with("cut.gguf: the header describes a file of"), "{reason}");
    cli.expect(0, &["index", "--db", "DB"]);
    for (model, found) in [(BASE, "q/base-GGUF"), (UNRELATED, "q/other-GGUF")] {
        let path = demo(model);
        let answer = cli.expect(0, &["scan", "--db", "DB", path.to_str().unwrap(), "--json"]).stdout;
        assert!(answer.contains(found), "{answer}");
    }
}

#[test]
fn twenty_quantisations_cost_one_file() {
    let mut models = Models::new();
    let best = gguf(BASE, Q8_0);
    let other = gguf(BASE, Q4_0);
    let names: Vec<String> = [
        "Q2_K",
        "Q3_K_S",
        "Q3_K_M",
        "Q3_K_L",
        "Q4_0",
        "Q4_1",
        "Q4_K_S",
        "Q4_K_M",
        "Q5_0",
        "Q5_1",
        "Q5_K_S",
        "Q5_K_M",
        "Q6_K",
        "IQ1_S",
        "IQ2_XXS",
        "IQ2_M",
        "IQ3_XS",
        "IQ4_XS",
        "UD-Q4_K_XL",
    ]
    .iter()
    .map(|name| format!("base.{name}.gguf"))
    .collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &other[..])).collect();
    files.push(("base.Q8_0.gguf", &best));
    models.add("q/base-GGUF", &files);
    let hub = Hub::serve(models.path(), &[]);
    let cli = Cli::new(hub.url());
    cli.crawl(0, &[]);
    assert_eq!(hub.counters().requests.resolvers, 1);
    let row = &cli.rows()["q/base-GGUF"];
    assert_eq!(row.weight_files[0].path, "base.Q8_0.gguf");
    let rest = &row.coverage.as_ref().unwrap().rest;
    let [others] = &rest[..] else { panic!("{rest:?}") };
    // Which others there are is kept.
    assert!(names.iter().all(|name| others.what.contains(name.split('.').nth(1).unwrap())), "{rest:?}");
}
