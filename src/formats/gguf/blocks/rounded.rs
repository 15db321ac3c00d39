//! Q4_0 to Q8_0: 32 integers and a scale, and of the types in `_1` a lowest value.

use super::{double_word, half, planes};

/// Bytes of 32 codes of 4 bits.
const RUN: usize = 16;

/// Scale, codes from -8 on.
pub(in super::super) fn q4_0(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    out.extend(planes(&block[2..], RUN, 4).map(|q| d * (f32::from(q) - 8.0)));
}

/// Scale, lowest value, codes from 0 on.
pub(in super::super) fn q4_1(block: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (half(block, 0), half(block, 2));
    out.extend(planes(&block[4..], RUN, 4).map(|q| d * f32::from(q) + m));
}

/// Scale, the fifth bits, codes from -16 on.
pub(in super::super) fn q5_0(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    out.extend(five_bits(&block[2..]).map(|q| d * (f32::from(q) - 16.0)));
}

/// Scale, lowest value, the fifth bits, codes from 0 on.
pub(in super::super) fn q5_1(block: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (half(block, 0), half(block, 2));
    out.extend(five_bits(&block[4..]).map(|q| d * f32::from(q) + m));
}

fn five_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let high = double_word(bytes, 0);
    planes(&bytes[4..], RUN, 4).enumerate().map(move |(i, low)| low | ((high >> i & 1) as u8) << 4)
}

/// Scale, bytes.
pub(in super::super) fn q8_0(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    out.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * d));
}
