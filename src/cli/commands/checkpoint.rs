//! `hubprint dev checkpoint`

use std::sync::Arc;

use anyhow::anyhow;

use crate::cli::args::{CheckpointArgs, WeightFormat};
use crate::cli::done::Done;
use crate::cli::failure::Failure;
use crate::cli::printer;
use crate::cli::progress::Watch;
use crate::pipeline::Progress;
use crate::synthetic::checkpoint::{self, CheckpointError, CheckpointSettings, FileType, Format};

pub(in crate::cli) fn run(args: &CheckpointArgs) -> Result<Done, Failure> {
    let shape = checkpoint::find(&args.shape).ok_or_else(|| anyhow!("no shape {:?}", args.shape))?;
    let format = match (args.format, args.quantization) {
        (WeightFormat::Gguf, file_type) => Format::Gguf(file_type.unwrap_or(FileType::F16)),
        (_, Some(_)) => {
            return Err(Failure::from(anyhow!("--quantization is of GGUF files alone"))
                .with_hint("add --format gguf"));
        }
        (WeightFormat::Safetensors, None) => Format::Safetensors,
        (WeightFormat::Pytorch, None) => Format::PyTorch,
    };
    let from = args.from.zip(args.correlation);
    let settings = CheckpointSettings { shape, format, seed: args.seed, from };
    let progress = Arc::new(Progress::default());
    let written = {
        let _watch = Watch::start("checkpoint", "tensors", &progress);
        checkpoint::write(&args.to, args.repo.as_ref(), &settings, &|done, all| progress.set(done, all))
            .map_err(failure)?
    };
    if args.json {
        printer::json(&written)?;
        return Ok(Done::All);
    }
    printer::data(&format!(
        "{}: {} files of {} bytes with {} tensors and {} parameters, {} bytes of it written",
        args.to.display(),
        written.files,
        written.bytes,
        written.tensors,
        written.parameters,
        written.bytes_written
    ))?;
    Ok(Done::All)
}

fn failure(error: CheckpointError) -> Failure {
    let exists = matches!(error, CheckpointError::Exists { .. });
    let failure = Failure::usage(error);
    if exists { failure.with_hint("remove it, or name another folder with --to") } else { failure }
}
