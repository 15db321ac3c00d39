//! Every test of the weights: the one table of their names, priors, sentences and measures.
//!
//! The priors of survival come from what transformations do to weights, not from any set of test models.

use super::gram;
use super::neurons;
use super::roles::Role;
use super::rows;
use super::signal::{Effect, Signal};
use super::test::{Measure, Part, Test};

/// The tests that a comparison makes, in the order of reports.
pub static ALL: [&Test; 7] =
    [&NORM_GAINS, &WEIGHT_BLOCKS, &LAYER_MAP, &EMBEDDING, &MATRIX_ROWS, &MLP_NEURONS, &ROW_GRAM];

/// Gains of all norms, layer by layer. Folding into the next matrix (SmoothQuant, AWQ) rewrites them.
pub static NORM_GAINS: Test = Test {
    key: "norm_gains",
    name: "norm gains",
    short: "gains",
    part: Part::Gains,
    survives: 0.95,
    invariant: false,
    repeats: None,
    similarity: Some(2),
    widened: true,
    sentence: mean_correlation,
    measure: Some(Measure {
        stored: |pair| pair.in_same_layer(Role::is_norm),
        sampled: |pair| pair.in_same_layer(Role::is_norm),
    }),
};

/// Matrix blocks at the same layer and position, and the output head: the sampled parameter cosine. Heads and neurons may be permuted.
pub static WEIGHT_BLOCKS: Test = Test {
    key: "weight_blocks",
    name: "weight blocks",
    short: "weights",
    part: Part::Matrices,
    survives: 0.98,
    invariant: false,
    repeats: None,
    similarity: Some(0),
    widened: true,
    sentence: mean_correlation,
    measure: Some(Measure {
        stored: |pair| pair.in_same_layer(Role::is_matrix_or_head),
        sampled: |pair| pair.in_same_layer(Role::is_matrix_or_head),
    }),
};

/// Layers along the best order-keeping layer map, which repeats the blocks where the depths are equal.
pub static LAYER_MAP: Test = Test {
    key: "layer_map",
    name: "mapped layers",
    short: "layers",
    part: Part::Matrices,
    survives: 0.98,
    invariant: false,
    repeats: Some(&WEIGHT_BLOCKS),
    similarity: Some(1),
    widened: true,
    sentence: mean_correlation,
    measure: Some(Measure { stored: |pair| pair.mapped_layers(), sampled: |pair| pair.mapped_layers() }),
};

/// Embedding rows of the same tokens. Vocabularies are extended, trimmed, rebuilt.
pub static EMBEDDING: Test = Test {
    key: "embedding",
    name: "embedding rows",
    short: "embedding",
    part: Part::Embedding,
    survives: 0.5,
    invariant: false,
    repeats: None,
    similarity: Some(3),
    widened: true,
    sentence: mean_correlation,
    measure: Some(Measure {
        stored: |pair| pair.at_same_place(|role| role == Role::Embedding),
        sampled: |pair| pair.embedding(),
    }),
};

/// Share of matrix rows that are rows of the same matrix in the other model, in any order.
pub static MATRIX_ROWS: Test = Test {
    key: "rows",
    name: "matrix rows",
    short: "rows",
    part: Part::Matrices,
    survives: 0.98,
    invariant: false,
    repeats: None,
    similarity: None,
    widened: false,
    sentence: |_, effect| {
        format!(
            "{:.0} % of the matrix rows are rows of the other model, in whatever order; independent models have none in common.",
            100.0 * effect.value
        )
    },
    measure: Some(Measure {
        stored: |_| Signal::absent("the stored fingerprint has no rows"),
        sampled: rows::sampled,
    }),
};

/// Share of MLP neurons that are neurons of the same layer in the other model, in any order, by their codes. The codes
/// are short, so that a correlation below .9 hides them.
pub static MLP_NEURONS: Test = Test {
    key: "neurons",
    name: "MLP neurons",
    short: "neurons",
    part: Part::Matrices,
    survives: 0.5,
    invariant: false,
    repeats: None,
    similarity: None,
    widened: false,
    sentence: |_, effect| {
        format!(
            "{:.0} % of the MLP neurons write what neurons of the other model write, in whatever order; independent models have none in common.",
            100.0 * effect.value
        )
    },
    measure: Some(Measure {
        stored: |_| Signal::absent("the stored fingerprint has no neurons"),
        sampled: neurons::sampled,
    }),
};

/// Pairwise cosines of matrix rows.
pub static ROW_GRAM: Test = Test {
    key: "row_products",
    name: "pairwise cosines of rows",
    short: "row cosines",
    part: Part::Matrices,
    survives: 0.98,
    invariant: true,
    repeats: None,
    similarity: None,
    widened: true,
    sentence: |_, effect| {
        format!(
            "The pairwise cosines of {} and more matrix rows, which no change of the hidden basis alters, are those of the other model: they correlate by {:.3} (z {:.1}), where independent models give 0.",
            effect.cells,
            effect.value,
            effect.z()
        )
    },
    measure: Some(Measure {
        stored: |pair| gram::stored(pair.a.row_gram.as_ref(), pair.b.row_gram.as_ref()),
        sampled: |pair| gram::sampled(pair.a.row_gram(), pair.b.row_gram()),
    }),
};

/// Share of the hidden dimensions that correspond one to one. It falls out of the search for the correspondence, and
/// stands beside the tests that are made under it.
pub static HIDDEN_DIMENSIONS: Test = Test {
    key: "dimensions",
    name: "hidden dimensions",
    short: "dimensions",
    part: Part::Matrices,
    survives: 0.95,
    invariant: false,
    repeats: None,
    similarity: None,
    widened: false,
    sentence: |_, _| "Independent models have almost none in common.".to_owned(),
    measure: None,
};

pub(super) fn mean_correlation(test: &Test, effect: &Effect) -> String {
    format!(
        "The {} agree: mean correlation {:.3}, z {:.1} over {} blocks, where independent models give 0 and |z| below 4.",
        test.name,
        effect.value,
        effect.z(),
        effect.cells
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tests_share_a_name() {
        let all = || ALL.into_iter().chain([&HIDDEN_DIMENSIONS]);
        for names in [|test: &Test| test.key, |test: &Test| test.name, |test: &Test| test.short] {
            let mut names: Vec<&str> = all().map(names).collect();
            names.sort_unstable();
            let n = names.len();
            names.dedup();
            assert!(names.len() == n && !names.contains(&""), "{names:?}");
        }
    }
}
