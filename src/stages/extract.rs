//! extract: from fetched bytes to a fingerprint. CPU only; callers run it off the async threads.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::fetch::Fetched;
use super::plan::Ask;
use crate::formats::ModelConfig;
use crate::signals::fingerprint::{Block, Fingerprint, FingerprintError};
use crate::store::WeightFile;
use crate::store::atomic::hex;

/// Everything known of one checkpoint.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// config.json.
    pub config: ModelConfig,
    /// The weight files.
    pub files: Vec<WeightFile>,
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// Digest over the sampled bytes in canonical order: the same for every file layout. Lower-case hex.
    pub sample_digest: String,
    /// Digest over the SHA-256 of all weight files, where all are known. Lower-case hex.
    pub weights_digest: Option<String>,
    /// Dtype of most sampled blocks.
    pub dtype: Option<String>,
    /// Stored elements in the opened files.
    pub parameters: u64,
    /// Bytes of file content read.
    pub bytes_fetched: u64,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
}

/// Decodes and sketches.
pub fn extract(fetched: Fetched) -> Result<Extracted, FingerprintError> {
    let _span = tracing::info_span!("extract").entered();
    let mut blocks = fetched.blocks;
    blocks.sort_by_key(|(ask, _)| (ask.position.role, ask.position.layer, ask.start));
    let sample_digest = digest(&blocks);
    let decoded: Vec<Block> = blocks
        .iter()
        .filter_map(|(ask, bytes)| {
            let values = ask.dtype.decode(bytes)?;
            Some(Block { position: ask.position, start: ask.start, columns: ask.columns, values })
        })
        .collect();
    let fingerprint = Fingerprint::new(fetched.layers, fetched.vocabulary, &decoded)?;
    let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
    for (ask, _) in &blocks {
        *dtypes.entry(ask.dtype.name()).or_default() += 1;
    }
    Ok(Extracted {
        config: fetched.config,
        weights_digest: weights_digest(&fetched.files),
        files: fetched.files,
        fingerprint,
        sample_digest,
        dtype: dtypes.into_iter().max_by_key(|(_, n)| *n).map(|(name, _)| name.to_owned()),
        parameters: fetched.parameters,
        bytes_fetched: fetched.bytes_fetched,
        bytes_in_repo: fetched.bytes_in_repo,
    })
}

fn digest(blocks: &[(Ask, bytes::Bytes)]) -> String {
    let mut hasher = Sha256::new();
    for (ask, bytes) in blocks {
        // Every field has a fixed length, so no two lists of blocks give one byte string.
        hasher.update([ask.position.role as u8]);
        hasher.update(ask.position.layer.to_le_bytes());
        hasher.update(ask.start.to_le_bytes());
        hasher.update((ask.columns as u64).to_le_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(ask.dtype.name().as_bytes());
        hasher.update(bytes);
    }
    hex(&hasher.finalize())
}

/// One digest for a set of weight files, whatever their names; `None` unless every digest is known.
pub fn weights_digest(files: &[WeightFile]) -> Option<String> {
    let mut digests: Vec<&str> = files.iter().map(|f| f.sha256.as_deref()).collect::<Option<_>>()?;
    if digests.is_empty() {
        return None;
    }
    digests.sort_unstable();
    let mut hasher = Sha256::new();
    for digest in digests {
        hasher.update(digest.as_bytes());
    }
    Some(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sha256: Option<&str>) -> WeightFile {
        WeightFile { path: path.into(), size: Some(1), sha256: sha256.map(str::to_owned) }
    }

    #[test]
    fn equal_content_has_one_digest_whatever_the_names() {
        let a = [file("x", Some("aa")), file("y", Some("bb"))];
        let b = [file("1", Some("bb")), file("2", Some("aa"))];
        assert_eq!(weights_digest(&a), weights_digest(&b));
        assert_ne!(weights_digest(&a), weights_digest(&a[..1]));
        assert_eq!(weights_digest(&[file("x", None)]), None);
        assert_eq!(weights_digest(&[]), None);
    }
}
