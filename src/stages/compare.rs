//! compare: two models, every signal.

use super::model::Subject;
use crate::signals::evidence::{self, Evidence};
use crate::signals::verdict::{self, Context, Verdict};
use crate::store::StoreError;

/// What came of holding two models against each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Every signal.
    pub evidence: Evidence,
    /// What it amounts to.
    pub verdict: Verdict,
}

/// Compares two fingerprinted models.
pub fn compare(a: &Subject, b: &Subject) -> Result<Comparison, StoreError> {
    let _span = tracing::info_span!("compare").entered();
    let evidence = evidence::compare(&a.extracted.fingerprint, &b.extracted.fingerprint);
    let context = Context { same_content: same_content(a, b)?, searched: 1 };
    let verdict = verdict::judge(&evidence, context);
    Ok(Comparison { evidence, verdict })
}

/// Whether the weight files are equal, byte for byte. Local files are read whole only when the samples agree.
fn same_content(a: &Subject, b: &Subject) -> Result<Option<bool>, StoreError> {
    if a.extracted.sample_digest != b.extracted.sample_digest {
        return Ok(Some(false));
    }
    Ok(a.weights_digest()?.zip(b.weights_digest()?).map(|(x, y)| x == y))
}
