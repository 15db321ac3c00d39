//! The families of one of many models.

use super::answer::{BulkFamily, CloseModel};
use crate::answers::scan::scanner::Scanner;
use crate::retrieval::judge::Judge;
use crate::retrieval::{Related, SearchMode, SearchQuery};
use crate::signals::verdict::Context;
use crate::store::{RowRef, StoreError};

/// The families of a model, with up to `closest` checkpoints of each.
pub fn families(
    scanner: &Scanner,
    query: SearchQuery<'_>,
    closest: usize,
    mode: SearchMode,
) -> Result<Vec<BulkFamily>, StoreError> {
    let index = scanner.index();
    let oldest = |checkpoint| Some(index.repositories(checkpoint).first()?.name());
    let named = |checkpoint| {
        let mut others = index.others(checkpoint, query.but);
        let first = others.clone().next();
        let with_its_files = others.find(|p| p.weights.is_some() && p.weights == query.weights);
        Some(with_its_files.or(first)?.name())
    };
    let mut families = Vec::new();
    for mut related in index.find(query, closest, mode)?.related {
        let is_itself = named(related.judged).is_none() && oldest(related.judged).is_some();
        if is_itself && !judge_closest(scanner, &query, &mut related)? {
            continue;
        }
        let family = index.family(related.family);
        let near = |checkpoint, cosine| Some(CloseModel { repo_id: named(checkpoint)?, cosine });
        families.push(BulkFamily {
            family: family.id.clone(),
            root: oldest(family.root),
            verdict: related.verdict.kind,
            relation: related.verdict.relation,
            // Of what is related there was a test.
            score: related.verdict.score.unwrap_or_default(),
            p_value: related.verdict.p_value,
            similarity: related.evidence.similarity(),
            judged: named(related.judged),
            closest: related.closest.iter().filter_map(|hit| near(hit.number, hit.cosine)).collect(),
        });
    }
    Ok(families)
}

/// Puts the verdict on the closest checkpoint that it confirms; false where it confirms none. Of members the index has
/// no fingerprint, so a row is read for each that is judged.
fn judge_closest(
    scanner: &Scanner,
    query: &SearchQuery<'_>,
    related: &mut Related,
) -> Result<bool, StoreError> {
    let index = scanner.index();
    let mut judge = Judge::new(query.fingerprint, index.controls());
    let context = Context { searched: index.checkpoints(), ..Context::default() };
    for hit in &related.closest {
        let at: Vec<RowRef> = index.others(hit.number, query.but).take(1).map(|p| p.at).collect();
        let row = scanner.database().rows(&at)?.into_iter().next();
        let Some(fingerprint) = row.and_then(|row| row.fingerprint) else { continue };
        let (evidence, verdict) = judge.judge(&fingerprint, context);
        if verdict.kind.related() == Some(true) {
            (related.judged, related.evidence, related.verdict) = (hit.number, evidence, verdict);
            return Ok(true);
        }
    }
    Ok(false)
}
