//! plan: which files and which byte ranges. Pure code, no I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::formats::packed::{self, Facts, Form, Located, Packing, States, Tensors};
use crate::formats::tokenizer::files_to_read;
use crate::formats::{Dtype, Header, ShardIndex, TensorInfo};
use crate::signals::roles::{self, Layout, Position, Role, Stack};
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
    /// What to read beyond the canonical sample, which the database never needs.
    #[serde(skip)]
    pub detail: Option<Detail>,
}

/// What a comparison reads beyond the canonical sample.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Layers whose matrices are read in more rows.
    pub layers: usize,
    /// Most embedding rows read by token: the tokens are chosen so that any two vocabularies choose the same.
    pub tokens: usize,
    /// Most ranges in all.
    pub max_ranges: usize,
    /// Most bytes in all.
    pub max_bytes: u64,
}

impl Default for Detail {
    fn default() -> Self {
        Self { layers: 2, tokens: 512, max_ranges: 600, max_bytes: 24_000_000 }
    }
}

impl PlanSettings {
    /// The plan of a comparison: the canonical sample, and more rows where they tell something.
    pub fn detailed() -> Self {
        Self { detail: Some(Detail::default()), ..Self::default() }
    }
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            max_ranges: 80,
            max_bytes: 6_000_000,
            gap_bytes: 32 * 1024,
            max_shards: 8,
            matrix_layers: 16,
            detail: None,
        }
    }
}

/// One in so many ranges is kept back from the gains for matrices, where the budget is short.
const MATRIX_SHARE: usize = 8;
/// One in so many ranges may be for states of bitsandbytes: behind each come two more, of codes and of scales.
const STATE_SHARE: usize = 3;
/// Longest state that is read, bytes. The library writes some 170.
const MAX_STATE: u64 = 4096;
/// Most bytes of a matrix that must be read whole: the keys of Llama 3 8B in GPTQ's 4 bits have 2.2 MB.
const WHOLE_BYTES: u64 = 2_250_000;
/// Layers in which such matrices are read: the first one and the middle one.
const WHOLE_LAYERS: usize = 2;

/// Elements of a block where tensors are read whole: 4 MB in F32.
const WHOLE_BLOCK: u64 = 1 << 20;

/// Most layers whose gains are asked for. Public models have at most 126; planning costs the square of it.
const GAIN_LAYERS: usize = 256;

/// Where the weights of a repository are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// These files, in the order of the model.
    Files(Vec<String>),
    /// Whatever this index file lists.
    Index(String),
}

/// Which of the small files beside the weights are read. Each costs one or two counted requests, and reading
/// config.json is counted by the Hub as a download of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmallFiles {
    /// config.json and the tokenizer.
    #[default]
    All,
    /// config.json, where the weights are packed or not all shards are opened: it says how, and how deep the model is.
    /// Else dimensions come from the tensors, the type of the model from the list.
    Needed,
}

/// Why nothing is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Only metadata was asked for.
    #[error("the weights were not asked for")]
    NotAsked,
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

/// Chooses the weight files from a repository's file names. An index is named only where the names leave open which
/// files belong together: it costs a request, and of the largest models it is larger than all that is read of them.
pub fn weights(files: &[String]) -> Result<Weights, PlanError> {
    let has = |name: &str| files.iter().any(|f| f == name);
    if has("model.safetensors") {
        return Ok(Weights::Files(vec!["model.safetensors".into()]));
    }
    // Other names at the top level: an index, shards, or one file. Adapters hold deltas, not weights.
    let top = || files.iter().filter(|f| !f.contains('/') && !f.starts_with("adapter_"));
    let index = Some("model.safetensors.index.json".to_owned())
        .filter(|name| has(name))
        .or_else(|| top().find(|f| f.ends_with(".safetensors.index.json")).cloned());
    if let Some(index) = index {
        let prefix = index.strip_suffix(".safetensors.index.json").unwrap_or_default();
        return Ok(complete_set(files, prefix).map_or(Weights::Index(index), Weights::Files));
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

/// The files `PREFIX-00001-of-0000N.safetensors` to `PREFIX-0000N-of-0000N.safetensors`, where all are there, and no
/// shard of another set is.
fn complete_set(files: &[String], prefix: &str) -> Option<Vec<String>> {
    let number = |file: &String| {
        let (number, of) = file.strip_prefix(prefix)?.strip_prefix('-')?.split_once("-of-")?;
        Some((number.parse::<usize>().ok()?, of.strip_suffix(".safetensors")?.parse::<usize>().ok()?))
    };
    let mut shards: Vec<((usize, usize), &String)> =
        files.iter().filter_map(|file| Some((number(file)?, file))).collect();
    shards.sort();
    let of = shards.len();
    let is_complete = shards.iter().zip(1..).all(|((found, _), number)| *found == (number, of));
    (of > 0 && is_complete).then(|| shards.into_iter().map(|(_, file)| file.clone()).collect())
}

/// Requests to the Hub that reading a repository with these files takes, as far as their names tell: one a file, and
/// two for each of the tokenizer, which the Hub answers with a redirect to itself unless they are large.
pub fn requests(files: &[String], settings: &PlanSettings, small: SmallFiles) -> u64 {
    let has = |name: &str| files.iter().any(|f| f == name);
    let most = settings.max_shards.max(1);
    let shards = || files.iter().filter(|f| f.contains("-of-") && f.ends_with(".safetensors")).count();
    let (weights, is_whole) = match weights(files) {
        Ok(Weights::Files(paths)) => (paths.len().min(most) as u64, paths.len() <= most),
        Ok(Weights::Index(_)) => (1 + shards().min(most) as u64, shards() <= most),
        Err(_) => (0, true),
    };
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let tokenizer = 2 * files_to_read(&names).into_iter().filter(|name| has(name)).count() as u64;
    let beside = match small {
        SmallFiles::All => u64::from(has("config.json")) + tokenizer,
        SmallFiles::Needed => u64::from(!is_whole && has("config.json")),
    };
    weights + beside
}

/// Whether weights with these headers can only be read with what config.json says of how they are packed.
pub fn needs_config(headers: &[Header]) -> bool {
    // No layout packs into plain floats or into 64 bits; buffers of other types have no role.
    let is_odd = |t: &&TensorInfo| !t.dtype.is_some_and(|d| d.is_plain_float() || d.bits() >= 64);
    headers
        .iter()
        .flat_map(|header| header.tensors.iter().filter(is_odd))
        .any(|tensor| roles::position(&packed::plain_name(&tensor.name)).is_some())
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
    let position = |name| roles::position(name).or_else(|| roles::position(&packed::plain_name(name)));
    names
        .filter_map(position)
        .filter(|p| p.is_main() && p.role.is_matrix())
        .map(|p| p.layer + 1)
        .max()
        .unwrap_or(0)
}

/// One block of rows to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What the weight is.
    pub position: Position,
    /// First row.
    pub start: u64,
    /// Rows of the whole weight.
    pub tensor_rows: u64,
    /// Length of a row.
    pub columns: usize,
    /// How the bytes become values.
    pub decoding: Decoding,
    /// Where the bytes are: one piece of a plain tensor, several of a packed weight.
    pub pieces: Vec<Fetch>,
    /// Whether the database has it too, and not a comparison alone.
    pub canonical: bool,
}

impl Ask {
    /// Tells asks of one position and first row apart: the last byte, or the last row where several rows need
    /// the same bytes.
    fn end(&self) -> u64 {
        match &self.decoding {
            Decoding::Plain(_) => self.pieces.last().map_or(0, |piece| piece.bytes.end),
            Decoding::Packed(_, rows) => rows.end,
        }
    }
}

/// How the bytes of a block become values.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoding {
    /// Elements, one after the other.
    Plain(Dtype),
    /// These rows of a packed matrix.
    Packed(Arc<Packing>, Range<u64>),
}

impl Decoding {
    /// The values of a block whose pieces hold these bytes; why there are none in the words of a report.
    pub fn decode(&self, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        match (self, pieces) {
            (Self::Plain(dtype), [bytes]) => {
                dtype.decode(bytes).ok_or_else(|| format!("{} is not read", dtype.name()))
            }
            (Self::Plain(_), _) => Err("not in one piece".into()),
            (Self::Packed(packing, rows), _) => {
                packing.decode(rows.clone(), pieces).map_err(|error| error.to_string())
            }
        }
    }

    /// The name of the type in reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Packed(packing, _) => &packing.name,
        }
    }
}

/// Bytes of one of the opened files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which of the opened files.
    pub file: usize,
    /// Bytes in the file.
    pub bytes: Range<u64>,
}

/// What to read of the opened files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplePlan {
    /// The blocks.
    pub asks: Vec<Ask>,
    /// The requests that cover them, sorted and disjoint.
    pub fetches: Vec<Fetch>,
    /// Why weights of these roles are not asked for; others of the same role may be.
    pub unreadable: BTreeMap<Role, String>,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
}

/// The states of bitsandbytes that must be read before [`sample()`], one small range each: those of whole layers
/// in the order in which their matrices are sampled, as far as a part of the budget goes.
pub fn states(headers: &[Header], facts: &Facts, settings: &PlanSettings) -> Vec<Fetch> {
    let contents = Contents::of(headers, facts, &States::new());
    let layers = contents.sampled_layers(settings.matrix_layers);
    let mut wanted = Vec::new();
    for i in spread(layers.len()) {
        let of_layer = contents.waiting.iter().filter(|(p, _)| p.layer == layers[i]);
        let of_layer = of_layer.map(|(_, at)| Fetch { file: at.file, bytes: at.tensor.bytes.clone() });
        let of_layer: Vec<Fetch> = of_layer.filter(|f| f.bytes.end - f.bytes.start <= MAX_STATE).collect();
        if wanted.len() + of_layer.len() > settings.max_ranges / STATE_SHARE {
            break;
        }
        wanted.extend(of_layer);
    }
    wanted
}

/// Plans the reads of one checkpoint from the headers of its opened files, what config.json says of packed
/// weights, and the [`states`] that were read; those count as ranges.
///
/// Gains come first (all layers, evenly thinned when the budget is short), then the embedding, then matrix
/// blocks of up to `matrix_layers` evenly spaced layers. An ask that would break the budget is left out; one
/// that falls into a range that is read anyway costs nothing. With [`PlanSettings::detail`], more rows of a few
/// layers follow, and the embedding rows of `tokens`, within the larger budget.
pub fn sample(
    headers: &[Header],
    facts: &Facts,
    states: &States,
    settings: &PlanSettings,
    tokens: &[u64],
) -> Result<SamplePlan, PlanError> {
    let contents = Contents::of(headers, facts, states);
    let layers = contents.sampled_layers(settings.matrix_layers);
    let few: BTreeSet<u16> = evenly(layers.clone(), WHOLE_LAYERS).into_iter().collect();
    let all = contents.candidates(true, |weight, position, rows| {
        // Where a row costs the whole matrix, rows of every matrix would cost the whole model. Keys and values
        // are the smallest, and rows of two layers tell a copy.
        let affordable = few.contains(&position.layer) && matches!(position.role, Role::Key | Role::Value);
        if weight.is_strided() && !affordable {
            Vec::new()
        } else {
            sample::rows(position, rows, weight.columns)
        }
    });
    if all.is_empty() {
        let tensors = headers.iter().map(|h| h.tensors.len()).sum();
        let example =
            headers.iter().flat_map(|h| &h.tensors).next().map(|t| t.name.clone()).unwrap_or_default();
        return Err(PlanError::NoRoles { tensors, example });
    }
    let of = |wanted: fn(Role) -> bool| all.iter().filter(move |c| wanted(c.position.role));
    let mut chosen = Chosen {
        gap: settings.gap_bytes,
        max_bytes: settings.max_bytes,
        asks: Vec::new(),
        taken: HashSet::new(),
        covering: BTreeMap::new(),
        bytes: 0,
    };
    let left = |ranges: usize| ranges.saturating_sub(states.len());
    let max_ranges = left(settings.max_ranges);
    let gain_ranges = max_ranges - max_ranges / MATRIX_SHARE;

    for ask in of(|r| matches!(r, Role::FinalNorm | Role::EmbeddingNorm | Role::Embedding)) {
        chosen.add(ask, max_ranges);
    }
    let mut gains: BTreeMap<u16, Vec<&Ask>> = BTreeMap::new();
    for ask in of(Role::is_norm) {
        gains.entry(ask.position.layer).or_default().push(ask);
    }
    let gains: Vec<Vec<&Ask>> = evenly(gains.into_values().collect(), GAIN_LAYERS);
    for i in spread(gains.len()) {
        gains[i].iter().for_each(|ask| chosen.add(ask, gain_ranges));
    }
    for i in spread(layers.len()) {
        of(Role::is_matrix)
            .filter(|a| a.position.layer == layers[i])
            .for_each(|ask| chosen.add(ask, max_ranges));
    }
    if let Some(detail) = &settings.detail {
        chosen.max_bytes = detail.max_bytes;
        let layers: BTreeSet<u16> = evenly(layers, detail.layers).into_iter().collect();
        let in_detail = contents.candidates(false, |weight, p, rows| {
            let more = sample::detail(p, rows, weight.columns);
            more.filter(|_| layers.contains(&p.layer)).into_iter().collect()
        });
        let by_token = contents.candidates(false, |_, p, rows| {
            let ids = tokens.iter().take(detail.tokens).filter(|id| p.role == Role::Embedding && **id < rows);
            ids.map(|id| *id..*id + 1).collect()
        });
        for ask in in_detail.iter().chain(&by_token) {
            chosen.add(ask, left(detail.max_ranges));
        }
    }
    let embedding = contents.weights.iter().find(|w| w.position.role == Role::Embedding);
    let vocabulary = embedding.and_then(|w| u32::try_from(w.rows).ok());
    let mut asks = chosen.asks;
    asks.sort_by_key(|a| a.pieces.first().map(|piece| (piece.file, piece.bytes.start)));
    let fetches = fetches(&asks, settings.gap_bytes);
    Ok(SamplePlan { asks, fetches, unreadable: contents.unreadable, vocabulary })
}

/// Every row of every weight that has a role, in blocks of about a million elements.
pub fn whole(headers: &[Header], facts: &Facts, states: &States) -> Vec<Ask> {
    Contents::of(headers, facts, states).candidates(false, |weight, _, rows| {
        let step = (WHOLE_BLOCK / weight.columns.max(1)).max(1);
        (0..rows.div_ceil(step)).map(|i| i * step..rows.min((i + 1) * step)).collect()
    })
}

/// What the opened files hold.
struct Contents<'a> {
    /// In file order.
    weights: Vec<Weight<'a>>,
    /// Weights that are not known before this tensor has been read.
    waiting: Vec<(Position, Located<'a>)>,
    unreadable: BTreeMap<Role, String>,
    /// Layers with matrices, readable or not: copies of one model are sampled alike.
    layers: BTreeSet<u16>,
}

/// A weight that has a role and can be decoded.
struct Weight<'a> {
    position: Position,
    rows: u64,
    columns: u64,
    source: Source<'a>,
}

enum Source<'a> {
    Plain { at: Located<'a>, dtype: Dtype },
    Packed { tensors: Tensors<'a>, packing: Arc<Packing> },
}

impl Weight<'_> {
    /// Whether a row costs the whole matrix.
    fn is_strided(&self) -> bool {
        matches!(&self.source, Source::Packed { packing, .. } if packing.is_strided())
    }

    /// First of its bytes.
    fn place(&self) -> Option<(usize, u64)> {
        let at = match &self.source {
            Source::Plain { at, .. } => Some(at),
            Source::Packed { tensors, .. } => tensors.values().next(),
        };
        at.map(|at| (at.file, at.tensor.bytes.start))
    }

    /// How these rows are decoded, and the bytes that it takes.
    fn read(&self, rows: Range<u64>) -> Option<(Decoding, Vec<Fetch>)> {
        let piece = |at: &Located<'_>, bytes: Range<u64>| {
            let begin = at.tensor.bytes.start;
            Fetch { file: at.file, bytes: begin + bytes.start..begin + bytes.end }
        };
        match &self.source {
            Source::Plain { at, dtype } => {
                // Inside the tensor, whose end the decoder has checked: cannot overflow.
                let size = self.columns * dtype.bits() / 8;
                Some((Decoding::Plain(*dtype), vec![piece(at, rows.start * size..rows.end * size)]))
            }
            Source::Packed { tensors, packing } => {
                let ranges = packing.ranges(&rows).ok()?.into_iter();
                let pieces =
                    ranges.map(|r| Some(piece(tensors.get(r.suffix)?, r.bytes))).collect::<Option<_>>()?;
                Some((Decoding::Packed(Arc::clone(packing), rows), pieces))
            }
        }
    }
}

impl<'a> Contents<'a> {
    /// Of the experts of a layer the first is read, and the one that sees every token.
    fn of(headers: &'a [Header], facts: &Facts, states: &States) -> Self {
        let stored = packed::stored(headers, facts, states);
        let positions = roles::positions(stored.iter().map(|s| (&*s.name, &*s.shape)));
        let mut contents = Self {
            weights: Vec::new(),
            waiting: Vec::new(),
            unreadable: BTreeMap::new(),
            layers: BTreeSet::new(),
        };
        for (stored, position) in stored.into_iter().zip(positions) {
            let Some(position) = position.filter(|p| matches!(p.expert, None | Some(0 | Position::SHARED)))
            else {
                continue;
            };
            if position.role.is_matrix() {
                contents.layers.insert(position.layer);
            }
            if let Err(reason) = contents.add(position, &stored.shape, stored.form) {
                contents.unreadable.entry(position.role).or_insert(reason);
            }
        }
        contents.weights.sort_by_key(Weight::place);
        contents
    }

    /// Takes a weight; the reason where it is not read.
    fn add(&mut self, position: Position, shape: &[u64], form: Form<'a>) -> Result<(), String> {
        let (rows, columns) = position.matrix(shape);
        let source = match form {
            Form::Plain(at) => {
                let dtype = at
                    .tensor
                    .dtype
                    .filter(|d| d.decodable_bytes().is_some())
                    .ok_or("of a type that is not read")?;
                // Of a stack of no experts there is no first one.
                let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(dtype.bits() / 8));
                if bytes.is_none_or(|n| n > at.tensor.bytes.end - at.tensor.bytes.start) {
                    return Err("an empty tensor".into());
                }
                Source::Plain { at, dtype }
            }
            Form::Packed(packing, tensors) => {
                if packing.is_strided() {
                    let costs_whole = format!("{}, of which a row costs the whole matrix", packing.name);
                    if packing.bytes_needed(&(0..1)).map_err(|error| error.to_string())? > WHOLE_BYTES {
                        return Err(costs_whole);
                    }
                    // Read in few places; the reason is reported where there was none.
                    self.unreadable.entry(position.role).or_insert(costs_whole);
                }
                Source::Packed { tensors, packing }
            }
            Form::NeedState(at) => {
                self.waiting.push((position, at));
                return Err("the bitsandbytes state was not read".into());
            }
            Form::Unreadable(reason) => return Err(reason),
        };
        self.weights.push(Weight { position, rows, columns, source });
        Ok(())
    }

    /// The layers whose matrices are sampled.
    fn sampled_layers(&self, most: usize) -> Vec<u16> {
        evenly(self.layers.iter().copied().collect(), most)
    }

    /// Every block of the wanted rows, in file order. `wanted` has a weight, the position of it or of a part of
    /// it, and its rows. A fused matrix is asked for as its parts.
    fn candidates(
        &self,
        canonical: bool,
        wanted: impl Fn(&Weight<'_>, Position, u64) -> Vec<Range<u64>>,
    ) -> Vec<Ask> {
        let query_rows: BTreeMap<(Stack, u16), u64> = self
            .weights
            .iter()
            .filter(|w| w.position.role == Role::Output && w.position.layout == Layout::Linear)
            .map(|w| ((w.position.stack, w.position.layer), w.columns))
            .collect();
        let mut asks = Vec::new();
        for weight in &self.weights {
            let query_rows = query_rows.get(&(weight.position.stack, weight.position.layer)).copied();
            for (role, part) in weight.position.parts(weight.rows, query_rows) {
                let position = Position { role, ..weight.position };
                let tensor_rows = part.end - part.start;
                for block in wanted(weight, position, tensor_rows) {
                    let rows = part.start + block.start..part.start + block.end;
                    let Some((decoding, pieces)) = weight.read(rows) else { continue };
                    let columns = weight.columns as usize;
                    let start = block.start;
                    asks.push(Ask { position, start, tensor_rows, columns, decoding, pieces, canonical });
                }
            }
        }
        asks
    }
}

/// Where a range begins: file and byte.
type Start = (usize, u64);

struct Chosen {
    gap: u64,
    max_bytes: u64,
    asks: Vec<Ask>,
    /// What is asked for already.
    taken: HashSet<(Position, u64, u64)>,
    /// The ranges that cover the asks: (file, first byte) to end.
    covering: BTreeMap<Start, u64>,
    bytes: u64,
}

impl Chosen {
    /// Takes the ask unless it breaks the budget.
    fn add(&mut self, ask: &Ask, max_ranges: usize) {
        let key = (ask.position, ask.start, ask.end());
        if self.taken.contains(&key) {
            return;
        }
        let (ranges, bytes) = (self.covering.len(), self.bytes);
        let mut undo = Vec::new();
        for piece in ask.pieces.iter().filter(|piece| piece.bytes.start < piece.bytes.end) {
            undo.push(self.cover(piece));
        }
        if self.bytes > self.max_bytes || (self.covering.len() > ranges && self.covering.len() > max_ranges) {
            for (added, replaced) in undo.into_iter().rev() {
                self.covering.remove(&added);
                self.covering.extend(replaced);
            }
            self.bytes = bytes;
        } else {
            self.taken.insert(key);
            self.asks.push(ask.clone());
        }
    }

    /// Widens the covering ranges by a piece: the range that now holds it, and those that it took the place of.
    fn cover(&mut self, piece: &Fetch) -> (Start, Vec<(Start, u64)>) {
        let Range { mut start, mut end } = piece.bytes;
        let mut replaced = Vec::new();
        let before = self.covering.range(..=(piece.file, start)).next_back().map(|(k, v)| (*k, *v));
        if let Some((key, until)) =
            before.filter(|((f, _), v)| *f == piece.file && start <= v.saturating_add(self.gap))
        {
            (start, end) = (key.1, end.max(until));
            replaced.push((key, until));
        }
        let reach = (piece.file, end.saturating_add(self.gap));
        let after = self.covering.range((Excluded((piece.file, start)), Included(reach)));
        replaced.extend(after.map(|(k, v)| (*k, *v)));
        end = replaced.iter().map(|(_, v)| *v).fold(end, u64::max);
        for (key, until) in &replaced {
            self.covering.remove(key);
            self.bytes -= until - key.1;
        }
        self.covering.insert((piece.file, start), end);
        self.bytes += end - start;
        ((piece.file, start), replaced)
    }
}

/// The requests that cover the asks.
fn fetches(asks: &[Ask], gap: u64) -> Vec<Fetch> {
    let mut by_file: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
    for piece in asks.iter().flat_map(|ask| &ask.pieces) {
        by_file.entry(piece.file).or_default().push(piece.bytes.clone());
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

    use bytes::Bytes;

    use super::*;
    use crate::formats::Limits;
    use crate::formats::safetensors::{Decoded, try_decode};

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

    fn planned(headers: &[Header], settings: &PlanSettings) -> Result<SamplePlan, PlanError> {
        sample(headers, &Facts::default(), &States::new(), settings, &[])
    }

    fn bytes(plan: &SamplePlan) -> u64 {
        plan.fetches.iter().map(|f| f.bytes.end - f.bytes.start).sum()
    }

    #[test]
    fn a_buffer_beside_the_embedding_does_not_hide_it() {
        // BERT saves `embeddings.position_ids` (I64): no part of a packed weight, whatever config.json says.
        let names = [
            ("embeddings.position_ids", "I64", vec![1, 512]),
            ("embeddings.LayerNorm.weight", "F32", vec![64]),
            ("embeddings.word_embeddings.weight", "F32", vec![1000, 64]),
            ("encoder.layer.0.attention.self.query.weight", "F32", vec![64, 64]),
            ("encoder.layer.0.attention.output.LayerNorm.weight", "F32", vec![64]),
        ];
        let mut at = 1000;
        let tensors = names.map(|(name, dtype, shape)| {
            let dtype = Dtype::parse(dtype).unwrap();
            let bytes = at..at + shape.iter().product::<u64>() * dtype.bits() / 8;
            at = bytes.end;
            TensorInfo { name: name.into(), dtype: Some(dtype), shape, bytes }
        });
        let headers = [Header { tensors: tensors.to_vec(), metadata: BTreeMap::new(), len: 1000 }];
        for facts in [Facts::default(), Facts { method: Some("hqq".into()), ..Facts::default() }] {
            let plan = sample(&headers, &facts, &States::new(), &PlanSettings::default(), &[]).unwrap();
            let rows = plan.asks.iter().filter(|ask| ask.position.role == Role::Embedding).count();
            assert_eq!((rows, plan.vocabulary), (2, Some(1000)), "{facts:?}");
        }
    }

    #[test]
    fn a_7b_model_stays_within_its_budget() {
        let (headers, _) = llama(32, 4096, 11008, 4096, 1);
        let plan = planned(&headers, &PlanSettings::default()).unwrap();
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
        let plan = planned(&headers, &PlanSettings::default()).unwrap();
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
        let plan = planned(&opened, &settings).unwrap();
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
        assert_eq!(key(planned(&whole, &settings).unwrap()), key(planned(&parts, &settings).unwrap()));
    }

    #[test]
    fn weights_by_file_name() {
        let pick = |names: &[&str]| weights(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let files = |names: &[&str]| Ok(Weights::Files(names.iter().map(|n| (*n).to_owned()).collect()));
        assert_eq!(pick(&["a.safetensors", "model.safetensors"]), files(&["model.safetensors"]));
        let index = "model.safetensors.index.json";
        assert_eq!(
            pick(&["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", index]),
            files(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
        );
        // A shard is missing; shards of two sets; shards of other names.
        for names in [
            ["model-00001-of-00002.safetensors", "x.safetensors"],
            ["model-00001-of-00001.safetensors", "model-00002-of-00002.safetensors"],
            ["weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors"],
        ] {
            assert_eq!(pick(&[&names[..], &[index]].concat()), Ok(Weights::Index(index.into())), "{names:?}");
        }
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
    fn requests_by_file_name() {
        let count = |names: &[&str], small| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            requests(&names, &PlanSettings::default(), small)
        };
        let one = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        assert_eq!((count(&one, SmallFiles::Needed), count(&one, SmallFiles::All)), (1, 6));
        let shards: Vec<String> = (1..=30).map(|i| format!("model-{i:05}-of-00030.safetensors")).collect();
        let mut many: Vec<&str> = shards.iter().map(String::as_str).collect();
        many.extend(["config.json", "model.safetensors.index.json"]);
        // Eight shards, and the depth.
        assert_eq!(count(&many, SmallFiles::Needed), 9);
        assert_eq!(count(&many[..1], SmallFiles::Needed), 1);
        assert_eq!(count(&["config.json"], SmallFiles::Needed), 0);
    }

    #[test]
    fn config_is_needed_for_packed_weights() {
        let header = |tensors: &[(&str, Option<Dtype>)]| {
            let tensors = tensors.iter().map(|(name, dtype)| TensorInfo {
                name: (*name).to_owned(),
                dtype: *dtype,
                shape: vec![4, 4],
                bytes: 8..40,
            });
            [Header { tensors: tensors.collect(), metadata: BTreeMap::new(), len: 8 }]
        };
        let plain = [
            ("model.layers.0.mlp.down_proj.weight", Some(Dtype::Bf16)),
            ("bert.embeddings.position_ids", Some(Dtype::Other { bits: 64 })),
            ("h.0.attn.bias", Some(Dtype::Other { bits: 8 })),
        ];
        assert!(!needs_config(&header(&plain)));
        for packed in [
            ("model.layers.0.mlp.down_proj.weight", Some(Dtype::F8E4M3)),
            ("model.layers.0.mlp.down_proj.qweight", Some(Dtype::Other { bits: 32 })),
            ("model.layers.0.mlp.down_proj.weight", None),
        ] {
            assert!(needs_config(&header(&[packed])), "{packed:?}");
        }
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
            planned(&[header], &PlanSettings::default()),
            Err(PlanError::NoRoles { tensors: 1, .. })
        ));
    }

    /// A checkpoint with one packed weight, which a library has made (tests/fixtures/packed).
    struct Golden {
        file: &'static [u8],
        headers: Vec<Header>,
        facts: Facts,
        /// Rows from `first_row` on, as the library decodes them.
        reference: Vec<f32>,
        first_row: u64,
        tolerance: f32,
    }

    macro_rules! golden {
        ($name:literal, $layer:literal) => {
            Golden::new(
                include_bytes!(concat!("../../tests/fixtures/packed/", $name, ".safetensors")),
                concat!("model.layers.0.", $layer),
            )
        };
    }

    impl Golden {
        fn new(file: &'static [u8], layer: &str) -> Self {
            let Ok(Decoded::Done(mut header)) = try_decode(file, file.len() as u64, &Limits::default())
            else {
                panic!("a damaged fixture");
            };
            let about: serde_json::Value = serde_json::from_str(&header.metadata["golden"]).unwrap();
            let mut reference = None;
            for tensor in &mut header.tensors {
                match tensor.name.strip_prefix("layer") {
                    Some(rest) => tensor.name = format!("{layer}{rest}"),
                    None => reference = Some(tensor),
                }
            }
            // Any other tensor makes a gain and an embedding, without which the rest is no language model.
            let reference = reference.unwrap();
            let at = reference.bytes.start as usize..reference.bytes.end as usize;
            let values = reference.dtype.unwrap().decode(&file[at]).unwrap();
            let mut gain = reference.clone();
            reference.name = "model.embed_tokens.weight".into();
            gain.name = "model.layers.0.input_layernorm.weight".into();
            gain.shape.remove(0);
            header.tensors.push(gain);
            Self {
                file,
                headers: vec![header],
                facts: Facts::parse(&serde_json::json!({ "quantization_config": about["config"] })),
                reference: values,
                first_row: about["first_row"].as_u64().unwrap(),
                tolerance: about["tolerance"].as_f64().unwrap() as f32,
            }
        }

        fn bytes(&self, fetch: &Fetch) -> Bytes {
            Bytes::from_static(&self.file[fetch.bytes.start as usize..fetch.bytes.end as usize])
        }

        fn planned(&self, settings: &PlanSettings) -> SamplePlan {
            let states = states(&self.headers, &self.facts, settings);
            let states = states.iter().map(|f| ((f.file, f.bytes.start), self.bytes(f))).collect();
            sample(&self.headers, &self.facts, &states, settings, &[]).unwrap()
        }

        fn decoded(&self, ask: &Ask) -> Vec<f32> {
            let pieces: Vec<Bytes> = ask.pieces.iter().map(|piece| self.bytes(piece)).collect();
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            ask.decoding.decode(&pieces).unwrap()
        }

        fn tensor(&mut self, end: &str) -> &mut TensorInfo {
            self.headers[0].tensors.iter_mut().find(|t| t.name.ends_with(end)).unwrap()
        }
    }

    fn matrices(plan: &SamplePlan) -> Vec<&Ask> {
        plan.asks.iter().filter(|ask| ask.position.role.is_matrix()).collect()
    }

    /// The rows from `first` of the matrix on are those of the library, wherever that has them.
    fn assert_reference(golden: &Golden, ask: &Ask, first: u64) {
        let values = golden.decoded(ask);
        assert_eq!(values.len() % ask.columns, 0);
        let mut compared = 0;
        for (row, found) in (first + ask.start..).zip(values.chunks(ask.columns)) {
            let Some(at) = row.checked_sub(golden.first_row) else { continue };
            let Some(expected) = golden.reference.chunks(ask.columns).nth(at as usize) else { continue };
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= golden.tolerance * expected.abs(), "{found} {expected}");
            }
            compared += 1;
        }
        assert!(compared > 0, "no row of the reference was read");
    }

    #[test]
    fn packed_rows_are_those_of_the_libraries() {
        for golden in [
            golden!("bnb_nf4", "self_attn.k_proj"),
            golden!("bnb_nf4_double", "self_attn.k_proj"),
            golden!("bnb_nf4_odd", "self_attn.k_proj"),
            golden!("bnb_fp4", "self_attn.k_proj"),
            golden!("bnb_fp4_double", "self_attn.k_proj"),
            golden!("bnb_int8", "self_attn.k_proj"),
            golden!("gptq_v1_3bit", "self_attn.k_proj"),
            golden!("gptq_v1_4bit_act", "self_attn.k_proj"),
            golden!("gptq_v2_4bit", "self_attn.k_proj"),
            golden!("awq", "self_attn.k_proj"),
            golden!("ct_4bit_group", "self_attn.k_proj"),
            golden!("ct_4bit_zero", "self_attn.k_proj"),
            golden!("ct_8bit_channel", "self_attn.k_proj"),
            golden!("ct_int8", "self_attn.k_proj"),
            golden!("ct_fp8_tensor", "self_attn.k_proj"),
            golden!("ct_fp8_block", "self_attn.k_proj"),
            golden!("fp8_block", "self_attn.k_proj"),
            golden!("mlx_4bit", "self_attn.k_proj"),
            golden!("mlx_6bit", "self_attn.k_proj"),
        ] {
            let detailed = golden.planned(&PlanSettings::detailed());
            let whole = matrices(&detailed).into_iter().max_by_key(|ask| golden.decoded(ask).len()).unwrap();
            assert_eq!(golden.decoded(whole).len() as u64, whole.tensor_rows * whole.columns as u64);
            assert_reference(&golden, whole, 0);

            // The rows that a plain copy would be read at.
            let plan = golden.planned(&PlanSettings::default());
            let [ask] = matrices(&plan)[..] else { panic!("{:?}", plan.asks) };
            assert!(ask.canonical && ask.position == Position::main(Role::Key, 0));
            let rows = sample::rows(ask.position, ask.tensor_rows, ask.columns as u64).remove(0);
            let at = |row: u64| row as usize * ask.columns;
            assert_eq!(ask.start, rows.start);
            assert_eq!(golden.decoded(ask), golden.decoded(whole)[at(rows.start)..at(rows.end)]);
        }
    }

    #[test]
    fn experts_in_blocks_are_read_as_the_first_one() {
        let golden = golden!("mxfp4", "mlp.experts.gate_up_proj");
        let plan = golden.planned(&PlanSettings::default());
        let [gate, up] = matrices(&plan)[..] else { panic!("{:?}", plan.asks) };
        assert_eq!((gate.position.role, up.position.role), (Role::Gate, Role::Up));
        assert_eq!((gate.position.expert, gate.tensor_rows, gate.columns), (Some(0), 3, 96));
        assert_reference(&golden, gate, 0);
        assert_reference(&golden, up, 3);
    }

    #[test]
    fn bytes_without_scales_are_plain() {
        let mut golden = golden!("fp8_block", "self_attn.k_proj");
        golden.headers[0].tensors.retain(|t| !t.name.ends_with("weight_scale_inv"));
        let plan = golden.planned(&PlanSettings::default());
        assert_eq!(matrices(&plan)[0].decoding, Decoding::Plain(Dtype::F8E4M3));
        assert!(plan.unreadable.is_empty());
    }

    #[test]
    fn strided_matrices_are_read_in_few_places() {
        let golden = golden!("awq", "self_attn.q_proj");
        let plan = golden.planned(&PlanSettings::default());
        assert!(matrices(&plan).is_empty());
        assert_eq!(plan.unreadable[&Role::Query], "AWQ 4-bit, of which a row costs the whole matrix");
        let detailed = golden.planned(&PlanSettings::detailed());
        let [ask] = matrices(&detailed)[..] else { panic!("{:?}", detailed.asks) };
        assert!(!ask.canonical);
        assert_reference(&golden, ask, 0);
    }

    #[test]
    fn a_large_strided_matrix_is_not_read() {
        for (rows, read) in [(1024, true), (4096, false)] {
            let mut golden = golden!("gptq_v1_4bit", "self_attn.k_proj");
            let mut at = 1 << 20;
            for (end, shape, size) in [
                ("qweight", vec![512, rows], 4),
                ("qzeros", vec![32, rows / 8], 4),
                ("scales", vec![32, rows], 2),
                ("g_idx", vec![4096], 4),
            ] {
                let tensor = golden.tensor(end);
                tensor.bytes = at..at + shape.iter().product::<u64>() * size;
                at = tensor.bytes.end;
                tensor.shape = shape;
            }
            for settings in [PlanSettings::default(), PlanSettings::detailed()] {
                let plan = golden.planned(&settings);
                assert_eq!(!matrices(&plan).is_empty(), read, "{rows}");
                assert!(bytes(&plan) < if read { 2_300_000 } else { 100_000 });
            }
        }
    }

    #[test]
    fn what_is_damaged_is_absent_with_a_reason() {
        let check = |golden: &Golden, states: &States, reason: &str| {
            let plan =
                sample(&golden.headers, &golden.facts, states, &PlanSettings::detailed(), &[]).unwrap();
            assert!(matrices(&plan).is_empty() && !plan.asks.is_empty());
            assert!(plan.unreadable[&Role::Key].contains(reason), "{:?}", plan.unreadable);
        };
        let none = States::new();
        let mut scales = golden!("gptq_v1_4bit", "self_attn.k_proj");
        scales.headers[0].tensors.retain(|t| !t.name.ends_with("scales"));
        check(&scales, &none, "packed as gptq (g_idx, qweight, qzeros), which is not read");
        let mut absmax = golden!("bnb_nf4", "self_attn.k_proj");
        let state = states(&absmax.headers, &absmax.facts, &PlanSettings::default()).remove(0);
        check(&absmax, &none, "state was not read");
        let told = |text: &'static str| {
            States::from([((0, state.bytes.start), Bytes::from_static(text.as_bytes()))])
        };
        check(&absmax, &told(r#"{"quant_type":"nf4","blocksize":64,"shape":[16,9600]}"#), "not the size");
        check(&absmax, &told("{"), "state is not valid");
        absmax.headers[0].tensors.retain(|t| !t.name.ends_with("absmax"));
        check(&absmax, &told(r#"{"quant_type":"nf4","blocksize":64,"shape":[16,96]}"#), "missing");
        let mut format = golden!("bnb_int8", "self_attn.k_proj");
        let tensor = format.tensor("weight_format");
        tensor.shape = vec![0];
        tensor.bytes.end = tensor.bytes.start;
        check(&format, &none, "0 bytes instead of 1");
        // A state too long to be one is never asked for.
        let mut long = golden!("bnb_nf4", "self_attn.k_proj");
        let tensor = long.tensor("bitsandbytes__nf4");
        tensor.bytes = 0..MAX_STATE + 1;
        assert!(states(&long.headers, &long.facts, &PlanSettings::default()).is_empty());
        check(&long, &none, "too large");
    }

    #[test]
    fn states_are_read_of_a_spread_of_layers_within_the_budget() {
        let one = golden!("bnb_nf4", "self_attn.k_proj");
        let mut headers = one.headers.clone();
        let mut more: Vec<TensorInfo> = Vec::new();
        for layer in 1..64u64 {
            for tensor in &one.headers[0].tensors {
                let name = tensor.name.replace("layers.0.", &format!("layers.{layer}."));
                let at = layer << 20;
                let bytes = at + tensor.bytes.start..at + tensor.bytes.end;
                more.push(TensorInfo { name, bytes, ..tensor.clone() });
            }
        }
        headers[0].tensors.extend(more);
        let settings = PlanSettings { max_ranges: 18, ..PlanSettings::default() };
        let asked: Vec<u64> =
            states(&headers, &one.facts, &settings).iter().map(|f| f.bytes.start >> 20).collect();
        assert_eq!(asked, [0, 32, 16, 48, 8, 40]);
        let all: States = states(&headers, &one.facts, &settings)
            .iter()
            .map(|f| {
                (
                    (f.file, f.bytes.start),
                    one.bytes(&Fetch { file: 0, bytes: f.bytes.start % (1 << 20)..f.bytes.end % (1 << 20) }),
                )
            })
            .collect();
        let plan = sample(&headers, &one.facts, &all, &settings, &[]).unwrap();
        assert!(plan.fetches.len() + all.len() <= settings.max_ranges);
        assert!(matrices(&plan).iter().all(|ask| asked.contains(&u64::from(ask.position.layer))));
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
            let plan = planned(&headers, &settings).unwrap();
            prop_assert!(plan.fetches.len() <= ranges);
            prop_assert!(bytes(&plan) <= bytes_limit);
        }
    }
}
