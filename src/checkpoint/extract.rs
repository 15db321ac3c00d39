//! extract: from fetched bytes to a fingerprint. CPU only; callers run it off the async threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::plan::{Ask, Place};
use crate::formats::tokenizer::leading_bytes;
use crate::signals::blocks::{Block, Probe, le_bytes};
use crate::signals::coverage::{Rest, RestKind};
use crate::signals::tokens::TokenKeys;
use crate::signals::{Coverage, Position, Role, Samples};
use crate::store::checksum::hex;
use crate::store::{AdapterFacts, WeightFile};

/// Fewest different 16-bit words among bytes that say something: constants and masks have few.
const LEAST_WORDS: usize = 8;

/// What was fetched of the weights of one checkpoint.
#[derive(Debug)]
pub struct Fetched {
    /// The weight files; size and digest are known for the opened ones.
    pub files: Vec<WeightFile>,
    /// Which of several models in them it is, where it is not the main one.
    pub part: Option<String>,
    /// What it changes of which model, where it is an adapter.
    pub adapter: Option<AdapterFacts>,
    /// The blocks and the bytes of their pieces.
    pub blocks: Vec<(Ask, Vec<Bytes>)>,
    /// The bytes at places in tensors that are not sampled.
    pub probes: Vec<(Place, Bytes)>,
    /// How much of the opened files is read.
    pub coverage: Coverage,
    /// Files that were not opened, and their bytes.
    pub unopened: Option<(usize, u64)>,
    /// Why weights of these roles were not read; others of the same role may have been.
    pub unreadable: BTreeMap<Role, String>,
    /// Layers of the main stack.
    pub layers: u16,
    /// Rows of the token embedding.
    pub vocabulary: Option<u32>,
    /// Stored elements in the opened files.
    pub parameters: u64,
    /// Bytes of weight files read.
    pub bytes_fetched: u64,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
}

/// Everything known of the weights of one checkpoint.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// The weight files.
    pub files: Vec<WeightFile>,
    /// Which of several models in them it is, where it is not the main one.
    pub part: Option<String>,
    /// What it changes of which model, where it is an adapter.
    pub adapter: Option<AdapterFacts>,
    /// The weights that were read.
    pub samples: Samples,
    /// Digest over the canonical samples in canonical order: the same for every file layout. Of a checkpoint that was
    /// read in part it says whose files it has, as far as that is known: packed copies of two models may have the same
    /// samples. Lower-case hex.
    pub sample_digest: Option<String>,
    /// Digest over the SHA-256 of all weight files, where all are known, and over which of several models in them it is.
    /// Lower-case hex.
    pub weights_digest: Option<String>,
    /// Dtype of most sampled matrices, e.g. `BF16` or `GPTQ 4-bit`; of the gains where no matrix was read.
    pub dtype: Option<String>,
    /// What is absent and why: one line a reason, with the roles that it holds for.
    pub unreadable: Vec<String>,
    /// Stored elements in the opened files.
    pub parameters: u64,
    /// Bytes of weight files read.
    pub bytes_fetched: u64,
    /// Bytes of all weight files, as far as known.
    pub bytes_in_repo: u64,
}

/// Decodes what was read. `tokens` tells which embedding row is which token.
pub fn extract(fetched: Fetched, tokens: Option<Arc<TokenKeys>>) -> Extracted {
    let _span = tracing::info_span!("extract").entered();
    let mut dtypes: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    let mut unreadable = fetched.unreadable;
    let mut quantised = false;
    let mut blocks = Vec::with_capacity(fetched.blocks.len());
    for (ask, pieces) in &fetched.blocks {
        let Ask { position, start, tensor_rows, columns, ref encoding, .. } = *ask;
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        match ask.decode(&pieces) {
            Ok(values) => {
                *dtypes.entry((position.role.is_matrix(), encoding.name())).or_default() += 1;
                quantised |= encoding.is_quantised();
                blocks.push((ask.canonical, Block { position, start, tensor_rows, columns, values }));
            }
            Err(reason) => {
                unreadable.entry(position.role).or_insert(reason);
            }
        }
    }
    let weights_digest = weights_digest(&fetched.files, fetched.part.as_deref());
    let sample_digest = if fetched.coverage.is_whole() {
        let canonical = blocks.iter().filter(|(canonical, _)| *canonical).map(|(_, block)| block);
        Some(digest(canonical, fetched.coverage.parameters))
    } else {
        weights_digest.as_ref().map(|files| hex(&Sha256::digest(format!("files {files}"))))
    };
    let blocks: Vec<Block> = blocks.into_iter().map(|(_, block)| block).collect();
    let read: BTreeSet<Role> = blocks.iter().map(|block| block.position.role).collect();
    unreadable.retain(|role, _| !is_read(*role, &read));
    let mut samples = Samples::new(fetched.layers, fetched.vocabulary, blocks, tokens);
    samples.quantised |= quantised || fetched.coverage.has_unread_packing();
    let mut coverage = fetched.coverage;
    if let Some((files, bytes)) = fetched.unopened {
        add_unopened(&mut coverage, files, bytes);
    }
    samples.coverage = Some(coverage);
    samples.rank = fetched.adapter.as_ref().map(|adapter| adapter.rank);
    samples.probes = fetched
        .probes
        .into_iter()
        .filter_map(|(place, bytes)| Some((place.name, probe(place.size, &bytes)?)))
        .collect();
    Extracted {
        weights_digest,
        part: fetched.part,
        adapter: fetched.adapter,
        files: fetched.files,
        sample_digest,
        samples,
        dtype: dtypes
            .into_iter()
            .max_by_key(|((matrix, _), n)| (*matrix, *n))
            .map(|((_, name), _)| name.to_owned()),
        unreadable: by_reason(unreadable),
        parameters: fetched.parameters,
        bytes_fetched: fetched.bytes_fetched,
        bytes_in_repo: fetched.bytes_in_repo,
    }
}

/// Counts files that were not opened: as many parameters to a byte as in the others.
fn add_unopened(coverage: &mut Coverage, files: usize, bytes: u64) {
    let per_byte = coverage.parameters as f64 / (coverage.bytes.max(1) as f64);
    let parameters = (bytes as f64 * per_byte) as u64;
    coverage.parameters = coverage.parameters.saturating_add(parameters);
    coverage.bytes = coverage.bytes.saturating_add(bytes);
    let what = format!("{files} files");
    coverage.add_rest([Rest { kind: RestKind::ShardNotOpened, what, parameters, bytes }]);
}

/// What is kept of some bytes of a tensor or file of this size; `None` where they say nothing, because they are nearly
/// all the same.
pub(super) fn probe(size: u64, bytes: &[u8]) -> Option<Probe> {
    let words: BTreeSet<&[u8]> = bytes.chunks_exact(2).collect();
    if words.len() < LEAST_WORDS {
        return None;
    }
    let digest = Sha256::new().chain_update(size.to_le_bytes()).chain_update(bytes).finalize();
    Some(Probe { digest: leading_bytes(&digest.into()), size })
}

/// Whether some of these weights were read. Fused ones are read as their parts.
fn is_read(role: Role, read: &BTreeSet<Role>) -> bool {
    let part = match role {
        Role::Qkv => Role::Key,
        Role::GateUp => Role::Gate,
        other => other,
    };
    read.contains(&role) || read.contains(&part)
}

/// `q, k, v: why`, one line a reason: at most as many as there are roles.
fn by_reason(unreadable: BTreeMap<Role, String>) -> Vec<String> {
    let mut roles: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (role, reason) in unreadable {
        roles.entry(reason).or_default().push(role.name());
    }
    roles.into_iter().map(|(reason, roles)| format!("{}: {reason}", roles.join(", "))).collect()
}

fn digest<'a>(blocks: impl Iterator<Item = &'a Block>, parameters: u64) -> String {
    let mut blocks: Vec<&Block> = blocks.collect();
    blocks.sort_by_key(|block| (block.position, block.start));
    let mut hasher = Sha256::new();
    // Of the experts one is sampled.
    if blocks.iter().any(|block| block.position.expert.is_some()) {
        hasher.update(parameters.to_le_bytes());
    }
    for block in blocks {
        for (start, values) in block.canonical() {
            // Every field has a fixed length, so no two lists of blocks give one byte string.
            let Position { stack, layer, expert, role, .. } = block.position;
            hasher.update([role as u8, stack as u8, u8::from(expert.is_some())]);
            hasher.update(expert.unwrap_or(0).to_le_bytes());
            hasher.update(layer.to_le_bytes());
            hasher.update(start.to_le_bytes());
            hasher.update((block.columns as u64).to_le_bytes());
            hasher.update((values.len() as u64).to_le_bytes());
            hasher.update(le_bytes(values));
        }
    }
    hex(&hasher.finalize())
}

/// One digest for a set of weight files, whatever their names, or for one of several models in them; `None` unless every
/// digest is known.
pub fn weights_digest(files: &[WeightFile], part: Option<&str>) -> Option<String> {
    let mut digests: Vec<&str> = files.iter().map(|f| f.sha256.as_deref()).collect::<Option<_>>()?;
    if digests.is_empty() {
        return None;
    }
    digests.sort_unstable();
    let mut hasher = Sha256::new();
    for digest in digests {
        hasher.update(digest.as_bytes());
    }
    if let Some(part) = part {
        // No digest has a blank.
        hasher.update(format!(" {part}"));
    }
    Some(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::formats::packed::{self, QuantConfig, Recognised};
    use crate::formats::{Dtype, Encoding, TensorInfo};

    /// What a checkpoint with this key projection, two rows of four, ends as.
    fn extracted(encoding: Arc<dyn Encoding>, pieces: &[&'static [u8]]) -> Extracted {
        let ask = |role, tensor_rows, encoding| Ask {
            position: Position::main(role, 0),
            start: 0,
            tensor_rows,
            columns: 4,
            encoding,
            rows: 0..tensor_rows,
            pieces: Vec::new(),
            canonical: true,
        };
        let gain = ask(Role::AttentionNorm, 1, Arc::new(Dtype::I8));
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece)).collect();
        let whole = "AWQ 4-bit, of which a row costs the whole matrix".to_owned();
        let unreadable = [Role::Query, Role::Value, Role::AttentionNorm].map(|role| (role, whole.clone()));
        let fetched = Fetched {
            files: Vec::new(),
            part: None,
            adapter: None,
            blocks: vec![
                (ask(Role::Key, 2, encoding), pieces),
                (gain.clone(), vec![Bytes::from_static(&[1; 4])]),
                (
                    Ask { position: Position::main(Role::AttentionNorm, 1), ..gain },
                    vec![Bytes::from_static(&[1; 4])],
                ),
            ],
            probes: Vec::new(),
            coverage: Coverage::of_all(24, 24),
            unopened: None,
            unreadable: unreadable.into_iter().collect(),
            layers: 2,
            vocabulary: None,
            parameters: 0,
            bytes_fetched: 0,
            bytes_in_repo: 0,
        };
        extract(fetched, None)
    }

    fn int8() -> Arc<dyn Encoding> {
        let tensor = |dtype, shape: &[u64], bytes| TensorInfo {
            name: String::new(),
            dtype: Some(dtype),
            shape: shape.to_vec(),
            bytes: 0..bytes,
        };
        let (weight, scale) = (tensor(Dtype::I8, &[2, 4], 8), tensor(Dtype::F32, &[2], 8));
        let format = tensor(Dtype::Other { bits: 8 }, &[], 1);
        let parts = BTreeMap::from([("weight", &weight), ("SCB", &scale), ("weight_format", &format)]);
        match packed::recognise(&parts, &QuantConfig::default(), None) {
            Ok(Recognised::Packed(packing)) => Arc::new(*packing),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_that_were_not_opened_are_a_part_that_was_not_read() {
        let mut coverage = Coverage::of_all(100, 200);
        add_unopened(&mut coverage, 3, 600);
        assert_eq!((coverage.parameters, coverage.parameters_read), (400, 100));
        assert!((coverage.share() - 0.25).abs() < 1e-9);
        let [rest] = &coverage.rest[..] else { panic!("{coverage:?}") };
        assert_eq!((rest.kind, &*rest.what, rest.bytes), (RestKind::ShardNotOpened, "3 files", 600));
    }

    #[test]
    fn bytes_that_are_all_alike_say_nothing() {
        assert_eq!(probe(64, &[0; 64]), None);
        let varied: Vec<u8> = (0..64).collect();
        let kept = probe(64, &varied).unwrap();
        assert_eq!(kept.size, 64);
        assert_ne!(probe(65, &varied).unwrap().digest, kept.digest);
    }

    #[test]
    fn packed_matrices_name_the_dtype() {
        // 127 and 254 as F32: scales of 1 and 2.
        let pieces: [&[u8]; 3] = [&[1, 2, 3, 4, 5, 6, 7, 8], &[0, 0, 0xfe, 0x42, 0, 0, 0x7e, 0x43], &[0]];
        let read = extracted(int8(), &pieces);
        let key = read.samples.blocks.iter().find(|b| b.position.role == Role::Key).unwrap();
        assert_eq!(key.values, [1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 14.0, 16.0]);
        assert!(read.samples.quantised);
        // The two gains are more blocks, but no matrix; and they were read after all.
        assert_eq!(read.dtype.as_deref(), Some("I8 with scales"));
        assert_eq!(read.unreadable, ["q, v: AWQ 4-bit, of which a row costs the whole matrix"]);
    }

    #[test]
    fn what_cannot_be_decoded_is_absent_with_a_reason() {
        let tiled = extracted(int8(), &[&[1; 8], &[0; 8], &[2]]);
        assert_eq!(tiled.samples.blocks.len(), 2);
        assert!(!tiled.samples.quantised);
        assert_eq!(tiled.dtype.as_deref(), Some("I8"));
        assert_eq!(tiled.unreadable.len(), 2);
        assert_eq!(tiled.unreadable[1], "k: weight_format 2 instead of 0, row-major");
        let short = extracted(int8(), &[&[1; 8]]);
        assert!(short.unreadable[1].starts_with("k: tensor \"SCB\""), "{:?}", short.unreadable);
    }

    fn file(path: &str, sha256: Option<&str>) -> WeightFile {
        WeightFile { path: path.into(), size: Some(1), sha256: sha256.map(str::to_owned) }
    }

    #[test]
    fn equal_content_has_one_digest_whatever_the_names() {
        let a = [file("x", Some("aa")), file("y", Some("bb"))];
        let b = [file("1", Some("bb")), file("2", Some("aa"))];
        let whole = |files: &[WeightFile]| weights_digest(files, None);
        assert_eq!(whole(&a), whole(&b));
        assert_ne!(whole(&a), whole(&a[..1]));
        assert_ne!(whole(&a), weights_digest(&a, Some("policy.")));
        assert_eq!(whole(&[file("x", None)]), None);
        assert_eq!(whole(&[]), None);
    }
}
