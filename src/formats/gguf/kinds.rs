//! The types of ggml's tensors.

use super::blocks::{float4, k, lattice, rounded, ternary};
use crate::formats::Dtype;

/// From the bytes of a block to its values, which are added to the others.
pub(super) type Decode = fn(&[u8], &mut Vec<f32>);

/// A type of tensor.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its number in a header.
    code: u32,
    /// Its name in reports, e.g. `Q4_K`.
    pub name: &'static str,
    /// Elements of a block, which lie in one row.
    pub elements: u64,
    /// Bytes of a block.
    pub bytes: u64,
    /// How a block is read.
    pub(super) values: Values,
    /// Where a file of the other byte order has halves, as far as the reference turns them round.
    pub(super) halves: Option<&'static [usize]>,
}

/// How the values of a block are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    /// It is one number.
    Float(Dtype),
    /// It is one integer, signed.
    Integer,
    /// By this function.
    Codes(Decode),
    /// They are not: no public model has them, or no reference decodes them.
    NotRead,
}

const fn kind(code: u32, name: &'static str, elements: u64, bytes: u64, values: Values) -> Kind {
    Kind { code, name, elements, bytes, values, halves: None }
}

/// The same, in which the other byte order only turns round the halves at these bytes.
const fn with_halves(kind: Kind, halves: &'static [usize]) -> Kind {
    Kind { halves: Some(halves), ..kind }
}

/// Numbers, sizes and names as in `gguf.constants` of the Python package; those that it no longer has as they were.
static KINDS: [Kind; 42] = {
    use Values::{Codes, Float, Integer, NotRead};
    [
        kind(0, "F32", 1, 4, Float(Dtype::F32)),
        kind(1, "F16", 1, 2, Float(Dtype::F16)),
        with_halves(kind(2, "Q4_0", 32, 18, Codes(rounded::q4_0)), &[0]),
        kind(3, "Q4_1", 32, 20, Codes(rounded::q4_1)),
        kind(4, "Q4_2", 16, 10, NotRead),
        kind(5, "Q4_3", 16, 12, NotRead),
        kind(6, "Q5_0", 32, 22, Codes(rounded::q5_0)),
        kind(7, "Q5_1", 32, 24, Codes(rounded::q5_1)),
        with_halves(kind(8, "Q8_0", 32, 34, Codes(rounded::q8_0)), &[0]),
        kind(9, "Q8_1", 32, 40, NotRead),
        kind(10, "Q2_K", 256, 84, Codes(k::q2)),
        kind(11, "Q3_K", 256, 110, Codes(k::q3)),
        with_halves(kind(12, "Q4_K", 256, 144, Codes(k::q4)), &[0, 2]),
        kind(13, "Q5_K", 256, 176, Codes(k::q5)),
        with_halves(kind(14, "Q6_K", 256, 210, Codes(k::q6)), &[208]),
        kind(15, "Q8_K", 256, 292, NotRead),
        kind(16, "IQ2_XXS", 256, 66, Codes(lattice::iq2_xxs)),
        kind(17, "IQ2_XS", 256, 74, Codes(lattice::iq2_xs)),
        kind(18, "IQ3_XXS", 256, 98, Codes(lattice::iq3_xxs)),
        kind(19, "IQ1_S", 256, 50, Codes(lattice::iq1_s)),
        kind(20, "IQ4_NL", 32, 18, Codes(lattice::iq4_nl)),
        kind(21, "IQ3_S", 256, 110, Codes(lattice::iq3_s)),
        kind(22, "IQ2_S", 256, 82, Codes(lattice::iq2_s)),
        kind(23, "IQ4_XS", 256, 136, Codes(lattice::iq4_xs)),
        kind(24, "I8", 1, 1, Integer),
        kind(25, "I16", 1, 2, Integer),
        kind(26, "I32", 1, 4, Integer),
        kind(27, "I64", 1, 8, Integer),
        kind(28, "F64", 1, 8, Float(Dtype::F64)),
        kind(29, "IQ1_M", 256, 56, Codes(lattice::iq1_m)),
        kind(30, "BF16", 1, 2, Float(Dtype::Bf16)),
        // Orders of Q4_0 and IQ4_NL for kernels.
        kind(31, "Q4_0_4_4", 32, 18, NotRead),
        kind(32, "Q4_0_4_8", 32, 18, NotRead),
        kind(33, "Q4_0_8_8", 32, 18, NotRead),
        kind(34, "TQ1_0", 256, 54, Codes(ternary::tq1)),
        kind(35, "TQ2_0", 256, 66, Codes(ternary::tq2)),
        kind(36, "IQ4_NL_4_4", 32, 18, NotRead),
        kind(37, "IQ4_NL_4_8", 32, 18, NotRead),
        kind(38, "IQ4_NL_8_8", 32, 18, NotRead),
        with_halves(kind(39, "MXFP4", 32, 17, Codes(float4::mxfp4)), &[]),
        with_halves(kind(40, "NVFP4", 64, 36, Codes(float4::nvfp4)), &[]),
        kind(41, "Q1_0", 128, 18, NotRead),
    ]
};

impl Kind {
    /// The type with this number; `None` for one that no version of ggml has, whose sizes are not known.
    pub fn of_code(code: u32) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.code == code)
    }

    /// The type with this name.
    pub fn of_name(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Its number in a header.
    pub(super) fn code(&self) -> u32 {
        self.code
    }

    /// Bytes of a tensor of this shape; `None` where blocks do not divide its rows.
    pub fn of_shape(&self, shape: &[u64]) -> Option<u64> {
        let (columns, rows) = shape.split_last().map_or((1, &[][..]), |(columns, rows)| (*columns, rows));
        let rows = rows.iter().try_fold(1u64, |product, n| product.checked_mul(*n))?;
        self.size(rows, columns)
    }

    /// Bytes of so many rows of so many elements; `None` where blocks do not divide a row, or nothing could hold them.
    pub fn size(&self, rows: u64, columns: u64) -> Option<u64> {
        if !columns.is_multiple_of(self.elements) {
            return None;
        }
        (columns / self.elements).checked_mul(self.bytes)?.checked_mul(rows)
    }

    /// Whether its values are rounded to the few that codes can say.
    pub fn is_quantised(&self) -> bool {
        self.elements > 1
    }

    /// Whether its values are read.
    pub fn is_read(&self) -> bool {
        !matches!(self.values, Values::NotRead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_of_one_type() {
        for (i, kind) in KINDS.iter().enumerate() {
            assert_eq!(Kind::of_code(kind.code).map(|k| k.name), Some(kind.name));
            assert!(KINDS.iter().skip(i + 1).all(|other| other.name != kind.name), "{}", kind.name);
        }
        assert!(Kind::of_code(1000).is_none());
    }

    #[test]
    fn a_block_has_as_many_values_as_its_type_says() {
        for kind in &KINDS {
            let Values::Codes(decode) = kind.values else { continue };
            let mut values = Vec::new();
            decode(&vec![0; kind.bytes as usize], &mut values);
            assert_eq!(values.len() as u64, kind.elements, "{}", kind.name);
            // Whatever the codes are, there is a value for them.
            decode(&vec![0xff; kind.bytes as usize], &mut values);
        }
    }

    #[test]
    fn sizes_that_nothing_holds_are_none() {
        let q4 = Kind::of_code(12).unwrap();
        assert_eq!(q4.size(3, 512), Some(864));
        assert_eq!(q4.size(3, 500), None);
        assert_eq!(q4.size(1 << 40, 1 << 40), None);
    }
}
