//! plan: which files and which byte ranges. Pure code, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::formats::{Dtype, Header, ShardIndex};
use crate::signals::roles::{self, Position, Role, Stack};
use crate::signals::sample;

/// How much of one checkpoint may be read. The defaults keep a 7B model (32 layers, hidden size 4096, 16-bit)
/// below 6 MB and 80 ranges.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanSettings {
    /// Most ranges of tensor data of one checkpoint.
    pub max_ranges: usize,
    /// Most bytes of tensor data of one checkpoint, gaps included.
    pub max_bytes: u64,
    /// Gap up to which two asks become one range, bytes. Reading 32 KB costs less than a round trip.
    pub gap_bytes: u64,
    /// Most shards opened of one checkpoint; each costs one counted Hub request.
    pub max_shards: usize,
    /// Layers whose matrices are sampled.
    pub matrix_layers: usize,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self { max_ranges: 80, max_bytes: 6_000_000, gap_bytes: 32 * 1024, max_shards: 8, matrix_layers: 16 }
    }
}

/// One in so many ranges is kept back from the gains for matrices, where the budget is short.
const MATRIX_SHARE: usize = 8;

/// Where the weights of a repository are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// These files, each complete in itself.
    Files(Vec<String>),
    /// Whatever this index file lists.
    Index(String),
}

/// Why nothing is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No safetensors weights.
    #[error("no safetensors weights{}", found.as_ref().map(|f| format!("; it has {f}")).unwrap_or_default())]
    NoWeights {
        /// A weight file of another format, if there is one.
        found: Option<String>,
    },
    /// No tensor name is in the role table.
    #[error("none of {tensors} tensors has a known role, for example {example:?}")]
    NoRoles {
        /// Number of tensors in the opened files.
        tensors: usize,
        /// One of them.
        example: String,
    },
    /// The index names a file that the repository does not have.
    #[error(
        "the index names {shard:?}, which the repository does not have ({missing} of {shards} shards are missing)"
    )]
    MissingShards {
        /// The first one.
        shard: String,
        /// How many are missing.
        missing: usize,
        /// How many there should be.
        shards: usize,
    },
}

/// Chooses the weight files from a repository's file names.
pub fn weights(files: &[String]) -> Result<Weights, PlanError> {
    let has = |name: &str| files.iter().any(|f| f == name);
    if has("model.safetensors") {
        return Ok(Weights::Files(vec!["model.safetensors".into()]));
    }
    if has("model.safetensors.index.json") {
        return Ok(Weights::Index("model.safetensors.index.json".into()));
    }
    // Other names at the top level: another index, shards without one, or one file. Adapters hold deltas, not
    // weights.
    let top = || files.iter().filter(|f| !f.contains('/') && !f.starts_with("adapter_"));
    if let Some(index) = top().find(|f| f.ends_with(".safetensors.index.json")) {
        return Ok(Weights::Index(index.clone()));
    }
    let mut found: Vec<String> = top().filter(|f| f.ends_with(".safetensors")).cloned().collect();
    found.sort();
    let shards: Vec<String> = found.iter().filter(|f| f.contains("-of-")).cloned().collect();
    if !shards.is_empty() {
        return Ok(Weights::Files(shards));
    }
    if let Some(first) = found.into_iter().next() {
        return Ok(Weights::Files(vec![first]));
    }
    let other = [".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".msgpack", ".ckpt"];
    Err(PlanError::NoWeights { found: files.iter().find(|f| other.iter().any(|e| f.ends_with(e))).cloned() })
}

/// Chooses the shards to open: all, or the ones with embedding and final norm and an even spread of the rest.
/// `files` are the repository's file names.
pub fn shards(
    index: &ShardIndex,
    files: &[String],
    settings: &PlanSettings,
) -> Result<Vec<String>, PlanError> {
    let all = index.shards();
    let present: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let missing: Vec<&String> = all.iter().filter(|s| !present.contains(s.as_str())).collect();
    if let Some(shard) = missing.first() {
        return Err(PlanError::MissingShards {
            shard: (*shard).clone(),
            missing: missing.len(),
            shards: all.len(),
        });
    }
    let ends = index.weight_map.iter().filter_map(|(tensor, shard)| {
        let role = roles::position(tensor)?.role;
        matches!(role, Role::Embedding | Role::FinalNorm).then(|| shard.clone())
    });
    Ok(thin(&all, ends, settings))
}

/// At most `max_shards` of the files: the first ones of `preferred`, then an even spread of the rest.
pub fn thin(all: &[String], preferred: impl Iterator<Item = String>, settings: &PlanSettings) -> Vec<String> {
    let most = settings.max_shards.max(1);
    if all.len() <= most {
        return all.to_vec();
    }
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    for file in preferred.chain(spread(all.len()).map(|i| all[i].clone())) {
        if chosen.len() == most {
            break;
        }
        chosen.insert(file);
    }
    chosen.into_iter().collect()
}

/// The number of layers that tensor names tell of.
pub fn layers<'a>(names: impl Iterator<Item = &'a str>) -> u16 {
    let matrices = names.filter_map(roles::position).filter(|p| p.stack == Stack::Main && p.role.is_matrix());
    matrices.map(|p| p.layer + 1).max().unwrap_or(0)
}

/// One block of rows to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which of the opened files.
    pub file: usize,
    /// What the tensor is.
    pub position: Position,
    /// First row.
    pub start: u64,
    /// Length of a row.
    pub columns: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which of the opened files.
    pub file: usize,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

/// What to read of the opened files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamplePlan {
    /// The blocks.
    pub asks: Vec<Ask>,
    /// The requests that cover them, sorted and disjoint.
    pub fetches: Vec<Fetch>,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
}

/// Plans the reads of one checkpoint from the headers of its opened files.
///
/// Gains come first (all layers, evenly thinned when the budget is short), then the embedding, then matrix
/// blocks of up to `matrix_layers` evenly spaced layers. An ask that would break the budget is left out; one
/// that falls into a range that is read anyway costs nothing.
pub fn sample(headers: &[Header], settings: &PlanSettings) -> Result<SamplePlan, PlanError> {
    let candidates = candidates(headers);
    if candidates.is_empty() {
        let tensors = headers.iter().map(|h| h.tensors.len()).sum();
        let example =
            headers.iter().flat_map(|h| &h.tensors).next().map(|t| t.name.clone()).unwrap_or_default();
        return Err(PlanError::NoRoles { tensors, example });
    }
    let of = |wanted: fn(Role) -> bool| candidates.iter().filter(move |c| wanted(c.position.role));
    let mut by_layer: BTreeMap<u16, Vec<&Ask>> = BTreeMap::new();
    for ask in of(Role::is_matrix) {
        by_layer.entry(ask.position.layer).or_default().push(ask);
    }
    let mut chosen = Chosen { settings, asks: Vec::new(), cost: Cost::default() };
    let gain_ranges = settings.max_ranges - settings.max_ranges / MATRIX_SHARE;

    for ask in of(|r| matches!(r, Role::FinalNorm | Role::EmbeddingNorm | Role::Embedding)) {
        chosen.add(ask, settings.max_ranges);
    }
    let mut gains: BTreeMap<u16, Vec<&Ask>> = BTreeMap::new();
    for ask in of(Role::is_norm) {
        gains.entry(ask.position.layer).or_default().push(ask);
    }
    let gains: Vec<Vec<&Ask>> = gains.into_values().collect();
    for i in spread(gains.len()) {
        gains[i].iter().for_each(|ask| chosen.add(ask, gain_ranges));
    }
    let stack: Vec<Vec<&Ask>> = evenly(by_layer.into_values().collect(), settings.matrix_layers);
    for i in spread(stack.len()) {
        stack[i].iter().for_each(|ask| chosen.add(ask, settings.max_ranges));
    }
    let vocabulary = headers
        .iter()
        .flat_map(|h| &h.tensors)
        .find(|t| {
            roles::position(&t.name).is_some_and(|p| p.stack == Stack::Main && p.role == Role::Embedding)
        })
        .and_then(|t| u32::try_from(t.matrix().0).ok());
    let mut asks = chosen.asks;
    asks.sort_by_key(|a| (a.file, a.bytes.start));
    let fetches = fetches(&asks, settings.gap_bytes);
    Ok(SamplePlan { asks, fetches, vocabulary })
}

/// Every block that could be read, in file order.
fn candidates(headers: &[Header]) -> Vec<Ask> {
    let tensors = || headers.iter().enumerate().flat_map(|(i, h)| h.tensors.iter().map(move |t| (i, t)));
    let positions = roles::positions(tensors().map(|(_, t)| (t.name.as_str(), t.shape.as_slice())));
    let mut asks = Vec::new();
    for ((file, tensor), position) in tensors().zip(positions) {
        // A cell of the database is named by role and layer: encoders and experts have no place there yet.
        let Some(position) = position.filter(|p| p.stack == Stack::Main && p.expert.is_none()) else {
            continue;
        };
        let Some((dtype, size)) = tensor.dtype.and_then(|d| Some((d, d.decodable_bytes()? as u64))) else {
            continue;
        };
        let (rows, columns) = position.matrix(&tensor.shape);
        for block in sample::rows(position, rows, columns) {
            // Inside the tensor, whose end the decoder has checked: cannot overflow.
            let at = |row: u64| tensor.bytes.start + row * columns * size;
            let bytes = at(block.start)..at(block.end);
            asks.push(Ask { file, position, start: block.start, columns: columns as usize, dtype, bytes });
        }
    }
    asks
}

struct Chosen<'a> {
    settings: &'a PlanSettings,
    asks: Vec<Ask>,
    cost: Cost,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    ranges: usize,
    bytes: u64,
}

impl Chosen<'_> {
    /// Takes the ask unless it breaks the budget.
    fn add(&mut self, ask: &Ask, max_ranges: usize) {
        if self.asks.contains(ask) {
            return;
        }
        self.asks.push(ask.clone());
        let covering = fetches(&self.asks, self.settings.gap_bytes);
        let cost = Cost {
            ranges: covering.len(),
            bytes: covering.iter().map(|f| f.bytes.end - f.bytes.start).sum(),
        };
        let more_ranges = cost.ranges > self.cost.ranges;
        if cost.bytes > self.settings.max_bytes || (more_ranges && cost.ranges > max_ranges) {
            self.asks.pop();
        } else {
            self.cost = cost;
        }
    }
}

/// The requests that cover the asks.
fn fetches(asks: &[Ask], gap: u64) -> Vec<Fetch> {
    let mut by_file: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
    for ask in asks {
        by_file.entry(ask.file).or_default().push(ask.bytes.clone());
    }
    by_file
        .into_iter()
        .flat_map(|(file, ranges)| coalesce(&ranges, gap).into_iter().map(move |bytes| Fetch { file, bytes }))
        .collect()
}

/// Merges ranges that touch, overlap or lie at most `gap` apart. The result is sorted and disjoint, covers
/// every ask, and never has more ranges than there are asks. Empty asks are dropped.
pub fn coalesce(asks: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = asks.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// `0..n` in an order whose every prefix is spread evenly: bit-reversed counting.
fn spread(n: usize) -> impl Iterator<Item = usize> {
    let bits = usize::BITS - n.saturating_sub(1).leading_zeros();
    (0..1usize << bits)
        .map(move |i| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) })
        .filter(move |i| *i < n)
}

/// At most `n` evenly spaced items, the first among them. Depends on the count alone, so that two models of one
/// depth are sampled alike.
fn evenly<T>(items: Vec<T>, n: usize) -> Vec<T> {
    let all = items.len();
    if all <= n {
        return items;
    }
    let keep: BTreeSet<usize> = (0..n).map(|i| i * all / n).collect();
    items.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::TensorInfo;

    /// Headers of a Llama with the names, order and shapes that transformers writes, in `shards` equal parts.
    fn llama(layers: u64, d: u64, inner: u64, kv: u64, shards: usize) -> (Vec<Header>, ShardIndex) {
        let mut tensors: Vec<(String, Vec<u64>)> = vec![
            ("lm_head.weight".into(), vec![32000, d]),
            ("model.embed_tokens.weight".into(), vec![32000, d]),
            ("model.norm.weight".into(), vec![d]),
        ];
        for l in 0..layers {
            let p = format!("model.layers.{l:02}").replace(".0", ".");
            let p = if l == 0 { "model.layers.0".to_owned() } else { p };
            for (name, shape) in [
                ("input_layernorm", vec![d]),
                ("mlp.down_proj", vec![d, inner]),
                ("mlp.gate_proj", vec![inner, d]),
                ("mlp.up_proj", vec![inner, d]),
                ("post_attention_layernorm", vec![d]),
                ("self_attn.k_proj", vec![kv, d]),
                ("self_attn.o_proj", vec![d, d]),
                ("self_attn.q_proj", vec![d, d]),
                ("self_attn.v_proj", vec![kv, d]),
            ] {
                tensors.push((format!("{p}.{name}.weight"), shape));
            }
        }
        let per_shard = tensors.len().div_ceil(shards);
        let mut weight_map = BTreeMap::new();
        let headers = tensors
            .chunks(per_shard)
            .enumerate()
            .map(|(i, chunk)| {
                let mut at = 1000;
                let mut chunk = chunk.to_vec();
                chunk.sort();
                let tensors = chunk
                    .into_iter()
                    .map(|(name, shape)| {
                        weight_map
                            .insert(name.clone(), format!("model-{:05}-of-{shards:05}.safetensors", i + 1));
                        let bytes = at..at + shape.iter().product::<u64>() * 2;
                        at = bytes.end;
                        TensorInfo { name, dtype: Some(Dtype::Bf16), shape, bytes }
                    })
                    .collect();
                Header { tensors, metadata: BTreeMap::new(), len: 1000 }
            })
            .collect();
        (headers, ShardIndex { weight_map, total_size: None })
    }

    fn bytes(plan: &SamplePlan) -> u64 {
        plan.fetches.iter().map(|f| f.bytes.end - f.bytes.start).sum()
    }

    #[test]
    fn a_7b_model_stays_within_its_budget() {
        let (headers, _) = llama(32, 4096, 11008, 4096, 1);
        let plan = sample(&headers, &PlanSettings::default()).unwrap();
        assert!(plan.fetches.len() <= 80, "{}", plan.fetches.len());
        assert!(bytes(&plan) <= 6_000_000, "{}", bytes(&plan));
        let count = |wanted: fn(Role) -> bool| plan.asks.iter().filter(|a| wanted(a.position.role)).count();
        assert_eq!(count(|r| r == Role::Embedding), 4);
        assert_eq!(count(Role::is_norm), 65);
        assert!(count(Role::is_matrix) >= 64, "{}", count(Role::is_matrix));
    }

    #[test]
    fn a_small_model_costs_about_a_megabyte() {
        let (headers, _) = llama(24, 896, 4864, 128, 1);
        let plan = sample(&headers, &PlanSettings::default()).unwrap();
        assert!(bytes(&plan) < 2_000_000, "{}", bytes(&plan));
        assert!(plan.fetches.len() <= 80);
    }

    #[test]
    fn a_70b_model_in_30_shards_touches_at_most_eight() {
        let (headers, index) = llama(80, 8192, 28672, 1024, 30);
        let files = index.shards();
        let settings = PlanSettings::default();
        let chosen = shards(&index, &files, &settings).unwrap();
        assert_eq!(chosen.len(), 8);
        assert!(chosen.contains(&index.weight_map["model.embed_tokens.weight"]));
        let opened: Vec<Header> =
            headers.into_iter().zip(&files).filter(|(_, f)| chosen.contains(f)).map(|(h, _)| h).collect();
        let plan = sample(&opened, &settings).unwrap();
        assert!(plan.fetches.len() <= 80 && bytes(&plan) <= 6_000_000);
        assert!(plan.asks.iter().filter(|a| a.position.role.is_matrix()).count() > 30);
        assert_eq!(layers(index.weight_map.keys().map(String::as_str)), 80);
    }

    #[test]
    fn the_choice_does_not_depend_on_shards() {
        let (whole, _) = llama(8, 512, 1024, 512, 1);
        let (parts, _) = llama(8, 512, 1024, 512, 3);
        let key = |plan: SamplePlan| {
            let mut keys: Vec<_> =
                plan.asks.iter().map(|a| (a.position.role, a.position.layer, a.start, a.columns)).collect();
            keys.sort();
            keys
        };
        let settings = PlanSettings::default();
        assert_eq!(key(sample(&whole, &settings).unwrap()), key(sample(&parts, &settings).unwrap()));
    }

    #[test]
    fn weights_by_file_name() {
        let pick = |names: &[&str]| weights(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let files = |names: &[&str]| Ok(Weights::Files(names.iter().map(|n| (*n).to_owned()).collect()));
        assert_eq!(pick(&["a.safetensors", "model.safetensors"]), files(&["model.safetensors"]));
        assert_eq!(
            pick(&["model.safetensors.index.json", "model-00001-of-00001.safetensors"]),
            Ok(Weights::Index("model.safetensors.index.json".into()))
        );
        assert_eq!(
            pick(&["x-00002-of-00002.safetensors", "x-00001-of-00002.safetensors"]),
            files(&["x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"])
        );
        assert_eq!(
            pick(&["config.json", "pytorch_model.bin"]),
            Err(PlanError::NoWeights { found: Some("pytorch_model.bin".into()) })
        );
        assert_eq!(
            pick(&["adapter_model.safetensors"]),
            Err(PlanError::NoWeights { found: Some("adapter_model.safetensors".into()) })
        );
    }

    #[test]
    fn an_index_that_names_missing_shards() {
        let (_, index) = llama(4, 64, 64, 64, 3);
        let mut files = index.shards();
        files.pop();
        assert!(matches!(
            shards(&index, &files, &PlanSettings::default()),
            Err(PlanError::MissingShards { missing: 1, shards: 3, .. })
        ));
    }

    #[test]
    fn unknown_names_are_refused_with_an_example() {
        let tensor = TensorInfo {
            name: "down_blocks.0.weight".into(),
            dtype: Some(Dtype::F16),
            shape: vec![4, 4],
            bytes: 8..40,
        };
        let header = Header { tensors: vec![tensor], metadata: BTreeMap::new(), len: 8 };
        assert!(matches!(
            sample(&[header], &PlanSettings::default()),
            Err(PlanError::NoRoles { tensors: 1, .. })
        ));
    }

    proptest! {
        #[test]
        fn coalescing_covers_and_never_costs_more(
            asks in proptest::collection::vec((0u64..10_000, 0u64..500), 0..40),
            gap in 0u64..300,
        ) {
            let asks: Vec<Range<u64>> = asks.into_iter().map(|(start, len)| start..start + len).collect();
            let merged = coalesce(&asks, gap);
            for ask in asks.iter().filter(|a| a.start < a.end) {
                prop_assert!(merged.iter().any(|m| m.start <= ask.start && ask.end <= m.end));
            }
            for pair in merged.windows(2) {
                prop_assert!(pair[0].end + gap < pair[1].start);
            }
            prop_assert!(merged.len() <= asks.len());
            // Nothing is read that no ask or gap explains.
            for m in &merged {
                prop_assert!(asks.iter().any(|a| a.start == m.start) && asks.iter().any(|a| a.end == m.end));
            }
        }

        #[test]
        fn a_spread_is_a_permutation(n in 0usize..300) {
            let mut all: Vec<usize> = spread(n).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn plans_keep_their_budget(layers in 1u64..60, d in 8u64..600, ranges in 1usize..100, bytes_limit in 1u64..4_000_000) {
            let (headers, _) = llama(layers, d, 3 * d, d, 2);
            let settings = PlanSettings { max_ranges: ranges, max_bytes: bytes_limit, ..PlanSettings::default() };
            let plan = sample(&headers, &settings).unwrap();
            prop_assert!(plan.fetches.len() <= ranges);
            prop_assert!(bytes(&plan) <= bytes_limit);
        }
    }
}
