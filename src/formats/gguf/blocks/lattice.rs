//! The IQ types: IQ1 to IQ3 are points of a table with signs, IQ4 are codes of 16 uneven steps.

use half::f16;

use super::{LARGE, double_word, grids, half, nibble, planes, word};

/// What the coordinates of the points stand for: no point has the last of four.
const TWO_BITS: [f32; 4] = [8.0, 25.0, 43.0, 0.0];
const THREE_BITS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
const ODD: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
const TERNARY: [f32; 4] = [-1.0, 0.0, 1.0, 0.0];
/// What is added to the points of IQ1, or taken from them.
const DELTA: f32 = 0.125;
/// The steps of IQ4.
const STEPS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// The eight coordinates of a point.
fn of_eight(point: u16, values: [f32; 4]) -> impl Iterator<Item = f32> {
    (0..8).map(move |i| values[usize::from(point >> (2 * i) & 3)])
}

/// The four coordinates of a point.
fn of_four(point: u16, values: [f32; 8]) -> impl Iterator<Item = f32> {
    (0..4).map(move |i| values[usize::from(point >> (4 * i) & 7)])
}

/// Eight signs, a bit each.
fn signs(byte: u8) -> impl Iterator<Item = f32> {
    (0..8).map(move |i| if byte >> i & 1 == 0 { 1.0 } else { -1.0 })
}

/// Eight signs of 7 bits: an even number of them is negative.
fn even_signs(index: u32) -> impl Iterator<Item = f32> {
    let index = (index & 127) as u8;
    signs(index | ((index.count_ones() & 1) as u8) << 7)
}

fn signed(
    scale: f32,
    values: impl Iterator<Item = f32>,
    signs: impl Iterator<Item = f32>,
) -> impl Iterator<Item = f32> {
    values.zip(signs).map(move |(value, sign)| scale * value * sign)
}

/// Of 32 values four points, and in 32 bits their signs and the scale.
pub(in super::super) fn iq2_xxs(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    for group in block[2..].chunks_exact(8) {
        let rest = double_word(group, 4);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.25;
        for (i, point) in group[..4].iter().enumerate() {
            let values = of_eight(grids::IQ2_XXS[usize::from(*point)], TWO_BITS);
            out.extend(signed(scale, values, even_signs(rest >> (7 * i))));
        }
    }
}

/// Points and signs in 16 bits, scales of 4 bits for two of them.
pub(in super::super) fn iq2_xs(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    for i in 0..LARGE / 8 {
        let code = word(block, 2 + 2 * i);
        let scale = d * (0.5 + f32::from(nibble(&block[66..], i / 2))) * 0.25;
        let values = of_eight(grids::IQ2_XS[usize::from(code & 511)], TWO_BITS);
        out.extend(signed(scale, values, even_signs(u32::from(code >> 9))));
    }
}

/// Points, signs, the upper bits of points, scales of 4 bits for two of them.
pub(in super::super) fn iq2_s(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    for i in 0..LARGE / 8 {
        let high = usize::from(block[66 + i / 4] >> (2 * (i % 4)) & 3);
        let scale = d * (0.5 + f32::from(nibble(&block[74..], i / 2))) * 0.25;
        let values = of_eight(grids::IQ2_S[usize::from(block[2 + i]) | high << 8], TWO_BITS);
        out.extend(signed(scale, values, signs(block[34 + i])));
    }
}

/// Points of four, then for each 32 values the signs and the scale in 32 bits.
pub(in super::super) fn iq3_xxs(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    for (group, points) in block[2..66].chunks_exact(8).enumerate() {
        let rest = double_word(block, 66 + 4 * group);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.5;
        for (i, pair) in points.chunks_exact(2).enumerate() {
            let values = pair.iter().flat_map(|p| of_four(grids::IQ3_XXS[usize::from(*p)], THREE_BITS));
            out.extend(signed(scale, values, even_signs(rest >> (7 * i))));
        }
    }
}

/// Points of four, their ninth bits, signs, scales of 4 bits for 32 values.
pub(in super::super) fn iq3_s(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    let point = |i: usize| usize::from(block[2 + i]) | usize::from(block[66 + i / 8] >> (i % 8) & 1) << 8;
    for i in 0..LARGE / 8 {
        let scale = d * f32::from(1 + 2 * nibble(&block[106..], i / 4));
        let values = [2 * i, 2 * i + 1].into_iter().flat_map(|i| of_four(grids::IQ3_S[point(i)], ODD));
        out.extend(signed(scale, values, signs(block[74 + i])));
    }
}

/// Points, and for four of them their upper bits, the scale and the sign of the shift in 16 bits.
pub(in super::super) fn iq1_s(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    for i in 0..LARGE / 8 {
        let rest = word(block, 34 + 2 * (i / 4));
        let scale = d * f32::from(2 * (rest >> 12 & 7) + 1);
        let high = usize::from(rest >> (3 * (i % 4)) & 7);
        shifted(scale, usize::from(block[2 + i]) | high << 8, rest & 0x8000 != 0, out);
    }
}

/// Points, for each the upper bits and the sign of the shift, then the scales for two of them; the upper bits of those
/// are the scale of all.
pub(in super::super) fn iq1_m(block: &[u8], out: &mut Vec<f32>) {
    let scales = |i: usize| word(block, 48 + 2 * i);
    let bits = (0..4).fold(0, |bits, i| bits | (scales(i) & 0xf000) >> (12 - 4 * i));
    let d = f16::from_bits(bits).to_f32();
    for i in 0..LARGE / 8 {
        let group = i / 2;
        let scale = d * f32::from(2 * (scales(group / 4) >> (3 * (group % 4)) & 7) + 1);
        let rest = nibble(&block[32..], i);
        shifted(scale, usize::from(block[i]) | usize::from(rest & 7) << 8, rest & 8 != 0, out);
    }
}

fn shifted(scale: f32, point: usize, is_down: bool, out: &mut Vec<f32>) {
    let delta = if is_down { -DELTA } else { DELTA };
    out.extend(of_eight(grids::IQ1_S[point], TERNARY).map(|value| scale * (value + delta)));
}

/// 32 steps.
pub(in super::super) fn iq4_nl(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 0);
    out.extend(planes(&block[2..], 16, 4).map(|q| d * STEPS[usize::from(q)]));
}

/// 256 steps, scales of 6 bits for 32 of them.
pub(in super::super) fn iq4_xs(block: &[u8], out: &mut Vec<f32>) {
    let (d, high) = (half(block, 0), word(block, 2));
    out.extend(planes(&block[8..], 16, 4).enumerate().map(|(i, q)| {
        let group = i / 32;
        let scale = nibble(&block[4..], group) | ((high >> (2 * group) & 3) as u8) << 4;
        (d * (f32::from(scale) - 32.0)) * STEPS[usize::from(q)]
    }));
}
