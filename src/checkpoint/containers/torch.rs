//! PyTorch: what `torch.save` writes, and TorchScript.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::each::{Each, Fault, Opened, Opening};
use super::safetensors::Headers;
use super::{dialect, sets};
use crate::checkpoint::container::{Component, Container, Damaged, Decoder, OpenedFile, Tensors};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::safetensors::FIRST_READ;
use crate::formats::torch::{self, Other};
use crate::formats::weight::elements;
use crate::formats::{FileRange, Form, Header, Limits, TorchError, Weight};
use crate::signals::roles::Naming;

/// The format.
#[derive(Debug)]
pub struct Torch;

impl Container for Torch {
    fn name(&self) -> &'static str {
        "PyTorch"
    }

    fn components(&self, files: &[String]) -> Vec<Component> {
        sets::components(files, &dialect::TORCH)
    }

    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder> {
        let file =
            |file: &OpenedFile<'_>| File { opening: torch::Opening::new(file.size), limits: limits.clone() };
        Box::new(Each::new(files.iter().map(file), limits.header_bytes, 2 * FIRST_READ, pickled))
    }
}

/// A file, while its pickle is found and read.
struct File {
    opening: torch::Opening,
    limits: Limits,
}

impl Opening for File {
    type Found = torch::Tensors;

    fn step(&mut self) -> Result<Opened<torch::Tensors>, Fault> {
        match self.opening.step(&self.limits) {
            Ok(torch::Step::Need(bytes)) => Ok(Opened::Need(bytes)),
            Ok(torch::Step::Done(tensors)) => Ok(Opened::Done(tensors)),
            // What is read apart from the tensors, and what is not read at all, ends differently.
            Err(TorchError::Unsupported(what)) => Err(what.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn give(&mut self, range: &Range<u64>, bytes: &[u8]) {
        self.opening.give(range, bytes);
    }

    fn together(limit: u64) -> Fault {
        TorchError::Together { limit }.into()
    }
}

/// What these files hold.
#[expect(clippy::unnecessary_wraps, reason = "of other formats this may fail")]
fn pickled(files: Vec<torch::Tensors>) -> Result<Box<dyn Tensors>, Damaged> {
    let (mut plain, mut others, mut aliases) = (Vec::new(), Vec::new(), Vec::new());
    for (file, found) in files.into_iter().enumerate() {
        plain.push(Header { tensors: found.plain, metadata: BTreeMap::new(), len: 0 });
        others.extend(found.others.into_iter().map(|other| (file, other)));
        aliases.extend(found.aliases);
    }
    choose_names(&mut plain, &mut aliases);
    Ok(Box::new(Pickled { plain: Headers(plain), others, aliases }))
}

/// The tensors of the opened files.
#[derive(Debug)]
struct Pickled {
    /// Those that safetensors could hold, as it would list them: packed weights are found among them.
    plain: Headers,
    /// The others, each with its file.
    others: Vec<(usize, Other)>,
    /// Further names of tensors that are there under another one, with that.
    aliases: Vec<(String, String)>,
}

/// Of several names of one matrix the one that says what it is: a tied head may come before its embedding.
fn choose_names(headers: &mut [Header], aliases: &mut [(String, String)]) {
    if aliases.is_empty() {
        return;
    }
    let stored = headers.iter().flat_map(|header| &header.tensors).map(|tensor| tensor.name.as_str());
    let naming = Naming::of(stored.chain(aliases.iter().map(|(alias, _)| alias.as_str())));
    let mut renamed: HashMap<String, String> = HashMap::new();
    for (alias, first) in aliases.iter_mut() {
        let says_more = naming.position(first).is_none() && naming.position(alias).is_some();
        if says_more && !renamed.contains_key(first) {
            renamed.insert(first.clone(), alias.clone());
            std::mem::swap(alias, first);
        }
    }
    for tensor in headers.iter_mut().flat_map(|header| &mut header.tensors) {
        if let Some(name) = renamed.remove(&tensor.name) {
            tensor.name = name;
        }
    }
}

impl Tensors for Pickled {
    fn files(&self) -> usize {
        self.plain.files()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let others = self.others.iter().map(|(_, other)| other.name.as_str());
        Box::new(self.plain.names().chain(others).chain(self.aliases.iter().map(|(alias, _)| alias.as_str())))
    }

    fn elements(&self) -> u64 {
        let others = self.others.iter().map(|(_, other)| elements(&other.shape));
        others.fold(self.plain.elements(), u64::saturating_add)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn needs_config(&self) -> bool {
        self.plain.needs_config()
    }

    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>> {
        let mut weights = self.plain.weights(config, states);
        weights.extend(self.others.iter().map(|(file, other)| Weight {
            name: other.name.as_str().into(),
            shape: other.shape.as_slice().into(),
            parts: BTreeMap::from([("", FileRange { file: *file, bytes: other.bytes.clone() })]),
            elements: elements(&other.shape),
            form: match &other.form {
                Ok(encoding) => Form::Stored(Arc::clone(encoding)),
                Err(reason) => Form::Unreadable(reason.clone()),
            },
        }));
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{self, Sample};
    use super::*;
    use crate::checkpoint::container::{ComponentFiles, Step};
    use crate::formats::Dtype;
    use crate::formats::torch::write::{Written, archive};

    fn write(tensors: &[Sample]) -> Vec<u8> {
        let data: Vec<Vec<u8>> =
            tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let written = tensors.iter().zip(&data).map(|(t, bytes)| Written {
            name: &t.name,
            dtype: Dtype::F32,
            shape: &t.shape,
            bytes,
        });
        archive(&written.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn is_a_container() {
        for name in ["pytorch_model.bin", "model.pt", "MODEL.PTH", "x.ckpt"] {
            conformance::check(&Torch, name, write, &[]);
        }
    }

    #[test]
    fn names_of_files() {
        let component = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
            Torch.components(&files).pop()
        };
        for none in [
            &["training_args.bin"][..],
            &["optimizer.pt", "scheduler.pt", "rng_state_0.pth", "scaler.pt", "config.json"],
            &["model.safetensors", "tokenizer.json"],
        ] {
            assert_eq!(component(none), None, "{none:?}");
        }
        let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
        let found = component(&[shards[1], "pytorch_model.bin.index.json", "training_args.bin", shards[0]]);
        let found = found.unwrap();
        assert_eq!(found.files, ComponentFiles::Named(shards.map(str::to_owned).to_vec()));
        assert_eq!(found.unsettled().count(), 0);
        assert_eq!(found.rivals[0].settled, Some("left behind by a training"));
    }

    #[test]
    fn the_pickles_of_a_checkpoint_have_one_limit_together() {
        let file = write(&[Sample::new("model.norm.weight", &[8])]);
        let limits = Limits { header_bytes: file.len() as u64, ..Limits::default() };
        let mut decoder = Torch.decoder(&[OpenedFile { path: "a.bin", size: file.len() as u64 }], &limits);
        let Ok(Step::Need(ranges)) = decoder.step() else { panic!("it needs nothing") };
        decoder.give(&ranges[0], &file);
        assert!(matches!(decoder.step(), Ok(Step::Ready(_))));
        let far = 1 << 40;
        let mut decoder = Torch.decoder(
            &[OpenedFile { path: "a.bin", size: far }; 3],
            &Limits { header_bytes: 0, ..Limits::default() },
        );
        for _ in 0..3 {
            match decoder.step() {
                Ok(Step::Need(ranges)) => {
                    for range in ranges {
                        let mut bytes = vec![0; range.len() as usize];
                        bytes[..4].copy_from_slice(b"PK\x03\x04");
                        decoder.give(&range, &bytes);
                    }
                }
                Err(_) => return,
                Ok(Step::Ready(tensors)) => panic!("{tensors:?}"),
            }
        }
        panic!("no limit");
    }
}
