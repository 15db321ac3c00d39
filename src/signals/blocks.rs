//! What was read of a checkpoint, decoded.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::coverage::{Coverage, Extent};
use super::roles::{Position, Role};
use super::sample;
use super::tokens::TokenKeys;

/// Some bytes from the middle of a tensor that no test compares: equal ones in two models say that they share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// First eight bytes of the SHA-256 of the bytes, and of the size of the tensor.
    pub digest: u64,
    /// Bytes of the whole tensor.
    pub size: u64,
}

/// Consecutive rows of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Where the tensor sits.
    pub position: Position,
    /// First row of the block in its tensor.
    pub start: u64,
    /// Rows of the whole tensor.
    pub tensor_rows: u64,
    /// Length of a row.
    pub columns: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

impl Block {
    /// The rows in the block, with their number in the tensor.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        (self.start..).zip(self.values.chunks_exact(self.columns.max(1)))
    }

    /// The parts that the database's fingerprint is made of: the canonical rows, where the block holds them
    /// completely. A block that was read for more detail holds other rows too.
    pub fn canonical(&self) -> Vec<(u64, &[f32])> {
        let held = self.start..self.start + (self.values.len() / self.columns.max(1)) as u64;
        let inside = |rows: &Range<u64>| held.start <= rows.start && rows.end <= held.end;
        sample::rows(self.position, self.tensor_rows, self.columns as u64)
            .into_iter()
            .filter(inside)
            .filter_map(|rows| {
                let at = |row: u64| (row - held.start) as usize * self.columns;
                Some((rows.start, self.values.get(at(rows.start)..at(rows.end))?))
            })
            .collect()
    }
}

/// Values as the bytes that digests are taken of: little-endian, and only where the machine is not, a copy.
pub fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(values.as_bytes())
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Everything read of one model's weights.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Width of the residual stream: the commonest row length among blocks that run over it.
    pub hidden_size: usize,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding, where it is known.
    pub vocabulary: Option<u32>,
    /// The blocks, in canonical order.
    pub blocks: Vec<Block>,
    /// Which token an embedding row belongs to, where the tokenizer is known.
    pub tokens: Option<Arc<TokenKeys>>,
    /// Whether the matrices are packed or lie on a grid of few values.
    pub quantised: bool,
    /// Of an adapter, whose matrices are differences to those of another model, their rank.
    pub rank: Option<u32>,
    /// How much of the model this is; `None` where it is not known.
    pub coverage: Option<Coverage>,
    /// Digests of bytes of tensors that are not among the blocks, by name; see [`Probe`].
    pub probes: BTreeMap<String, Probe>,
}

impl Blocks {
    /// Puts the blocks in canonical order, whatever the order of files and tensors.
    pub fn new(
        layers: u16,
        vocabulary: Option<u32>,
        mut blocks: Vec<Block>,
        tokens: Option<Arc<TokenKeys>>,
    ) -> Self {
        blocks.retain(|b| b.columns > 0);
        // The longer of two blocks that begin together first; what another block holds as well is dropped.
        let end = |b: &Block| b.start + (b.values.len() / b.columns) as u64;
        blocks.sort_by_key(|b| (b.position, b.start, Reverse(end(b))));
        let mut covered: Option<(Position, u64)> = None;
        blocks.retain(|b| {
            let again = covered.is_some_and(|(position, until)| position == b.position && end(b) <= until);
            if !again {
                covered = Some((b.position, end(b)));
            }
            !again
        });
        let hidden_size = hidden_size(&blocks).unwrap_or(0);
        let quantised = lies_on_a_grid(&blocks);
        drop_tied_head(&mut blocks);
        let (rank, coverage, probes) = (None, None, BTreeMap::new());
        Self { hidden_size, layers, vocabulary, blocks, tokens, quantised, rank, coverage, probes }
    }

    /// How much of the model this is, and of how many tokens.
    pub fn extent(&self) -> Extent {
        let tokens = self.tokens.as_ref().map(|tokens| u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        Extent { rank: self.rank, ..Extent::new(self.coverage.as_ref(), self.quantised, tokens) }
    }

    /// The rows of the token embedding that were read, by token id.
    pub fn embedding(&self) -> BTreeMap<u64, &[f32]> {
        self.blocks
            .iter()
            .filter(|b| b.position.role == Role::Embedding && b.columns == self.hidden_size)
            .flat_map(Block::rows)
            .collect()
    }
}

/// An output head whose rows are those of the embedding is the embedding, stored twice.
fn drop_tied_head(blocks: &mut Vec<Block>) {
    let embedding: BTreeMap<u64, &[f32]> =
        blocks.iter().filter(|b| b.position.role == Role::Embedding).flat_map(Block::rows).collect();
    let is_tied = |block: &Block| {
        let mut common = block.rows().filter_map(|(id, row)| Some((row, *embedding.get(&id)?))).peekable();
        common.peek().is_some() && common.all(|(row, other)| row == other)
    };
    let tied = blocks.iter().any(|block| block.position.role == Role::Head && is_tied(block));
    blocks.retain(|block| !tied || block.position.role != Role::Head);
}

fn hidden_size(blocks: &[Block]) -> Option<usize> {
    let mut votes = BTreeMap::new();
    for block in blocks.iter().filter(|b| b.position.row_is_residual()) {
        *votes.entry(block.columns).or_insert(0usize) += 1;
    }
    votes.into_iter().max_by_key(|&(columns, count)| (count, columns)).map(|(columns, _)| columns)
}

/// Whether most matrix rows are multiples of a step, as rows of 4 or 8 bits with a scale are: nothing but 0 is
/// nearer to 0 than a 256th of the largest element. In nine of ten rows of 256 normally distributed elements one
/// is nearer. The number of distinct values does not tell: a row of 576 bf16 weights has some 200, as one of
/// 8-bit codes does.
fn lies_on_a_grid(blocks: &[Block]) -> bool {
    const LEAST_COLUMNS: usize = 256;
    let (mut on, mut off) = (0usize, 0usize);
    for block in blocks.iter().filter(|b| b.position.role.is_matrix() && b.columns >= LEAST_COLUMNS) {
        for (_, row) in block.rows().take(1) {
            let (least, most) = magnitudes(row);
            if least >= most / 256.0 { on += 1 } else { off += 1 }
        }
    }
    on > off
}

/// The smallest magnitude other than 0, and the largest; both 0 where there is none. What is no number is left out.
fn magnitudes(values: &[f32]) -> (f32, f32) {
    // As integers, which have the same order, and of which eight are compared at once.
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let (mut before_least, mut most) = (u32::MAX, 0);
    for value in values {
        let bits = value.abs().to_bits();
        let bits = if bits > INFINITY { 0 } else { bits };
        // 0 becomes the largest of all.
        before_least = before_least.min(bits.wrapping_sub(1));
        most = most.max(bits);
    }
    (f32::from_bits(before_least.wrapping_add(1)), f32::from_bits(most))
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::signals::testing::gaussian;

    #[test]
    fn magnitudes_are_of_numbers_other_than_zero() {
        assert_eq!(magnitudes(&[0.0, -3.0, f32::NAN, 1e-40, -0.0, 2.0]), (1e-40, 3.0));
        assert_eq!(magnitudes(&[f32::NEG_INFINITY, 7.0]), (7.0, f32::INFINITY));
        assert_eq!(magnitudes(&[0.0, f32::NAN]), (0.0, 0.0));
    }

    #[test]
    fn rounding_to_a_scale_is_seen_and_a_cast_is_not() {
        const COLUMNS: usize = 576;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut quantised = |round: fn(f32, f32) -> f32| {
            let block = |layer| {
                let row: Vec<f32> = (0..COLUMNS).map(|_| gaussian(&mut rng)).collect();
                let most = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                let values = row.iter().map(|v| round(*v, most)).collect();
                let position = Position::main(Role::Query, layer);
                Block { position, start: 0, tensor_rows: 1, columns: COLUMNS, values }
            };
            Blocks::new(9, None, (0..9).map(block).collect(), None).quantised
        };
        assert!(quantised(|v, most| (v / most * 127.0).round() * most / 127.0));
        assert!(quantised(|v, most| (v / most * 7.0).round() * most / 7.0));
        assert!(!quantised(|v, _| bf16::from_f32(v).to_f32()));
    }
}
