//! Numbers of protobuf: 7 bits a byte, the lowest first, in at most 10 bytes.

/// Most bytes of a number.
pub(crate) const MOST: usize = 10;

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoVarint {
    /// The bytes end within it.
    Cut,
    /// It goes on for too long.
    TooLong,
}

impl NoVarint {
    /// In the words of a report.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Cut => "ends within a field",
            Self::TooLong => "a number of more than 10 bytes",
        }
    }
}

/// The number that these bytes begin with, and its length. Bits past the 64th are dropped, as other readers do.
pub(crate) fn read(bytes: &[u8]) -> Result<(u64, usize), NoVarint> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(MOST).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((number, place + 1));
        }
    }
    Err(if bytes.len() < MOST { NoVarint::Cut } else { NoVarint::TooLong })
}

/// Messages of protobuf for tests.
#[cfg(test)]
pub(crate) mod testing {
    /// A number.
    pub(crate) fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    /// A field of bytes.
    pub(crate) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        [&varint(number << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length() {
        assert_eq!(read(&[0, 9]), Ok((0, 1)));
        assert_eq!(read(&[0xac, 0x02]), Ok((300, 2)));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok((u64::MAX, 10)));
        assert_eq!(read(&[0xff, 0xff]), Err(NoVarint::Cut));
        assert_eq!(read(&[0x80; 11]), Err(NoVarint::TooLong));
    }
}
