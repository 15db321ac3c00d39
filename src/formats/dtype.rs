//! Element types, by the names of safetensors, and their conversion to `f32`.

use std::ops::Range;

use half::{bf16, f16};

use super::weight::{Encoding, PartRange};

/// An element type as the header spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// Upper half of an IEEE single.
    Bf16,
    /// 4 exponent, 3 mantissa bits, no infinities (the `FN` variant).
    F8E4M3,
    /// 5 exponent, 2 mantissa bits, IEEE-like.
    F8E5M2,
    /// Signed byte.
    I8,
    /// A type whose size is known but whose values are not weights that we read (packed, boolean, ...).
    Other {
        /// Bits of one element.
        bits: u8,
    },
}

impl Dtype {
    /// The type for a header's `dtype` string, or `None` for a name that no version of the format knows.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F8_E4M3" => Self::F8E4M3,
            "F8_E5M2" => Self::F8E5M2,
            "I8" => Self::I8,
            "F4" | "FP4" => Self::Other { bits: 4 },
            "F6_E2M3" | "F6_E3M2" => Self::Other { bits: 6 },
            "BOOL" | "U8" | "F8_E8M0" | "E8M0" | "UE8" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => {
                Self::Other { bits: 8 }
            }
            "I16" | "U16" => Self::Other { bits: 16 },
            "I32" | "U32" => Self::Other { bits: 32 },
            "I64" | "U64" | "C64" => Self::Other { bits: 64 },
            // Of torch alone.
            "C128" => Self::Other { bits: 128 },
            _ => return None,
        })
    }

    /// Bits of one element.
    pub fn bits(self) -> u64 {
        match self {
            Self::F64 => 64,
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 => 8,
            Self::Other { bits } => u64::from(bits),
        }
    }

    /// Bytes of one element, or `None` for a type whose values we cannot decode.
    pub fn decodable_bytes(self) -> Option<usize> {
        match self {
            Self::Other { .. } => None,
            known => usize::try_from(known.bits() / 8).ok(),
        }
    }

    /// Whether an element is a number by itself, in no need of a scale.
    pub fn is_plain_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// The name that the header uses (`OTHER` for undecodable types).
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            Self::I8 => "I8",
            Self::Other { .. } => "OTHER",
        }
    }

    /// Little-endian elements to `f32`. Trailing bytes that fill no element are ignored; an undecodable
    /// type gives `None`.
    pub fn decode(self, raw: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::F64 => raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Self::F32 => raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => raw.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Self::Bf16 => raw.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Self::F8E4M3 => raw.iter().map(|&b| E4M3[usize::from(b)]).collect(),
            Self::F8E5M2 => raw.iter().map(|&b| E5M2[usize::from(b)]).collect(),
            Self::I8 => raw.iter().map(|&b| f32::from(b.cast_signed())).collect(),
            Self::Other { .. } => return None,
        })
    }
}

/// Elements one after the other, in one tensor.
impl Encoding for Dtype {
    fn name(&self) -> &str {
        (*self).name()
    }

    fn is_quantised(&self) -> bool {
        false
    }

    fn ranges(&self, rows: &Range<u64>, columns: u64) -> Result<Vec<PartRange>, String> {
        let at = |row: u64| row.checked_mul(columns)?.checked_mul(self.bits() / 8);
        match (at(rows.start), at(rows.end)) {
            (Some(start), Some(end)) => Ok(vec![PartRange { suffix: "", bytes: start..end }]),
            _ => Err(format!(
                "rows {}..{} of {columns} columns are more than a file can hold",
                rows.start, rows.end
            )),
        }
    }

    fn decode(&self, _: Range<u64>, pieces: &[&[u8]]) -> Result<Vec<f32>, String> {
        match pieces {
            [bytes] => (*self).decode(bytes).ok_or_else(|| format!("{} is not read", (*self).name())),
            _ => Err("not in one piece".into()),
        }
    }
}

/// All values of E4M3 and of E5M2, by their bytes.
static E4M3: [f32; 256] = f8_values(3, 7, true);
static E5M2: [f32; 256] = f8_values(2, 15, false);

const fn f8_values(mantissa_bits: u32, bias: i32, finite: bool) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < values.len() {
        values[byte] = f8(byte as u8, mantissa_bits, bias, finite);
        byte += 1;
    }
    values
}

/// One 8-bit float: sign, exponent, `mantissa_bits` bits of mantissa (OCP 8-bit floating point, 2023).
/// `finite` is the `FN` variant: no infinities, NaN only with all bits set.
const fn f8(byte: u8, mantissa_bits: u32, bias: i32, finite: bool) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = ((byte & 0x7f) >> mantissa_bits) as i32;
    let mantissa = byte & ((1 << mantissa_bits) - 1);
    let top = 0x7f >> mantissa_bits;
    if finite && byte & 0x7f == 0x7f {
        return f32::NAN;
    }
    if !finite && exponent == top {
        return if mantissa == 0 { sign * f32::INFINITY } else { f32::NAN };
    }
    // The significand as an integer, and the power of two of its last bit.
    let ones = 1 << mantissa_bits;
    let (significand, power) =
        if exponent == 0 { (mantissa, 1 - bias) } else { (ones + mantissa, exponent - bias) };
    sign * significand as f32 * power_of_two(power - mantissa_bits as i32)
}

/// Of a power between those of normal numbers, -126 and 127.
const fn power_of_two(power: i32) -> f32 {
    f32::from_bits(((power + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_known_values() {
        // Extremes of the OCP specification, table 2.
        assert_eq!(E4M3[0x7e], 448.0);
        assert_eq!(E4M3[0x01], 2f32.powi(-9));
        assert_eq!(E4M3[0xb8], -1.0);
        assert!(E4M3[0xff].is_nan());
        assert_eq!(E5M2[0x7b], 57344.0);
        assert_eq!(E5M2[0x01], 2f32.powi(-16));
        assert!(E5M2[0x7c].is_infinite());
        assert_eq!(Dtype::F8E4M3.decode(&[0x38, 0x80]).unwrap(), [1.0, -0.0]);
        assert_eq!(Dtype::F8E5M2.decode(&[0x3c, 0xbc]).unwrap(), [1.0, -1.0]);
    }

    #[test]
    fn half_types_round_trip() {
        let x = [0.5f32, -1.25, 3.0];
        let raw: Vec<u8> = x.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(Dtype::Bf16.decode(&raw).unwrap(), x);
        let raw: Vec<u8> = x.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(Dtype::F16.decode(&raw).unwrap(), x);
    }
}
