//! Codes of ggml in blocks: one function a type, from the bytes of a block to its values.
//!
//! Every function computes in single precision and in the order of the reference, `gguf.quants` of the Python package, so
//! that values are equal bit for bit. A block is as long as the table of types says.

pub(super) mod float4;
mod grids;
pub(super) mod k;
pub(super) mod lattice;
pub(super) mod rounded;
pub(super) mod ternary;

use half::f16;

/// Values of a block of most types.
const LARGE: usize = 256;

/// The half at this byte.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_bits(word(block, at)).to_f32()
}

/// The 16 bits at this byte.
fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The 32 bits at this byte.
fn double_word(block: &[u8], at: usize) -> u32 {
    u32::from(word(block, at)) | u32::from(word(block, at + 2)) << 16
}

/// The nibble with this number; the lower one of a byte comes first.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (4 * (i % 2)) & 15
}

/// Codes of so many bits: runs of bytes one after the other, of each run first the lowest bits of all its bytes.
fn planes(bytes: &[u8], run: usize, bits: usize) -> impl Iterator<Item = u8> {
    let mask = u8::MAX >> (8 - bits);
    bytes.chunks_exact(run).flat_map(move |run| {
        (0..8).step_by(bits).flat_map(move |shift| run.iter().map(move |b| b >> shift & mask))
    })
}
