//! Metadata screening (MFI): which pairs of models are worth reading weights for.
//!
//! A config.json says what a model is shaped like, and it is written by whoever uploads the model. Two
//! independent training runs of one recipe agree in all of it, and a derived model may have been relabelled.
//! So this selects candidates and fills a row of the report; no verdict follows from it, whatever the score.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::tokenizer::TokenizerPrint;
use crate::formats::config::{ModelConfig, Quantization};

/// How close two configs are, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Tier {
    /// One family, all stated dimensions equal, and the same vocabulary.
    #[serde(rename = "same architecture, dimensions and tokenizer")]
    SameWithTokenizer,
    /// One family and all stated dimensions equal.
    #[serde(rename = "same architecture and dimensions")]
    Same,
    /// One family, other dimensions.
    #[serde(rename = "same family, other dimensions")]
    Family,
    /// Different families.
    #[serde(rename = "different families")]
    Different,
    /// One of the two does not state its type or its hidden size, or has no config.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Tier {
    /// The name in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameWithTokenizer => "same architecture, dimensions and tokenizer",
            Self::Same => "same architecture and dimensions",
            Self::Family => "same family, other dimensions",
            Self::Different => "different families",
            Self::Unknown => "unknown",
        }
    }
}

/// A field that both configs state, and state differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub field: &'static str,
    /// As a states it.
    pub a: String,
    /// As b states it.
    pub b: String,
}

/// Two configs held against each other. Candidate filter and evidence row only: see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Screening {
    /// How close they are.
    pub tier: Tier,
    /// Weighted agreement of the fields that both state, 0..=1; `None` where there is no such field.
    pub score: Option<f64>,
    /// Fields that entered the score.
    pub compared: usize,
    /// Fields in which they differ, those without weight included.
    pub differing: Vec<Difference>,
    /// One sentence for the report.
    pub text: String,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// How two values of a field agree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    /// 1 where equal, else 0.
    Equal,
    /// Smaller over larger: what pruning and extension change bit by bit.
    Ratio,
}
use Agreement::{Equal, Ratio};

/// A field of a config.
struct Field {
    name: &'static str,
    /// Whether it is one of the dimensions that [`Tier::Same`] asks for. The vocabulary is not: it is the
    /// tokenizer's, and often extended.
    dimension: bool,
    /// 3 for what every derivation keeps and models differ in most; 2 for what only pruning changes; 1 for what
    /// takes few values, or is changed for longer sequences or more tokens; 0 for how a copy is stored.
    weight: f64,
    agreement: Agreement,
    read: fn(&ModelConfig) -> Option<Value>,
}

const fn field(
    name: &'static str,
    dimension: bool,
    weight: f64,
    agreement: Agreement,
    read: fn(&ModelConfig) -> Option<Value>,
) -> Field {
    Field { name, dimension, weight, agreement, read }
}

const FIELDS: [Field; 20] = [
    field("family", false, 3.0, Equal, |c| family(c).map(Value::Text)),
    field("hidden_size", true, 3.0, Equal, |c| number(c.hidden_size)),
    field("layers", true, 2.0, Ratio, |c| number(c.layers)),
    field("encoder_layers", true, 2.0, Ratio, |c| number(c.encoder_layers)),
    field("decoder_layers", true, 2.0, Ratio, |c| number(c.decoder_layers)),
    field("heads", true, 2.0, Equal, |c| number(c.heads)),
    field("kv_heads", true, 1.0, Equal, |c| number(c.key_heads())),
    field("head_dim", true, 1.0, Equal, |c| number(c.head_width())),
    field("intermediate_size", true, 2.0, Ratio, |c| number(c.intermediate_size)),
    field("experts", true, 1.0, Ratio, |c| number(c.experts)),
    field("experts_per_token", false, 1.0, Equal, |c| number(c.experts_per_token)),
    field("vocab_size", false, 1.0, Ratio, |c| number(c.vocab_size)),
    field("max_positions", false, 1.0, Ratio, |c| number(c.max_positions)),
    field("positions", false, 1.0, Equal, |c| c.positions.map(|p| Value::Text(p.name().to_owned()))),
    field("rope_theta", false, 1.0, Equal, |c| c.rope_theta.map(Value::Number)),
    field("norm_eps", false, 1.0, Equal, |c| c.norm_eps.map(Value::Number)),
    field("activation", false, 1.0, Equal, |c| c.activation.clone().map(Value::Text)),
    field("tie_word_embeddings", false, 1.0, Equal, |c| {
        c.tie_word_embeddings.map(|tied| Value::Text(tied.to_string()))
    }),
    field("dtype", false, 0.0, Equal, |c| c.dtype.clone().map(Value::Text)),
    field("quantization", false, 0.0, Equal, |c| Some(Value::Text(quantization(c.quantization.as_ref())))),
];

/// Holds two configs against each other, and the tokenizers where both are known.
pub fn screen(
    a: &ModelConfig,
    b: &ModelConfig,
    tokenizers: Option<(&TokenizerPrint, &TokenizerPrint)>,
) -> Screening {
    let stated: Vec<(&Field, Value, Value)> =
        FIELDS.iter().filter_map(|field| Some((field, (field.read)(a)?, (field.read)(b)?))).collect();
    let weighted: Vec<(f64, f64)> = stated
        .iter()
        .filter(|(field, ..)| field.weight > 0.0)
        .map(|(field, a, b)| (field.weight, agreement(field.agreement, a, b)))
        .collect();
    let weights: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    let sum: f64 = weighted.iter().map(|(weight, agreement)| weight * agreement).sum();

    let differing: Vec<&(&Field, Value, Value)> = stated.iter().filter(|(_, a, b)| a != b).collect();
    let same_dimensions = !differing.iter().any(|(field, ..)| field.dimension);
    let same_vocabulary = tokenizers.map(|(a, b)| a.same_vocabulary(b));
    let tier = match (family(a).zip(family(b)), a.hidden_size.zip(b.hidden_size)) {
        (None, _) | (_, None) => Tier::Unknown,
        (Some((a, b)), _) if a != b => Tier::Different,
        _ if !same_dimensions => Tier::Family,
        _ if same_vocabulary == Some(true) => Tier::SameWithTokenizer,
        _ => Tier::Same,
    };
    let differing: Vec<Difference> = differing
        .into_iter()
        .map(|(field, a, b)| Difference { field: field.name, a: a.to_string(), b: b.to_string() })
        .collect();
    Screening {
        tier,
        score: (!weighted.is_empty()).then(|| sum / weights),
        compared: weighted.len(),
        text: text(tier, same_vocabulary, &differing),
        differing,
    }
}

fn text(tier: Tier, same_vocabulary: Option<bool>, differing: &[Difference]) -> String {
    let tokenizer =
        if same_vocabulary == Some(false) { "another tokenizer" } else { "tokenizers not compared" };
    let finding = match tier {
        Tier::SameWithTokenizer => "Same architecture, dimensions and tokenizer".to_owned(),
        Tier::Same => format!("Same architecture and dimensions, {tokenizer}"),
        Tier::Family => "Same family of architectures, other dimensions".to_owned(),
        Tier::Different => "Different architectures".to_owned(),
        Tier::Unknown => "The configs do not tell both architectures".to_owned(),
    };
    let fields: Vec<String> = differing.iter().map(|d| format!("{} {} and {}", d.field, d.a, d.b)).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
    format!(
        "{finding}{fields}: self-reported metadata, which independent models may share and relatives may not."
    )
}

fn agreement(how: Agreement, a: &Value, b: &Value) -> f64 {
    match (how, a, b) {
        _ if a == b => 1.0,
        (Ratio, Value::Number(a), Value::Number(b)) => a.min(*b) / a.max(*b),
        _ => 0.0,
    }
}

fn number(n: Option<u64>) -> Option<Value> {
    n.map(|n| Value::Number(n as f64))
}

/// The `model_type` without what does not change a tensor's shape or meaning. Under one name are types whose
/// checkpoints convert into each other by renaming, or by leaving out biases that are 0.
fn family(config: &ModelConfig) -> Option<String> {
    let name = config.model_type.as_ref()?.to_lowercase().replace('-', "_");
    let name = name.strip_suffix("_text").unwrap_or(&name);
    Some(match name {
        "mistral" | "ministral" | "qwen2" | "aquila" | "internlm" => "llama".to_owned(),
        "xlm_roberta" | "camembert" => "roberta".to_owned(),
        "mt5" => "t5".to_owned(),
        name => name.to_owned(),
    })
}

/// Method, code, bits and group of a quantisation, in words.
fn quantization(quantization: Option<&Quantization>) -> String {
    let Some(q) = quantization else { return "none".to_owned() };
    let parts = [
        q.method.clone(),
        q.quant_type.clone(),
        q.bits.map(|bits| format!("{bits} bits")),
        q.group_size.map(|size| format!("groups of {size}")),
        (q.symmetric == Some(false)).then(|| "asymmetric".to_owned()),
        (q.desc_act == Some(true)).then(|| "by activation".to_owned()),
        (q.double_quant == Some(true)).then(|| "double".to_owned()),
    ];
    let words: Vec<String> = parts.into_iter().flatten().collect();
    if words.is_empty() { "unnamed".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::{Limits, Tokenizer, TokenizerFiles};
    use crate::signals::tokens::TokenKeys;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo-hub/models");

    fn config(model: &str) -> ModelConfig {
        ModelConfig::parse(&std::fs::read(format!("{FOLDER}/{model}/config.json")).unwrap()).unwrap()
    }

    fn print(model: &str) -> TokenizerPrint {
        let json = std::fs::read(format!("{FOLDER}/{model}/tokenizer.json")).unwrap();
        let files = TokenizerFiles { tokenizer_json: Some(&json), ..TokenizerFiles::default() };
        let tokenizer = Tokenizer::parse(&files, &Limits::default()).unwrap();
        TokenizerPrint::of(&tokenizer, &TokenKeys::of(&tokenizer))
    }

    fn demo(a: &str, b: &str) -> Screening {
        screen(&config(a), &config(b), Some((&print(a), &print(b))))
    }

    const BASE: &str = "lumenworks/stdlib-llama-500k";

    #[test]
    fn independent_runs_of_one_recipe_pass_and_nothing_is_claimed() {
        // Two demo models that share nothing but the recipe.
        let twins = demo(BASE, "basalt-research/basalt-500k");
        assert_eq!((twins.tier, twins.score), (Tier::SameWithTokenizer, Some(1.0)));
        assert!(twins.text.contains("independent models may share"), "{}", twins.text);
        assert!(twins.differing.is_empty() && twins.compared >= 12);
    }

    #[test]
    fn tiers_follow_dimensions_family_and_tokenizer() {
        assert_eq!(demo(BASE, "aurelia-labs/aurelia-mini").tier, Tier::Same);
        assert_eq!(demo(BASE, "tidepool/tide-qwen2-500k").tier, Tier::SameWithTokenizer);
        let pruned = demo(BASE, "tinyforge/stdlib-llama-3layer");
        assert_eq!(pruned.tier, Tier::Family);
        assert_eq!(pruned.differing, [Difference { field: "layers", a: "6".to_owned(), b: "3".to_owned() }]);
        assert!(pruned.score.unwrap() > 0.9 && pruned.score.unwrap() < 1.0);
        assert!(pruned.text.contains("layers 6 and 3"));
        let other = demo(BASE, "lumenworks/stdlib-bert");
        assert_eq!(other.tier, Tier::Different);
        assert!(other.score.unwrap() < 0.5, "{other:?}");
    }

    #[test]
    fn a_longer_vocabulary_keeps_the_dimensions() {
        let extended = demo(BASE, "kestrel-ai/kestrel-code-ext");
        assert_eq!(extended.tier, Tier::Same);
        assert!(extended.text.contains("another tokenizer"));
        assert!(extended.score.unwrap() > 0.99);
        assert!(screen(&config(BASE), &config(BASE), None).text.contains("tokenizers not compared"));
    }

    #[test]
    fn an_absent_config_is_unknown() {
        let absent = screen(&config(BASE), &ModelConfig::default(), None);
        assert_eq!((absent.tier, absent.score, absent.compared), (Tier::Unknown, None, 0));
        assert!(absent.differing.is_empty());
    }

    #[test]
    fn how_a_copy_is_stored_is_listed_without_weight() {
        let (a, mut b) = (config(BASE), config(BASE));
        b.dtype = Some("bfloat16".to_owned());
        b.quantization = Some(Quantization {
            method: Some("gptq".to_owned()),
            bits: Some(4),
            group_size: Some(128),
            ..Quantization::default()
        });
        let screening = screen(&a, &b, None);
        assert_eq!((screening.tier, screening.score), (Tier::Same, Some(1.0)));
        let listed: Vec<_> = screening.differing.iter().map(|d| (d.field, d.b.as_str())).collect();
        assert_eq!(listed, [("dtype", "bfloat16"), ("quantization", "gptq 4 bits groups of 128")]);
    }

    #[test]
    fn families_are_normalised() {
        let named =
            |name: &str| family(&ModelConfig { model_type: Some(name.to_owned()), ..ModelConfig::default() });
        assert_eq!(named("XLM-RoBERTa"), named("roberta"));
        assert_eq!(named("gemma3_text").as_deref(), Some("gemma3"));
        assert_ne!(named("gpt2"), named("gpt_neox"));
    }

    proptest! {
        #[test]
        fn any_two_configs_score_alike_from_both_sides(
            a in proptest::collection::vec(proptest::option::of(any::<u64>()), 6),
            b in proptest::collection::vec(proptest::option::of(any::<u64>()), 6),
            theta in any::<f64>(),
        ) {
            let config = |n: &[Option<u64>]| ModelConfig {
                model_type: Some("x".to_owned()),
                hidden_size: n[0],
                layers: n[1],
                heads: n[2],
                intermediate_size: n[3],
                vocab_size: n[4],
                experts: n[5],
                rope_theta: Some(theta),
                ..ModelConfig::default()
            };
            let (a, b) = (config(&a), config(&b));
            let (there, back) = (screen(&a, &b, None), screen(&b, &a, None));
            prop_assert_eq!((there.tier, there.compared), (back.tier, back.compared));
            let (there, back) = (there.score.unwrap(), back.score.unwrap());
            prop_assert!((0.0..=1.0).contains(&there) && (there - back).abs() < 1e-12, "{there} {back}");
        }
    }
}
