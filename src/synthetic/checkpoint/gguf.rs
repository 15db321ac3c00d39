//! A model as the converter of llama.cpp writes it: its names, its order of rows, its types, its tokenizer in the header.

use super::documents;
use super::placed::{Change, Ggml, Placed, WeightFile, shards};
use super::settings::FileType;
use super::shapes::{Packing, Scheme, Shape};
use super::tensors::{self, Content, Tensor};
use crate::formats::gguf::write::{Put, Shaped, layout};
use crate::formats::gguf::{Kind, adds_one, alternates};

/// What is cut into several files is, so that each can be uploaded.
const MOST_BYTES: u64 = 48_000_000_000;

/// The weight files; `None` for a model whose names are not known here, or one that is packed in another way.
pub(super) fn files(shape: &Shape, kind: FileType) -> Option<Vec<WeightFile>> {
    if !matches!(shape.scheme, Scheme::Llama { .. }) || shape.packing != Packing::Plain {
        return None;
    }
    let architecture = architecture(shape);
    let mut tensors: Vec<(Name, Tensor)> = tensors::of(shape)
        .into_iter()
        .filter(|tensor| !matches!(tensor.content, Content::Frequencies(_)))
        .map(|tensor| Some((Name::of(&tensor.name)?, tensor)))
        .collect::<Option<_>>()?;
    // As they are quantised: what is in no layer first. The converter leaves the order of safetensors.
    if kind == FileType::F16 {
        tensors.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    } else {
        tensors.sort_by(|a, b| (a.0.layer, a.0.inside).cmp(&(b.0.layer, b.0.inside)));
    }
    let placed = tensors.into_iter().map(|(name, tensor)| {
        let ggml = Ggml {
            kind: stored(kind, &name, &tensor, shape.layers)?,
            change: change(architecture, &name, shape),
        };
        Some((name, Placed { tensor, begin: 0, ggml: Some(ggml) }))
    });
    let shards = shards(placed.collect::<Option<Vec<_>>>()?, MOST_BYTES, |(_, placed)| placed.bytes());
    let count = shards.len();
    let all: usize = shards.iter().map(Vec::len).sum();
    let vocabulary = documents::Tokens::of(shape);
    let mut files = Vec::new();
    for (number, shard) in shards.into_iter().enumerate() {
        let mut values =
            if number == 0 { values(architecture, shape, kind, &vocabulary) } else { Vec::new() };
        if count > 1 {
            values.push(("split.no".to_owned(), Put::Short(number as u16)));
            values.push(("split.count".to_owned(), Put::Short(count as u16)));
            values.push(("split.tensors.count".to_owned(), Put::Int(all as i32)));
        }
        let values: Vec<(&str, Put<'_>)> =
            values.iter().map(|(key, put)| (key.as_str(), put.clone())).collect();
        let names: Vec<String> = shard.iter().map(|(name, _)| name.to_string()).collect();
        let shaped = shard.iter().zip(&names).filter_map(|((_, placed), name)| {
            Some(Shaped { name, shape: &placed.tensor.shape, kind: placed.ggml?.kind })
        });
        let layout = layout(&values, &shaped.collect::<Vec<_>>())?;
        let (stem, kind) = (shape.name, kind.name());
        let name = match count {
            1 => format!("{stem}.{kind}.gguf"),
            _ => format!("{stem}.{kind}-{:05}-of-{count:05}.gguf", number + 1),
        };
        let begins = shard.into_iter().zip(layout.begins);
        let tensors = begins.map(|((_, placed), begin)| Placed { begin, ..placed }).collect();
        files.push(WeightFile { name, pieces: vec![(0, layout.header)], tensors, bytes: layout.bytes });
    }
    Some(files)
}

/// llama.cpp has Mistral's models under the name of Llama.
fn architecture(shape: &Shape) -> &'static str {
    if shape.model_type == "mistral" { "llama" } else { shape.model_type }
}

/// What llama.cpp calls a tensor.
struct Name {
    layer: Option<u64>,
    inside: &'static str,
    end: &'static str,
}

impl Name {
    fn of(published: &str) -> Option<Self> {
        let (stem, end) = published.rsplit_once('.')?;
        let end = ["weight", "bias"].into_iter().find(|known| *known == end)?;
        let (layer, stem) = match stem.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, inside)) => (Some(layer.parse().ok()?), inside),
            None => (None, stem),
        };
        let inside = match stem {
            "model.embed_tokens" => "token_embd",
            "model.norm" => "output_norm",
            "lm_head" => "output",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" => "ffn_norm",
            _ => return None,
        };
        Some(Self { layer, inside, end })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "blk.{layer}.")?;
        }
        write!(f, "{}.{}", self.inside, self.end)
    }
}

/// As what a tensor is stored, in the manner of `llama_tensor_get_type`: without what it does for tied heads and for
/// models of 70B. Blocks that do not divide a row are those of Q8_0 instead.
fn stored(file: FileType, name: &Name, tensor: &Tensor, layers: u64) -> Option<&'static Kind> {
    if tensor.shape.len() < 2 {
        return Kind::of_name("F32");
    }
    let is_precise = match (name.inside, name.layer) {
        ("output", _) => true,
        // The first and the last layers, and of the rest every third.
        ("attn_v" | "ffn_down", Some(layer)) if file == FileType::Q4KM => {
            let eighth = layers / 8;
            layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
        }
        _ => false,
    };
    let kind = Kind::of_name(match file {
        FileType::F16 => "F16",
        FileType::Q8_0 => "Q8_0",
        FileType::Q4_0 | FileType::Q4KM if is_precise => "Q6_K",
        FileType::Q4_0 => "Q4_0",
        FileType::Q4KM => "Q4_K",
    })?;
    if tensor.columns().is_multiple_of(kind.elements) { Some(kind) } else { Kind::of_name("Q8_0") }
}

fn change(architecture: &str, name: &Name, shape: &Shape) -> Change {
    match name.inside {
        "attn_q" | "attn_k" if alternates(architecture) => Change::Alternating(shape.hidden / shape.heads),
        inside if inside.ends_with("norm") && adds_one(architecture) => Change::OneMore,
        _ => Change::Nothing,
    }
}

/// The metadata: the model, then its tokenizer.
fn values<'a>(
    architecture: &'static str,
    shape: &Shape,
    kind: FileType,
    tokens: &'a documents::Tokens,
) -> Vec<(String, Put<'a>)> {
    let number = |n: u64| Put::Number(n as u32);
    let own = |key: &str, value| (format!("{architecture}.{key}"), value);
    let all = |key: &str, value| (key.to_owned(), value);
    let head = shape.hidden / shape.heads;
    let mut values = vec![
        all("general.architecture", Put::Text(architecture)),
        all("general.type", Put::Text("model")),
        all("general.name", Put::Text(shape.name)),
        all("general.license", Put::Text(shape.license)),
        own("block_count", number(shape.layers)),
        own("context_length", number(shape.positions)),
        own("embedding_length", number(shape.hidden)),
        own("feed_forward_length", number(shape.inner)),
        own("attention.head_count", number(shape.heads)),
        own("attention.head_count_kv", number(shape.kv_heads)),
        own("attention.key_length", number(head)),
        own("attention.value_length", number(head)),
        own("attention.layer_norm_rms_epsilon", Put::Real(shape.norm_epsilon as f32)),
        own("rope.freq_base", Put::Real(shape.rope_theta as f32)),
        own("rope.dimension_count", number(head)),
        own("vocab_size", number(shape.tokens)),
        all("general.file_type", Put::Number(kind.number())),
        all("general.quantization_version", Put::Number(2)),
        all("tokenizer.ggml.model", Put::Text(if tokens.merges.is_empty() { "llama" } else { "gpt2" })),
        all("tokenizer.ggml.pre", Put::Text("default")),
        all("tokenizer.ggml.tokens", Put::Texts(&tokens.texts)),
    ];
    if tokens.merges.is_empty() {
        values.push(all("tokenizer.ggml.scores", Put::Reals(&tokens.scores)));
    }
    values.push(all("tokenizer.ggml.token_type", Put::Ints(&tokens.kinds)));
    if !tokens.merges.is_empty() {
        values.push(all("tokenizer.ggml.merges", Put::Texts(&tokens.merges)));
    }
    values.extend([
        all("tokenizer.ggml.bos_token_id", Put::Number(1)),
        all("tokenizer.ggml.eos_token_id", Put::Number(2)),
        all("tokenizer.ggml.add_bos_token", Put::Truth(true)),
        all("tokenizer.chat_template", Put::Text(TEMPLATE)),
    ]);
    values
}

/// Some way to lay out a conversation.
const TEMPLATE: &str =
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}";

#[cfg(test)]
mod tests {
    use super::super::shapes::{SHAPES, find};
    use super::super::values::Source;
    use super::*;
    use crate::formats::Limits;
    use crate::formats::gguf::{Decoded, Decoder, Header};

    /// The header, and how long the ranges are that were read for it.
    fn header(file: &WeightFile) -> (Header, Vec<u64>) {
        let mut decoder = Decoder::new(file.bytes, &Limits::default());
        let mut read = Vec::new();
        loop {
            match decoder.step().unwrap() {
                Decoded::Done(header) => return (header, read),
                Decoded::Need(range) => {
                    read.push(range.end - range.start);
                    decoder.give(range.start, &file.read(&range, Source::new(1, None)));
                }
            }
        }
    }

    #[test]
    fn headers_are_read_and_say_where_tensors_lie() {
        for name in ["qwen2.5-0.5b", "gemma-2b", "llama-7b", "llama-3-70b"] {
            for kind in FileType::ALL {
                let shape = find(name).unwrap();
                let files = files(shape, kind).unwrap();
                for file in &files {
                    let (header, read) = header(file);
                    let (bytes, ranges) = (read.iter().sum::<u64>(), read.len());
                    assert!(bytes < 400_000 && ranges <= 12, "{}: {bytes} bytes in {ranges}", file.name);
                    assert_eq!(header.tensors.len(), file.tensors.len());
                    for (read, placed) in header.tensors.iter().zip(&file.tensors) {
                        let end = placed.begin + placed.bytes();
                        assert_eq!((&read.bytes, &read.shape), (&(placed.begin..end), &placed.tensor.shape));
                    }
                }
                let bytes: u64 = files.iter().map(|file| file.bytes).sum();
                assert_eq!(files.len() > 1, bytes > MOST_BYTES, "{name} {kind:?}");
            }
        }
    }

    /// 7B models by `ls -l` of what llama.cpp makes of Llama 2: headers differ by the text of tokens alone.
    #[test]
    fn files_are_as_large_as_published_ones() {
        for (kind, gigabytes) in
            [(FileType::F16, 13.48), (FileType::Q8_0, 7.16), (FileType::Q4_0, 3.83), (FileType::Q4KM, 4.08)]
        {
            let files = files(find("llama-7b").unwrap(), kind).unwrap();
            let found = files.iter().map(|file| file.bytes).sum::<u64>() as f64 / 1e9;
            assert!((found - gigabytes).abs() < 0.01, "{kind:?}: {found}");
        }
    }

    #[test]
    fn what_has_no_names_here_is_none() {
        for shape in SHAPES {
            let is_known = matches!(shape.scheme, Scheme::Llama { .. }) && shape.packing == Packing::Plain;
            assert_eq!(files(shape, FileType::F16).is_some(), is_known, "{}", shape.name);
        }
    }
}
