//! Which rows of a tensor are read: a pure function of role and shape, never of file order, shard layout
//! or dtype, so that two models are always compared at the same positions.

use std::ops::Range;

use super::roles::{Position, Role};

/// Elements read of one matrix: enough for a usable column, 8 KB in 16-bit weights.
const MATRIX_ELEMENTS: u64 = 4096;
/// Most rows read of one matrix; tiny models would otherwise be read whole.
const MATRIX_ROWS: u64 = 64;
/// First token of each embedding block. Token ids below 128 are special tokens and bytes, little trained;
/// the blocks spread over frequent and rare tokens. Blocks past the vocabulary are absent.
const EMBEDDING_STARTS: [u64; 4] = [128, 512, 2048, 8192];
/// First row read of an output head: a token that is trained.
const HEAD_START: u64 = 512;
/// Tokens in an embedding block.
const EMBEDDING_ROWS: u64 = 64;

/// Elements read of one matrix for more detail: 32 rows of 4,096, a quarter megabyte in 16-bit weights.
const DETAIL_ELEMENTS: u64 = 1 << 17;
/// Fewest rows of a down projection read for more detail, where they have at most so many elements: every row is
/// one more number in the code of each neuron.
const NEURON_ROWS: u64 = 32;
const NEURON_ELEMENTS: u64 = 1 << 19;
/// Largest key or value projection that is read whole for more detail.
const WHOLE_ELEMENTS: u64 = 1 << 20;

/// Longest row that is read. Public models have at most 53,248 columns (the MLP of Llama 3.1 405B).
pub const MAX_COLUMNS: u64 = 1 << 18;

/// The rows to read of a tensor with this position and shape, in order. Empty when there is nothing
/// usable.
pub fn rows(position: Position, rows: u64, columns: u64) -> Vec<Range<u64>> {
    if rows == 0 || !(2..=MAX_COLUMNS).contains(&columns) {
        return Vec::new();
    }
    match position.role {
        role if role.is_norm() => std::iter::once(0..1).collect(),
        Role::Embedding => EMBEDDING_STARTS
            .iter()
            .map(|&start| start..start + EMBEDDING_ROWS)
            .filter(|block| block.end <= rows)
            .collect(),
        role => {
            let wanted = (MATRIX_ELEMENTS / columns).clamp(1, MATRIX_ROWS).min(rows);
            std::iter::once(block(role, rows, wanted)).collect()
        }
    }
}

/// The rows to read of a matrix where more than the canonical ones are wanted: all of them up to
/// a million elements for keys and values, whose rows tell a reordering of heads, and otherwise some
/// 130,000 elements, which tell the rank of a difference; of down projections at least 32 rows, which tell the
/// neurons. They hold the canonical rows. `None` for other
/// tensors.
pub fn detail(position: Position, rows: u64, columns: u64) -> Option<Range<u64>> {
    if !position.role.is_matrix_or_head() || rows == 0 || !(2..=MAX_COLUMNS).contains(&columns) {
        return None;
    }
    let elements = rows.saturating_mul(columns);
    let whole = matches!(position.role, Role::Key | Role::Value) && elements <= WHOLE_ELEMENTS;
    let codes = position.role == Role::Down && NEURON_ROWS * columns <= NEURON_ELEMENTS;
    let least = if codes { NEURON_ROWS } else { 1 };
    let wanted = if whole { rows } else { (DETAIL_ELEMENTS / columns).max(least).min(rows) };
    Some(block(position.role, rows, wanted))
}

/// So many neighbouring rows of a matrix.
fn block(role: Role, rows: u64, wanted: u64) -> Range<u64> {
    let start = match role {
        Role::Head => HEAD_START.min(rows - wanted),
        _ if reads_tail(role) => rows - wanted,
        _ => 0,
    };
    start..start + wanted
}

/// Whether the last rows are read instead of the first. Files written by transformers hold tensors in name
/// order; these choices put blocks of neighbouring tensors, with the norm gain between them, into one range
/// for the Llama and BERT names (`v` tail, attention norm, `down` head; `up` tail, MLP norm, `k` head).
pub(super) fn reads_tail(role: Role) -> bool {
    matches!(role, Role::Value | Role::Up | Role::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(role: Role) -> Position {
        Position::main(role, 0)
    }

    #[test]
    fn blocks_are_bounded_and_inside() {
        for (r, c) in [(4096, 4096), (11008, 4096), (96, 96), (1, 2), (3, 100_000), (1_000_000, 64)] {
            for role in [Role::Query, Role::Value, Role::Down] {
                for block in rows(at(role), r, c) {
                    assert!(block.start < block.end && block.end <= r);
                    assert!((block.end - block.start) * c <= MATRIX_ELEMENTS.max(c));
                }
            }
        }
    }

    #[test]
    fn embedding_blocks_stay_when_the_vocabulary_grows() {
        assert_eq!(rows(at(Role::Embedding), 1000, 96), [128..192, 512..576]);
        assert_eq!(rows(at(Role::Embedding), 1100, 96), [128..192, 512..576]);
        assert!(rows(at(Role::Embedding), 100, 96).is_empty());
    }

    #[test]
    fn detail_holds_the_canonical_rows() {
        for (r, c) in [(4096, 4096), (11008, 4096), (384, 384), (5, 70_000), (1, 2)] {
            for role in [Role::Query, Role::Value, Role::Key, Role::Down, Role::Up] {
                let detail = detail(at(role), r, c).unwrap();
                assert!(detail.start < detail.end && detail.end <= r);
                for block in rows(at(role), r, c) {
                    assert!(detail.start <= block.start && block.end <= detail.end, "{role:?} {r} x {c}");
                }
            }
        }
        assert_eq!(detail(at(Role::Key), 384, 384), Some(0..384));
        assert_eq!(detail(at(Role::Query), 4096, 4096), Some(0..32));
        assert_eq!(detail(at(Role::Down), 4096, 11008), Some(0..32));
        assert_eq!(detail(at(Role::Down), 16384, 53248), Some(0..2));
        assert_eq!(detail(at(Role::AttentionNorm), 1, 64), None);
    }

    #[test]
    fn absurd_shapes_are_not_read() {
        assert!(rows(at(Role::Query), 4, u64::MAX).is_empty());
        assert!(rows(at(Role::Query), 0, 64).is_empty());
    }
}
