//! SHA-256 of files and of bytes.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::StoreError;

/// Length and SHA-256 (lower-case hex) of a file, read in pieces.
pub fn checksum(path: &Path) -> Result<(u64, String), StoreError> {
    checksum_of(&mut File::open(path).map_err(StoreError::io(path))?, path)
}

/// The same of an open file, from its beginning; `path` is for errors.
pub fn checksum_of(file: &mut File, path: &Path) -> Result<(u64, String), StoreError> {
    file.seek(SeekFrom::Start(0)).map_err(StoreError::io(path))?;
    let mut checksum = Checksum::default();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = std::io::Read::read(file, &mut buffer).map_err(StoreError::io(path))?;
        if n == 0 {
            return Ok(checksum.finish());
        }
        checksum.update(&buffer[..n]);
    }
}

/// Length and SHA-256 of bytes that come in pieces.
#[derive(Default)]
pub struct Checksum {
    length: u64,
    hasher: Sha256,
}

impl Checksum {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    /// The length, and the SHA-256 in lower-case hex.
    pub fn finish(self) -> (u64, String) {
        (self.length, hex(&self.hasher.finalize()))
    }
}

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of bytes, lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
