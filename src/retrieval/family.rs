//! Families: contents that verified links connect.
//!
//! Contents are taken in the order of the database. Each is held against the heads that are there: the nearest one
//! that the verdict confirms takes it into its family. Near that head (cosine .85) it becomes a member, which the
//! head stands for; farther away it becomes a head of the same family itself. Confirmed by none, it is held against the
//! heads whose rows lie to each other as its own do, because its hidden dimensions may have been moved: one that is
//! confirmed makes it a head of its family, too. Else it founds one. So whoever is near a member is nearly as near to a
//! head, and a search looks at heads only.
//!
//! A content is placed once. What comes later never moves it, and a family keeps the number that it was founded
//! with: two that a later content connects stay two, because merged models descend from several families.

use std::borrow::Cow;

use rayon::prelude::*;

use super::controls::Controls;
use super::heads::{Heads, Hit, Searched};
use super::judge::Judge;
use super::moved::{Signs, signs_of};
use super::payload::PayloadWriter;
use super::vector::Vector;
use crate::signals::Fingerprint;
use crate::signals::verdict::Context;
use crate::store::StoreError;

/// Cosine with a head from which on it stands for a content. A relative of a member with correlation .3 has .25 or
/// more with the head, which the search finds.
const COVER: f32 = 0.85;
/// Nearest heads that are judged: as many as a search judges where none is confirmed, so that what it would find takes
/// a content into its family.
pub(super) const CANDIDATES: usize = 12;

/// The verified link of a content to a head of its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The head.
    pub head: u32,
    /// Mean correlation of the weights; where the hidden basis was changed, correlation of the pairwise cosines of rows.
    pub effect: f32,
    /// Corrected p-value.
    pub p_value: f64,
}

/// A content that stands for those near it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// The content.
    pub content: u32,
    /// Its family; a family has the number of the order in which it was founded.
    pub family: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Where its fingerprint begins.
    pub payload: u64,
    /// The signs of its products; `None` where there are none.
    pub products: Option<Signs>,
    /// What put it into its family; `None` for the founder.
    pub link: Option<Link>,
}

/// Where a content belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The head that stands for it, which may be itself.
    pub head: u32,
    /// Cosine with it.
    pub cosine: f32,
    /// Mean correlation of the weights with it; 1 for a head.
    pub effect: f32,
}

/// All families.
#[derive(Debug, Default)]
pub struct Families {
    /// Heads by number.
    pub heads: Vec<Head>,
    /// Number of families.
    pub count: u32,
    /// Contents that were placed.
    contents: u32,
    search: Heads,
    controls: Controls,
}

impl Families {
    /// Families of contents that were found before, of which the layers are given. `vector` gives the vector of a
    /// content, `fingerprint` that of a head.
    pub fn resume(
        heads: Vec<Head>,
        layers: &[u16],
        vector: impl Fn(u32) -> Result<Vector, StoreError> + Sync,
        fingerprint: impl Fn(&Head, &Vector) -> Result<Fingerprint, StoreError>,
    ) -> Result<Self, StoreError> {
        let searched = heads
            .par_iter()
            .map(|head| {
                let Head { hidden_size, products, .. } = *head;
                Ok(Searched { hidden_size, vector: vector(head.content)?, products })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let mut families = Self { contents: layers.len() as u32, ..Self::default() };
        for (head, Searched { vector, .. }) in
            heads.iter().zip(&searched).filter(|(head, _)| head.link.is_none())
        {
            families.count += 1;
            let layers = layers.get(head.content as usize).copied().unwrap_or_default();
            if families.controls.lacks((head.hidden_size, layers)) {
                families.controls.add(&fingerprint(head, vector)?);
            }
        }
        families.heads = heads;
        families.search.extend(searched);
        Ok(families)
    }

    /// The heads, to search.
    pub fn search(&self) -> &Heads {
        &self.search
    }

    /// Founders, which stand for unrelated models.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Places the next contents, in this order.
    ///
    /// Heads that were there before are searched in parallel; those of the batch itself one content after the other,
    /// so that the result does not depend on the number of threads.
    pub fn place(
        &mut self,
        batch: &[Fingerprint],
        payload: &mut PayloadWriter,
    ) -> Result<Vec<Place>, StoreError> {
        payload.flush()?;
        let earlier: Vec<Confirmed> = batch
            .par_iter()
            .map(|fingerprint| {
                self.confirmed(fingerprint, &self.search, 0, |number| {
                    let at = self.heads[number as usize].payload;
                    payload.read(at, self.search.vector(number)).map(Cow::Owned)
                })
            })
            .collect::<Result<_, StoreError>>()?;
        // Heads of this batch follow those before in their numbers.
        let first = self.heads.len() as u32;
        let (mut fresh, mut of_fresh): (Heads, Vec<&Fingerprint>) = (Heads::default(), Vec::new());
        let mut places = Vec::with_capacity(batch.len());
        for (fingerprint, mut best) in batch.iter().zip(earlier) {
            if best.in_place.is_none_or(|(_, cosine)| cosine < COVER) {
                let of = |number: u32| Ok(Cow::Borrowed(of_fresh[(number - first) as usize]));
                best = best.or_nearer(self.confirmed(fingerprint, &fresh, first, of)?);
            }
            if let Some((link, cosine)) = best.in_place.filter(|(_, cosine)| *cosine >= COVER) {
                places.push(Place { head: link.head, cosine, effect: link.effect });
            } else {
                let content = self.contents + places.len() as u32;
                let head = self.add_head(content, fingerprint, best.link(), payload)?;
                places.push(Place { head, cosine: 1.0, effect: 1.0 });
                fresh.add(&searched(fingerprint));
                of_fresh.push(fingerprint);
            }
        }
        self.contents += places.len() as u32;
        Ok(places)
    }

    fn add_head(
        &mut self,
        content: u32,
        fingerprint: &Fingerprint,
        link: Option<Link>,
        payload: &mut PayloadWriter,
    ) -> Result<u32, StoreError> {
        let number = self.heads.len() as u32;
        let family = if let Some(link) = link {
            self.heads[link.head as usize].family
        } else {
            self.count += 1;
            self.controls.add(fingerprint);
            self.count - 1
        };
        let searched = searched(fingerprint);
        let Searched { hidden_size, products, .. } = searched;
        let payload = payload.add(fingerprint)?;
        self.heads.push(Head { content, family, hidden_size, payload, products, link });
        self.search.add(&searched);
        Ok(number)
    }

    /// The nearest of some heads that the verdict confirms; `first` is the number of the first of them.
    fn confirmed<'f>(
        &self,
        query: &Fingerprint,
        heads: &Heads,
        first: u32,
        fingerprint: impl Fn(u32) -> Result<Cow<'f, Fingerprint>, StoreError>,
    ) -> Result<Confirmed, StoreError> {
        let context = Context { searched: self.heads.len().max(1), ..Context::default() };
        let mut judge = Judge::new(query, &self.controls);
        let mut nearest = |hits: Vec<Hit>| {
            for hit in hits {
                let head = first + hit.number;
                let (evidence, verdict) = judge.judge(fingerprint(head)?.as_ref(), context);
                if verdict.kind.related() == Some(true) {
                    let effect = evidence.body_effect().unwrap_or(0.0) as f32;
                    return Ok(Some((Link { head, effect, p_value: verdict.p_value }, hit.cosine)));
                }
            }
            Ok::<_, StoreError>(None)
        };
        let in_place = nearest(heads.nearest(query.hidden_size, &query.vector, CANDIDATES, false))?;
        let moved = match in_place {
            None => nearest(heads.nearest_moved(query.row_gram.as_ref(), CANDIDATES, false))?,
            Some(_) => None,
        };
        Ok(Confirmed { in_place, moved })
    }
}

/// The nearest heads that the verdict confirms, with their cosines.
#[derive(Clone, Copy, Debug)]
struct Confirmed {
    in_place: Option<(Link, f32)>,
    /// By the products of rows; looked for where there is none in place.
    moved: Option<(Link, f32)>,
}

impl Confirmed {
    /// With what was found among later heads, which have to be nearer.
    fn or_nearer(self, later: Self) -> Self {
        let nearer = |x: Option<(Link, f32)>, y: Option<(Link, f32)>| match (x, y) {
            (Some(x), Some(y)) => Some(if y.1 > x.1 { y } else { x }),
            (x, y) => x.or(y),
        };
        Self { in_place: nearer(self.in_place, later.in_place), moved: nearer(self.moved, later.moved) }
    }

    /// What takes a content into its family.
    fn link(self) -> Option<Link> {
        self.in_place.or(self.moved).map(|(link, _)| link)
    }
}

/// What a head of this fingerprint is searched by.
fn searched(fingerprint: &Fingerprint) -> Searched {
    Searched {
        hidden_size: fingerprint.hidden_size,
        vector: fingerprint.vector,
        products: fingerprint.row_gram.as_ref().map(signs_of),
    }
}
