//! A made-up source of candidates: registered by one row, judged by the same loop as all others.

use std::borrow::Cow;
use std::cell::Cell;

use super::databases::{built, named};
use crate::retrieval::Index;
use crate::retrieval::candidates::conformance::conforms;
use crate::retrieval::candidates::features::GramSigns;
use crate::retrieval::candidates::{Candidates, Features, Make, Sources};
use crate::retrieval::controls::Controls;
use crate::retrieval::families::Families;
use crate::retrieval::hits::{self, Hit};
use crate::retrieval::judge::Judge;
use crate::retrieval::judging::{Budget, Judging, Representatives};
use crate::retrieval::payload::PayloadWriter;
use crate::retrieval::query::SearchMode;
use crate::retrieval::segments::Paths;
use crate::signals::Fingerprint;
use crate::signals::testing::Model;
use crate::signals::verdict::Context;
use crate::store::{Database, StoreError, Task};

/// Signs of row Gram matrices that agree, without a bound: whoever has any is proposed.
#[derive(Debug, Default)]
struct Agreeing(Vec<(u32, GramSigns)>);

impl Candidates for Agreeing {
    fn add(&mut self, number: u32, features: &Features) {
        self.0.extend(features.gram.map(|signs| (number, signs)));
    }

    fn propose(&self, query: &Features, k: usize, _: SearchMode) -> Vec<Hit> {
        let Some(of_query) = query.gram else { return Vec::new() };
        let differing =
            |signs: &GramSigns| signs.iter().zip(&of_query).map(|(x, y)| (x ^ y).count_ones()).sum();
        let hit = |(number, signs): &(u32, GramSigns)| {
            let differing: u32 = differing(signs);
            Hit { number: *number, cosine: 1.0 - differing as f32 / 256.0 }
        };
        hits::nearest(self.0.iter().map(hit), k)
    }
}

/// The row that registers it.
const WITH_IT: &[Make] = &[|| Box::<Agreeing>::default()];
/// Weights in place alone.
const WITHOUT: &[Make] = &[];

/// A base, and others that are no relatives of it.
fn models() -> Vec<Model> {
    (0..12).map(|seed| Model::random(seed, 8, 128)).collect()
}

#[test]
fn it_conforms() {
    for make in WITH_IT {
        conforms(make);
    }
}

#[test]
fn families_are_made_of_what_it_proposes() {
    let models = models();
    let first: Vec<Fingerprint> = models.iter().map(Model::fingerprint).collect();
    let permuted = [models[0].tuned(0.95, 1).permuted(2), models[3].tuned(0.95, 3).permuted(4)];
    // One of them behind the representatives of an earlier batch, one behind those of its own.
    let second = [permuted[0].fingerprint(), Model::random(20, 8, 128).fingerprint()];
    let third = [&first[..], &[permuted[1].fingerprint()]].concat();
    for (make, founded) in [(WITH_IT, [13, 12]), (WITHOUT, [14, 13])] {
        let dir = tempfile::tempdir().unwrap();
        let mut payload = PayloadWriter::open(&Paths::new(), dir.path()).unwrap();
        let mut families = Families::new(Sources::new(make));
        families.place(&first, &mut payload).unwrap();
        families.place(&second, &mut payload).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut payload = PayloadWriter::open(&Paths::new(), dir.path()).unwrap();
        let mut of_one_batch = Families::new(Sources::new(make));
        of_one_batch.place(&third, &mut payload).unwrap();
        assert_eq!([families.count, of_one_batch.count], founded);
        let last = families.representatives[12];
        assert_eq!(last.link.map(|link| link.representative), (make.len() == 1).then_some(0), "{last:?}");
    }
}

#[test]
fn searches_judge_what_it_proposes() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let models = models();
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    built(&mut db, true);
    let index_with = |make: &'static [Make]| {
        let mut index = Index::open(&db).unwrap();
        let layers: Vec<u16> = index.checkpoints.iter().map(|checkpoint| checkpoint.facts.layers).collect();
        let representatives = index.families.representatives.clone();
        index.families = Families::resume(
            Sources::new(make),
            representatives,
            &layers,
            |checkpoint| index.vectors.read(checkpoint),
            |representative, vector| index.payload.read(representative.payload, vector),
        )
        .unwrap();
        index
    };
    let (with_it, without, usual) = (index_with(WITH_IT), index_with(WITHOUT), Index::open(&db).unwrap());
    let copy = models[5].tuned(0.9, 7).permuted(9).fingerprint();
    for mode in [SearchMode::Usual, SearchMode::Exact] {
        assert!(without.find(&copy, 3, mode).unwrap().related.is_empty());
        let [found, expected] = [&with_it, &usual].map(|index| index.find(&copy, 3, mode).unwrap());
        let [found, expected] = [&found, &expected].map(|found| {
            let [related] = &found.related[..] else { panic!("{found:?}") };
            (related.family, related.judged, related.verdict.relation)
        });
        assert_eq!(found, expected);
        // It proposes all of these, and none is a relative.
        let unrelated = Model::random(77, 8, 128).fingerprint();
        assert!(with_it.find(&unrelated, 3, mode).unwrap().related.is_empty());
    }
}

/// Representatives in memory, each a family of its own, and how many of them were read.
struct Counted {
    all: Vec<Fingerprint>,
    unwanted: Option<u32>,
    read: Cell<usize>,
}

impl Representatives for Counted {
    fn family(&self, number: u32) -> u32 {
        number
    }

    fn is_wanted(&self, number: u32) -> bool {
        self.unwanted != Some(number)
    }

    fn fingerprint(&self, number: u32) -> Result<Cow<'_, Fingerprint>, StoreError> {
        self.read.set(self.read.get() + 1);
        Ok(Cow::Borrowed(&self.all[number as usize]))
    }
}

#[test]
fn the_loop_keeps_its_budget_and_asks_no_further_source_than_it_must() {
    let models = models();
    let mut known =
        Counted { all: models.iter().map(Model::fingerprint).collect(), unwanted: None, read: Cell::new(0) };
    let mut sources = Sources::new(WITH_IT);
    for (number, fingerprint) in (0..).zip(&known.all) {
        sources.add(number, &Features::from(fingerprint));
    }
    let controls = Controls::default();
    // Families found, by the source that proposed them, and how many fingerprints were read for it.
    let found = |query: &Model, known: &Counted| {
        let query = query.fingerprint();
        let judging = Judging {
            sources: &sources,
            features: &Features::from(&query),
            representatives: known,
            context: Context { searched: known.all.len(), ..Context::default() },
            mode: SearchMode::Usual,
            budget: |source, _| Budget {
                proposed: 8,
                in_vain: if source == 0 { 8 } else { 4 },
                judged: 2,
                families: 8,
            },
        };
        let found = judging.run(&mut Judge::new(&query, &controls), Vec::new()).unwrap();
        let confirmed: Vec<(u32, usize)> = found.confirmed.iter().map(|c| (c.family, c.source)).collect();
        (confirmed, known.read.take())
    };
    let (child, permuted) = (models[4].tuned(0.9, 1), models[4].tuned(0.9, 1).permuted(2));
    assert_eq!(found(&child, &known), (vec![(4, 0)], 1), "in place, and nothing else came near");
    assert_eq!(found(&permuted, &known), (vec![(4, 1)], 2), "and one more of the second source");
    assert_eq!(found(&Model::random(77, 8, 128), &known), (Vec::new(), 4), "in vain");
    known.unwanted = Some(4);
    assert_eq!(found(&permuted, &known), (Vec::new(), 4), "what is unwanted costs nothing");
}
