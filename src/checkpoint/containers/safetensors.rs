//! safetensors.

use std::collections::BTreeMap;

use super::{dialect, sets};
use crate::checkpoint::container::{Component, Container, Damaged, Decoder, Step, Tensors};
use crate::formats::packed::{self, QuantConfig, States};
use crate::formats::safetensors::{Decoded, FIRST_READ, try_decode};
use crate::formats::{FileRange, Header, HeaderError, Limits, TensorInfo, Weight};
use crate::signals::roles::Naming;

/// The format.
#[derive(Debug)]
pub struct Safetensors;

impl Container for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn components(&self, files: &[String]) -> Vec<Component> {
        sets::components(files, &dialect::SAFETENSORS)
    }

    fn decoder(&self, sizes: &[u64], limits: &Limits) -> Box<dyn Decoder> {
        // A limit for each alone would be one for eight shards, times the repositories under way.
        let left = limits.header_bytes.saturating_add(FIRST_READ * sizes.len() as u64);
        let files = sizes.iter().map(|size| File { size: *size, prefix: Vec::new(), header: None }).collect();
        Box::new(Prefixes { files, left, limits: limits.clone() })
    }
}

/// The decoder: the first bytes of each file, until they hold its header.
struct Prefixes {
    files: Vec<File>,
    /// Bytes of headers that may still be asked for.
    left: u64,
    limits: Limits,
}

struct File {
    size: u64,
    prefix: Vec<u8>,
    header: Option<Header>,
}

impl Decoder for Prefixes {
    fn step(&mut self) -> Result<Step, Damaged> {
        let Self { files, left, limits } = self;
        let mut needed = Vec::new();
        for (file, state) in files.iter_mut().enumerate().filter(|(_, state)| state.header.is_none()) {
            let damaged = |error: HeaderError| Damaged { file, source: error.into() };
            match try_decode(&state.prefix, state.size, limits).map_err(damaged)? {
                Decoded::Done(header) => {
                    state.header = Some(header);
                    state.prefix = Vec::new();
                }
                // Never more than the header limit and the file hold.
                Decoded::Need(end) => {
                    let range = FileRange { file, bytes: state.prefix.len() as u64..end };
                    let together = HeaderError::Together { limit: limits.header_bytes };
                    *left = left.checked_sub(range.len()).ok_or_else(|| damaged(together))?;
                    needed.push(range);
                }
            }
        }
        if !needed.is_empty() {
            return Ok(Step::Need(needed));
        }
        let headers = files.iter_mut().filter_map(|state| state.header.take()).collect();
        Ok(Step::Ready(Box::new(Headers(headers))))
    }

    fn give(&mut self, range: &FileRange, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(range.file)
            && file.prefix.len() as u64 == range.bytes.start
        {
            file.prefix.extend_from_slice(bytes);
        }
    }
}

/// The headers of the opened files.
#[derive(Clone, Debug)]
pub struct Headers(pub Vec<Header>);

impl Headers {
    fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.0.iter().flat_map(|header| &header.tensors)
    }
}

impl Tensors for Headers {
    fn files(&self) -> usize {
        self.0.len()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors().map(|tensor| tensor.name.as_str()))
    }

    fn elements(&self) -> u64 {
        self.tensors().fold(0, |n, tensor| tensor.elements().saturating_add(n))
    }

    /// `__metadata__` of all files; of two values of one key the first one counts.
    fn metadata(&self) -> BTreeMap<String, String> {
        let all = self.0.iter().rev().flat_map(|header| &header.metadata);
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn needs_config(&self) -> bool {
        // No layout packs into plain floats or into 64 bits; buffers of other types have no role.
        let is_odd = |t: &&TensorInfo| !t.dtype.is_some_and(|d| d.is_plain_float() || d.bits() >= 64);
        if !self.tensors().any(|tensor| is_odd(&tensor)) {
            return false;
        }
        let plain: Vec<String> = self.names().map(packed::plain_name).collect();
        let naming = Naming::of(plain.iter().map(String::as_str));
        self.tensors().zip(&plain).any(|(tensor, name)| is_odd(&tensor) && naming.position(name).is_some())
    }

    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>> {
        packed::weights(&self.0, config, states)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{self, Sample};
    use super::*;
    use crate::formats::Dtype;

    /// Tensors as one file, written by the crate of the format.
    fn write(tensors: &[Sample]) -> Vec<u8> {
        let data: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&data).map(|(t, data)| {
            let shape = t.shape.iter().map(|n| *n as usize).collect();
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data);
            (t.name.clone(), view.unwrap())
        });
        let about = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize(views.collect::<Vec<_>>(), Some(about)).unwrap()
    }

    #[test]
    fn is_a_container() {
        conformance::check(&Safetensors, "model.safetensors", write, &[("format", "pt")]);
    }

    fn tensor(name: &str, dtype: &str) -> Headers {
        let info =
            TensorInfo { name: name.into(), dtype: Dtype::parse(dtype), shape: vec![8, 8], bytes: 0..64 };
        Headers(vec![Header { tensors: vec![info], metadata: BTreeMap::new(), len: 0 }])
    }

    #[test]
    fn config_is_needed_for_packed_weights() {
        for (name, dtype) in [
            ("model.layers.0.mlp.down_proj.weight", "BF16"),
            ("bert.embeddings.position_ids", "I64"),
            ("h.0.attn.bias", "U8"),
        ] {
            assert!(!tensor(name, dtype).needs_config(), "{name}");
        }
        for (name, dtype) in [
            ("model.layers.0.mlp.down_proj.weight", "F8_E4M3"),
            ("model.layers.0.mlp.down_proj.qweight", "I32"),
            ("model.layers.0.mlp.down_proj.weight", "no such type"),
        ] {
            assert!(tensor(name, dtype).needs_config(), "{name}");
        }
    }

    #[test]
    fn the_headers_of_a_checkpoint_have_one_limit_together() {
        let limits = Limits { header_bytes: 1_000_000, ..Limits::default() };
        let long = (900_000_u64 - 8).to_le_bytes();
        let mut decoder = Safetensors.decoder(&[2_000_000; 2], &limits);
        for _ in 0..2 {
            match decoder.step() {
                Ok(Step::Need(ranges)) => {
                    for range in ranges {
                        let mut bytes = vec![b' '; range.len() as usize];
                        bytes[..8].copy_from_slice(&long);
                        decoder.give(&range, &bytes);
                    }
                }
                Err(damaged) => {
                    assert_eq!(damaged.file, 1);
                    assert!(
                        damaged.source.to_string().contains("more than 1000000 bytes"),
                        "{}",
                        damaged.source
                    );
                    return;
                }
                Ok(Step::Ready(headers)) => panic!("{headers:?}"),
            }
        }
        panic!("no limit");
    }
}
