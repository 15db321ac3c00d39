//! Q2_K to Q6_K: 256 integers in groups of 16 or 32, whose scales and lowest values are integers as well.

use super::{half, planes};

/// Bytes of a run of codes.
const RUN: usize = 32;

/// Scales and lowest values of 4 bits, codes of 2 bits.
pub(in super::super) fn q2(block: &[u8], out: &mut Vec<f32>) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, low) = (half(block, 80), half(block, 82));
    out.extend(planes(codes, RUN, 2).enumerate().map(|(i, q)| {
        let scale = scales[i / 16];
        (d * f32::from(scale & 15)) * f32::from(q) - low * f32::from(scale >> 4)
    }));
}

/// Scales of 6 bits, the third bits (whose absence takes 4 away), codes of 2 bits.
pub(in super::super) fn q3(block: &[u8], out: &mut Vec<f32>) {
    let (high, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    let scale = |i: usize| {
        let low = scales[i % 8] >> (4 * (i / 8)) & 15;
        let high = scales[8 + i % 4] >> (2 * (i / 4)) & 3;
        d * (f32::from(low | high << 4) - 32.0)
    };
    let codes = planes(codes, RUN, 2).zip(planes(high, RUN, 1)).enumerate();
    out.extend(codes.map(|(i, (q, high))| scale(i / 16) * (f32::from(q) - f32::from((1 - high) * 4))));
}

/// The scale and the lowest value of group `i` of 8, 6 bits each.
fn scale_and_low(scales: &[u8], i: usize) -> (f32, f32) {
    let (scale, low) = match i.checked_sub(4) {
        None => (scales[i] & 63, scales[i + 4] & 63),
        Some(j) => {
            (scales[j + 8] & 15 | scales[j] >> 2 & 0x30, scales[j + 8] >> 4 | scales[j + 4] >> 2 & 0x30)
        }
    };
    (f32::from(scale), f32::from(low))
}

/// Scales and lowest values of 6 bits, codes of 4 bits.
pub(in super::super) fn q4(block: &[u8], out: &mut Vec<f32>) {
    grouped(block, planes(&block[16..], RUN, 4), out);
}

/// The same with the fifth bits in front of the codes.
pub(in super::super) fn q5(block: &[u8], out: &mut Vec<f32>) {
    let high = planes(&block[16..48], RUN, 1);
    grouped(block, planes(&block[48..], RUN, 4).zip(high).map(|(q, high)| q | high << 4), out);
}

fn grouped(block: &[u8], codes: impl Iterator<Item = u8>, out: &mut Vec<f32>) {
    let (d, low) = (half(block, 0), half(block, 2));
    out.extend(codes.enumerate().map(|(i, q)| {
        let (scale, lowest) = scale_and_low(&block[4..16], i / 32);
        (d * scale) * f32::from(q) - low * lowest
    }));
}

/// Scales of 8 bits, codes of 6 bits from -32 on.
pub(in super::super) fn q6(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(block, 208);
    let codes = planes(low, 2 * RUN, 4).zip(planes(high, RUN, 2)).enumerate();
    out.extend(codes.map(|(i, (low, high))| {
        let scale = d * f32::from(scales[i / 16].cast_signed());
        scale * (f32::from(low | high << 4) - 32.0)
    }));
}
