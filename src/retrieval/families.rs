//! Families: checkpoints that verified links connect.
//!
//! Checkpoints are taken in the order of the database. Each is held against the representatives that are there: the
//! nearest one that the verdict confirms takes it into its family. Near that representative (cosine .85) it becomes a
//! member, which the representative stands for; farther away it becomes a representative of the same family itself. Where
//! none is confirmed in place, the further sources of candidates are asked, because its hidden dimensions may be in another
//! order or basis: one that is confirmed makes it a representative of its family, too. Else it founds one. So whoever is
//! near a member is nearly as near to a representative, and a search looks at representatives only.
//!
//! A checkpoint is placed once. What comes later never moves it, and a family keeps the number that it was founded
//! with: two that a later checkpoint connects stay two, because merged models descend from several families.

use std::borrow::Cow;

use rayon::prelude::*;

use super::candidates::sources::IN_PLACE;
use super::candidates::{Features, Sources};
use super::controls::Controls;
use super::hits::Hit;
use super::judge::Judge;
use super::judging::{Budget, Judging, Representatives};
use super::payload::PayloadWriter;
use super::query::SearchMode;
use super::representatives::{Link, Place, Representative};
use super::vector::Vector;
use crate::signals::Fingerprint;
use crate::signals::verdict::Context;
use crate::store::StoreError;

/// Cosine with a representative from which on it stands for a checkpoint. A relative of a member with correlation .3 has
/// .25 or more with the representative, which the search finds.
const COVER: f32 = 0.85;
/// Nearest representatives that are judged: as many as a search judges where none is confirmed, so that what it would
/// find takes a checkpoint into its family.
pub(super) const CANDIDATES: usize = 12;

/// All families.
#[derive(Debug, Default)]
pub struct Families {
    /// By number.
    pub representatives: Vec<Representative>,
    /// Number of families.
    pub count: u32,
    /// Checkpoints that were placed.
    checkpoints: u32,
    sources: Sources,
    controls: Controls,
}

impl Families {
    /// None yet, whose representatives these sources propose.
    pub fn new(sources: Sources) -> Self {
        Self { sources, ..Self::default() }
    }

    /// Families of checkpoints that were found before, of which the layers are given. `vector` gives the vector of a
    /// checkpoint, `fingerprint` that of a representative. The sources are empty.
    pub fn resume(
        sources: Sources,
        representatives: Vec<Representative>,
        layers: &[u16],
        vector: impl Fn(u32) -> Result<Vector, StoreError> + Sync,
        fingerprint: impl Fn(&Representative, &Vector) -> Result<Fingerprint, StoreError>,
    ) -> Result<Self, StoreError> {
        let features = representatives
            .par_iter()
            .map(|representative| {
                let Representative { hidden_size, gram, .. } = *representative;
                Ok(Features { hidden_size, vector: vector(representative.checkpoint)?, gram })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let mut families = Self { checkpoints: layers.len() as u32, ..Self::new(sources) };
        let founders = representatives.iter().zip(&features).filter(|(one, _)| one.link.is_none());
        for (founder, Features { vector, .. }) in founders {
            families.count += 1;
            let layers = layers.get(founder.checkpoint as usize).copied().unwrap_or_default();
            if families.controls.lacks((founder.hidden_size, layers)) {
                families.controls.add(&fingerprint(founder, vector)?);
            }
        }
        let mut by_family: Vec<(u32, Features)> = (0..).zip(features).collect();
        by_family.sort_by_key(|(number, _)| representatives[*number as usize].family);
        families.sources.extend(&by_family);
        families.representatives = representatives;
        Ok(families)
    }

    /// The sources of candidates, which hold all representatives.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Founders, which stand for unrelated models.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Places the next checkpoints, in this order.
    ///
    /// Representatives that were there before are searched in parallel; those of the batch itself one checkpoint after the
    /// other, so that the result does not depend on the number of threads.
    pub fn place(
        &mut self,
        batch: &[Fingerprint],
        payload: &mut PayloadWriter,
    ) -> Result<Vec<Place>, StoreError> {
        payload.flush()?;
        // Representatives of this batch follow those before in their numbers.
        let first = self.representatives.len() as u32;
        let before = Known { families: self, payload, first, of_batch: &[] };
        let earlier: Vec<Option<Nearest>> = batch
            .par_iter()
            .map(|fingerprint| self.nearest(fingerprint, &self.sources, &before))
            .collect::<Result<_, StoreError>>()?;
        let (mut fresh, mut of_fresh): (Sources, Vec<&Fingerprint>) = (self.sources.empty(), Vec::new());
        let mut places = Vec::with_capacity(batch.len());
        for (fingerprint, mut nearest) in batch.iter().zip(earlier) {
            if !nearest.is_some_and(|nearest| nearest.covers()) {
                let known = Known { families: self, payload, first, of_batch: &of_fresh };
                nearest = Nearest::of_both(nearest, self.nearest(fingerprint, &fresh, &known)?);
            }
            if let Some(Nearest { link, cosine, .. }) = nearest.filter(Nearest::covers) {
                places.push(Place { representative: link.representative, cosine, effect: link.effect });
            } else {
                let checkpoint = self.checkpoints + places.len() as u32;
                let features = Features::from(fingerprint);
                let link = nearest.map(|nearest| nearest.link);
                let number = self.add(checkpoint, fingerprint, &features, link, payload)?;
                places.push(Place { representative: number, cosine: 1.0, effect: 1.0 });
                fresh.add(number, &features);
                of_fresh.push(fingerprint);
            }
        }
        self.checkpoints += places.len() as u32;
        Ok(places)
    }

    /// Adds a representative.
    fn add(
        &mut self,
        checkpoint: u32,
        fingerprint: &Fingerprint,
        features: &Features,
        link: Option<Link>,
        payload: &mut PayloadWriter,
    ) -> Result<u32, StoreError> {
        let number = self.representatives.len() as u32;
        let family = if let Some(link) = link {
            self.representatives[link.representative as usize].family
        } else {
            self.count += 1;
            self.controls.add(fingerprint);
            self.count - 1
        };
        let Features { hidden_size, gram, .. } = *features;
        let payload = payload.add(fingerprint)?;
        self.representatives.push(Representative { checkpoint, family, hidden_size, payload, gram, link });
        self.sources.add(number, features);
        Ok(number)
    }

    /// The nearest representative that the verdict confirms.
    fn nearest(
        &self,
        query: &Fingerprint,
        sources: &Sources,
        representatives: &impl Representatives,
    ) -> Result<Option<Nearest>, StoreError> {
        let judging = Judging {
            sources,
            features: &Features::from(query),
            representatives,
            context: Context { searched: self.representatives.len().max(1), ..Context::default() },
            mode: SearchMode::Usual,
            budget: |_, _| Budget {
                proposed: CANDIDATES,
                in_vain: CANDIDATES,
                judged: CANDIDATES,
                families: 1,
            },
        };
        let found = judging.run(&mut Judge::new(query, &self.controls), Vec::new())?;
        let nearest = found.confirmed.into_iter().find_map(|confirmed| {
            let Hit { number: representative, cosine } = confirmed.judged?;
            let effect = confirmed.evidence.body_effect().unwrap_or(0.0) as f32;
            let link = Link { representative, effect, p_value: confirmed.verdict.p_value };
            Some(Nearest { source: confirmed.source, link, cosine })
        });
        Ok(nearest)
    }
}

/// Representatives while a batch is placed: those before it are read from the disk.
struct Known<'a> {
    families: &'a Families,
    payload: &'a PayloadWriter,
    /// The number of the first of the batch.
    first: u32,
    of_batch: &'a [&'a Fingerprint],
}

impl Representatives for Known<'_> {
    fn family(&self, number: u32) -> u32 {
        self.families.representatives[number as usize].family
    }

    fn is_wanted(&self, _: u32) -> bool {
        true
    }

    fn fingerprint(&self, number: u32) -> Result<Cow<'_, Fingerprint>, StoreError> {
        if let Some(of_batch) = number.checked_sub(self.first) {
            return Ok(Cow::Borrowed(self.of_batch[of_batch as usize]));
        }
        let at = self.families.representatives[number as usize].payload;
        self.payload.read(at, self.families.sources.vector(number)).map(Cow::Owned)
    }
}

/// The nearest representative that the verdict confirms.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    /// Place of the source that proposed it.
    source: usize,
    link: Link,
    cosine: f32,
}

impl Nearest {
    /// Whether it stands for the checkpoint.
    fn covers(&self) -> bool {
        self.source == IN_PLACE && self.cosine >= COVER
    }

    /// Of one among earlier representatives and one among later ones, which has to be nearer; what an earlier source
    /// proposed goes before what a later one did.
    fn of_both(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        let (Some(x), Some(y)) = (earlier, later) else { return earlier.or(later) };
        let is_nearer = y.source < x.source || (y.source == x.source && y.cosine > x.cosine);
        Some(if is_nearer { y } else { x })
    }
}
