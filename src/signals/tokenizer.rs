//! Tokenizer features (TFV) and vocabulary overlap (VOA) from a print of fixed size, so that a scan has both
//! without any tokenizer at hand.
//!
//! Both are evidence of a shared tokenizer, not of shared weights: thousands of unrelated models use the
//! tokenizer of Llama.

use serde::{Deserialize, Serialize};

use super::minhash::MinHash;
use super::tokens::{TokenKeys, literal_key};
use crate::formats::tokenizer::{
    Algorithm, Component, Function, Merges, TokenKind, Tokenizer, leading_bytes,
};

/// Prefixes of the merges that are kept, the longest of 2^20.
const PREFIXES: usize = 13;

/// What the database keeps of a tokenizer, 656 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerPrint {
    /// How words are cut.
    pub algorithm: Option<Algorithm>,
    /// Tokens with a key of their own.
    pub tokens: u32,
    /// [`TokenKeys::digest`]: equal for vocabularies that are the same, id by id.
    pub vocabulary: u64,
    /// Of the keys of all tokens.
    pub minhash: MinHash<128>,
    /// Of the keys of added tokens, where the files tell them from learned ones.
    pub added: Option<MinHash<32>>,
    /// The merges of a BPE.
    pub merges: Option<MergesPrint>,
    /// Normaliser, pre-tokeniser, post-processor and decoder, where the files tell.
    pub stages: Option<[StagePrint; 4]>,
    /// Hash of the special token of each [`Function`], in that order.
    pub special: [Option<u64>; Function::ALL.len()],
    /// Whether bytes stand in for unknown text.
    pub byte_fallback: Option<bool>,
    /// Whether text is lower-cased.
    pub lowercase: Option<bool>,
}

/// The merges of a BPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergesPrint {
    /// How many there are.
    pub count: u32,
    /// Of all of them in order.
    pub digest: u64,
    /// Of the first 256, 512, 1024, ...; 0 where there are not as many.
    pub prefixes: [u64; PREFIXES],
}

/// One of the stages around the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePrint {
    /// Of the type names of its steps.
    pub steps: u64,
    /// Of all its settings.
    pub settings: u64,
}

impl From<&Merges> for MergesPrint {
    fn from(merges: &Merges) -> Self {
        let prefixes = std::array::from_fn(|i| merges.prefixes.get(i).copied().unwrap_or(0));
        Self { count: merges.count as u32, digest: leading_bytes(&merges.digest), prefixes }
    }
}

impl From<&Component> for StagePrint {
    fn from(stage: &Component) -> Self {
        Self { steps: literal_key(&stage.steps.join(" ")), settings: leading_bytes(&stage.digest) }
    }
}

/// Estimated overlap of two vocabularies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverlapEstimate {
    /// Jaccard similarity of the sets of tokens, 0..=1.
    pub jaccard: f64,
    /// Its standard error; 0 when the vocabularies are known to be equal.
    pub standard_error: f64,
    /// Share of the smaller vocabulary that lies in the larger, 0..=1.
    pub contained: f64,
    /// Its standard error, that of `jaccard` to first order: large where the sizes differ much.
    pub contained_error: f64,
}

/// The features of two tokenizers held against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Each with its agreement, 0..=1, or `None` where one of the two does not tell.
    pub components: [(&'static str, Option<f64>); 11],
}

/// Weights of the components, in the order of [`Features::components`]. 3 for the merges, which are the trace
/// of one training run on one corpus; 2 for what is chosen among many values; 1 for what is chosen among two or
/// three, or what a fine-tune changes without touching the vocabulary.
const WEIGHTS: [f64; 11] = [1.0, 2.0, 3.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0];

/// Agreement of two stages with the same steps but other settings: transformers writes the settings of one and
/// the same stage differently from version to version.
const SAME_STEPS: f64 = 0.5;

impl Features {
    /// Weighted mean of the components that both tell (TFV), 0..=1; exactly 1 for equal files.
    pub fn score(&self) -> f64 {
        let told = self
            .components
            .iter()
            .zip(WEIGHTS)
            .filter_map(|((_, agreement), w)| Some((agreement.as_ref()?, w)));
        let (sum, weights) =
            told.fold((0.0, 0.0), |(sum, all), (agreement, w)| (sum + agreement * w, all + w));
        // The size of the vocabulary is always told, so the weights are not 0.
        sum / weights
    }
}

impl TokenizerPrint {
    /// Takes the print of a tokenizer; `keys` are its keys.
    pub fn of(tokenizer: &Tokenizer, keys: &TokenKeys) -> Self {
        let structure = tokenizer.structure.as_ref();
        let added = || {
            let tokens = tokenizer.vocabulary.tokens().iter().filter(|t| t.kind != TokenKind::Ordinary);
            MinHash::of(tokens.filter_map(|t| keys.key(t.id)))
        };
        Self {
            algorithm: tokenizer.algorithm,
            tokens: keys.len() as u32,
            vocabulary: keys.digest(),
            minhash: keys.minhash(),
            // vocab.txt holds [MASK] like any other word: only files that tell the structure are believed.
            added: structure.map(|_| added()),
            merges: tokenizer.merges.as_ref().map(MergesPrint::from),
            stages: structure.map(|s| {
                [&s.normaliser, &s.pre_tokeniser, &s.post_processor, &s.decoder].map(StagePrint::from)
            }),
            special: Function::ALL.map(|f| tokenizer.special.get(&f).map(|text| literal_key(text))),
            byte_fallback: tokenizer.byte_fallback,
            lowercase: tokenizer.lowercase,
        }
    }

    /// Whether both have the same tokens with the same ids.
    pub fn same_vocabulary(&self, other: &Self) -> bool {
        self.tokens == other.tokens && self.vocabulary == other.vocabulary
    }

    /// Vocabulary overlap (VOA), estimated; exactly 1 for equal vocabularies.
    pub fn overlap(&self, other: &Self) -> OverlapEstimate {
        if self.same_vocabulary(other) {
            return OverlapEstimate {
                jaccard: 1.0,
                standard_error: 0.0,
                contained: 1.0,
                contained_error: 0.0,
            };
        }
        let (a, b) = (f64::from(self.tokens), f64::from(other.tokens));
        // The smaller set cannot share more than itself.
        let jaccard = self.minhash.jaccard(&other.minhash).min(a.min(b) / a.max(b));
        let standard_error = self.minhash.standard_error(&other.minhash);
        // J = s / (a + b - s) for s shared tokens, so s = (a + b) J / (1 + J).
        let sum_over_smaller = (a + b) / a.min(b);
        OverlapEstimate {
            jaccard,
            standard_error,
            contained: sum_over_smaller * jaccard / (1.0 + jaccard),
            contained_error: sum_over_smaller * standard_error / (1.0 + jaccard).powi(2),
        }
    }

    /// Tokenizer features, one by one.
    pub fn features(&self, other: &Self) -> Features {
        let (a, b) = (self, other);
        let ratio = f64::from(a.tokens.min(b.tokens)) / f64::from(a.tokens.max(b.tokens));
        let stage = |i: usize| Some(stages_agree(a.stages.as_ref()?.get(i)?, b.stages.as_ref()?.get(i)?));
        Features {
            components: [
                ("algorithm", agree(a.algorithm, b.algorithm)),
                ("vocabulary_size", Some(ratio)),
                ("merges", both(a.merges, b.merges).map(|(a, b)| merges_agree(&a, &b))),
                ("normaliser", stage(0)),
                ("pre_tokeniser", stage(1)),
                ("post_processor", stage(2)),
                ("decoder", stage(3)),
                ("special_tokens", special_agree(&a.special, &b.special)),
                ("added_tokens", both(a.added.as_ref(), b.added.as_ref()).map(|(a, b)| a.jaccard(b))),
                ("byte_fallback", agree(a.byte_fallback, b.byte_fallback)),
                ("lowercase", agree(a.lowercase, b.lowercase)),
            ],
        }
    }
}

fn both<T>(a: Option<T>, b: Option<T>) -> Option<(T, T)> {
    Some((a?, b?))
}

/// 1 where equal, else 0.
fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<f64> {
    both(a, b).map(|(a, b)| f64::from(u8::from(a == b)))
}

fn stages_agree(a: &StagePrint, b: &StagePrint) -> f64 {
    match (a.settings == b.settings, a.steps == b.steps) {
        (true, _) => 1.0,
        (false, true) => SAME_STEPS,
        (false, false) => 0.0,
    }
}

/// How far two lists of merges are known to agree from their beginning, as a share of the longer list. An
/// extended vocabulary keeps the merges of its base.
fn merges_agree(a: &MergesPrint, b: &MergesPrint) -> f64 {
    if a.count == b.count && a.digest == b.digest {
        return 1.0;
    }
    let agreeing = a.prefixes.iter().zip(&b.prefixes).take_while(|(a, b)| a == b && **a != 0).count();
    let merges = if agreeing == 0 { 0 } else { Merges::FIRST_PREFIX << (agreeing - 1) };
    merges as f64 / f64::from(a.count.max(b.count).max(1))
}

/// Share of functions with the same token, of those that either has one for. Files that name no special token
/// do not say that there is none.
fn special_agree(a: &[Option<u64>], b: &[Option<u64>]) -> Option<f64> {
    if [a, b].iter().any(|special| special.iter().all(Option::is_none)) {
        return None;
    }
    let told = || a.iter().zip(b).filter(|(a, b)| a.is_some() || b.is_some());
    let agreeing = told().filter(|(a, b)| a == b).count();
    Some(agreeing as f64 / told().count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Limits, TokenizerFiles};

    fn print(model: &str) -> TokenizerPrint {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo-hub/models");
        let read = |name| std::fs::read(format!("{folder}/{model}/{name}")).unwrap();
        let (tokenizer, config) = (read("tokenizer.json"), read("tokenizer_config.json"));
        of(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", &config)])
    }

    fn of(parts: &[(&str, &[u8])]) -> TokenizerPrint {
        let mut files = TokenizerFiles::default();
        for (name, bytes) in parts {
            files.insert(name, bytes);
        }
        let tokenizer = Tokenizer::parse(&files, &Limits::default()).unwrap();
        TokenizerPrint::of(&tokenizer, &TokenKeys::of(&tokenizer))
    }

    fn component(features: &Features, name: &str) -> Option<f64> {
        features.components.iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn a_copy_scores_exactly_1_with_and_without_merges() {
        for (a, b) in [
            ("lumenworks/stdlib-bert", "clearlabel/text-kind-classifier"),
            ("lumenworks/stdlib-llama-500k", "solace-nlp/stdlib-llama-net"),
        ] {
            let (a, b) = (print(a), print(b));
            let features = a.features(&b);
            assert_eq!(features.score(), 1.0, "{features:?}");
            assert!(a.same_vocabulary(&b));
            assert_eq!(a.overlap(&b).jaccard, 1.0);
        }
        let bert = print("lumenworks/stdlib-bert");
        assert_eq!(component(&bert.features(&bert), "merges"), None);
    }

    #[test]
    fn an_extension_is_seen_from_the_prints() {
        let (base, extended) = (print("lumenworks/stdlib-llama-500k"), print("kestrel-ai/kestrel-code-ext"));
        let (overlap, features) = (base.overlap(&extended), base.features(&extended));
        assert!((overlap.jaccard - 1024.0 / 1056.0).abs() < 3.0 * overlap.standard_error);
        assert!((overlap.contained - 1.0).abs() < 3.0 * overlap.contained_error, "{overlap:?}");
        assert!(!base.same_vocabulary(&extended));
        assert!(features.score() > 0.8 && features.score() < 1.0, "{features:?}");
    }

    #[test]
    fn other_tokenizers_score_lower() {
        let llama = print("lumenworks/stdlib-llama-500k");
        let score = |other: &str| llama.features(&print(other)).score();
        let (same_kind, other_kind) = (score("codewren/wren-gpt2"), score("lumenworks/stdlib-bert"));
        assert!(other_kind < 0.4, "{other_kind}");
        assert!(other_kind < same_kind && same_kind < 0.9, "{same_kind}");
    }

    #[test]
    fn what_one_file_does_not_tell_is_left_out() {
        let tokenizer = br###"{"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"the":1,"##re":2}},
            "normalizer":{"type":"BertNormalizer","lowercase":true},"added_tokens":[{"id":0,"content":"[UNK]","special":true}]}"###;
        let whole = of(&[("tokenizer.json", tokenizer)]);
        let plain = of(&[
            ("vocab.txt", b"[UNK]\nthe\n##re"),
            ("tokenizer_config.json", br#"{"do_lower_case":true}"#),
        ]);
        assert!(whole.same_vocabulary(&plain));
        let features = whole.features(&plain);
        assert_eq!(features.score(), 1.0);
        let told: Vec<_> =
            features.components.iter().filter(|(_, a)| a.is_some()).map(|(name, _)| *name).collect();
        assert_eq!(told, ["algorithm", "vocabulary_size", "lowercase"]);
    }

    #[test]
    fn merges_agree_as_far_as_their_prefixes() {
        let prefixes = |own: u64| {
            std::array::from_fn(|i| {
                if i < 2 {
                    7
                } else if i < 3 {
                    own
                } else {
                    0
                }
            })
        };
        let merges = |own| MergesPrint { count: 2000, digest: own, prefixes: prefixes(own) };
        assert_eq!(merges_agree(&merges(1), &merges(1)), 1.0);
        assert_eq!(merges_agree(&merges(1), &merges(2)), 512.0 / 2000.0);
        let none = MergesPrint { count: 3, digest: 5, prefixes: [0; PREFIXES] };
        assert_eq!(merges_agree(&none, &merges(1)), 0.0);
    }

    #[test]
    fn special_tokens_agree_by_function() {
        let (a, b) = ([Some(1), Some(2), None], [Some(1), Some(3), None]);
        assert_eq!(special_agree(&a, &b), Some(0.5));
        assert_eq!(special_agree(&a, &[None; 3]), None);
        assert_eq!(special_agree(&a, &[Some(1), None, Some(4)]), Some(1.0 / 3.0));
    }

    #[test]
    fn a_print_reads_back_and_is_small() {
        let print = print("lumenworks/stdlib-llama-500k");
        let json = serde_json::to_string(&print).unwrap();
        assert_eq!(serde_json::from_str::<TokenizerPrint>(&json).unwrap(), print);
        assert!(std::mem::size_of::<TokenizerPrint>() < 700);
    }
}
