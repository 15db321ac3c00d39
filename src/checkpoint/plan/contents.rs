//! What the opened files hold: the weights that have a role, where they are, and how they are stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::ask::Ask;
use super::coverage::{Count, Fate, Size};
use super::spread::evenly;
use crate::checkpoint::adapter;
use crate::checkpoint::container::Tensors;
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{Encoding, FileRange, Form, PartRange, Weight};
use crate::signals::Coverage;
use crate::signals::roles::{self, Layout, Position, Role, Stack};

/// Most bytes of a matrix that must be read whole: the keys of Llama 3 8B in GPTQ's 4 bits have 2.2 MB.
const WHOLE_BYTES: u64 = 2_250_000;

/// What the opened files hold.
pub(super) struct Contents<'a> {
    /// In file order.
    pub(super) weights: Vec<Readable<'a>>,
    /// Weights that are not known before these bytes have been read.
    pub(super) waiting: Vec<(Position, FileRange)>,
    pub(super) unreadable: BTreeMap<Role, String>,
    /// How much that is of the files.
    pub(super) coverage: Coverage,
    /// Layers with matrices, readable or not: copies of one model are sampled alike.
    pub(super) layers: BTreeSet<u16>,
}

/// A weight that has a role and can be decoded.
pub(super) struct Readable<'a> {
    pub(super) position: Position,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) encoding: Arc<dyn Encoding>,
    parts: BTreeMap<&'a str, FileRange>,
}

impl Readable<'_> {
    /// First of its bytes.
    fn place(&self) -> Option<(usize, u64)> {
        self.parts.values().next().map(|at| (at.file, at.bytes.start))
    }

    /// The bytes of these rows; the reason where a part ends before them.
    fn pieces(&self, rows: &Range<u64>) -> Result<Vec<FileRange>, String> {
        let ranges = self.encoding.ranges(rows, self.columns)?.into_iter();
        let piece = |range: PartRange| {
            let part = self.parts.get(range.suffix)?;
            let within = |byte: u64| part.bytes.start.checked_add(byte).filter(|at| *at <= part.bytes.end);
            let bytes = within(range.bytes.start)?..within(range.bytes.end)?;
            Some(FileRange { file: part.file, bytes })
        };
        ranges.map(piece).collect::<Option<_>>().ok_or_else(|| "an empty tensor".to_owned())
    }
}

impl<'a> Contents<'a> {
    /// Of the experts of a layer the first is read, and the one that sees every token.
    pub(super) fn of(tensors: &'a dyn Tensors, config: &QuantConfig, states: &States) -> Self {
        let weights = tensors.weights(config, states);
        let (positions, naming) = if tensors.adapter().is_some() {
            // What lies beside the differences is no weight of the same kind, whatever it is called.
            roles::of_differences(weights.iter().map(|weight| {
                if adapter::is_difference(weight) { (&*weight.name, &*weight.shape) } else { ("", &[][..]) }
            }))
        } else {
            roles::survey(weights.iter().map(|weight| (&*weight.name, &*weight.shape)))
        };
        let others: HashMap<&str, &str> = naming
            .others()
            .iter()
            .flat_map(|other| other.tensors.iter().map(|name| (name.as_str(), other.prefix.as_str())))
            .collect();
        let mut contents = Self {
            weights: Vec::new(),
            waiting: Vec::new(),
            unreadable: BTreeMap::new(),
            coverage: Coverage::default(),
            layers: BTreeSet::new(),
        };
        let widths = widths(&weights, &positions);
        let mut count = Count::default();
        for (weight, position) in weights.into_iter().zip(positions) {
            let size = Size::of(&weight);
            let Some(position) = position else {
                let nameless = Fate::Nameless { name: &weight.name, shape: &weight.shape };
                count.add(
                    size,
                    others.get(&*weight.name).map_or(nameless, |prefix| Fate::OfComponent(prefix)),
                );
                continue;
            };
            if !matches!(position.expert, None | Some(0 | Position::SHARED)) {
                // As the first one of its layer, which is sampled for all of them.
                let unreadable =
                    if let Form::Unreadable(reason) = &weight.form { Some(reason) } else { None };
                count.add(size, unreadable.map_or(Fate::Read, |reason| Fate::Unreadable(reason)));
                continue;
            }
            if position.role.is_matrix() {
                contents.layers.insert(position.layer);
            }
            // Of those that wait some are read: those of layers that are sampled.
            let waits = matches!(weight.form, Form::After(_));
            let is_turned = matches!(&weight.form, Form::Stored(of) if of.is_strided() && !of.is_quantised());
            match contents.add(position, weight, widths.get(&position.stack).copied()) {
                Err(reason) => {
                    let fate = match () {
                        () if waits => Fate::Read,
                        () if is_turned => Fate::Turned,
                        () => Fate::Unreadable(&reason),
                    };
                    count.add(size, fate);
                    contents.unreadable.entry(position.role).or_insert(reason);
                }
                Ok(()) => count.add(size, Fate::Read),
            }
        }
        contents.coverage = count.finish();
        contents.weights.sort_by_key(Readable::place);
        contents
    }

    /// Takes a weight of a stack whose hidden dimension is so wide; the reason where it is not read.
    fn add(&mut self, position: Position, weight: Weight<'a>, width: Option<u64>) -> Result<(), String> {
        let (mut rows, mut columns) = position.matrix(&weight.shape);
        let Weight { parts, form, .. } = weight;
        let encoding = match form {
            Form::Stored(encoding) => encoding,
            Form::Flat(flat) => {
                let shape = width.and_then(|width| position.matrix_of(flat.elements(), width));
                (rows, columns) =
                    shape.ok_or("the shape is not stored, and the width of the model does not tell it")?;
                flat.shaped(rows, columns)
            }
            Form::After(bytes) => {
                self.waiting.push((position, bytes));
                return Err("the state was not read".into());
            }
            Form::Unreadable(reason) => return Err(reason),
        };
        let weight = Readable { position, rows, columns, encoding, parts };
        // Of a stack of no experts there is no first one.
        weight.pieces(&(0..rows))?;
        if weight.encoding.is_strided() {
            let costs_whole = format!("{}, of which a row costs the whole matrix", weight.encoding.name());
            if weight.pieces(&(0..1))?.iter().map(FileRange::len).sum::<u64>() > WHOLE_BYTES {
                return Err(costs_whole);
            }
            // Read in few places; the reason is reported where there was none.
            self.unreadable.entry(position.role).or_insert(costs_whole);
        }
        self.weights.push(weight);
        Ok(())
    }

    /// The layers whose matrices are sampled.
    pub(super) fn sampled_layers(&self, most: usize) -> Vec<u16> {
        evenly(self.layers.iter().copied().collect(), most)
    }

    /// Every block of the wanted rows, in file order. `wanted` has a weight, the position of it or of a part of
    /// it, and its rows. A fused matrix is asked for as its parts.
    pub(super) fn candidates(
        &self,
        canonical: bool,
        wanted: impl Fn(&Readable<'_>, Position, u64) -> Vec<Range<u64>>,
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
                    let Ok(pieces) = weight.pieces(&rows) else { continue };
                    let (columns, start) = (weight.columns as usize, block.start);
                    let encoding = Arc::clone(&weight.encoding);
                    asks.push(Ask {
                        position,
                        start,
                        tensor_rows,
                        columns,
                        encoding,
                        rows,
                        pieces,
                        canonical,
                    });
                }
            }
        }
        asks
    }
}

/// How wide the hidden dimension of each stack is: as its norms, or the embedding. None where layers have norms of
/// latent vectors, whose matrices have another width.
fn widths(weights: &[Weight<'_>], positions: &[Option<Position>]) -> BTreeMap<Stack, u64> {
    let mut widths = BTreeMap::new();
    for (weight, position) in weights.iter().zip(positions) {
        let Some(position) = position else { continue };
        match position.role {
            Role::QueryLatent | Role::KvLatent => return BTreeMap::new(),
            Role::FinalNorm | Role::AttentionNorm | Role::MlpNorm if !weight.shape.is_empty() => {
                widths.insert(position.stack, position.matrix(&weight.shape).1);
            }
            // Of ALBERT and some OPT the embedding is narrower, so it counts where no norm does.
            Role::Embedding if !weight.shape.is_empty() => {
                widths.entry(position.stack).or_insert(position.matrix(&weight.shape).1);
            }
            _ => {}
        }
    }
    widths
}
