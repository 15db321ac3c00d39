//! The parameter count that a listing shows: stored elements per dtype, from safetensors headers.
//!
//! A damaged file simply has no count. The header's length is checked against the file before
//! anything is read, and tensors are summed up one by one without being kept.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::repo::Parameters;
use super::walk::FolderFile;

/// The limit of the format's own library.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
}

/// Sums the headers of the files that make up the model; `None` if there are none or one is damaged.
pub(super) fn parameters(files: &[FolderFile]) -> Option<Parameters> {
    let chosen = model_files(files);
    if chosen.is_empty() {
        return None;
    }
    let mut sum = Parameters::default();
    for file in chosen {
        for (dtype, count) in header(&file.location, file.size)?.parameters {
            let entry = sum.parameters.entry(dtype).or_default();
            *entry = entry.checked_add(count)?;
            sum.total = sum.total.checked_add(count)?;
        }
    }
    Some(sum)
}

/// The shards, or the single file; a repository may hold further copies in other precisions.
fn model_files(files: &[FolderFile]) -> Vec<&FolderFile> {
    let is_weights =
        |file: &&FolderFile| Path::new(&file.path).extension().is_some_and(|e| e == "safetensors");
    let top: Vec<&FolderFile> =
        files.iter().filter(is_weights).filter(|file| !file.path.contains('/')).collect();
    let shards: Vec<&FolderFile> =
        top.iter().copied().filter(|f| f.path.starts_with("model-") && f.path.contains("-of-")).collect();
    if !shards.is_empty() {
        return shards;
    }
    let named = |name: &str| top.iter().copied().find(|file| file.path == name);
    let single = named("model.safetensors").or_else(|| named("adapter_model.safetensors"));
    single.or_else(|| top.first().copied()).into_iter().collect()
}

fn header(path: &Path, size: u64) -> Option<Parameters> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > size.checked_sub(8)? {
        return None;
    }
    let Counted(parameters) = serde_json::from_reader(BufReader::new(file.take(length))).ok()?;
    Some(parameters)
}

/// A header, read for its counts.
struct Counted(Parameters);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;

        impl<'de> Visitor<'de> for Count {
            type Value = Counted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a safetensors header")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counted, A::Error> {
                let mut sum = Parameters::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let tensor: Tensor = map.next_value()?;
                    let overflow = || serde::de::Error::custom("more elements than 64 bits count");
                    let count = tensor
                        .shape
                        .iter()
                        .try_fold(1u64, |product, &n| product.checked_mul(n))
                        .ok_or_else(overflow)?;
                    let entry = sum.parameters.entry(tensor.dtype).or_default();
                    *entry = entry.checked_add(count).ok_or_else(overflow)?;
                    sum.total = sum.total.checked_add(count).ok_or_else(overflow)?;
                }
                Ok(Counted(sum))
            }
        }

        deserializer.deserialize_map(Count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::SystemTime;

    use super::*;

    fn written(dir: &Path, path: &str, length: u64, header: &str) -> FolderFile {
        let location = dir.join(path);
        let mut file = File::create(&location).unwrap();
        file.write_all(&length.to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        let size = 8 + header.len() as u64;
        FolderFile { path: path.to_owned(), location, size, modified: SystemTime::UNIX_EPOCH }
    }

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
        "b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}  "#;

    #[test]
    fn shards_add_up_and_copies_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str| written(dir.path(), path, HEADER.len() as u64, HEADER);
        let files = [
            write("consolidated.safetensors"),
            write("model-00001-of-00002.safetensors"),
            write("model-00002-of-00002.safetensors"),
        ];
        let sum = parameters(&files).unwrap();
        assert_eq!((sum.parameters["BF16"], sum.parameters["F32"], sum.total), (12, 2, 14));
        assert_eq!(parameters(&files[..1]).unwrap().total, 7);
        assert_eq!(parameters(&[]), None);
    }

    #[test]
    fn damage_has_no_count() {
        let dir = tempfile::tempdir().unwrap();
        let huge = r#"{"a":{"dtype":"I8","shape":[4294967296,4294967296,2]}}"#;
        for (i, (length, header)) in [
            (u64::MAX, HEADER),
            (HEADER.len() as u64 + 1, HEADER),
            (10, HEADER),
            (2, "[]"),
            (huge.len() as u64, huge),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(
                parameters(&[written(dir.path(), "model.safetensors", length, header)]),
                None,
                "case {i}"
            );
        }
    }
}
