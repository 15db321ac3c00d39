//! Two models that were read, held against each other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::checkpoint::model::Subject;
use crate::signals::evidence::{Evidence, Open};
use crate::signals::merge::{self, Shares};
use crate::signals::named::{self, Named};
use crate::signals::screen::{self, Screening};
use crate::signals::verdict::{self, Context, Direction, Relation, Verdict, VerdictKind};
use crate::signals::{Samples, reuse, sampled};
use crate::store::StoreError;

/// Bytes of two files that are compared at a time.
const PIECE: usize = 1 << 20;

/// What came of holding two models against each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What config and tokenizer say.
    pub screening: Screening,
    /// Every test of the weights.
    pub evidence: Evidence,
    /// What it amounts to.
    pub verdict: Verdict,
    /// The eight signals that users know by name.
    pub named: Vec<Named>,
    /// The shares of several suspected parents in a, where they were asked for.
    pub merge: Option<Result<Shares, String>>,
}

/// How far a comparison goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Until the verdict is clear.
    #[default]
    Enough,
    /// Every test.
    Everything,
}

/// Metadata and tokenizers alone; never claims descent.
pub fn screening(a: &Subject, b: &Subject) -> Screening {
    let prints = a.metadata.tokenizer.as_ref().ok().zip(b.metadata.tokenizer.as_ref().ok());
    let prints = prints.map(|(x, y)| (&x.print, &y.print));
    screen::screen(&a.metadata.config, &b.metadata.config, prints)
}

/// Compares two models.
pub fn compare(a: &Subject, b: &Subject, effort: Effort) -> Result<Comparison, StoreError> {
    let _span = tracing::info_span!("compare").entered();
    let screening = screening(a, b);
    let tier = screening.tier;
    let (evidence, verdict) = match (&a.weights, &b.weights) {
        (Ok(x), Ok(y)) => {
            let same_samples = match (&x.sample_digest, &y.sample_digest) {
                (Some(x), Some(y)) => x == y,
                // Of models that were read in part, what was read.
                _ => x.samples.blocks == y.samples.blocks,
            };
            let same_content = if same_samples { same_content(a, b)? } else { Some(false) };
            let context = Context { same_content, searched: 1, tier };
            judge(&x.samples, &y.samples, context, effort)
        }
        (x, y) => {
            let reason = [x.as_ref().err(), y.as_ref().err()]
                .into_iter()
                .flatten()
                .map(std::string::ToString::to_string);
            let evidence = Evidence::unreadable(&reason.collect::<Vec<_>>().join("; "));
            let verdict = verdict::judge(&evidence, Context { same_content: None, searched: 1, tier });
            (evidence, verdict)
        }
    };
    let named = named(a, b, &screening, &evidence);
    Ok(Comparison { screening, evidence, verdict, named, merge: None })
}

/// Compares two models of which no more was read than a database holds; `None` where that does not settle it. It
/// does where every value that both have is equal, but for its type: more of the same would tell nothing else.
pub fn compare_copies(a: &Subject, b: &Subject) -> Result<Option<Comparison>, StoreError> {
    let (Ok(x), Ok(y)) = (&a.weights, &b.weights) else { return Ok(None) };
    let kept = reuse::reuse(&x.samples, &y.samples);
    if !kept.a_is_cast && !kept.b_is_cast {
        return Ok(None);
    }
    let found = compare(a, b, Effort::Enough)?;
    Ok(matches!(found.verdict.relation, Some(Relation::Identical | Relation::Copy)).then_some(found))
}

/// Compares a with b, and takes it apart into b and the other suspected parents. Where that explains a, the
/// relation is a merge.
pub fn compare_merge(
    a: &Subject,
    b: &Subject,
    others: &[Subject],
    effort: Effort,
) -> Result<Comparison, StoreError> {
    let mut comparison = compare(a, b, effort)?;
    let parents: Result<Vec<&Samples>, String> = std::iter::once(b).chain(others).map(samples).collect();
    let shares = samples(a).and_then(|y| merge::shares(y, &parents?).map_err(|error| error.to_string()));
    if let Ok(found) = &shares
        && found.is_merge()
        && comparison.verdict.kind == VerdictKind::Derived
    {
        comparison.verdict.relation = Some(Relation::Merged);
        comparison.verdict.direction = Direction::BToA;
    }
    comparison.merge = Some(shares);
    Ok(comparison)
}

fn samples(subject: &Subject) -> Result<&Samples, String> {
    subject.weights.as_ref().map(|w| &w.samples).map_err(|error| format!("{}: {error}", subject.name))
}

/// Evidence and verdict. The search for dimensions that correspond is dear, so it is made where the tensors in place have
/// not decided.
fn judge(a: &Samples, b: &Samples, context: Context, effort: Effort) -> (Evidence, Verdict) {
    let mut evidence = sampled::compare(a, b);
    let verdict = verdict::judge(&evidence, context);
    let decided = verdict.kind.related() == Some(true) && verdict.kind != VerdictKind::Identical;
    if effort == Effort::Enough && (decided || context.same_content == Some(true)) {
        evidence.open.retain(|open| *open == Open::InPlace);
        return (evidence, verdict);
    }
    sampled::realign(a, b, &mut evidence);
    let verdict = verdict::judge(&evidence, context);
    (evidence, verdict)
}

fn named(a: &Subject, b: &Subject, screening: &Screening, evidence: &Evidence) -> Vec<Named> {
    let tokenizers = match (&a.metadata.tokenizer, &b.metadata.tokenizer) {
        (Ok(x), Ok(y)) => Ok((
            named::Tokens { print: &x.print, keys: Some(&x.keys) },
            named::Tokens { print: &y.print, keys: Some(&y.keys) },
        )),
        (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
    };
    let profiles = a.weights.as_ref().ok().zip(b.weights.as_ref().ok());
    let profiles = profiles.map(|(x, y)| rayon::join(|| x.samples.profile(), || y.samples.profile()));
    named::named(screening, tokenizers, profiles, evidence, None)
}

/// Whether the weight files are equal, byte for byte; `None` where that is not known. Asked only where the
/// samples agree, because local files are then read whole.
fn same_content(a: &Subject, b: &Subject) -> Result<Option<bool>, StoreError> {
    if let (Some(x), Some(y)) = (a.local_files(), b.local_files())
        && let ([x], [y]) = (&x[..], &y[..])
    {
        return same_bytes(x, y).map(Some);
    }
    Ok(a.weights_digest()?.zip(b.weights_digest()?).map(|(x, y)| x == y))
}

/// Compares two files without hashing either.
fn same_bytes(x: &Path, y: &Path) -> Result<bool, StoreError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    };
    let (mut a, mut b) = (File::open(x).map_err(io(x))?, File::open(y).map_err(io(y))?);
    if a.metadata().map_err(io(x))?.len() != b.metadata().map_err(io(y))?.len() {
        return Ok(false);
    }
    let (mut of_a, mut of_b) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let n = a.read(&mut of_a).map_err(io(x))?;
        b.read_exact(&mut of_b[..n]).map_err(io(y))?;
        if of_a[..n] != of_b[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}
