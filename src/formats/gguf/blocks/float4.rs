//! MXFP4 and NVFP4: floats of 4 bits, and a scale that is a float of 8 bits.

use super::planes;

/// Twice what a code stands for (E2M1, OCP microscaling formats, 2023).
const TWICE: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// A power of two, 32 codes.
pub(in super::super) fn mxfp4(block: &[u8], out: &mut Vec<f32>) {
    let exponent = u32::from(block[0]);
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
    let half_scale = f32::from_bits(bits);
    out.extend(planes(&block[1..], 16, 4).map(|q| half_scale * TWICE[usize::from(q)]));
}

/// Four scales of 4 exponent and 3 mantissa bits, then 16 codes for each.
pub(in super::super) fn nvfp4(block: &[u8], out: &mut Vec<f32>) {
    let (scales, codes) = block.split_at(4);
    for (scale, codes) in scales.iter().zip(codes.chunks_exact(8)) {
        let half_scale = half_scale(*scale);
        out.extend(planes(codes, 8, 4).map(|q| half_scale * TWICE[usize::from(q)]));
    }
}

/// Half of the value of an E4M3 without a sign; the one with all bits set, which is no number, counts as 0.
fn half_scale(byte: u8) -> f32 {
    let (exponent, mantissa) = (byte >> 3 & 15, f32::from(byte & 7));
    if byte == 0x7f {
        0.0
    } else if exponent == 0 {
        mantissa * 2f32.powi(-10)
    } else {
        (1.0 + mantissa / 8.0) * 2f32.powi(i32::from(exponent) - 8)
    }
}
