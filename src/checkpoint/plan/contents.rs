//! What the opened files hold: the weights that have a role, where they are, and how they are packed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::ask::{Ask, Decoding, Fetch};
use super::spread::evenly;
use crate::formats::packed::{self, Facts, Form, Located, Packing, States, Tensors};
use crate::formats::{Dtype, Header};
use crate::signals::roles::{self, Layout, Position, Role, Stack};

/// Most bytes of a matrix that must be read whole: the keys of Llama 3 8B in GPTQ's 4 bits have 2.2 MB.
const WHOLE_BYTES: u64 = 2_250_000;

/// What the opened files hold.
pub(super) struct Contents<'a> {
    /// In file order.
    pub(super) weights: Vec<Weight<'a>>,
    /// Weights that are not known before this tensor has been read.
    pub(super) waiting: Vec<(Position, Located<'a>)>,
    pub(super) unreadable: BTreeMap<Role, String>,
    /// Layers with matrices, readable or not: copies of one model are sampled alike.
    pub(super) layers: BTreeSet<u16>,
}

/// A weight that has a role and can be decoded.
pub(super) struct Weight<'a> {
    pub(super) position: Position,
    pub(super) rows: u64,
    pub(super) columns: u64,
    source: Source<'a>,
}

enum Source<'a> {
    Plain { at: Located<'a>, dtype: Dtype },
    Packed { tensors: Tensors<'a>, packing: Arc<Packing> },
}

impl Weight<'_> {
    /// Whether a row costs the whole matrix.
    pub(super) fn is_strided(&self) -> bool {
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
    pub(super) fn of(headers: &'a [Header], facts: &Facts, states: &States) -> Self {
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
    pub(super) fn sampled_layers(&self, most: usize) -> Vec<u16> {
        evenly(self.layers.iter().copied().collect(), most)
    }

    /// Every block of the wanted rows, in file order. `wanted` has a weight, the position of it or of a part of
    /// it, and its rows. A fused matrix is asked for as its parts.
    pub(super) fn candidates(
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
