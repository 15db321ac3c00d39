//! What the names of weight files and of their folders tell of the number format that they are in.

/// The words of a name that do not name a number format, and how exact that is which the others name: the most exact
/// first, `None` where none does.
pub(super) type Variant = (String, Option<usize>);

/// Words that name the number format of a variant, as `model.fp16.safetensors` does.
const WORDS: [&str; 12] =
    ["fp32", "f32", "bf16", "fp16", "f16", "half", "fp8", "int8", "8bit", "fp4", "int4", "4bit"];

/// Words that name the floats of ggml.
const FLOATS: [&str; 6] = ["f64", "f32", "fp32", "bf16", "f16", "fp16"];
/// What may follow the number of bits in the name of a quantisation, the most exact first: `Q5_K_M`, `IQ4_XS`, `Q4_0_4_8`.
const SIZES: [&str; 12] = ["xxl", "xl", "l", "k", "m", "s", "1", "0", "nl", "xs", "xxs", "moe"];
/// Orders of `Q4_0` for kernels.
const KERNELS: [&str; 2] = ["4", "8"];
/// Words that stand beside the name of a quantisation and say how it was made.
const MAKINGS: [&str; 6] = ["ud", "i1", "imat", "imatrix", "gguf", "mainline"];

/// The words of a name, in lower case.
pub(super) fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase)
}

/// As the files of most libraries are named: one word of a few.
pub(super) fn of_word(stem: &str) -> Variant {
    let place = |word: &str| WORDS.iter().position(|known| *known == word);
    let said: Vec<String> = words(stem).collect();
    let plain: Vec<&str> = said.iter().map(String::as_str).filter(|word| place(word).is_none()).collect();
    (plain.join("_"), said.iter().find_map(|word| place(word)))
}

/// Words that name the number format of a graph, or the machine or way of running that it was optimised for, the most exact
/// first: those of Optimum, of transformers.js, and of sentence-transformers.
const GRAPHS: [&str; 28] = [
    "fp32",
    "optimized",
    "opt",
    "o1",
    "o2",
    "o3",
    "bf16",
    "fp16",
    "f16",
    "o4",
    "int8",
    "qint8",
    "uint8",
    "quint8",
    "q8",
    "quantized",
    "quant",
    "bnb4",
    "int4",
    "q4",
    "q4f32",
    "q4f16",
    "q2",
    "q2f16",
    "q1",
    "q1f16",
    "merged",
    "past",
];
/// Words that stand beside them.
const BESIDE_GRAPHS: [&str; 10] =
    ["avx", "avx2", "avx512", "vnni", "arm64", "ppc64le", "tensorrt", "cuda", "cpu", "with"];

/// As the graphs of exporters are named: `model_quantized`, `model_qint8_avx512_vnni`, `decoder_model_merged`.
pub(super) fn of_graph(stem: &str) -> Variant {
    let place = |word: &str| GRAPHS.iter().position(|known| *known == word);
    let said: Vec<String> = words(stem).collect();
    let format = said.iter().filter_map(|word| place(word)).max();
    let is_plain = |word: &&str| place(word).is_none() && !(format.is_some() && BESIDE_GRAPHS.contains(word));
    let plain: Vec<&str> = said.iter().map(String::as_str).filter(is_plain).collect();
    (plain.join("_"), format)
}

/// As the files of llama.cpp are named: `model-Q4_K_M`, `model.i1-IQ2_XXS`, `model-UD-Q8_K_XL`, `model-BF16`.
pub(super) fn of_quantisation(stem: &str) -> Variant {
    let said: Vec<String> = words(stem).collect();
    let (mut plain, mut format): (Vec<&str>, _) = (Vec::new(), None);
    let mut rest = &said[..];
    while let Some((word, behind)) = rest.split_first() {
        rest = behind;
        let Some(base) = base(word) else {
            plain.push(word);
            continue;
        };
        let is_size = |word: &&String| SIZES.contains(&word.as_str()) || KERNELS.contains(&word.as_str());
        let sizes = behind.iter().take_while(is_size).count();
        let (sizes, behind) = behind.split_at(if base < FLOATS.len() { 0 } else { sizes });
        rest = behind;
        // Of several the last one says what is in the file.
        format = Some(base + inner(sizes));
    }
    if format.is_some() {
        plain.retain(|word| !MAKINGS.contains(word));
    }
    (plain.join("_"), format)
}

/// Places that the quantisations of one number of bits may take.
const OF_BITS: usize = 100;
/// Of them, those of the types with even steps.
const EVEN: usize = 50;

/// Where the quantisations that begin with this word come among all: floats, then by their bits.
fn base(word: &str) -> Option<usize> {
    if let Some(place) = FLOATS.iter().position(|known| *known == word) {
        return Some(place);
    }
    let of_bits = |bits: usize| FLOATS.len() + (9 - bits) * OF_BITS;
    if matches!(word, "mxfp4" | "nvfp4") {
        return Some(of_bits(4));
    }
    let digit = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let bits = digit.parse().ok().filter(|bits| digit.len() == 1 && (1..=8).contains(bits))?;
    match word.strip_suffix(digit)? {
        "q" => Some(of_bits(bits)),
        "iq" | "tq" => Some(of_bits(bits) + EVEN),
        // `i2_s` of BitNet; `i1` says that an importance matrix was used.
        "i" if bits > 1 => Some(of_bits(bits) + EVEN),
        _ => None,
    }
}

/// The place among those of one number of bits.
fn inner(sizes: &[String]) -> usize {
    // What is said last is finest: `K_M` is below `K_L`.
    let place = |word: &String| SIZES.iter().position(|known| known == word);
    sizes.iter().rev().find_map(place).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisations_by_how_exact_they_are() {
        let names = [
            "F32",
            "BF16",
            "f16",
            "UD-Q8_K_XL",
            "Q8_0",
            "Q6_K_L",
            "Q6_K",
            "q5_k_l",
            "Q5_K_M",
            "Q5_K_S",
            "Q5_1",
            "Q5_0",
            "MXFP4",
            "UD-Q4_K_XL",
            "Q4_K_M",
            "Q4_K_S",
            "Q4_1",
            "Q4_0",
            "IQ4_NL",
            "IQ4_XS",
            "Q3_K_L",
            "Q3_K_S",
            "IQ3_M",
            "i1-IQ3_S",
            "IQ3_XS",
            "IQ3_XXS",
            "Q2_K",
            "IQ2_M",
            "i2_s",
            "IQ2_XXS",
            "IQ1_M",
            "IQ1_S",
        ];
        let found: Vec<Variant> =
            names.iter().map(|name| of_quantisation(&format!("Model-8B.{name}"))).collect();
        assert!(found.iter().all(|(plain, _)| plain == "model_8b"), "{found:?}");
        let places: Vec<usize> = found.iter().map(|(_, place)| place.unwrap()).collect();
        assert!(places.windows(2).all(|pair| pair[0] <= pair[1]), "{places:?}");
    }

    #[test]
    fn what_names_no_format_is_left() {
        for (stem, plain, is_named) in [
            ("ggml-model", "ggml_model", false),
            ("Qwen3-4B-Q4_K_M-imat", "qwen3_4b", true),
            ("Phi-3-mini-4k-instruct-q4", "phi_3_mini_4k_instruct", true),
            ("x-Q4_0_4_8", "x", true),
            ("i1-model", "i1_model", false),
            ("gpt-oss-20b-MXFP4_MOE", "gpt_oss_20b", true),
            ("BF16", "", true),
        ] {
            let (found, format) = of_quantisation(stem);
            assert_eq!((found.as_str(), format.is_some()), (plain, is_named), "{stem}");
        }
        for (stem, plain) in [
            ("model_qint8_avx512_vnni", "model"),
            ("decoder_with_past_model", "decoder_model"),
            ("decoder_model_merged_q4f16", "decoder_model"),
            ("model-cpu", "model_cpu"),
        ] {
            assert_eq!(of_graph(stem).0, plain);
        }
        assert!(of_graph("model").1 < of_graph("model_fp16").1);
        assert!(of_graph("model_fp16").1 < of_graph("model_quantized").1);
        assert_eq!(of_word("model.fp16"), ("model".to_owned(), Some(3)));
    }
}
