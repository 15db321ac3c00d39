//! Short stand-ins for long texts.

use sha2::{Digest, Sha256};

/// The first 16 bytes of a text's SHA-256: ids, commits and digests in a third of their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; 16]);

impl Tag {
    /// The tag of a text.
    pub fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        Self(std::array::from_fn(|i| digest[i]))
    }

    /// Its bytes, to be stored.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The tag with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its first eight bytes as a number.
    pub fn first_word(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}
