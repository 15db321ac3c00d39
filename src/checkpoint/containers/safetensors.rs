//! safetensors.

use std::collections::BTreeMap;
use std::ops::Range;

use super::each::{Each, Fault, Opened, Opening};
use super::{dialect, sets};
use crate::checkpoint::container::{Component, Container, Damaged, Decoder, OpenedFile, Tensors};
use crate::formats::packed::{self, QuantConfig, States};
use crate::formats::safetensors::{Decoded, FIRST_READ, try_decode};
use crate::formats::{Header, HeaderError, Limits, TensorInfo, Weight};
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

    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder> {
        let prefix =
            |file: &OpenedFile<'_>| Prefix { size: file.size, bytes: Vec::new(), limits: limits.clone() };
        Box::new(Each::new(files.iter().map(prefix), limits.header_bytes, FIRST_READ, headers))
    }
}

/// The first bytes of a file, until they hold its header.
struct Prefix {
    size: u64,
    bytes: Vec<u8>,
    limits: Limits,
}

impl Opening for Prefix {
    type Found = Header;

    fn step(&mut self) -> Result<Opened<Header>, Fault> {
        Ok(match try_decode(&self.bytes, self.size, &self.limits)? {
            Decoded::Done(header) => Opened::Done(header),
            // Never more than the header limit and the file hold.
            Decoded::Need(end) => Opened::Need(self.bytes.len() as u64..end),
        })
    }

    fn give(&mut self, range: &Range<u64>, bytes: &[u8]) {
        if self.bytes.len() as u64 == range.start {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn together(limit: u64) -> Fault {
        HeaderError::Together { limit }.into()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "of other formats this may fail")]
fn headers(all: Vec<Header>) -> Result<Box<dyn Tensors>, Damaged> {
    Ok(Box::new(Headers(all)))
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
    use crate::checkpoint::container::Step;
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
        let mut decoder =
            Safetensors.decoder(&[OpenedFile { path: "model.safetensors", size: 2_000_000 }; 2], &limits);
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
