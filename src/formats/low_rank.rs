//! A difference of weights as a product of two thin matrices, `B A` with `B [out, r]` and `A [r, in]`: LoRA. Whatever basis
//! of the rank the two are in, the product is the same. The factor that it is applied with (`alpha / r`) is in a config or a
//! tensor of its own and is left out: two products are compared up to a factor.

use std::ops::Range;
use std::sync::Arc;

use super::weight::{Encoding, PartRange};

/// Largest rank that is read; published adapters have up to 512. What the budget of a crawl allows may be less, because a
/// row of the product takes the whole of `A`.
pub const MOST_RANK: u64 = 1024;
/// Most elements of a product, 8 GB in F32: the largest embeddings have a quarter of it.
const MOST_ELEMENTS: u64 = 1 << 31;

/// One of the two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// `A [r, in]`.
    Down,
    /// `B [out, r]`.
    Up,
}

impl Side {
    /// Its key among the parts of a weight.
    pub fn key(self) -> &'static str {
        match self {
            Self::Down => "A",
            Self::Up => "B",
        }
    }
}

/// What stands between the name of a layer and the end of the name, by peft, kohya and diffusers.
const MARKS: [(&str, Side); 10] = [
    (".lora_A.", Side::Down),
    (".lora_B.", Side::Up),
    (".lora_down.", Side::Down),
    (".lora_up.", Side::Up),
    (".lora.down.", Side::Down),
    (".lora.up.", Side::Up),
    (".lora_linear_layer.down.", Side::Down),
    (".lora_linear_layer.up.", Side::Up),
    ("_lora.down.", Side::Down),
    ("_lora.up.", Side::Up),
];

/// One of the two matrices by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half<'a> {
    /// The layer that it changes.
    pub layer: &'a str,
    /// Which of the two it is.
    pub side: Side,
    /// Of which adapter, where a file has several: `default` is often left out.
    pub adapter: &'a str,
    /// Whether it is stored as `[columns, rows]`.
    pub is_turned: bool,
}

/// How the names of MLX end, which stores `A` as `[in, r]` and `B` as `[r, out]`.
const TURNED: [(&str, Side); 2] = [(".lora_a", Side::Down), (".lora_b", Side::Up)];

/// What a tensor of this name is; `None` for one of another kind.
pub fn half(name: &str) -> Option<Half<'_>> {
    if let Some((layer, side)) = TURNED.iter().find_map(|(end, side)| Some((name.strip_suffix(end)?, *side)))
    {
        return Some(Half { layer, side, adapter: "", is_turned: true });
    }
    let inner = name.strip_suffix("weight").filter(|inner| inner.ends_with('.'))?;
    MARKS.iter().find_map(|(mark, side)| {
        let (layer, rest) = inner.rsplit_once(mark)?;
        Some(Half { layer, side: *side, adapter: rest.trim_end_matches('.'), is_turned: false })
    })
}

/// A small matrix that is stored as `[columns, rows]`, in whatever way: all of it is read for any row.
#[derive(Debug)]
pub struct Turned {
    stored: Arc<dyn Encoding>,
    /// Rows and columns as it is stored.
    shape: (u64, u64),
}

impl Turned {
    /// Of a matrix that is stored so, with so many rows and columns.
    pub fn new(stored: Arc<dyn Encoding>, shape: (u64, u64)) -> Self {
        Self { stored, shape }
    }
}

impl Encoding for Turned {
    fn name(&self) -> &str {
        self.stored.name()
    }

    fn is_quantised(&self) -> bool {
        self.stored.is_quantised()
    }

    fn is_strided(&self) -> bool {
        true
    }

    fn ranges(&self, _: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        self.stored.ranges(&(0..self.shape.0), self.shape.1)
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let all = self.stored.decode(0..self.shape.0, pieces)?;
        let width = usize::try_from(self.shape.1).unwrap_or(usize::MAX);
        let value = |row: u64| {
            let row = usize::try_from(row).ok().filter(|row| *row < width);
            let all = &all;
            move |line: usize| all.get(line * width + row?).copied()
        };
        let lines = all.len().checked_div(width).unwrap_or(0);
        let values: Option<Vec<f32>> = rows.flat_map(|row| (0..lines).map(value(row))).collect();
        values.ok_or_else(|| "no such rows".to_owned())
    }
}

/// How a product is stored.
#[derive(Debug)]
pub struct LowRank {
    down: Arc<dyn Encoding>,
    up: Arc<dyn Encoding>,
    rank: u64,
    columns: u64,
}

impl LowRank {
    /// Of `A [rank, columns]` and `B [.., rank]` in these encodings; why they are no pair in the words of a report.
    pub fn new(
        (down, of_down): (Arc<dyn Encoding>, &[u64]),
        (up, of_up): (Arc<dyn Encoding>, &[u64]),
    ) -> Result<Self, String> {
        let mismatch = || format!("A of shape {of_down:?} and B of shape {of_up:?} are no pair");
        // A convolution has its kernel in A, and ones in B.
        let flat = |shape: &[u64]| shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let (Some((rank, inner)), Some((_, inner_of_up))) = (of_down.split_first(), of_up.split_first())
        else {
            return Err(mismatch());
        };
        let columns = flat(inner).filter(|n| *n > 0).ok_or_else(mismatch)?;
        if flat(inner_of_up) != Some(*rank) || *rank == 0 {
            return Err(mismatch());
        }
        if *rank > MOST_RANK {
            return Err(format!("a rank of {rank}, and at most {MOST_RANK} is read"));
        }
        if of_up.first().is_none_or(|rows| rows.checked_mul(columns).is_none_or(|n| n > MOST_ELEMENTS)) {
            return Err(format!(
                "a product of {of_up:?} and {of_down:?} has more than {MOST_ELEMENTS} elements"
            ));
        }
        Ok(Self { down, up, rank: *rank, columns })
    }

    /// Columns of the product.
    pub fn columns(&self) -> u64 {
        self.columns
    }
}

impl Encoding for LowRank {
    fn name(&self) -> &str {
        self.up.name()
    }

    fn is_quantised(&self) -> bool {
        false
    }

    fn is_product(&self) -> bool {
        true
    }

    fn ranges(&self, rows: &Range<u64>, _: u64) -> Result<Vec<PartRange>, String> {
        let of = |encoding: &Arc<dyn Encoding>, rows: &Range<u64>, columns, side: Side| {
            let ranges = encoding.ranges(rows, columns)?;
            match ranges.as_slice() {
                [range] => Ok(PartRange { suffix: side.key(), bytes: range.bytes.clone() }),
                _ => Err(format!("{} in several parts", encoding.name())),
            }
        };
        Ok(vec![
            of(&self.down, &(0..self.rank), self.columns, Side::Down)?,
            of(&self.up, rows, self.rank, Side::Up)?,
        ])
    }

    fn decode(&self, rows: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        let [down, up] = pieces else { return Err("not in two pieces".into()) };
        let down = self.down.decode(0..self.rank, &[down])?;
        let up = self.up.decode(rows, &[up])?;
        let as_length = |n: u64| usize::try_from(n).map_err(|_| "more than this machine can hold".to_owned());
        let (rank, columns) = (as_length(self.rank)?, as_length(self.columns)?);
        if down.len() != rank * columns {
            return Err(format!("A has {} values instead of {}", down.len(), rank * columns));
        }
        let mut values = Vec::with_capacity(up.len() / rank * columns);
        let mut sum = vec![0.0f64; columns];
        for row in up.chunks_exact(rank) {
            sum.fill(0.0);
            for (factor, inner) in row.iter().zip(down.chunks_exact(columns)) {
                for (sum, value) in sum.iter_mut().zip(inner) {
                    *sum += f64::from(*factor) * f64::from(*value);
                }
            }
            values.extend(sum.iter().map(|value| *value as f32));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Dtype;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn pair(down: &[u64], up: &[u64]) -> Result<LowRank, String> {
        LowRank::new((Arc::new(Dtype::F32), down), (Arc::new(Dtype::F32), up))
    }

    #[test]
    fn names_tell_the_layer_and_the_side() {
        for (name, layer, side, adapter) in [
            ("a.q_proj.lora_A.weight", "a.q_proj", Side::Down, ""),
            ("a.q_proj.lora_B.default.weight", "a.q_proj", Side::Up, "default"),
            ("lora_unet_x.lora_down.weight", "lora_unet_x", Side::Down, ""),
            ("unet.to_q_lora.up.weight", "unet.to_q", Side::Up, ""),
            ("x.lora.down.weight", "x", Side::Down, ""),
            ("te.q_proj.lora_linear_layer.up.weight", "te.q_proj", Side::Up, ""),
        ] {
            assert_eq!(half(name), Some(Half { layer, side, adapter, is_turned: false }), "{name}");
        }
        let of_mlx = half("model.layers.0.q_proj.lora_b");
        assert_eq!(
            of_mlx,
            Some(Half { layer: "model.layers.0.q_proj", side: Side::Up, adapter: "", is_turned: true })
        );
        for name in ["a.weight", "a.lora_embedding_A", "a.alpha", "a.lora_magnitude_vector.weight", "weight"]
        {
            assert_eq!(half(name), None, "{name}");
        }
    }

    #[test]
    fn rows_are_those_of_the_product_in_whatever_basis() {
        let (down, up) = ([1.0, 2.0, 3.0, 0.5, -1.0, 0.0], [1.0, 0.0, 2.0, 1.0, 0.0, -4.0]);
        let made = pair(&[2, 3], &[3, 2]).unwrap();
        let ranges = made.ranges(&(1..3), 3).unwrap();
        assert_eq!((ranges[0].suffix, ranges[0].bytes.clone()), ("A", 0..24));
        assert_eq!((ranges[1].suffix, ranges[1].bytes.clone()), ("B", 8..24));
        let whole = made.decode(0..3, &[&f32s(&down), &f32s(&up)]).unwrap();
        assert_eq!(whole, [1.0, 2.0, 3.0, 2.5, 3.0, 6.0, -2.0, 4.0, 0.0]);
        assert_eq!(made.decode(1..3, &[&f32s(&down), &f32s(&up[2..])]).unwrap(), whole[3..]);
        // The two rows of A exchanged and scaled, and the columns of B so that nothing changes.
        let turned = [1.0, -2.0, 0.0, 4.0, 8.0, 12.0];
        let back = [0.0, 0.25, 0.5, 0.5, -2.0, 0.0];
        assert_eq!(made.decode(0..3, &[&f32s(&turned), &f32s(&back)]).unwrap(), whole);
    }

    #[test]
    fn what_lies_turned_is_read_as_what_it_is() {
        let stored = f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let turned = Turned::new(Arc::new(Dtype::F32), (2, 3));
        assert_eq!(turned.ranges(&(1..2), 2).unwrap()[0].bytes, 0..24);
        assert_eq!(turned.decode(0..3, &[&stored]).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(turned.decode(1..2, &[&stored]).unwrap(), [2.0, 5.0]);
        assert!(turned.decode(2..4, &[&stored]).is_err());
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for (down, up) in [
            (&[2, 3][..], &[3, 4][..]),
            (&[2], &[]),
            (&[0, 3], &[3, 0]),
            (&[2, 0], &[3, 2]),
            (&[2048, 3], &[3, 2048]),
            (&[1, 1 << 20], &[1 << 20, 1]),
        ] {
            assert!(pair(down, up).is_err(), "{down:?} {up:?}");
        }
        assert!(pair(&[4, 3, 3, 3], &[8, 4, 1, 1]).is_ok_and(|conv| conv.columns() == 27));
        assert!(pair(&[2, 3], &[3, 2]).unwrap().decode(0..1, &[&[0; 4], &[0; 8]]).is_err());
    }
}
