//! A made-up format, as an example of how one is added: this file, and one row in a table of [`Containers`].
//!
//! A `.toy` file is text: a line `toy 1`, a line `NAME ROWS COLUMNS` for each tensor, an empty line, and then the values as
//! little-endian F32, tensor by tensor. `vision.toy` beside it is the component `vision`.
//!
//! [`Containers`]: crate::checkpoint::container::Containers

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::container::{
    Component, ComponentFiles, Container, Damaged, Decoder, OpenedFile, Step, Tensors,
};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{Dtype, FileRange, Form, Limits, Weight};

#[derive(Debug)]
pub(super) struct Toy;

impl Container for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn components(&self, files: &[String]) -> Vec<Component> {
        let component = |name: &str, file: &str| {
            let found = files.iter().find(|f| *f == file)?;
            let main = Component::main(ComponentFiles::Named(vec![found.clone()]));
            Some(Component { name: name.to_owned(), ..main })
        };
        component("", "model.toy").into_iter().chain(component("vision", "vision.toy")).collect()
    }

    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder> {
        let heads = files.iter().map(|file| (file.size, Vec::new())).collect();
        Box::new(Heads { heads, limits: limits.clone() })
    }
}

/// The first bytes of each file, until they hold the empty line.
struct Heads {
    heads: Vec<(u64, Vec<u8>)>,
    limits: Limits,
}

impl Decoder for Heads {
    fn step(&mut self) -> Result<Step, Damaged> {
        let mut needed = Vec::new();
        let mut table = Vec::new();
        for (file, (size, head)) in self.heads.iter().enumerate() {
            let damaged = |what: &str| Damaged { file, source: what.into() };
            if let Some(end) = head.windows(2).position(|pair| pair == b"\n\n") {
                let tensors = parse(&head[..end], file, end as u64 + 2, *size, &self.limits);
                table.extend(tensors.map_err(damaged)?);
                continue;
            }
            let read = head.len() as u64;
            let end = (read + 4096).min(*size).min(self.limits.header_bytes);
            if end <= read {
                return Err(damaged("the head has no end"));
            }
            needed.push(FileRange { file, bytes: read..end });
        }
        if needed.is_empty() {
            Ok(Step::Ready(Box::new(Table { files: self.heads.len(), tensors: table })))
        } else {
            Ok(Step::Need(needed))
        }
    }

    fn give(&mut self, range: &FileRange, bytes: &[u8]) {
        self.heads[range.file].1.extend_from_slice(bytes);
    }
}

#[derive(Debug)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    place: FileRange,
}

fn parse(
    head: &[u8],
    file: usize,
    data: u64,
    size: u64,
    limits: &Limits,
) -> Result<Vec<Tensor>, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "not UTF-8")?;
    let mut lines = text.lines();
    if lines.next() != Some("toy 1") {
        return Err("not a toy file");
    }
    let mut begin = data;
    let mut tensors = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        let name = words.next().filter(|name| name.len() <= limits.name_bytes).ok_or("a name is too long")?;
        let shape: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
        let shape = shape.filter(|shape| (1..=2).contains(&shape.len())).ok_or("no shape")?;
        let bytes = shape.iter().try_fold(4u64, |product, n| product.checked_mul(*n));
        let end = bytes.and_then(|n| begin.checked_add(n)).filter(|end| *end <= size);
        let end = end.ok_or("a tensor ends after the file")?;
        if tensors.len() == limits.tensors {
            return Err("too many tensors");
        }
        tensors.push(Tensor { name: name.to_owned(), shape, place: FileRange { file, bytes: begin..end } });
        begin = end;
    }
    Ok(tensors)
}

#[derive(Debug)]
struct Table {
    files: usize,
    tensors: Vec<Tensor>,
}

impl Tensors for Table {
    fn files(&self) -> usize {
        self.files
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.iter().map(|tensor| tensor.name.as_str()))
    }

    fn elements(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.place.len() / 4).sum()
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn weights(&self, _: &QuantConfig, _: &States) -> Vec<Weight<'_>> {
        let weight = |tensor: &'_ Tensor| Weight {
            name: tensor.name.clone().into(),
            shape: tensor.shape.clone().into(),
            parts: BTreeMap::from([("", tensor.place.clone())]),
            elements: tensor.shape.iter().product(),
            form: Form::Stored(Arc::new(Dtype::F32)),
        };
        self.tensors.iter().map(weight).collect()
    }
}

mod tests {
    use bytes::Bytes;

    use super::super::conformance::{self, Sample};
    use super::*;
    use crate::checkpoint::container::Containers;
    use crate::checkpoint::containers::safetensors::Safetensors;
    use crate::checkpoint::job::ReadJob;
    use crate::checkpoint::reading::ReadSettings;
    use crate::checkpoint::sources::memory::{MemoryFiles, MemorySource};
    use crate::store::Outcome;

    fn write(tensors: &[Sample]) -> Vec<u8> {
        let mut file = b"toy 1".to_vec();
        for Sample { name, shape, .. } in tensors {
            let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
            file.extend(format!("\n{name} {}", shape.join(" ")).bytes());
        }
        file.extend(b"\n\n");
        file.extend(tensors.iter().flat_map(|t| &t.values).flat_map(|v| v.to_le_bytes()));
        file
    }

    #[test]
    fn is_a_container() {
        conformance::check(&Toy, "model.toy", write, &[]);
    }

    #[tokio::test]
    async fn a_test_registers_its_own_format_and_reads_two_components() {
        let model = |layers: u64, width: u64| {
            let mut tensors = vec![Sample::new("model.embed_tokens.weight", &[100, width])];
            for layer in 0..layers {
                let at = format!("model.layers.{layer}");
                tensors.push(Sample::new(&format!("{at}.input_layernorm.weight"), &[width]));
                tensors.push(Sample::new(&format!("{at}.mlp.down_proj.weight"), &[width, 3 * width]));
            }
            Bytes::from(write(&tensors))
        };
        let files = [("model.toy", model(3, 64)), ("vision.toy", model(2, 32))];
        let mut source = MemorySource::default();
        let files = MemoryFiles::new(files.map(|(name, content)| (name.to_owned(), content)));
        source.insert("org/toy".parse().unwrap(), files);

        let read = |containers| ReadJob {
            repo: "org/toy".into(),
            settings: ReadSettings { containers, ..ReadSettings::default() },
        };
        let rows = read(Containers::default()).run(&source).await;
        assert_eq!((rows.len(), rows[0].outcome), (1, Outcome::Unsupported));

        let rows = read(Containers::new(vec![Arc::new(Safetensors), Arc::new(Toy)])).run(&source).await;
        let found: Vec<_> = rows
            .iter()
            .map(|row| {
                let fingerprint = row.fingerprint.as_ref().unwrap();
                (row.outcome, fingerprint.hidden_size, row.weight_files[0].path.as_str())
            })
            .collect();
        assert_eq!(found, [(Outcome::Indexed, 64, "model.toy"), (Outcome::Indexed, 32, "vision.toy")]);
        assert_eq!((rows[0].component.as_str(), rows[1].component.as_str()), ("", "vision"));
        assert!(rows[0].extraction_key.is_some() && rows[0].extraction_key != rows[1].extraction_key);
        assert_eq!(rows[0].dtype.as_deref(), Some("F32"));
    }
}
