//! A search: the families that share weights with a query, and who is closest in each.

use std::borrow::Cow;

use super::candidates::Features;
use super::candidates::sources::IN_PLACE;
use super::families::CANDIDATES;
use super::hits::{self, Hit};
use super::index::Index;
use super::judge::Judge;
use super::judging::{Budget, Confirmed, Judging, Representatives};
use super::members::difference;
use super::query::{SearchMode, SearchQuery};
use super::vector::Vector;
use crate::signals::evidence::Evidence;
use crate::signals::verdict::Context;
use crate::signals::{Fingerprint, Verdict};
use crate::store::{StoreError, Tag};

/// Nearest representatives in place that a search looks at. A family may have thousands that are near, and must not hide
/// another.
pub(super) const PROPOSED: usize = 4096;
/// Representatives that are judged of a source: as many as when families are made while none is confirmed, in place fewer
/// from then on.
const MOST_IN_VAIN: usize = CANDIDATES;
const MOST_JUDGED: usize = 8;
/// Representatives of one family whose members are looked at in any case; of the others those that may have a nearer
/// member.
const REPRESENTATIVES_OF_FAMILY: usize = 4;
/// Members whose exact cosine is computed for each that is asked for, and fewest of them.
const REFINED_PER_MEMBER: usize = 16;
const LEAST_REFINED: usize = 64;

fn budget(source: usize, mode: SearchMode) -> Budget {
    let (proposed, in_vain, judged) = match (mode, source) {
        (SearchMode::Exact, _) => (usize::MAX, usize::MAX, usize::MAX),
        (SearchMode::Usual, IN_PLACE) => (PROPOSED, MOST_IN_VAIN, MOST_JUDGED),
        (SearchMode::Usual, _) => (MOST_IN_VAIN, MOST_IN_VAIN, MOST_IN_VAIN),
    };
    Budget { proposed, in_vain, judged, families: usize::MAX }
}

/// A family that shares weights with a query.
#[derive(Clone, Debug)]
pub struct Related {
    /// Number of the family.
    pub family: u32,
    /// The checkpoint that the verdict was made on: a representative, or the query's own. Where only the query holds it,
    /// the verdict tells the family and nothing more.
    pub judged: u32,
    /// Query first.
    pub evidence: Evidence,
    /// Of the query and what was judged.
    pub verdict: Verdict,
    /// The closest checkpoints of the family that somebody but the query holds, nearest first. Where hidden dimensions are
    /// in another order or basis, those behind the representative that was judged, with the correlation of the row Gram
    /// matrices as their cosine.
    pub closest: Vec<Hit>,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Related families, nearest first; that of the query's own checkpoint before all others.
    pub related: Vec<Related>,
    /// The nearest representative in place that the verdict did not confirm.
    pub rejected: Option<Hit>,
    /// The nearest representatives in place of other families that are adapters and correlate with the query, where that is
    /// one too.
    pub undecided: Vec<Hit>,
}

/// The representatives of an index, for a query that may be one of its repositories.
struct Held<'a> {
    index: &'a Index,
    but: Option<&'a str>,
}

impl Representatives for Held<'_> {
    fn family(&self, number: u32) -> u32 {
        self.index.families.representatives[number as usize].family
    }

    /// As long as a repository holds it or a checkpoint that it stands for.
    fn is_wanted(&self, number: u32) -> bool {
        self.index.members.of(number).iter().any(|checkpoint| self.index.is_held(*checkpoint, self.but))
    }

    fn fingerprint(&self, number: u32) -> Result<Cow<'_, Fingerprint>, StoreError> {
        self.index.fingerprint(number).map(Cow::Owned)
    }
}

impl Index {
    /// Families that share weights with a query, each with up to `k` of its closest checkpoints.
    ///
    /// The checkpoint with the query's own digests is found by them, whatever the test can say of it. What else is related,
    /// the sources of candidates and the verdict tell ([`super::judging`]).
    pub fn find<'q>(
        &self,
        query: impl Into<SearchQuery<'q>>,
        k: usize,
        mode: SearchMode,
    ) -> Result<Found, StoreError> {
        let query = query.into();
        let vector = &query.fingerprint.vector;
        let context = Context { searched: self.checkpoints().max(1), ..Context::default() };
        let mut judge = Judge::new(query.fingerprint, self.controls());
        let duplicate = self.exact_duplicate(&query);
        let known = duplicate.map(|(checkpoint, same_content)| {
            // Its fingerprint is the query's own.
            let (evidence, verdict) = judge.judge(query.fingerprint, Context { same_content, ..context });
            let family = self.family_of(checkpoint);
            Confirmed { family, source: IN_PLACE, judged: None, evidence, verdict, hits: Vec::new() }
        });
        let judging = Judging {
            sources: self.families.sources(),
            features: &Features::from(query.fingerprint),
            representatives: &Held { index: self, but: query.but },
            context,
            mode,
            budget,
        };
        let found = judging.run(&mut judge, known.into_iter().collect())?;
        let related = found.confirmed.into_iter().map(|confirmed| {
            let Confirmed { family, source, judged: hit, evidence, verdict, hits } = confirmed;
            let closest = match hit {
                Some(hit) if source != IN_PLACE => self.behind(hit, k, query.but),
                _ => self.closest(vector, &hits, k, mode, query.but)?,
            };
            let duplicate = duplicate.map_or(0, |(checkpoint, _)| checkpoint);
            let judged = hit.map_or(duplicate, |hit| self.checkpoint_of_representative(hit.number));
            Ok(Related { family, judged, evidence, verdict, closest })
        });
        let mut related = related.collect::<Result<Vec<_>, StoreError>>()?;
        if let (Some((checkpoint, _)), Some(first)) = (duplicate, related.first_mut())
            && !first.closest.iter().any(|hit| hit.number == checkpoint)
        {
            let cosine = self.cosine(vector, checkpoint)?;
            first.closest.insert(0, Hit { number: checkpoint, cosine });
            first.closest.truncate(k.max(1));
        }
        Ok(Found { related, rejected: found.rejected, undecided: found.undecided })
    }

    /// The checkpoint with the query's digests, as long as somebody but the query holds it, and whether all of its bytes
    /// are known to be equal: those that were sampled are.
    fn exact_duplicate(&self, query: &SearchQuery<'_>) -> Option<(u32, Option<bool>)> {
        let of = |digest: Option<Tag>| self.checkpoint_of(digest?);
        let checkpoint = of(query.weights).or_else(|| of(query.samples))?;
        let mut others = self.others(checkpoint, query.but).peekable();
        others.peek()?;
        let has_its_files = others.any(|p| p.weights.is_some() && p.weights == query.weights);
        Some((checkpoint, has_its_files.then_some(true)))
    }

    fn is_held(&self, checkpoint: u32, but: Option<&str>) -> bool {
        self.others(checkpoint, but).next().is_some()
    }

    /// The first `k` checkpoints behind a representative: the cosine with it says nothing about which of them is closest.
    fn behind(&self, hit: Hit, k: usize, but: Option<&str>) -> Vec<Hit> {
        let held = self.members.of(hit.number).iter().filter(|checkpoint| self.is_held(**checkpoint, but));
        held.take(k).map(|checkpoint| Hit { number: *checkpoint, ..hit }).collect()
    }

    /// The checkpoints nearest to a query among the members of some representatives, which come nearest first; without
    /// those that nobody `but` one repository holds.
    pub(super) fn closest(
        &self,
        query: &Vector,
        representatives: &[Hit],
        k: usize,
        mode: SearchMode,
        but: Option<&str>,
    ) -> Result<Vec<Hit>, StoreError> {
        if mode == SearchMode::Exact {
            return self.nearest_members(query, representatives, k, usize::MAX, but);
        }
        let refined = k.saturating_mul(REFINED_PER_MEMBER).max(LEAST_REFINED);
        let (first, others) = representatives.split_at(representatives.len().min(REPRESENTATIVES_OF_FAMILY));
        let near = self.nearest_members(query, first, k, refined, but)?;
        // A copy of a member far from these representatives must not be lost among them.
        let least = near.get(k.saturating_sub(1)).map_or(f32::NEG_INFINITY, |hit| hit.cosine);
        let may_be_nearer = |hit: &&Hit| self.members.most(hit.number, hit.cosine) > least;
        let others: Vec<Hit> = others.iter().filter(may_be_nearer).copied().collect();
        let farther = self.nearest_members(query, &others, k, refined, but)?;
        Ok(hits::nearest(near.into_iter().chain(farther), k))
    }

    /// The nearest members of some representatives, by the exact cosines of those `refined` that seem nearest.
    fn nearest_members(
        &self,
        query: &Vector,
        representatives: &[Hit],
        k: usize,
        refined: usize,
        but: Option<&str>,
    ) -> Result<Vec<Hit>, StoreError> {
        let mut near = Vec::new();
        for hit in representatives {
            let difference = difference(self.families.sources().vector(hit.number), query);
            near.extend(self.members.nearest(hit.number, hit.cosine, &difference, refined));
        }
        let is_held = |hit: &Hit| self.is_held(hit.number, but);
        let exact = hits::nearest_of(near.into_iter(), refined, is_held)
            .into_iter()
            .map(|hit| Ok(Hit { cosine: self.cosine(query, hit.number)?, ..hit }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(hits::nearest(exact.into_iter(), k))
    }
}
