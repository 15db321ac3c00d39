//! What whole searches find.

use super::databases::{built, database, named};
use crate::retrieval::{Index, SearchMode, SearchQuery, verify};
use crate::signals::Fingerprint;
use crate::signals::fingerprint::VECTOR_DIMENSIONS;
use crate::signals::testing::Model;
use crate::signals::verdict::{Relation, VerdictKind};
use crate::store::{Database, Tag, Task};

#[test]
fn families_representatives_and_copies() {
    let (_dir, mut db) = database();
    let whole = built(&mut db, true);
    assert_eq!((whole.models, whole.checkpoints, whole.families), (8, 7, 3));
    assert_eq!(whole.representatives, 4, "the far child stands for itself and what is near it");
    assert!(whole.complete && !whole.incremental && whole.quality.false_positives == 0);
    assert!(whole.quality.recall_at_10 > 0.99);
    let index = Index::open(&db).unwrap();
    let query = Model::random(0, 4, 64).tuned(0.6, 6).tuned(0.95, 99).fingerprint();
    for mode in [SearchMode::Usual, SearchMode::Exact] {
        let found = index.find(&query, 3, mode).unwrap();
        let names: Vec<&str> = found.related[0]
            .closest
            .iter()
            .map(|hit| index.repositories(hit.number)[0].repo_id.as_str())
            .collect();
        assert_eq!(found.related.len(), 1);
        assert_eq!(names[0], "org/a-far");
    }
    let checkpoint = index.checkpoint_of(Tag::of("s-a")).unwrap();
    assert_eq!(index.repositories(checkpoint).len(), 2);
    assert_eq!(index.family(index.family_of(checkpoint)).checkpoints, 4);
    let negative = index.find(&Model::random(77, 4, 64).fingerprint(), 3, SearchMode::Exact).unwrap();
    assert!(negative.related.is_empty());
    assert!(verify(&db, false, &|_, _| {}).unwrap().is_whole());
}

#[test]
fn a_repository_is_no_relative_of_its_own() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let index = Index::open(&db).unwrap();
    let (a, b) = (Model::random(0, 4, 64), Model::random(1, 4, 64));
    let far = a.tuned(0.6, 6);
    // Of each: who else holds what was judged, and the nearest.
    let cases = [
        ("a", a.clone(), Some("org/a-copy"), "org/a-copy"),
        ("a-near", a.tuned(0.98, 5), Some("org/a"), "org/a"),
        ("a-far", far.clone(), None, "org/a-far-near"),
        ("a-far-near", far.tuned(0.97, 7), Some("org/a-far"), "org/a-far"),
        ("b", b, None, "org/b-near"),
    ];
    for (name, model, judged, nearest) in cases {
        let (fingerprint, own) = (model.fingerprint(), format!("org/{name}"));
        let tag = |kind: &str| Some(Tag::of(&format!("{kind}-{name}")));
        let (weights, samples, but) = (tag("w"), tag("s"), Some(own.as_str()));
        for mode in [SearchMode::Usual, SearchMode::Exact] {
            let query = SearchQuery { fingerprint: &fingerprint, weights, samples, but };
            let found = index.find(query, 9, mode).unwrap();
            let [family] = &found.related[..] else { panic!("{name}: {found:?}") };
            let other = |checkpoint: u32| index.others(checkpoint, but).next().map(|p| p.repo_id.as_str());
            assert_eq!(other(family.judged), judged, "{name}");
            assert_eq!(family.verdict.kind, VerdictKind::Derived, "{name}");
            assert_eq!(other(family.closest[0].number), Some(nearest), "{name}");
            assert!(family.closest.iter().all(|hit| other(hit.number).is_some()), "{name}");
        }
    }
    let fingerprint = Model::random(2, 4, 64).fingerprint();
    let alone =
        SearchQuery { but: Some("org/c"), samples: Some(Tag::of("s-c")), ..SearchQuery::from(&fingerprint) };
    assert!(index.find(alone, 9, SearchMode::Usual).unwrap().related.is_empty());
    assert_eq!(
        index.find(SearchQuery { but: None, ..alone }, 9, SearchMode::Usual).unwrap().related.len(),
        1
    );
}

#[test]
fn an_exact_duplicate_is_found_by_its_digests_alone() {
    let (_dir, mut db) = database();
    built(&mut db, true);
    let index = Index::open(&db).unwrap();
    let empty = Fingerprint {
        cells: Vec::new(),
        vector: [0; VECTOR_DIMENSIONS],
        row_gram: None,
        ..Model::random(5, 4, 64).fingerprint()
    };
    assert!(index.find(&empty, 3, SearchMode::Usual).unwrap().related.is_empty());
    let (weights, samples) = (Some(Tag::of("w-a-copy")), Some(Tag::of("s-a-near")));
    let by_weights = SearchQuery { weights, ..SearchQuery::from(&empty) };
    let by_samples = SearchQuery { weights: Some(Tag::of("w-else")), samples, ..SearchQuery::from(&empty) };
    for (query, name, kind) in [
        (by_weights, "org/a", VerdictKind::Identical),
        (by_samples, "org/a-near", VerdictKind::NoWeightEvidence),
    ] {
        for mode in [SearchMode::Usual, SearchMode::Exact] {
            let found = index.find(query, 1, mode).unwrap();
            let [related] = &found.related[..] else { panic!("{found:?}") };
            assert_eq!(related.verdict.kind, kind);
            let [closest] = &related.closest[..] else { panic!("{found:?}") };
            assert_eq!(index.repositories(closest.number)[0].repo_id, name);
        }
    }
}

#[test]
fn permuted_and_narrowed_copies_are_of_their_family() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let base = Model::random(0, 8, 128);
    let kept: Vec<usize> = (0..96).map(|i| i * 37 % 128).collect();
    let (permuted, narrow) = (base.tuned(0.95, 1).permuted(2), base.with_dimensions(&kept));
    let negatives: Vec<Model> = (10..20).map(|seed| Model::random(seed, 8, 128)).collect();
    let mut names = vec!["base", "permuted", "narrow", "of-permuted"];
    let of_permuted = permuted.tuned(0.8, 3);
    let mut models = vec![&base, &permuted, &narrow, &of_permuted];
    names.extend(["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]);
    models.extend(&negatives);
    db.append(&named(&names[..2], &models[..2])).unwrap();
    // Behind representatives of the index, and behind those of one batch.
    built(&mut db, true);
    db.append(&named(&names[2..], &models[2..])).unwrap();
    let grown = built(&mut db, false);
    assert_eq!(grown.families, 11, "{grown:?}");
    let index = Index::open(&db).unwrap();
    for (query, relation) in [
        (base.tuned(0.9, 7).permuted(9), Relation::BasisChanged),
        (base.with_dimensions(&kept[..80]), Relation::WidthPruned),
    ] {
        for mode in [SearchMode::Usual, SearchMode::Exact] {
            let found = index.find(&query.fingerprint(), 3, mode).unwrap();
            let [related] = &found.related[..] else { panic!("{found:?}") };
            assert_eq!(related.verdict.relation, Some(relation), "{:?}", related.verdict);
            let family = index.family(related.family);
            assert_eq!(family.checkpoints, 4);
            assert_eq!(index.repositories(family.root)[0].repo_id, "org/base");
            assert!(related.closest[0].cosine > 0.6, "{related:?}");
        }
    }
    for seed in 20..60 {
        let found = index.find(&Model::random(seed, 8, 128).fingerprint(), 3, SearchMode::Usual).unwrap();
        assert!(found.related.is_empty(), "{found:?}");
    }
}

#[test]
fn a_copy_of_a_member_far_from_the_nearest_representatives_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let base = Model::random(0, 2, 64);
    // Representatives of one family, each with near members; what lies between two of them is near both.
    let representatives: Vec<Model> = (0..12).map(|seed| base.tuned(0.75, 100 + seed)).collect();
    let mut models = vec![base.clone()];
    for (representative, seed) in representatives.iter().zip(1000..) {
        models.push(representative.clone());
        models.extend((0..8).map(|i| representative.tuned(0.93, 100 * seed + i)));
    }
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    let whole = built(&mut db, true);
    assert!(whole.families == 1 && whole.representatives > 5, "{whole:?}");
    let index = Index::open(&db).unwrap();
    for (name, model) in names.iter().zip(&models) {
        for k in [1, 5] {
            let found = index.find(&model.fingerprint(), k, SearchMode::Usual).unwrap();
            let nearest = found.related[0].closest[0];
            assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
        }
    }
}

#[test]
fn an_empty_database_has_an_empty_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    assert_eq!(built(&mut db, false).checkpoints, 0);
    let query = Model::random(1, 2, 64).fingerprint();
    assert!(Index::open(&db).unwrap().find(&query, 5, SearchMode::Usual).unwrap().related.is_empty());
}

#[test]
fn a_crowd_of_near_duplicates_is_found_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
    let models: Vec<Model> = (0..3)
        .flat_map(|s| {
            let base = Model::random(s, 1, 32);
            (0..60).map(move |i| base.tuned(0.99, 1000 + i)).collect::<Vec<_>>()
        })
        .collect();
    let names: Vec<String> = (0..models.len()).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.append(&named(&names, &models.iter().collect::<Vec<_>>())).unwrap();
    assert_eq!(built(&mut db, true).families, 3);
    let index = Index::open(&db).unwrap();
    for (name, model) in names.iter().zip(&models) {
        let found = index.find(&model.fingerprint(), 1, SearchMode::Usual).unwrap();
        let nearest = found.related[0].closest[0];
        assert_eq!(index.repositories(nearest.number)[0].repo_id, format!("org/{name}"));
    }
}
