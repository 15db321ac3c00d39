//! What keeps the evidence of two models from speaking for the whole of both.

use super::super::coverage::{Coverage, RestKind, WHOLE};
use super::super::evidence::{Evidence, Shape};
use super::super::roles::Role;
use super::super::test::Part;

/// Parts of the rest that a sentence names.
const NAMED: usize = 3;

/// Reasons, each the end of a sentence, why what was compared does not stand for both models: parts of one that were
/// not read, parts that could not be held against each other, tensors that no test compares and that are equal. None
/// where nine tenths of the parameters of both were compared.
pub(super) fn unseen(evidence: &Evidence) -> Vec<String> {
    let Evidence { a, b, coverage, unread, .. } = evidence;
    let mut reasons = Vec::new();
    for (name, shape, coverage) in [("a", a, &coverage[0]), ("b", b, &coverage[1])] {
        reasons.extend(not_read(name, shape, coverage.as_ref()));
        let others = coverage.iter().flat_map(|coverage| &coverage.rest);
        let models = others.filter(|rest| rest.kind == RestKind::OtherModel);
        reasons.extend(
            models.map(|rest| format!("{name} has another model that was not compared, {}", rest.what)),
        );
    }
    // Of models of two widths, which can have no tensor in common, the search for hidden dimensions that correspond
    // stands for what it leads to; where it was not made, that is open.
    let one_width = a.hidden_size == b.hidden_size;
    if a.roles.has_matrices() != b.roles.has_matrices() {
        let which = if a.roles.has_matrices() { "a" } else { "b" };
        reasons.push(format!("the matrices of {which} have nothing to be held against in the other"));
    } else if a.roles.has_matrices() && one_width && !evidence.compares(Part::Matrices) {
        reasons.push("the matrices could not be held against each other".into());
    }
    let in_embedding = embedding_share(a).max(embedding_share(b));
    let is_bulk = !a.roles.has_matrices() || in_embedding > 1.0 - WHOLE;
    if is_bulk
        && one_width
        && a.roles.has(Role::Embedding)
        && b.roles.has(Role::Embedding)
        && !evidence.compares(Part::Embedding)
    {
        reasons.push("no embedding rows could be held against each other".into());
    }
    if let Some(example) = &unread.example {
        reasons.push(format!(
            "{} of {} tensors that no test compares have equal bytes where they were looked at, e.g. {example}",
            unread.equal, unread.of
        ));
    }
    reasons
}

/// Share of a model's parameters that its embedding has, 0 to 1; 0 where its size is not known.
fn embedding_share(shape: &Shape) -> f64 {
    let embedding = f64::from(shape.vocabulary.unwrap_or(0)) * f64::from(shape.hidden_size);
    shape.extent.parameters.map_or(0.0, |all| embedding / (all.max(1) as f64))
}

/// How much of a model was not read, where that is more than a tenth.
fn not_read(name: &str, shape: &Shape, coverage: Option<&Coverage>) -> Option<String> {
    if shape.extent.is_whole() {
        return None;
    }
    let Some(share) = shape.extent.coverage else {
        return Some(format!("how much of {name} was read is not known"));
    };
    let mut text = format!("{:.0} % of the parameters of {name} were not compared", 100.0 * (1.0 - share));
    if let Some(parts) = coverage.and_then(|coverage| coverage.rest_in_words(NAMED)) {
        text += &format!(": {parts}");
    }
    Some(text)
}

/// What a sentence about related models says of their coverage; empty where both were read as a whole.
pub(super) fn partly_read(evidence: &Evidence) -> String {
    let sides = [("a", &evidence.a, &evidence.coverage[0]), ("b", &evidence.b, &evidence.coverage[1])];
    let parts: Vec<String> = sides
        .into_iter()
        .filter(|(_, shape, _)| shape.extent.coverage.is_some())
        .filter_map(|(name, shape, coverage)| not_read(name, shape, coverage.as_ref()))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" {}.", parts.join("; ")) }
}
