//! From values to the blocks of a type: the nearest codes by the plain rules of ggml's reference
//! (`quantize_row_*_ref`), without its search for better scales.

use half::{bf16, f16};

use super::kinds::Kind;

impl Kind {
    /// The bytes of these values, whole blocks of them; `None` for a type that is not written.
    pub fn encode(&self, values: &[f32]) -> Option<Vec<u8>> {
        let block: fn(&[f32]) -> Vec<u8> = match self.name {
            "F32" => |v| v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            "F16" => |v| v.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            "BF16" => |v| v.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            "Q8_0" => q8_0,
            "Q4_0" => q4_0,
            "Q4_K" => q4_k,
            "Q6_K" => q6_k,
            _ => return None,
        };
        let size = usize::try_from(self.elements).ok()?;
        let is_whole = values.len().is_multiple_of(size);
        is_whole.then(|| values.chunks_exact(size).flat_map(block).collect())
    }
}

/// `value / by`, and 0 where that is nothing.
fn over(value: f32, by: f32) -> f32 {
    if by == 0.0 { 0.0 } else { value / by }
}

/// The value that is farthest from 0.
fn farthest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, |most: f32, v| if v.abs() > most.abs() { v } else { most })
}

/// As it is read again.
fn stored(scale: f32) -> f32 {
    f16::from_f32(scale).to_f32()
}

fn q8_0(values: &[f32]) -> Vec<u8> {
    let scale = farthest(values).abs() / 127.0;
    let mut block = f16::from_f32(scale).to_le_bytes().to_vec();
    block.extend(values.iter().map(|v| (over(*v, scale).round() as i8).cast_unsigned()));
    block
}

fn q4_0(values: &[f32]) -> Vec<u8> {
    let scale = farthest(values) / -8.0;
    let code = |v: &f32| (over(*v, scale) + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = values.split_at(values.len() / 2);
    let mut block = f16::from_f32(scale).to_le_bytes().to_vec();
    block.extend(low.iter().zip(high).map(|(low, high)| code(low) | code(high) << 4));
    block
}

/// 256 values: eight groups with a scale and a minimum of 6 bits each.
fn q4_k(values: &[f32]) -> Vec<u8> {
    let groups: Vec<&[f32]> = values.chunks(32).collect();
    let lowest = |group: &[f32]| group.iter().copied().fold(0.0, f32::min);
    let highest = |group: &[f32]| group.iter().copied().fold(0.0, f32::max);
    let scales: Vec<f32> = groups.iter().map(|group| (highest(group) - lowest(group)) / 15.0).collect();
    let minima: Vec<f32> = groups.iter().map(|group| -lowest(group)).collect();
    let (scale, minimum) = (stored(farthest(&scales) / 63.0), stored(farthest(&minima) / 63.0));
    let six = |values: &[f32], unit: f32| -> Vec<u8> {
        values.iter().map(|v| over(*v, unit).round().min(63.0) as u8).collect()
    };
    let (scale_codes, minimum_codes) = (six(&scales, scale), six(&minima, minimum));
    let mut packed = [0u8; 12];
    for (i, (s, m)) in scale_codes.iter().zip(&minimum_codes).enumerate() {
        if i < 4 {
            packed[i] |= s;
            packed[i + 4] |= m;
        } else {
            packed[i + 4] = s & 0xf | (m & 0xf) << 4;
            packed[i - 4] |= s >> 4 << 6;
            packed[i] |= m >> 4 << 6;
        }
    }
    let code = |group: usize, v: f32| {
        let (step, low) = (scale * f32::from(scale_codes[group]), minimum * f32::from(minimum_codes[group]));
        over(v + low, step).round().clamp(0.0, 15.0) as u8
    };
    let mut block = [f16::from_f32(scale), f16::from_f32(minimum)].map(f16::to_le_bytes).concat();
    block.extend(packed);
    for pair in (0..groups.len()).step_by(2) {
        let both = groups[pair].iter().zip(groups[pair + 1]);
        block.extend(both.map(|(low, high)| code(pair, *low) | code(pair + 1, *high) << 4));
    }
    block
}

/// 256 values: sixteen groups with a scale of 8 bits each.
fn q6_k(values: &[f32]) -> Vec<u8> {
    let scales: Vec<f32> = values.chunks(16).map(|group| farthest(group) / -32.0).collect();
    let scale = stored(farthest(&scales) / -128.0);
    let scale_codes: Vec<i8> = scales.iter().map(|s| over(*s, scale).round() as i8).collect();
    let code = |(i, v): (usize, &f32)| {
        (over(*v, scale * f32::from(scale_codes[i / 16])).round().clamp(-32.0, 31.0) + 32.0) as u8
    };
    let codes: Vec<u8> = values.iter().enumerate().map(code).collect();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for half in codes.chunks(128) {
        let quarter = |n: usize| half.iter().skip(32 * n).take(32);
        for (first, second) in [(0, 2), (1, 3)] {
            low.extend(quarter(first).zip(quarter(second)).map(|(a, b)| a & 0xf | (b & 0xf) << 4));
        }
        let four = quarter(0).zip(quarter(1)).zip(quarter(2)).zip(quarter(3));
        high.extend(four.map(|(((a, b), c), d)| a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6));
    }
    let mut block = [low, high].concat();
    block.extend(scale_codes.iter().map(|code| code.cast_unsigned()));
    block.extend(f16::from_f32(scale).to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encoding::Blocks;
    use super::*;
    use crate::formats::Encoding;

    proptest! {
        /// What is read back differs from what was written by half a step at most (by a whole one where the farthest
        /// value has its like on the other side of 0, which has one code less), by what a scale of few bits adds, and
        /// by what the scale loses where it is too small for f16: half its smallest step, times the largest codes.
        #[test]
        fn blocks_say_what_they_were_made_of(
            values in proptest::collection::vec(-1f32..1.0, 512), level in 1e-3f32..1.0,
        ) {
            let values: Vec<f32> = values.iter().map(|v| v * level).collect();
            for (name, most, codes) in [
                ("F32", 0.0, 0),
                ("F16", 1e-3, 1),
                ("BF16", 1e-2, 0),
                ("Q8_0", 0.006, 127),
                ("Q4_0", 0.14, 8),
                ("Q4_K", 0.1, 63 * 15 + 63),
                ("Q6_K", 0.04, 128 * 32),
            ] {
                let kind = Kind::of_name(name).unwrap();
                let bytes = kind.encode(&values).unwrap();
                prop_assert_eq!(Some(bytes.len() as u64), kind.size(1, 512));
                let read = Blocks { kind, big_endian: false }.decode(0..1, &[&bytes]).unwrap();
                let worst = values.iter().zip(&read).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let bound = most * level + (f32::from(f16::MIN_POSITIVE_SUBNORMAL) / 2.0) * codes as f32;
                prop_assert!(worst <= bound, "{}: {} of {}", name, worst, level);
            }
        }
    }

    #[test]
    fn what_is_nothing_stays_nothing_and_what_is_not_written_is_none() {
        for name in ["Q8_0", "Q4_0", "Q4_K", "Q6_K"] {
            let kind = Kind::of_name(name).unwrap();
            let bytes = kind.encode(&[0.0; 256]).unwrap();
            let read = Blocks { kind, big_endian: false }.decode(0..1, &[&bytes]).unwrap();
            assert!(read.iter().all(|v| *v == 0.0), "{name}");
            assert!(kind.encode(&[0.0; 31]).is_none(), "{name}");
        }
        assert!(Kind::of_name("IQ1_S").unwrap().encode(&[0.0; 256]).is_none());
    }
}
