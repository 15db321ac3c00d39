//! A made-up database for measuring retrieval: the sizes, links and gaps of a Hub, with the truth beside it.
//!
//! What is drawn, and from what:
//!
//! - **Families**: the `k`-th largest has `largest / k` members (Zipf, exponent 1), the largest a twelfth of all;
//!   models beyond that stand alone. Shapes (hidden size, layers, inner size) are those of public models, small ones
//!   more often.
//! - **Derivation**: a child has the root of its family as its parent in six of ten cases, else an earlier member: stars
//!   and chains. The correlation of parent and child is `1 - 10^-U(1.5, 3.5)` for 60 % (fine-tunes, LoRA, casts),
//!   `U(.98, .999)` for 18 % (rounding), `U(.9, .97)` for 12 %, `U(.5, .9)` for 7 % and `U(.2, .5)` for 3 % (continued
//!   pretraining). Norm gains keep its root, because they move less.
//! - **Duplicates**: one model in ten has exactly the content of an earlier member.
//! - **Depth-pruned**: one child in fifty keeps every second layer. **Cross-size**: one in a hundred has another hidden
//!   size, and with it weights that nothing stored can relate to the parent.
//! - **Moved**: one child in a hundred has its hidden dimensions in another order, and so nothing in common with its
//!   parent but the pairwise cosines of its rows; of the queries that are children, one in twenty.
//! - **Missing signals**: one model in twenty has no embedding, one in fifty no gains, one in ten the matrices of four
//!   layers only. One date in twenty is missing.
//! - **Cells and vectors** are count sketches, which are linear: those of a child are `r` times the parent's plus
//!   `sqrt(1 - r^2)` times Gaussian noise, rounded to bytes. Products of rows keep `r^2`, or .8 where every second layer
//!   was dropped.
//! - **Background correlation**: unrelated models of one shape correlate by `background` in every cell, as models of one training
//!   recipe do. Trained models of one config and data, from other seeds, show a few hundredths (docs/statistics.md).
//!
//! Every draw is a function of the seed and the model's number, so rows are made in the order of their dates without
//! keeping any: a model is made again from its line of ancestors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use rayon::prelude::*;

use super::truth::{COPY, HEAD, MOVED, STRANGER, TRUTH};
use crate::formats::ModelConfig;
use crate::signals::coverage::{Coverage, Extent};
use crate::signals::fingerprint::{
    CELL_DIMENSIONS, Cell, ColumnCorrelation, EXTRACTION_VERSION, VECTOR_DIMENSIONS,
};
use crate::signals::gram::{GRAM_DIMENSIONS, GramSketch};
use crate::signals::hash::mix;
use crate::signals::normal;
use crate::signals::profile::{POINTS, Profile, STORED_TOKENS, TokenGram};
use crate::signals::roles::Stack;
use crate::signals::sketch::quantise;
use crate::signals::{Fingerprint, Role};
use crate::store::{Database, Outcome, Row, StoreError, Task, atomic};

/// Rows of a shard.
const SHARD_ROWS: usize = 5_000;
/// Folders of the models to scan for, below the database.
pub const QUERIES: &str = "queries";
/// See [`QUERIES`].
pub const STRANGERS: &str = "strangers";
/// What unrelated models of one shape share unless something else is asked for.
pub const BACKGROUND: f32 = 0.02;
/// First day of the made-up Hub, milliseconds since 1970: 2022-03-02.
const BEGINNING: i64 = 1_646_179_200_000;
/// Milliseconds of its four years.
const YEARS: f64 = 4.0 * 365.25 * 86_400_000.0;

/// (model type, hidden size, layers, inner size, vocabulary, weight).
const SHAPES: [(&str, u32, u16, u32, u32, u32); 12] = [
    ("bert", 384, 6, 1536, 30522, 12),
    ("bert", 768, 12, 3072, 30522, 16),
    ("gpt2", 768, 12, 3072, 50257, 8),
    ("llama", 576, 30, 1536, 49152, 8),
    ("qwen2", 896, 24, 4864, 151_936, 12),
    ("bert", 1024, 24, 4096, 30522, 6),
    ("llama", 2048, 16, 8192, 128_256, 8),
    ("qwen2", 1536, 28, 8960, 151_936, 8),
    ("gemma2", 2304, 26, 9216, 256_000, 4),
    ("qwen2", 3584, 28, 18944, 152_064, 6),
    ("llama", 4096, 32, 14336, 128_256, 10),
    ("llama", 5120, 40, 13824, 32000, 2),
];

/// Of a made-up model everything is read.
fn coverage(shape: u8) -> Coverage {
    let (_, hidden_size, layers, inner, ..) = SHAPES[shape as usize];
    let parameters = u64::from(hidden_size) * u64::from(inner) * u64::from(layers) * 4;
    Coverage::of_all(parameters, 2 * parameters)
}
const MATRICES: [Role; 7] =
    [Role::Query, Role::Key, Role::Value, Role::Output, Role::Gate, Role::Up, Role::Down];
/// Matrix layers of a sample.
const MATRIX_LAYERS: u16 = 16;
const EMBEDDING_CELLS: u32 = 16;
/// Where the noise of the cosines is drawn from, as cells and parts have their places.
const PRODUCTS: u64 = 3 << 60;
/// Correlation of the cosines of a model with those of every second layer of it: rows of a layer that is kept lie at the
/// same relative depth, and most have those of the same layers beside them.
const PRUNED_GRAM: f32 = 0.8;

/// How a model came to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    /// The first of its family.
    Root,
    /// Trained on from a parent; correlation of the weights.
    Tuned { parent: u32, r: f32 },
    /// Every second layer of the parent.
    Pruned { parent: u32 },
    /// Another hidden size.
    Resized,
    /// The parent with hidden dimensions in another order.
    Moved { parent: u32 },
    /// The content of an earlier model.
    Copy { of: u32 },
}

/// One model of the plan.
#[derive(Clone, Copy, Debug)]
struct Model {
    family: u32,
    origin: Origin,
    shape: u8,
    halved: bool,
    created_at: i64,
}

/// What is made.
#[derive(Clone, Debug)]
pub struct PopulationSettings {
    /// Models of the whole population.
    pub models: u32,
    /// Further models to scan for: four of five are children of models in the database with a correlation of
    /// `U(.2, 1)`, the others strangers.
    pub queries: u32,
    /// Further models that are strangers, all of them.
    pub strangers: u32,
    /// Correlation of unrelated models of one shape, 0 to 1.
    pub background: f32,
    /// Seed of everything.
    pub seed: u64,
    /// Which of them are written, in the order of their dates: the rest may be added later, as the next night's.
    pub written: std::ops::Range<u32>,
}

impl Default for PopulationSettings {
    fn default() -> Self {
        Self { models: 0, queries: 0, strangers: 0, background: BACKGROUND, seed: 1, written: 0..u32::MAX }
    }
}

/// Writes the database and its truth; queries go into `queries` below it and strangers into `strangers`, databases of
/// their own. `progress` gets (rows done, rows in all).
pub fn population(
    folder: &Path,
    settings: &PopulationSettings,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), StoreError> {
    let plan = Plan::new(settings.models, settings.seed, settings.background);
    let mut order: Vec<u32> = (0..settings.models).collect();
    order.sort_by_key(|number| plan.models[*number as usize].created_at);
    let last = settings.written.end.min(settings.models) as usize;
    let order = &order[(settings.written.start as usize).min(last)..last];
    let all = order.len() as u64 + u64::from(settings.queries) + u64::from(settings.strangers);
    let mut done = 0;
    let mut add = |db: &mut Database, rows: Vec<Row>| {
        db.append(&rows)?;
        done += rows.len() as u64;
        progress(done, all);
        Ok(())
    };
    let mut db = Database::open_or_create(folder, Task::CRAWL)?;
    for numbers in order.chunks(SHARD_ROWS) {
        add(&mut db, numbers.par_iter().map(|number| plan.row(*number)).collect())?;
    }
    let mut truth = String::from(HEAD);
    for number in 0..settings.models {
        plan.truth(number, &mut truth);
    }
    atomic::write(&folder.join(TRUTH), truth.as_bytes())?;
    let queries = (0..settings.queries).map(|number| plan.query(number)).collect();
    let strangers = (0..settings.strangers).map(|number| plan.stranger(number)).collect();
    for (name, queries) in [(QUERIES, queries), (STRANGERS, strangers)] {
        let queries: Vec<Query> = queries;
        if queries.is_empty() {
            continue;
        }
        let folder = folder.join(name);
        let mut db = Database::open_or_create(&folder, Task::CRAWL)?;
        let mut truth = String::from(HEAD);
        for (first, queries) in (0..).step_by(SHARD_ROWS).zip(queries.chunks(SHARD_ROWS)) {
            let numbers = first..first + queries.len() as u32;
            numbers.clone().zip(queries).for_each(|(n, query)| plan.query_truth(name, n, query, &mut truth));
            let rows = numbers.into_par_iter().zip(queries).map(|(n, query)| plan.query_row(name, n, query));
            add(&mut db, rows.collect())?;
        }
        atomic::write(&folder.join(TRUTH), truth.as_bytes())?;
    }
    Ok(())
}

/// A model to scan for.
#[derive(Clone, Copy, Debug)]
struct Query {
    /// (parent, correlation) unless it is a stranger.
    parent: Option<(u32, f32)>,
    /// Whether its hidden dimensions are in another order than its parent's.
    moved: bool,
    shape: u8,
}

/// Where the values of a fingerprint come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A model of the plan.
    Model(u32),
    /// A child of one, with this correlation.
    Child { parent: u32, r: f32 },
    /// The same, with its hidden dimensions in another order.
    Moved { parent: u32, r: f32 },
    /// Nobody.
    Stranger,
}

impl Source {
    /// Values from those of a model of the plan and from noise of the model's own.
    fn values<const N: usize>(
        self,
        gain: bool,
        of: impl Fn(u32) -> [f32; N],
        own: impl Fn() -> [f32; N],
    ) -> [f32; N] {
        match self {
            Self::Model(number) => of(number),
            // Norm gains move less.
            Self::Child { parent, r } => tuned(&of(parent), &own(), if gain { r.sqrt() } else { r }),
            Self::Moved { .. } | Self::Stranger => own(),
        }
    }
}

struct Plan {
    seed: u64,
    background: f32,
    models: Vec<Model>,
    /// First model of each family.
    roots: Vec<u32>,
    gaussians: Vec<f32>,
}

/// Uniform in 0..1 from a seed.
fn uniform(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1u64 << 53) as f64
}

impl Plan {
    /// Draws families and links. A model's fate does not depend on how many follow it but through the sizes of
    /// families, so populations of one seed and size are equal.
    fn new(n: u32, seed: u64, background: f32) -> Self {
        let largest = f64::from(n) / 12.0;
        let mut families: Vec<u32> = Vec::new();
        let mut left = n;
        for k in 1.. {
            let size = ((largest / f64::from(k)) as u32).max(1).min(left);
            if size == 0 {
                break;
            }
            families.push(size);
            left -= size;
        }
        let total: u32 = SHAPES.iter().map(|s| s.5).sum();
        let mut models: Vec<Model> = Vec::with_capacity(n as usize);
        let mut roots = Vec::with_capacity(families.len());
        for (family, size) in families.iter().enumerate() {
            let root = models.len() as u32;
            roots.push(root);
            let draw = |what: u64, number: u32| uniform(seed ^ mix(u64::from(number) << 8 | what));
            let mut weight = (draw(0, root) * f64::from(total)) as u32;
            let shape = SHAPES.iter().position(|s| {
                let found = weight < s.5;
                weight = weight.saturating_sub(s.5);
                found
            });
            let shape = shape.unwrap_or(0) as u8;
            let begun = BEGINNING + (0.8 * YEARS * draw(1, root)) as i64;
            for i in 0..*size {
                let number = root + i;
                let draw = |what| draw(what, number);
                let earlier = root + (draw(2) * f64::from(i)) as u32;
                let parent = if draw(3) < 0.6 { root } else { earlier };
                let kind = draw(4);
                let origin = if i == 0 {
                    Origin::Root
                } else if kind < 0.1 {
                    Origin::Copy { of: earlier }
                } else if kind < 0.118 {
                    Origin::Pruned { parent }
                } else if kind < 0.127 {
                    Origin::Resized
                } else if kind < 0.136 {
                    Origin::Moved { parent }
                } else {
                    Origin::Tuned { parent, r: correlation(draw(5), draw(6)) as f32 }
                };
                // What a copy is made of is that model's own line.
                let of = |m: u32| models[m as usize];
                let (shape, halved) = match origin {
                    Origin::Root => (shape, false),
                    Origin::Tuned { parent, .. } | Origin::Moved { parent } => {
                        (of(parent).shape, of(parent).halved)
                    }
                    Origin::Copy { of: m } => (of(m).shape, of(m).halved),
                    Origin::Pruned { parent } => (of(parent).shape, true),
                    Origin::Resized => ((of(root).shape + 1) % SHAPES.len() as u8, false),
                };
                let after = match origin {
                    Origin::Root | Origin::Resized => begun,
                    Origin::Tuned { parent: m, .. }
                    | Origin::Pruned { parent: m }
                    | Origin::Moved { parent: m }
                    | Origin::Copy { of: m } => of(m).created_at,
                };
                let latest = BEGINNING + YEARS as i64;
                let created_at = if i == 0 {
                    begun
                } else {
                    after + 1 + ((latest - after) as f64 * draw(7) * draw(8)) as i64
                };
                models.push(Model { family: family as u32, origin, shape, halved, created_at });
            }
        }
        let table = 1 << 12;
        let gaussians =
            (0..table).map(|i| normal::quantile((f64::from(i) + 0.5) / f64::from(table)) as f32).collect();
        Self { seed, background: background.clamp(0.0, 1.0), models, roots, gaussians }
    }

    /// Gaussian noise, a function of seed, model and place.
    fn noise<const N: usize>(&self, key: u64) -> [f32; N] {
        let mut values = [0.0; N];
        for (i, five) in values.chunks_mut(5).enumerate() {
            let mut bits = mix(self.seed ^ mix(key ^ (i as u64) << 40));
            for value in five {
                *value = self.gaussians[(bits & 0xfff) as usize];
                bits >>= 12;
            }
        }
        values
    }

    /// Noise of a model that descends from none, with what all of its shape have at this place.
    fn of_recipe<const N: usize>(&self, shape: u8, place: u64, own: [f32; N]) -> [f32; N] {
        if self.background == 0.0 {
            return own;
        }
        let shared = self.noise(mix(u64::from(shape) ^ 17 << 50) ^ mix(place));
        tuned(&shared, &own, self.background.sqrt())
    }

    /// The sketch of one block of a model: along its line of ancestors.
    fn block<const N: usize>(&self, number: u32, place: u64, gain: bool) -> [f32; N] {
        let own = |number: u32| self.noise::<N>(mix(u64::from(number)) ^ mix(place));
        let model = self.models[number as usize];
        match model.origin {
            Origin::Root | Origin::Resized | Origin::Moved { .. } => {
                self.of_recipe(model.shape, place, own(number))
            }
            Origin::Copy { of } => self.block(of, place, gain),
            // Kept layers are as they were; the retrieval vector sees half of them, see `vector`.
            Origin::Pruned { parent } => self.block(parent, place, gain),
            Origin::Tuned { parent, r } => {
                tuned(&self.block(parent, place, gain), &own(number), if gain { r.sqrt() } else { r })
            }
        }
    }

    /// One part of the retrieval vector, before it is scaled.
    fn part<const N: usize>(&self, number: u32, part: u64) -> [f32; N] {
        let place = 1 << 60 | part;
        let own = |number: u32| self.noise::<N>(mix(u64::from(number)) ^ mix(place));
        let model = self.models[number as usize];
        match model.origin {
            Origin::Root | Origin::Resized | Origin::Moved { .. } => {
                self.of_recipe(model.shape, place, own(number))
            }
            Origin::Copy { of } => self.part(of, part),
            // Of two layers that share a bin of relative depth one is left.
            Origin::Pruned { parent } if part < 2 => {
                tuned(&self.part(parent, part), &own(number), 0.5f32.sqrt())
            }
            Origin::Pruned { parent } => self.part(parent, part),
            Origin::Tuned { parent, r } => {
                tuned(&self.part(parent, part), &own(number), if part == 0 { r.sqrt() } else { r })
            }
        }
    }

    /// The sketch of a model's row Gram matrix.
    fn row_gram(&self, number: u32) -> [f32; GRAM_DIMENSIONS] {
        let own = || self.noise(mix(u64::from(number)) ^ mix(PRODUCTS));
        let model = self.models[number as usize];
        match model.origin {
            Origin::Root | Origin::Resized => self.of_recipe(model.shape, PRODUCTS, own()),
            Origin::Copy { of } => self.row_gram(of),
            Origin::Moved { parent } => self.row_gram(parent),
            Origin::Pruned { parent } => tuned(&self.row_gram(parent), &own(), PRUNED_GRAM),
            Origin::Tuned { parent, r } => tuned(&self.row_gram(parent), &own(), r * r),
        }
    }

    /// What a model to scan for has of its own at a place.
    fn own<const N: usize>(&self, source: Source, shape: u8, place: u64, key: u64) -> [f32; N] {
        let noise = self.noise(key);
        if matches!(source, Source::Stranger) { self.of_recipe(shape, place, noise) } else { noise }
    }

    fn fingerprint(&self, source: Source, key: u64, shape: u8) -> Fingerprint {
        let (_, hidden_size, depth, inner, vocabulary, _) = SHAPES[shape as usize];
        let halved = match source {
            Source::Model(number)
            | Source::Child { parent: number, .. }
            | Source::Moved { parent: number, .. } => self.models[number as usize].halved,
            Source::Stranger => false,
        };
        let layers = if halved { depth / 2 } else { depth };
        // A layer of a pruned model is every second one of the whole.
        let whole = |layer: u16| if halved { 2 * layer } else { layer };
        let missing = |what: u64| uniform(self.seed ^ mix(key ^ what << 32));
        let (no_embedding, no_gains, few) = (missing(1) < 0.05, missing(2) < 0.02, missing(3) < 0.1);
        let sketch = |role: Role, layer: u16, start: u32, gain: bool| -> [i8; CELL_DIMENSIONS] {
            let place = u64::from(role as u8) | u64::from(layer) << 8 | u64::from(start) << 24;
            let own = || self.own::<CELL_DIMENSIONS>(source, shape, place, key ^ mix(place));
            quantise(&source.values(gain, |number| self.block(number, place, gain), own))
        };
        let mut cells = Vec::new();
        let mut add = |role, layer, start, rows, dimension, residual, sketch: [i8; CELL_DIMENSIONS]| {
            let hash = sketch.iter().fold(u64::from(layer), |h, v| mix(h ^ u64::from(v.cast_unsigned())));
            cells.push(Cell {
                stack: Stack::Main,
                layer,
                expert: None,
                role,
                start,
                rows,
                dimension,
                residual,
                hash,
                sketch,
            });
        };
        let matrix_layers: Vec<u16> = {
            let wanted = if few { 4 } else { MATRIX_LAYERS }.min(layers);
            (0..wanted).map(|i| i * layers / wanted).collect()
        };
        for layer in 0..layers {
            for role in [Role::AttentionNorm, Role::MlpNorm].into_iter().filter(|_| !no_gains) {
                add(role, layer, 0, 1, hidden_size, true, sketch(role, whole(layer), 0, true));
            }
            for role in MATRICES.into_iter().filter(|_| matrix_layers.contains(&layer)) {
                let residual = !matches!(role, Role::Down | Role::Output);
                let dimension = if role == Role::Down { inner } else { hidden_size };
                let rows = (4096 / dimension).max(1) as u16;
                add(role, layer, 0, rows, dimension, residual, sketch(role, whole(layer), 0, false));
            }
        }
        for start in (0..EMBEDDING_CELLS).filter(|_| !no_embedding) {
            let role = Role::Embedding;
            add(role, 0, 128 + 16 * start, 16, hidden_size, true, sketch(role, 0, start, false));
        }
        cells.sort_by_key(Cell::key);
        let part = |part: u64, values: &mut [f32], without: bool| {
            let own = || self.own::<512>(source, shape, 1 << 60 | part, key ^ mix(2 << 60 | part));
            let made = source.values(part == 0, |number| self.part(number, part), own);
            let made = &made[..values.len()];
            let norm = made.iter().map(|v| v * v).sum::<f32>().sqrt();
            if !without {
                values.iter_mut().zip(made).for_each(|(v, m)| *v = m / norm);
            }
        };
        let own_cosines = || self.own(source, shape, PRODUCTS, key ^ mix(PRODUCTS));
        let cosines = match source {
            Source::Model(number) => self.row_gram(number),
            Source::Child { parent, r } | Source::Moved { parent, r } => {
                tuned(&self.row_gram(parent), &own_cosines(), r * r)
            }
            Source::Stranger => own_cosines(),
        };
        let mut vector = [0.0f32; VECTOR_DIMENSIONS];
        let (gains, rest) = vector.split_at_mut(256);
        let (matrices, embedding) = rest.split_at_mut(512);
        part(0, gains, no_gains);
        part(1, matrices, false);
        part(2, embedding, no_embedding);
        Fingerprint {
            hidden_size,
            layers,
            vocabulary: Some(vocabulary),
            extent: Extent::new(Some(&coverage(shape)), false, None),
            cells,
            column_correlation: ColumnCorrelation {
                gains: 0.002,
                residual: 0.001,
                inner: 0.001,
                embedding: 0.002,
            },
            row_gram: Some(GramSketch { sketch: quantise(&cosines), concentration: 0.001, rows: 64 }),
            vector: quantise(&vector),
        }
    }

    fn made(&self, name: String, key: u64, fingerprint: Fingerprint, shape: u8) -> Row {
        let (kind, hidden_size, layers, inner, vocabulary, _) = SHAPES[shape as usize];
        let coverage = coverage(shape);
        let digest = |what: u64| -> String {
            (0..4).fold(String::new(), |mut text, i| {
                let _ = write!(text, "{:016x}", mix(self.seed ^ key ^ mix(what << 8 | i)));
                text
            })
        };
        let curve = |what: u64| -> [f32; POINTS] { self.noise(mix(key) ^ what) };
        let gram: [f32; STORED_TOKENS * (STORED_TOKENS - 1) / 2] = self.noise(mix(key) ^ 3);
        let config = ModelConfig {
            model_type: Some(kind.into()),
            hidden_size: Some(hidden_size.into()),
            layers: Some(layers.into()),
            intermediate_size: Some(inner.into()),
            vocab_size: Some(vocabulary.into()),
            dtype: Some("bfloat16".into()),
            ..ModelConfig::default()
        };
        Row {
            hub_id: format!("{:024x}", u128::from(mix(key)) | u128::from(mix(key ^ 1) & 0xffff_ffff) << 64),
            component: String::new(),
            repo_id: name,
            sha: Some(digest(1)[..40].to_owned()),
            created_at: None,
            last_modified: None,
            crawled_at: BEGINNING + YEARS as i64,
            gone_at: None,
            outcome: Outcome::Indexed,
            reason: None,
            gated: "false".into(),
            downloads: Some(mix(key) % 1000),
            likes: Some(mix(key) % 20),
            pipeline_tag: Some("text-generation".into()),
            library_name: Some("transformers".into()),
            license: Some("apache-2.0".into()),
            declared_bases: Vec::new(),
            model_type: Some(kind.into()),
            architecture: None,
            quantization: None,
            config: Some(config),
            tokenizer: None,
            dtype: Some("BF16".into()),
            parameters: Some(coverage.parameters),
            weight_files: Vec::new(),
            bytes_in_repo: 0,
            bytes_fetched: 0,
            weights_digest: Some(digest(2)),
            extraction_key: None,
            adapter: None,
            sample_digest: Some(digest(3)),
            extraction_version: EXTRACTION_VERSION,
            coverage: Some(coverage),
            profile: Some(Profile {
                norms: Some(curve(1)),
                energy: MATRICES
                    .iter()
                    .map(|role| (*role, curve(10 + *role as u64)))
                    .collect::<BTreeMap<_, _>>(),
                gram: TokenGram {
                    keys: (0..STORED_TOKENS as u64).map(mix).collect(),
                    cosines: gram.map(|v| (v * 30.0).clamp(-127.0, 127.0) as i8).to_vec(),
                },
            }),
            fingerprint: Some(fingerprint),
        }
    }

    /// The content that a model has: its own, or that of the model it is a copy of.
    fn content(&self, number: u32) -> u32 {
        match self.models[number as usize].origin {
            Origin::Copy { of } => self.content(of),
            _ => number,
        }
    }

    fn row(&self, number: u32) -> Row {
        let model = &self.models[number as usize];
        let content = self.content(number);
        let key = mix(u64::from(content) ^ 7 << 50);
        let fingerprint = self.fingerprint(Source::Model(content), key, model.shape);
        let mut row = self.made(name(number), key, fingerprint, model.shape);
        let own = mix(u64::from(number) ^ 9 << 50);
        row.hub_id = format!("{number:024x}");
        row.created_at = (uniform(self.seed ^ own) >= 0.05).then_some(model.created_at);
        row.declared_bases = match self.parent(number) {
            Some(parent) if uniform(self.seed ^ own ^ 1) < 0.6 => vec![name(parent)],
            _ => Vec::new(),
        };
        row
    }

    fn parent(&self, number: u32) -> Option<u32> {
        match self.models[number as usize].origin {
            Origin::Root => None,
            Origin::Tuned { parent, .. } | Origin::Pruned { parent } | Origin::Moved { parent } => {
                Some(parent)
            }
            Origin::Resized => Some(self.roots[self.models[number as usize].family as usize]),
            Origin::Copy { of } => Some(of),
        }
    }

    fn truth(&self, number: u32, out: &mut String) {
        let model = &self.models[number as usize];
        let (relation, r) = match model.origin {
            Origin::Root => ("root", 1.0),
            Origin::Tuned { r, .. } => ("tuned", r),
            Origin::Pruned { .. } => ("depth-pruned", 1.0),
            Origin::Resized => ("cross-size", 0.0),
            Origin::Moved { .. } => (MOVED, 1.0),
            Origin::Copy { .. } => (COPY, 1.0),
        };
        let root = name(self.roots[model.family as usize]);
        let parent = self.parent(number).map_or_else(String::new, name);
        let _ = writeln!(out, "{}\t{}\t{root}\t{parent}\t{relation}\t{r:.6}", name(number), model.family);
    }

    fn query(&self, number: u32) -> Query {
        let draw = |what: u64| uniform(self.seed ^ mix(11 << 50 | u64::from(number) << 8 | what));
        let parent = (draw(1) * self.models.len() as f64) as u32;
        let related = draw(2) < 0.8 && !self.models.is_empty();
        let shape =
            if related { self.models[parent as usize].shape } else { (draw(3) * SHAPES.len() as f64) as u8 };
        let moved = related && draw(5) < 0.05;
        Query { parent: related.then(|| (parent, (0.2 + 0.8 * draw(4)) as f32)), moved, shape }
    }

    fn stranger(&self, number: u32) -> Query {
        let draw = uniform(self.seed ^ mix(19 << 50 | u64::from(number)));
        Query { parent: None, moved: false, shape: (draw * SHAPES.len() as f64) as u8 }
    }

    fn query_row(&self, folder: &str, number: u32, query: &Query) -> Row {
        let kind = if folder == QUERIES { 13 << 50 } else { 23 << 50 };
        let key = mix(u64::from(number) ^ kind);
        let source = query.parent.map_or(Source::Stranger, |(parent, r)| {
            let parent = self.content(parent);
            if query.moved { Source::Moved { parent, r } } else { Source::Child { parent, r } }
        });
        let fingerprint = self.fingerprint(source, key, query.shape);
        let mut row = self.made(query_name(folder, number), key, fingerprint, query.shape);
        row.hub_id = format!("{}{number:023x}", &folder[..1]);
        row
    }

    fn query_truth(&self, folder: &str, number: u32, query: &Query, out: &mut String) {
        let repo = query_name(folder, number);
        let _ = match query.parent {
            None => writeln!(out, "{repo}\t\t\t\t{STRANGER}\t0"),
            Some((parent, r)) => {
                let family = self.models[parent as usize].family;
                let root = name(self.roots[family as usize]);
                let relation = if query.moved { MOVED } else { "tuned" };
                writeln!(out, "{repo}\t{family}\t{root}\t{}\t{relation}\t{r:.6}", name(parent))
            }
        };
    }
}

fn query_name(folder: &str, number: u32) -> String {
    format!("{folder}/{}{number}", &folder[..1])
}

fn name(number: u32) -> String {
    format!("org{}/model-{number}", mix(u64::from(number)) % 9973)
}

/// A child of correlation `r`.
fn tuned<const N: usize>(parent: &[f32; N], noise: &[f32; N], r: f32) -> [f32; N] {
    let rest = (1.0 - r * r).max(0.0).sqrt();
    std::array::from_fn(|i| r * parent[i] + rest * noise[i])
}

/// The correlation of parent and child, from two uniform draws.
fn correlation(kind: f64, u: f64) -> f64 {
    let between = |low: f64, high: f64| low + (high - low) * u;
    match kind {
        k if k < 0.60 => 1.0 - 10f64.powf(-between(1.5, 3.5)),
        k if k < 0.78 => between(0.98, 0.999),
        k if k < 0.90 => between(0.9, 0.97),
        k if k < 0.97 => between(0.5, 0.9),
        _ => between(0.2, 0.5),
    }
}
