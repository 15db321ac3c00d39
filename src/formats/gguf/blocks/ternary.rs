//! TQ1_0 and TQ2_0: 256 values of -1, 0 and 1, and a scale.

use super::{half, planes};

/// Five values in a byte, as digits to the base 3 of a fraction of 256; of the last four bytes four.
pub(in super::super) fn tq1(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 52);
    for (bytes, digits) in [(&block[..32], 5), (&block[32..48], 5), (&block[48..52], 4)] {
        for power in [1u8, 3, 9, 27, 81].into_iter().take(digits) {
            out.extend(bytes.iter().map(|byte| {
                let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                d * (f32::from(digit) - 1.0)
            }));
        }
    }
}

/// Codes of 2 bits.
pub(in super::super) fn tq2(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block, 64);
    out.extend(planes(&block[..64], 32, 2).map(|q| d * (f32::from(q) - 1.0)));
}
