//! Which tensor lies where: shards as transformers cuts them, and in each the order and the header that the
//! library of the format writes.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Metadata, TensorInfo};

use super::error::CheckpointError;
use super::gguf;
use super::placed::{Placed, WeightFile, shards};
use super::settings::Format;
use super::shapes::{Scheme, Shape};
use super::tensors::{self, Tensor};
use crate::formats::Dtype;
use crate::formats::torch::write::{self, Shaped};

/// Bytes to a multiple of which a header is filled up with spaces.
const ALIGNMENT: usize = 8;

/// The weight files of a model in this format.
pub(super) fn files(shape: &Shape, format: Format) -> Result<Vec<WeightFile>, CheckpointError> {
    let unknown = || CheckpointError::Format { shape: shape.name, format: format.container().name() };
    if let Format::Gguf(kind) = format {
        return gguf::files(shape, kind).ok_or_else(unknown);
    }
    let shards = shards(tensors::of(shape), shape.shard_bytes, Tensor::bytes);
    let (all, digits) = (shards.len(), shape.digits);
    let (stem, end) = stem(shape, format);
    let name = |number: usize| match all {
        1 => format!("{stem}.{end}"),
        _ => format!("{stem}-{number:05}-of-{all:0digits$}.{end}"),
    };
    let file = |(number, tensors)| match format {
        Format::PyTorch => torch_file(name(number), tensors).ok_or_else(unknown),
        _ => file(name(number), tensors),
    };
    (1..).zip(shards).map(file).collect()
}

/// How files of weights are named in this format.
fn stem(shape: &Shape, format: Format) -> (&'static str, &'static str) {
    let is_diffusers = matches!(shape.scheme, Scheme::Unet | Scheme::Autoencoder);
    match format {
        Format::PyTorch if is_diffusers => ("diffusion_pytorch_model", "bin"),
        Format::PyTorch => ("pytorch_model", "bin"),
        _ if is_diffusers => ("diffusion_pytorch_model", "safetensors"),
        _ => ("model", "safetensors"),
    }
}

/// An archive as torch has it, tensors in the order of the state dict; `None` where torch has no type for one.
fn torch_file(name: String, tensors: Vec<Tensor>) -> Option<WeightFile> {
    let dtype = |tensor: &Tensor| Dtype::parse(&tensor.dtype.to_string());
    let dtypes: Vec<Dtype> = tensors.iter().map(dtype).collect::<Option<_>>()?;
    let shaped = tensors.iter().zip(dtypes);
    let shaped = shaped.map(|(tensor, dtype)| Shaped { name: &tensor.name, dtype, shape: &tensor.shape });
    let layout = write::layout(&shaped.collect::<Vec<_>>())?;
    let placed = tensors.into_iter().zip(layout.begins);
    let tensors = placed.map(|(tensor, begin)| Placed { tensor, begin, ggml: None }).collect();
    Some(WeightFile { name, pieces: layout.pieces, tensors, bytes: layout.bytes })
}

fn file(name: String, mut tensors: Vec<Tensor>) -> Result<WeightFile, CheckpointError> {
    tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let mut end = 0;
    let entries = tensors.iter().map(|tensor| {
        let begin = end;
        end += tensor.bytes() as usize;
        let shape = tensor.shape.iter().map(|n| *n as usize).collect();
        (tensor.name.clone(), TensorInfo { dtype: tensor.dtype, shape, data_offsets: (begin, end) })
    });
    let entries: Vec<(String, TensorInfo)> = entries.collect();
    let begins: Vec<u64> = entries.iter().map(|(_, info)| info.data_offsets.0 as u64).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut json = serde_json::to_vec(&Metadata::new(Some(format), entries)?)?;
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    let data = header.len() as u64;
    let placed = tensors.into_iter().zip(begins);
    let tensors = placed.map(|(tensor, begin)| Placed { tensor, begin: data + begin, ggml: None }).collect();
    Ok(WeightFile { name, pieces: vec![(0, header)], tensors, bytes: data + end as u64 })
}

/// The index and its name, where there is more than one file and the format has one.
pub(super) fn index(
    files: &[WeightFile],
    format: Format,
) -> Result<Option<(&'static str, Vec<u8>)>, CheckpointError> {
    let name = match format {
        Format::Safetensors => "model.safetensors.index.json",
        Format::PyTorch => "pytorch_model.bin.index.json",
        Format::Gguf(_) => return Ok(None),
    };
    if files.len() < 2 {
        return Ok(None);
    }
    let tensors = || files.iter().flat_map(|file| file.tensors.iter().map(move |t| (&t.tensor, &file.name)));
    let total: u64 = tensors().map(|(tensor, _)| tensor.bytes()).sum();
    let map: BTreeMap<&str, &str> =
        tensors().map(|(tensor, file)| (tensor.name.as_str(), file.as_str())).collect();
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    Ok(Some((name, serde_json::to_vec_pretty(&index)?)))
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::super::shapes::{SHAPES, find};
    use super::*;
    use crate::formats::safetensors::{Decoded, Header, try_decode};
    use crate::formats::{Limits, ShardIndex};

    fn header(file: &WeightFile) -> Header {
        match try_decode(&file.pieces[0].1, file.bytes, &Limits::default()).unwrap() {
            Decoded::Done(header) => header,
            Decoded::Need(end) => panic!("asked for {end}"),
        }
    }

    #[test]
    fn headers_are_read_and_say_where_tensors_lie() {
        for (_, shape) in SHAPES.iter().flat_map(Shape::models) {
            let files = files(shape, Format::Safetensors).unwrap();
            for file in &files {
                let header_bytes = &file.pieces[0].1;
                assert_eq!(header_bytes.len() % ALIGNMENT, 0);
                let read = header(file);
                assert_eq!(read.tensors.len(), file.tensors.len());
                for (read, placed) in read.tensors.iter().zip(&file.tensors) {
                    let end = placed.begin + placed.tensor.bytes();
                    assert_eq!((&read.name, &read.bytes), (&placed.tensor.name, &(placed.begin..end)));
                }
                let metadata: Metadata = serde_json::from_slice(&header_bytes[8..]).unwrap();
                assert_eq!(metadata.tensors().len(), file.tensors.len());
            }
            if let Some((_, json)) = index(&files, Format::Safetensors).unwrap() {
                let index = ShardIndex::parse(&json, &Limits::default()).unwrap();
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                assert_eq!(index.shards(), names);
                let tensors: usize = files.iter().map(|file| file.tensors.len()).sum();
                assert_eq!(index.weight_map.len(), tensors);
            }
        }
    }

    /// Files and parameters of the public models, as their pages on the Hub state them.
    #[test]
    fn counts_are_those_of_the_public_models() {
        for (name, shards, parameters) in [
            ("bert-base", 1, 110_106_428),
            ("gpt2", 1, 124_439_808),
            ("qwen2.5-0.5b", 1, 494_032_768),
            ("gemma-2b", 2, 2_506_172_416),
            ("llama-7b", 2, 6_738_415_616),
            ("llama-7b-single", 1, 6_738_415_616),
            ("llama-7b-gptq", 1, 6_738_415_616),
            ("mistral-7b", 2, 7_241_732_096),
            ("llama-3.1-8b", 4, 8_030_261_248),
            ("llama-3.1-8b-fp8", 2, 8_030_261_248),
            ("llama-13b", 3, 13_015_864_320),
            ("llama-3-70b", 30, 70_553_706_496),
            ("mixtral-8x7b", 19, 46_702_792_704),
            ("deepseek-v3", 163, 684_489_845_504),
        ] {
            let files = files(find(name).unwrap(), Format::Safetensors).unwrap();
            let tensors = files.iter().flat_map(|file| &file.tensors);
            let found: u64 = tensors.map(|placed| placed.tensor.parameters()).sum();
            assert_eq!((files.len(), found), (shards, parameters), "{name}");
        }
    }

    #[test]
    fn elements_by_dtype_are_those_that_the_hub_states_of_deepseek_v3() {
        let files = files(find("deepseek-v3").unwrap(), Format::Safetensors).unwrap();
        let elements = |dtype| -> u64 {
            let tensors = files.iter().flat_map(|file| &file.tensors).map(|placed| &placed.tensor);
            tensors.filter(|tensor| tensor.dtype == dtype).map(Tensor::elements).sum()
        };
        assert_eq!(elements(Dtype::F8_E4M3), 680_571_043_840);
        assert_eq!(elements(Dtype::BF16), 3_918_786_560);
        assert_eq!(elements(Dtype::F32), 41_555_600);
        assert_eq!(files.iter().map(|file| file.tensors.len()).sum::<usize>(), 91_991);
        assert_eq!(files[0].name, "model-00001-of-000163.safetensors");
    }

    /// To the byte: names, dtypes, order, cuts and padding all have to be right for that.
    #[test]
    fn files_have_the_length_of_the_published_ones() {
        for (name, lengths) in [
            ("bert-base", &[440_449_768][..]),
            ("qwen2.5-0.5b", &[988_097_824]),
            ("gemma-2b", &[4_945_242_264, 67_121_608]),
            ("llama-7b", &[9_976_578_928, 3_500_297_344]),
            ("mistral-7b", &[9_942_981_696, 4_540_516_344]),
            ("llama-3.1-8b", &[4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808]),
        ] {
            let files = files(find(name).unwrap(), Format::Safetensors).unwrap();
            let found: Vec<u64> = files.iter().map(|file| file.bytes).collect();
            assert_eq!(found, lengths, "{name}");
        }
    }
    #[test]
    fn models_of_a_pipeline_have_the_length_of_the_published_ones() {
        let lengths: Vec<u64> = find("sdxl")
            .unwrap()
            .models()
            .into_iter()
            .map(|(_, shape)| files(shape, Format::Safetensors).unwrap().iter().map(|file| file.bytes).sum())
            .collect();
        assert_eq!(lengths, [492_265_168, 2_778_702_264, 10_270_077_736, 334_643_268]);
    }
}
