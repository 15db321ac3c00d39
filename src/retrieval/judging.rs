//! The one loop that holds candidates against the verdict: for a search and where families are made, whatever source
//! proposed them.
//!
//! Sources are asked in their order, each only while none before it proposed a confirmed relative. Of each the nearest
//! is judged first. A further representative of a family that is confirmed is not judged, it is kept beside the first.

use std::borrow::Cow;

use super::candidates::{Candidates, Features, Sources};
use super::hits::Hit;
use super::judge::Judge;
use super::query::SearchMode;
use crate::signals::evidence::Evidence;
use crate::signals::verdict::{self, Context};
use crate::signals::{Fingerprint, Verdict};
use crate::store::StoreError;

/// What is known of the representatives that are proposed.
pub trait Representatives {
    /// The family of one.
    fn family(&self, number: u32) -> u32;
    /// Whether it counts: one that is passed over costs nothing of the budget.
    fn is_wanted(&self, number: u32) -> bool;
    /// What it is judged by.
    fn fingerprint(&self, number: u32) -> Result<Cow<'_, Fingerprint>, StoreError>;
}

/// How many representatives are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most that a source proposes.
    pub proposed: usize,
    /// Most of its proposals that are judged while none is confirmed.
    pub in_vain: usize,
    /// And once one is, those before included.
    pub judged: usize,
    /// Confirmed families that are enough: with them the search ends.
    pub families: usize,
}

/// A family that the verdict confirms.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// Its number.
    pub family: u32,
    /// Place of the source among all, see [`Sources::in_order`].
    pub source: usize,
    /// The representative that was judged; `None` where it was known before.
    pub judged: Option<Hit>,
    /// Query first.
    pub evidence: Evidence,
    /// Of the query and what was judged.
    pub verdict: Verdict,
    /// All representatives of the family that the source proposed, nearest first.
    pub hits: Vec<Hit>,
}

/// A search for the relatives of one query.
pub struct Judging<'a, R> {
    /// Who is asked.
    pub sources: &'a Sources,
    /// What they are asked with.
    pub features: &'a Features,
    /// Of the same numbers as the sources.
    pub representatives: &'a R,
    /// Of the verdict.
    pub context: Context,
    /// How much a source looks at.
    pub mode: SearchMode,
    /// For a source, by its place.
    pub budget: fn(usize, SearchMode) -> Budget,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Confirmed families: those that were known before, then in the order of the proposals.
    pub confirmed: Vec<Confirmed>,
    /// The nearest proposal of the first source that the verdict did not confirm.
    pub rejected: Option<Hit>,
    /// Its proposals of other families that are adapters and correlate with the query, where that is one too. No verdict
    /// tells whether one descends from the other.
    pub undecided: Vec<Hit>,
}

impl<R: Representatives> Judging<'_, R> {
    /// The families that the verdict confirms, beside those that are known already.
    pub fn run(&self, judge: &mut Judge<'_>, known: Vec<Confirmed>) -> Result<Findings, StoreError> {
        let mut found = Findings { confirmed: known, ..Findings::default() };
        for (place, source) in self.sources.in_order().enumerate() {
            let rejected = self.ask(place, source, judge, &mut found.confirmed)?;
            if place == 0 {
                found.rejected = rejected.first().map(|(hit, _)| *hit);
                let is_confirmed = |hit: &Hit| {
                    let family = self.representatives.family(hit.number);
                    found.confirmed.iter().any(|confirmed| confirmed.family == family)
                };
                let others = rejected.iter().filter(|(hit, correlates)| *correlates && !is_confirmed(hit));
                found.undecided = others.map(|(hit, _)| *hit).collect();
            }
            if !found.confirmed.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Judges what a source proposes; returns what is not confirmed, nearest first, and of each whether it is an adapter
    /// that correlates with the query.
    fn ask(
        &self,
        source_place: usize,
        source: &dyn Candidates,
        judge: &mut Judge<'_>,
        confirmed: &mut Vec<Confirmed>,
    ) -> Result<Vec<(Hit, bool)>, StoreError> {
        let budget = (self.budget)(source_place, self.mode);
        let (mut judged, mut rejected) = (0, Vec::new());
        for hit in source.propose(self.features, budget.proposed, self.mode) {
            let family = self.representatives.family(hit.number);
            if let Some(confirmed) = confirmed.iter_mut().find(|confirmed| confirmed.family == family) {
                confirmed.hits.push(hit);
                continue;
            }
            let most = if confirmed.is_empty() { budget.in_vain } else { budget.judged };
            if judged >= most || !self.representatives.is_wanted(hit.number) {
                continue;
            }
            judged += 1;
            let candidate = self.representatives.fingerprint(hit.number)?;
            let (evidence, verdict) = judge.judge(&candidate, self.context);
            if verdict.kind.related() == Some(true) {
                let (judged, hits) = (Some(hit), vec![hit]);
                confirmed.push(Confirmed { family, source: source_place, judged, evidence, verdict, hits });
                if confirmed.len() >= budget.families {
                    break;
                }
            } else {
                rejected.push((hit, verdict::correlate(&evidence, self.context.searched)));
            }
        }
        Ok(rejected)
    }
}
