//! Which rows of which weights: canonical positions within a budget, and more where a comparison wants them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Ask, SamplePlan};
use super::contents::Contents;
use super::probes::places;
use super::ranges::{Chosen, fetches};
use super::spread::{evenly, spread};
use super::{PlanError, PlanSettings};
use crate::checkpoint::adapter;
use crate::checkpoint::container::Tensors;
use crate::formats::packed::{MAX_STATE, QuantConfig, States};
use crate::formats::{FileRange, Form};
use crate::signals::roles::Role;
use crate::signals::sample;

/// One in so many ranges is kept back from the gains for matrices, where the budget is short.
const MATRIX_SHARE: usize = 8;
/// One in so many ranges may be for states of bitsandbytes: behind each come two more, of codes and of scales.
const STATE_SHARE: usize = 3;
/// Layers in which such matrices are read: the first one and the middle one.
const WHOLE_LAYERS: usize = 2;
/// Elements of a block where tensors are read whole: 4 MB in F32.
const WHOLE_BLOCK: u64 = 1 << 20;
/// Most layers whose gains are asked for. Public models have at most 126; planning costs the square of it.
const GAIN_LAYERS: usize = 256;

/// The states of bitsandbytes that must be read before [`sample()`], one small range each: those of whole layers
/// in the order in which their matrices are sampled, as far as a part of the budget goes.
pub fn states(tensors: &dyn Tensors, config: &QuantConfig, settings: &PlanSettings) -> Vec<FileRange> {
    // Of nearly all checkpoints nothing waits, and what has which role is asked once.
    let none = States::new();
    if !tensors.weights(config, &none).iter().any(|weight| matches!(weight.form, Form::After(_))) {
        return Vec::new();
    }
    let contents = Contents::of(tensors, config, &none);
    let layers = contents.sampled_layers(settings.matrix_layers);
    let mut wanted = Vec::new();
    for i in spread(layers.len()) {
        let of_layer = contents.waiting.iter().filter(|(p, _)| p.layer == layers[i]);
        let of_layer = of_layer.map(|(_, at)| at.clone());
        let of_layer: Vec<FileRange> = of_layer.filter(|state| state.len() <= MAX_STATE).collect();
        if wanted.len() + of_layer.len() > settings.max_ranges / STATE_SHARE {
            break;
        }
        wanted.extend(of_layer);
    }
    wanted
}

/// Plans the reads of one checkpoint from what its opened files hold, what config.json says of packed
/// weights, and the [`states`] that were read; those count as ranges.
///
/// The embedding and the norms at the ends come first, then the gains of all layers (evenly thinned when the budget is
/// short), then the output head, then matrix blocks of up to `matrix_layers` evenly spaced layers. An ask that would
/// break the budget is left out; one that falls into a range that is read anyway costs nothing. With [`PlanSettings::detail`], more rows of a few
/// layers follow, and the embedding rows of `tokens`, within the larger budget.
pub fn sample(
    tensors: &dyn Tensors,
    config: &QuantConfig,
    states: &States,
    settings: &PlanSettings,
    tokens: &[u64],
) -> Result<SamplePlan, PlanError> {
    let contents = Contents::of(tensors, config, states);
    let layers = contents.sampled_layers(settings.matrix_layers);
    let few: BTreeSet<u16> = evenly(layers.clone(), WHOLE_LAYERS).into_iter().collect();
    let all = contents.candidates(true, |weight, position, rows| {
        // Where a row costs the whole matrix, rows of every matrix would cost the whole model. Keys and values
        // are the smallest, and rows of two layers tell a copy.
        let affordable = few.contains(&position.layer) && matches!(position.role, Role::Key | Role::Value);
        if weight.encoding.is_strided() && !affordable {
            Vec::new()
        } else {
            sample::rows(position, rows, weight.columns)
        }
    });
    if all.is_empty() {
        let coverage = Box::new(contents.coverage);
        let names: Vec<&str> = tensors.names().collect();
        let reason = contents.unreadable.into_values().next();
        let unread = tensors.adapter().map(|_| reason.map_or(adapter::UNKNOWN_MODULES.into(), Cow::Owned));
        if let Some(method) = unread.or_else(|| adapter::method(&names).map(Cow::Borrowed)) {
            let facts = tensors.adapter().cloned().map(Box::new);
            return Err(PlanError::Adapter { method, facts, coverage });
        }
        let (example, tensors) = (names.first().copied().unwrap_or_default().to_owned(), names.len());
        return Err(PlanError::NoRoles { tensors, example, coverage });
    }
    let of = |wanted: fn(Role) -> bool| all.iter().filter(move |c| wanted(c.position.role));
    let mut chosen = Chosen::new(settings.gap_bytes, settings.max_bytes);
    // One for each file, however many its header took: what is sampled does not depend on the format.
    let left = |ranges: usize| ranges.saturating_sub(tensors.files() + states.len());
    let max_ranges = left(settings.max_ranges);
    let gain_ranges = max_ranges - max_ranges / MATRIX_SHARE;

    for ask in of(|r| matches!(r, Role::FinalNorm | Role::EmbeddingNorm | Role::Embedding)) {
        chosen.add(ask, max_ranges);
    }
    let mut gains: BTreeMap<u16, Vec<&Ask>> = BTreeMap::new();
    for ask in of(Role::is_norm) {
        gains.entry(ask.position.layer).or_default().push(ask);
    }
    let gains: Vec<Vec<&Ask>> = evenly(gains.into_values().collect(), GAIN_LAYERS);
    for i in spread(gains.len()) {
        gains[i].iter().for_each(|ask| chosen.add(ask, gain_ranges));
    }
    for ask in of(|role| role == Role::Head) {
        chosen.add(ask, max_ranges);
    }
    for i in spread(layers.len()) {
        of(Role::is_matrix)
            .filter(|a| a.position.layer == layers[i])
            .for_each(|ask| chosen.add(ask, max_ranges));
    }
    if let Some(detail) = &settings.detail {
        chosen.max_bytes = detail.max_bytes;
        let layers: BTreeSet<u16> = evenly(layers, detail.layers).into_iter().collect();
        let in_detail = contents.candidates(false, |weight, p, rows| {
            let more = sample::detail(p, rows, weight.columns);
            more.filter(|_| layers.contains(&p.layer)).into_iter().collect()
        });
        let by_token = contents.candidates(false, |_, p, rows| {
            let ids = tokens.iter().take(detail.tokens).filter(|id| p.role == Role::Embedding && **id < rows);
            ids.map(|id| *id..*id + 1).collect()
        });
        for ask in in_detail.iter().chain(&by_token) {
            chosen.add(ask, left(detail.max_ranges));
        }
    }
    let embedding = contents.weights.iter().find(|w| w.position.role == Role::Embedding);
    let vocabulary = embedding.and_then(|w| u32::try_from(w.rows).ok()).filter(|rows| *rows > 0);
    let mut asks = chosen.asks;
    asks.sort_by_key(|a| a.pieces.first().map(|piece| (piece.file, piece.bytes.start)));
    let mut fetches = fetches(&asks, settings.gap_bytes);
    let mut probes = Vec::new();
    if let Some(detail) = &settings.detail {
        let within = left(detail.max_ranges).saturating_sub(fetches.len());
        probes = places(&tensors.weights(config, states), &asks);
        probes.truncate(within);
        fetches.extend(probes.iter().map(|place| place.bytes.clone()));
    }
    let Contents { unreadable, coverage, .. } = contents;
    Ok(SamplePlan { asks, fetches, unreadable, probes, coverage, vocabulary })
}

/// Every row of every weight that has a role, in blocks of about a million elements.
pub fn whole(tensors: &dyn Tensors, config: &QuantConfig, states: &States) -> Vec<Ask> {
    Contents::of(tensors, config, states).candidates(false, |weight, _, rows| {
        let step = (WHOLE_BLOCK / weight.columns.max(1)).max(1);
        (0..rows.div_ceil(step)).map(|i| i * step..rows.min((i + 1) * step)).collect()
    })
}
