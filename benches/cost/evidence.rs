//! What the bytes buy: power of the stored verdict against how much of a checkpoint is read.
//!
//! Each checkpoint is read with budgets from 64 KB on. A relative of correlation r is the checkpoint's own values,
//! r times, with noise of the same distribution: its rows, each in a random order. So values, outliers and shapes are
//! those of the checkpoint, and the truth is known. A model of the demo Hub is among them, which is really trained;
//! `HUBPRINT_COST_MODELS` may name folders of further real checkpoints, separated by colons.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hubprint::checkpoint::model::{Subject, load};
use hubprint::checkpoint::plan::PlanSettings;
use hubprint::checkpoint::reading::{ReadSettings, Reader};
use hubprint::hub::{Hub, HubSettings, PUBLIC_ENDPOINT};
use hubprint::signals::blocks::Block;
use hubprint::signals::evidence::Evidence;
use hubprint::signals::samples::Samples;
use hubprint::signals::verdict::{self, Context, VerdictKind};
use hubprint::signals::{Fingerprint, stored};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::night::demo;
use super::{Work, bytes, model, table};

const BUDGETS: [u64; 9] =
    [64_000, 128_000, 256_000, 512_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000];
const EFFECTS: [f32; 5] = [0.0, 0.05, 0.1, 0.2, 0.5];
/// Relatives of each correlation.
const TRIALS: u64 = 40;
/// Most that scans are corrected for.
const SEARCHED: usize = 500_000;
const SHAPES: [&str; 3] = ["bert-base", "qwen2.5-0.5b", "llama-7b-single"];

pub(crate) fn tables(work: &Work) -> String {
    let mut models: Vec<(String, PathBuf)> = SHAPES
        .iter()
        .map(|shape| {
            let name = format!("models--{}", model(shape).replace('/', "--"));
            ((*shape).to_owned(), work.checkpoint(shape).join(name))
        })
        .collect();
    let named = std::env::var_os("HUBPRINT_COST_MODELS").unwrap_or_default();
    let real = std::iter::once(demo()).chain(std::env::split_paths(&named).filter(|path| path.is_dir()));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    models.extend(real.map(|path| (name(&path), path)));
    let mut rows = Vec::new();
    for (name, folder) in &models {
        let mut last = 0;
        for budget in BUDGETS {
            let subject = read(folder, budget);
            let Ok(weights) = &subject.weights else { continue };
            // Where the next ask is larger than what the budget added, and where nothing is left to ask for.
            if std::mem::replace(&mut last, weights.bytes_fetched) == weights.bytes_fetched {
                continue;
            }
            let Ok(base) = Fingerprint::new(&weights.samples) else { continue };
            let mut row =
                vec![name.clone(), bytes(weights.bytes_fetched as f64), base.cells.len().to_string()];
            row.extend(EFFECTS.iter().map(|r| power(&base, &weights.samples, *r)));
            rows.push(row);
        }
    }
    let effects: Vec<String> = EFFECTS.iter().map(|r| format!("r = {r}")).collect();
    let mut head = vec!["checkpoint", "bytes read", "cells"];
    head.extend(effects.iter().map(String::as_str));
    table(&head, &rows)
}

/// `significant / derived`, in percent of the trials.
fn power(base: &Fingerprint, samples: &Samples, r: f32) -> String {
    let judged: Vec<(bool, bool)> = (0..TRIALS)
        .into_par_iter()
        .filter_map(|seed| {
            let relative = Fingerprint::new(&relative(samples, r, seed)).ok()?;
            let evidence: Evidence = stored::compare(base, &relative);
            let context = Context { same_content: Some(false), searched: SEARCHED, ..Context::default() };
            let verdict = verdict::judge(&evidence, context);
            Some((verdict.p_value <= 1e-5, verdict.kind == VerdictKind::Derived))
        })
        .collect();
    let share =
        |of: fn(&(bool, bool)) -> bool| 100 * judged.iter().filter(|j| of(j)).count() / judged.len().max(1);
    format!("{} / {}", share(|j| j.0), share(|j| j.1))
}

/// The values times r, and noise of their distribution.
fn relative(samples: &Samples, r: f32, seed: u64) -> Samples {
    let noise = (1.0 - r * r).sqrt();
    let blocks = samples.blocks.iter().enumerate().map(|(number, block)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1 << 20) ^ number as u64);
        let mut values = block.values.clone();
        for row in values.chunks_mut(block.columns.max(1)) {
            let mean = row.iter().sum::<f32>() / row.len() as f32;
            let mut other = row.to_vec();
            other.shuffle(&mut rng);
            row.iter_mut().zip(other).for_each(|(x, y)| *x = mean + r * (*x - mean) + noise * (y - mean));
        }
        Block { values, ..block.clone() }
    });
    Samples::new(samples.layers, samples.vocabulary, blocks.collect(), None)
}

/// The same where not all shards are opened, at the default budget.
pub(crate) fn shards(work: &Work) -> String {
    let mut rows = Vec::new();
    for shape in ["mistral-7b", "llama-13b"] {
        let folder = work.checkpoint(shape).join(format!("models--{}", model(shape).replace('/', "--")));
        for most in [PlanSettings::default().max_shards, 1] {
            let subject = load_with(&folder, PlanSettings { max_shards: most, ..PlanSettings::default() });
            let weights = subject.weights.as_ref().unwrap();
            let base = Fingerprint::new(&weights.samples).unwrap();
            let layers: BTreeSet<u16> = base.cells.iter().map(|cell| cell.layer).collect();
            let mut row = vec![
                format!("{shape}, {}", if most == 1 { "one shard" } else { "all" }),
                weights.files.iter().filter(|file| file.size.is_some()).count().to_string(),
                bytes(weights.bytes_fetched as f64),
                format!("{} of {}", layers.len(), base.layers),
                if weights.files.iter().all(|file| file.size.is_some()) { "yes" } else { "no" }.to_owned(),
            ];
            row.extend(EFFECTS.iter().map(|r| power(&base, &weights.samples, *r)));
            rows.push(row);
        }
    }
    let effects: Vec<String> = EFFECTS.iter().map(|r| format!("r = {r}")).collect();
    let mut head = vec!["checkpoint", "shards opened", "bytes read", "layers seen", "re-uploads told"];
    head.extend(effects.iter().map(String::as_str));
    table(&head, &rows)
}

fn read(folder: &Path, budget: u64) -> Subject {
    let defaults = PlanSettings::default();
    let plan = PlanSettings {
        max_bytes: budget,
        // As many ranges as the budget has at the default's size of a range.
        max_ranges: (defaults.max_ranges as u64 * budget / defaults.max_bytes).max(2) as usize,
        matrix_layers: 1 << 10,
        ..defaults
    };
    load_with(folder, plan)
}

fn load_with(folder: &Path, plan: PlanSettings) -> Subject {
    let settings = HubSettings::new(PUBLIC_ENDPOINT).unwrap();
    let hub = Hub::new(HubSettings { offline: true, ..settings }).unwrap();
    let reader = Reader::from(ReadSettings { plan, ..ReadSettings::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(load(folder.to_str().unwrap(), &hub, &reader)).unwrap()
}
