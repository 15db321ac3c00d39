//! Adapters: differences to the weights of a model, held against each other.
//!
//! Adapters that were trained apart on one model correlate. Measured (rank 8, query and value of a model of 135M
//! parameters, 60 steps, mean over 60 products): from one seed .21 with other data and .50 with similar data, from two
//! seeds .39 with the same data and .10 with other data, where exchangeable dimensions would give less than .01. No bound
//! on that is known, so a correlation alone decides nothing. Equal products do, of all layers and with all else equal.

use super::super::evidence::{Evidence, Shape};
use super::answer::{ALPHA, Verdict, VerdictKind};
use super::relation::{Direction, Relation};

/// Judges two of which one at least is an adapter; `None` where neither is.
pub(super) fn judge(evidence: &Evidence) -> Option<Verdict> {
    let Evidence { a, b, .. } = evidence;
    let open = |why: String| Verdict {
        kind: VerdictKind::NoWeightEvidence,
        relation: None,
        direction: Direction::Open,
        score: None,
        p_value: 1.0,
        why,
    };
    match (a.extent.rank, b.extent.rank) {
        (None, None) => None,
        (Some(_), None) => Some(open(one_alone(("a", a), ("b", b)))),
        (None, Some(_)) => Some(open(one_alone(("b", b), ("a", a)))),
        (Some(_), Some(_)) => Some(both(evidence).unwrap_or_else(|| open(apart(evidence)))),
    }
}

/// Why this adapter was not trained on a model of these shapes; `None` where all that both tell fits. An adapter of a few
/// layers tells the last one that it changes.
pub fn misfit(adapter: &Shape, model: &Shape) -> Option<String> {
    let differ = |what: &str, x: Option<u32>, y: Option<u32>| match (x, y) {
        (Some(x), Some(y)) if x != y => Some(format!("{what} {x} where the model has {y}")),
        _ => None,
    };
    // Experts, and the layers before them, have MLPs of several sizes.
    let inner = |shape: &Shape| shape.inner_size.filter(|_| !adapter.experts && !model.experts);
    let layers = (adapter.layers > model.layers)
        .then(|| format!("{} layers where the model has {}", adapter.layers, model.layers));
    differ("hidden size", Some(adapter.hidden_size), Some(model.hidden_size))
        .or(layers)
        .or_else(|| differ("MLPs of", inner(adapter), inner(model)))
        .or_else(|| differ("key rows", adapter.key_rows, model.key_rows))
}

/// Whether these are two adapters whose differences correlate as they do not where dimensions are exchangeable, among so
/// many that were searched. Those of one base do, whether or not one descends from the other.
pub fn correlate(evidence: &Evidence, searched: usize) -> bool {
    let Evidence { a, b, in_place, .. } = evidence;
    let tests = in_place.counted().count();
    let best = in_place.counted().map(|(_, effect)| effect.ln_p()).reduce(f64::min);
    let tried = (tests * searched.max(1)) as f64;
    let are_adapters = a.extent.rank.is_some() && b.extent.rank.is_some();
    are_adapters && best.is_some_and(|ln_p| ln_p + tried.ln() <= ALPHA.ln())
}

fn one_alone((adapter, its): (&str, &Shape), (model, shape): (&str, &Shape)) -> String {
    let differences = format!("{adapter} is an adapter: it has differences to the weights of some model.");
    match misfit(its, shape) {
        Some(why) => format!("{differences} It does not fit {model}, which is a model: {why}."),
        None => format!(
            "{differences} It fits the shapes of {model}, which is a model: whether it is that one, or one that {adapter} \
             was merged into, a comparison of the two does not tell."
        ),
    }
}

fn apart(evidence: &Evidence) -> String {
    let seen = evidence.similarity().map_or_else(
        || "Nothing that they change is the same.".to_owned(),
        |correlation| format!("What they change correlates at {correlation:.3}."),
    );
    format!(
        "Both are adapters. {seen} Adapters that were trained apart on one model correlate too, the more so from one \
         initialisation, so that this does not tell whether one descends from the other."
    )
}

/// Two adapters that make the same differences.
fn both(evidence: &Evidence) -> Option<Verdict> {
    let Evidence { a, b, in_place, unread, .. } = evidence;
    let lowest = in_place.roles.values().copied().reduce(f64::min)?;
    let is_equal = lowest >= 1.0 - evidence.resolution;
    let is_all = |shape: &Shape| shape.extent.coverage.is_some_and(|share| share >= 1.0);
    // Magnitudes and modules that were trained as a whole are compared where bytes of them were read.
    let rest_is_equal = (is_all(a) && is_all(b)) || (unread.of > 0 && unread.equal == unread.of);
    let shape = |of: &Shape| (of.roles, of.layers, of.hidden_size, of.extent.parameters);
    let has_all = shape(a) == shape(b) && rest_is_equal;
    let best = in_place.counted().map(|(_, effect)| effect.ln_p()).reduce(f64::min)?;
    (is_equal && has_all).then(|| Verdict {
        kind: VerdictKind::Derived,
        relation: Some(Relation::Copy),
        direction: Direction::Open,
        score: Some(1.0),
        p_value: best.exp(),
        why: format!(
            "Both are adapters, and the differences that they make are the same up to a factor: lowest correlation {lowest:.5}."
        ),
    })
}
