//! Values of a made-up checkpoint: each a function of the seed, the name of the weight and its place in it.
//!
//! Gains of norms are lognormal around a level of their layer, a handful of hidden dimensions far above the rest in
//! all layers; matrices are Gaussian with a standard deviation of about .02, embeddings with one of their row. Packed
//! weights are those values, rounded to what their codes can say; so a packed shape is a quantised copy of the plain
//! one with the same names and seed.
//!
//! Everything is drawn from standard normals. In a checkpoint that is related to another each of them is
//! `r` times the other's plus `sqrt(1 - r^2)` times one of its own, so values correlate by `r` whatever they are.

use std::ops::Range;
use std::sync::LazyLock;

use half::{bf16, f16};
use safetensors::Dtype;

use super::tensors::{Content, Tensor};
use crate::signals::hash::mix;
use crate::signals::normal;

/// Spread of gains within a tensor, as that of their logarithm.
const GAIN_SPREAD: f32 = 0.12;
/// What the logarithm of an outlier's gain has in addition.
const OUTLIER: f32 = 1.2;
/// One dimension in so many is an outlier.
const OUTLIERS: u64 = 600;
/// Standard deviation of matrices and embeddings, and how much that of one tensor or row departs from it.
const DEVIATION: f32 = 0.02;
const LEVEL_SPREAD: f32 = 0.15;
/// Magnitude of the largest code, in standard deviations of the weight: the largest of a block of 128 by 128, and
/// the largest of a group of 128.
const BLOCK_PEAK: f32 = 4.2;
const GROUP_PEAK: f32 = 3.2;
/// Largest number of FP8 (E4M3).
const LARGEST_BYTE: f32 = 448.0;
/// Middle of GPTQ's 4-bit codes; files of its first version hold it less 1, eight times a word.
const ZERO: f32 = 8.0;
const ZERO_WORD: u32 = 0x7777_7777;

/// Draws of one weight that are not its elements.
const LEVEL: u64 = 1;
const ROWS: u64 = 2;
const SCALES: u64 = 3;

/// Standard normals by 16 bits.
static NORMALS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let half = 1 << 15;
    let upper: Vec<f32> = (0..half)
        .map(|i| normal::quantile(0.5 + (f64::from(i) + 0.5) / f64::from(2 * half)) as f32)
        .collect();
    upper.iter().rev().map(|v| -v).chain(upper.iter().copied()).collect()
});

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    own: u64,
    from: Option<Parent>,
}

#[derive(Clone, Copy, Debug)]
struct Parent {
    seed: u64,
    /// Share of the other's draws, and of draws of its own.
    r: f32,
    rest: f32,
}

impl Source {
    /// Values of a seed, related to nothing else or to the model of another seed by a correlation.
    pub(super) fn new(seed: u64, from: Option<(u64, f64)>) -> Self {
        match from {
            None => Self { own: mix(seed), from: None },
            // Neither the noise of the other model, nor that of an unrelated one with this seed.
            Some((other, r)) => Self {
                own: mix(mix(seed) ^ mix(!other)),
                from: Some(Parent {
                    seed: mix(other),
                    r: r as f32,
                    rest: (1.0 - r * r).max(0.0).sqrt() as f32,
                }),
            },
        }
    }

    /// Mixes draws of the other model, if there is one, and own ones.
    fn mixed(self, draw: impl Fn(u64) -> f32) -> f32 {
        match self.from {
            None => draw(self.own),
            Some(from) => from.r * draw(from.seed) + from.rest * draw(self.own),
        }
    }

    /// One standard normal.
    fn normal(self, key: u64, index: u64) -> f32 {
        self.mixed(|seed| four(seed, key, index / 4)[(index % 4) as usize])
    }

    /// Consecutive standard normals.
    fn normals(self, key: u64, range: Range<u64>) -> Vec<f32> {
        let mut values = Vec::with_capacity((range.end - range.start) as usize + 6);
        let first = range.start / 4;
        for block in first..range.end.div_ceil(4) {
            values.extend(match self.from {
                None => four(self.own, key, block),
                Some(Parent { seed, r, rest }) => {
                    let (theirs, own) = (four(seed, key, block), four(self.own, key, block));
                    std::array::from_fn(|i| r * theirs[i] + rest * own[i])
                }
            });
        }
        values.truncate((range.end - 4 * first) as usize);
        values.drain(..(range.start % 4) as usize);
        values
    }

    /// These elements of a tensor that holds numbers.
    pub(super) fn floats(self, tensor: &Tensor, elements: Range<u64>) -> Vec<f32> {
        let values = Weight { source: self, key: name_key(&tensor.weight) }.floats(tensor, elements);
        match tensor.dtype {
            Dtype::F16 => values.into_iter().map(|v| f16::from_f32(v).to_f32()).collect(),
            Dtype::BF16 => values.into_iter().map(|v| bf16::from_f32(v).to_f32()).collect(),
            _ => values,
        }
    }

    /// The bytes of these elements.
    pub(super) fn bytes(self, tensor: &Tensor, elements: Range<u64>) -> Vec<u8> {
        let weight = Weight { source: self, key: name_key(&tensor.weight) };
        let columns = tensor.columns();
        match tensor.content {
            Content::Words(group) => weight.words(tensor, group, elements),
            Content::Zeros => elements.flat_map(|_| ZERO_WORD.to_le_bytes()).collect(),
            Content::Groups(group) => elements.flat_map(|i| ((i / group) as u32).to_le_bytes()).collect(),
            Content::Bytes(block) => weight.codes(columns, block, elements),
            _ => encode(tensor.dtype, &weight.floats(tensor, elements)),
        }
    }
}

/// Four standard normals.
fn four(seed: u64, key: u64, block: u64) -> [f32; 4] {
    let bits = mix(mix(seed ^ key).wrapping_add(block));
    std::array::from_fn(|i| NORMALS[(bits >> (16 * i) & 0xffff) as usize])
}

/// The draws of one weight.
#[derive(Clone, Copy)]
struct Weight {
    source: Source,
    key: u64,
}

impl Weight {
    fn normals(self, range: Range<u64>) -> Vec<f32> {
        self.source.normals(self.key, range)
    }

    /// A standard normal that is no element.
    fn draw(self, what: u64, index: u64) -> f32 {
        self.source.normal(mix(self.key ^ what), index)
    }

    fn deviation(self) -> f32 {
        DEVIATION * (LEVEL_SPREAD * self.draw(LEVEL, 0)).exp()
    }

    /// Elements of tensors that hold numbers.
    fn floats(self, tensor: &Tensor, elements: Range<u64>) -> Vec<f32> {
        let (columns, first) = (tensor.columns(), elements.start);
        match tensor.content {
            Content::Gain(depth) => {
                let level = (0.2 + 0.8 * depth) * (LEVEL_SPREAD * self.draw(LEVEL, 0)).exp();
                let gain = |(z, i): (f32, u64)| level * (GAIN_SPREAD * z + self.outlier(i)).exp();
                self.normals(elements.clone()).into_iter().zip(elements).map(gain).collect()
            }
            Content::Embedding => {
                let mut values = self.normals(elements);
                let mut at = first;
                while at < first + values.len() as u64 {
                    let row = at / columns;
                    let by = DEVIATION * (2.0 * LEVEL_SPREAD * self.draw(ROWS, row)).exp();
                    let end = ((row + 1) * columns).min(first + values.len() as u64);
                    values[(at - first) as usize..(end - first) as usize].iter_mut().for_each(|v| *v *= by);
                    at = end;
                }
                values
            }
            Content::Mask => {
                let seen = |i: u64| f32::from(u8::from(i % columns <= i / columns));
                elements.map(seen).collect()
            }
            Content::Frequencies(base) => {
                let frequency = |i: u64| base.powf(-(i as f64) / tensor.elements() as f64) as f32;
                elements.map(frequency).collect()
            }
            Content::ByteScales => elements.map(|block| self.byte_scale(block)).collect(),
            Content::GroupScales => elements.map(|place| self.group_scale(place)).collect(),
            _ => {
                let deviation = self.deviation();
                self.normals(elements).into_iter().map(|v| v * deviation).collect()
            }
        }
    }

    /// What the logarithm of a gain at this dimension has in addition, in all layers.
    fn outlier(self, dimension: u64) -> f32 {
        self.source.mixed(|seed| {
            let is_one = mix(!seed ^ mix(dimension)).is_multiple_of(OUTLIERS);
            if is_one { OUTLIER } else { 0.0 }
        })
    }

    /// What a code is multiplied with in this block.
    fn byte_scale(self, block: u64) -> f32 {
        let spread = (LEVEL_SPREAD / 2.0 * self.draw(SCALES, block)).exp();
        self.deviation() * BLOCK_PEAK / LARGEST_BYTE * spread
    }

    /// The same of GPTQ, for a group of a row: `place` counts rows first.
    fn group_scale(self, place: u64) -> f32 {
        let spread = (LEVEL_SPREAD / 2.0 * self.draw(SCALES, place)).exp();
        self.deviation() * GROUP_PEAK / ZERO * spread
    }

    fn codes(self, columns: u64, [down, across]: [u64; 2], elements: Range<u64>) -> Vec<u8> {
        let blocks = columns.div_ceil(across);
        let deviation = self.deviation();
        let (mut place, mut by) = (u64::MAX, 0.0);
        let normals = self.normals(elements.clone());
        let code = |(z, i): (f32, u64)| {
            let block = i / columns / down * blocks + i % columns / across;
            if block != place {
                (place, by) = (block, deviation / self.byte_scale(block));
            }
            e4m3(z * by)
        };
        normals.into_iter().zip(elements).map(code).collect()
    }

    /// Words of `[columns / 8, rows]` of the weight `[rows, columns]`.
    fn words(self, tensor: &Tensor, group: u64, elements: Range<u64>) -> Vec<u8> {
        let rows = tensor.columns();
        let columns = tensor.elements() / rows * 8;
        let deviation = self.deviation();
        let word = |i: u64| {
            let (down, row) = (i / rows, i % rows);
            let by = deviation / self.group_scale(8 * down / group * rows + row);
            let begin = row * columns + 8 * down;
            let codes = self.normals(begin..begin + 8);
            let code = |z: f32| (z * by + ZERO).round().clamp(0.0, 15.0) as u32;
            (0..).zip(codes).fold(0, |word, (place, z)| word | code(z) << (4 * place))
        };
        elements.flat_map(|i| word(i).to_le_bytes()).collect()
    }
}

/// A name as a number.
fn name_key(name: &str) -> u64 {
    name.bytes().fold(name.len() as u64, |key, byte| mix(key ^ u64::from(byte)))
}

fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// The FP8 code (E4M3 without infinities) nearest to a number, the largest one beyond it.
fn e4m3(value: f32) -> u8 {
    let magnitude = value.abs().min(LARGEST_BYTE);
    let code = if magnitude < 2f32.powi(-6) {
        // Below the first power of two all steps are equal.
        (magnitude * 512.0).round_ties_even() as u32
    } else {
        let bits = magnitude.to_bits();
        // Rounds the mantissa to three bits, ties to even, and moves the bias from 127 to 7.
        ((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20) - (120 << 3)
    };
    code as u8 | if value < 0.0 { 0x80 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Dtype as Decoder;

    fn tensor(content: Content, dtype: Dtype, shape: &[u64]) -> Tensor {
        let name = "model.layers.3.mlp.up_proj.weight".to_owned();
        Tensor { weight: name.clone(), name, dtype, shape: shape.to_vec(), content }
    }

    fn numbers(source: Source, tensor: &Tensor) -> Vec<f32> {
        Decoder::F32.decode(&source.bytes(tensor, 0..tensor.elements())).unwrap()
    }

    fn correlation(a: &[f32], b: &[f32]) -> f64 {
        let mean = |x: &[f32]| x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
        let (ma, mb) = (mean(a), mean(b));
        let dot = |x: &[f32], mx: f64, y: &[f32], my: f64| -> f64 {
            x.iter().zip(y).map(|(x, y)| (f64::from(*x) - mx) * (f64::from(*y) - my)).sum()
        };
        dot(a, ma, b, mb) / (dot(a, ma, a, ma) * dot(b, mb, b, mb)).sqrt()
    }

    #[test]
    fn bytes_are_the_nearest_codes() {
        let all: Vec<u8> = (0..127).collect();
        let numbers = Decoder::F8E4M3.decode(&all).unwrap();
        for (code, number) in all.iter().zip(&numbers) {
            assert_eq!(e4m3(*number), *code);
            assert_eq!(e4m3(-number) & 0x7f, *code);
        }
        for pair in numbers.windows(2) {
            let code = e4m3(pair[0] * 0.6 + pair[1] * 0.4);
            assert_eq!(numbers[usize::from(code)], pair[0]);
        }
        assert_eq!((e4m3(1e9), e4m3(-1e9)), (0x7e, 0xfe));
    }

    #[test]
    fn a_value_depends_on_its_place_alone() {
        let source = Source::new(4, Some((5, 0.3)));
        let group = [4, 32];
        for (content, dtype) in [
            (Content::Gain(0.5), Dtype::F32),
            (Content::Matrix, Dtype::BF16),
            (Content::Embedding, Dtype::F16),
            (Content::Bytes(group), Dtype::F8_E4M3),
            (Content::Words(32), Dtype::I32),
            (Content::Mask, Dtype::F32),
            (Content::GroupScales, Dtype::F16),
        ] {
            let tensor = tensor(content, dtype, &[16, 96]);
            let whole = source.bytes(&tensor, 0..16 * 96);
            let size = tensor.element_bytes() as usize;
            for range in [0..1, 1..7, 95..98, 333..1000, 1535..1536] {
                let (begin, end) = (range.start as usize * size, range.end as usize * size);
                assert_eq!(source.bytes(&tensor, range.clone()), whole[begin..end], "{content:?} {range:?}");
            }
        }
    }

    #[test]
    fn related_values_correlate_as_they_should() {
        let (parent, stranger) = (Source::new(1, None), Source::new(2, None));
        for content in [Content::Matrix, Content::Gain(0.5), Content::Embedding] {
            let tensor = tensor(content, Dtype::F32, &[8, 4096]);
            let values = numbers(parent, &tensor);
            for seed in [1, 2] {
                let child = numbers(Source::new(seed, Some((1, 0.5))), &tensor);
                let r = correlation(&values, &child);
                assert!((r - 0.5).abs() < 0.05, "{content:?}: {r}");
                assert!(correlation(&child, &numbers(stranger, &tensor)).abs() < 0.05);
            }
            assert!(correlation(&values, &numbers(stranger, &tensor)).abs() < 0.05);
            assert_eq!(values, numbers(Source::new(9, Some((1, 1.0))), &tensor));
        }
    }

    #[test]
    fn gains_are_positive_with_few_outliers() {
        let values = numbers(Source::new(1, None), &tensor(Content::Gain(0.5), Dtype::F32, &[4096]));
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[2048];
        assert!(sorted[0] > 0.5 * median && (0.3..1.2).contains(&median), "{} {median}", sorted[0]);
        let outliers = values.iter().filter(|v| **v > 2.0 * median).count();
        assert!((1..20).contains(&outliers), "{outliers}");
    }

    #[test]
    fn normals_are_normal() {
        let values = Source::new(1, None).normals(7, 0..100_000);
        let mean = values.iter().sum::<f32>() / 1e5;
        let square = values.iter().map(|v| v * v).sum::<f32>() / 1e5;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.02, "{mean} {square}");
    }
}
