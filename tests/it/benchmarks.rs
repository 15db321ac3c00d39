//! The lists of public pairs: well formed, free of contradictions, and counted as their README says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hubprint::answers::eval::{Pair, read_pairs};
use hubprint::hub::RepoId;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/benchmarks")
}

/// The lists by file name, as eval reads them.
fn lists() -> BTreeMap<String, Vec<Pair>> {
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let lists = paths.filter(|path| path.extension().is_some_and(|extension| extension == "tsv"));
    lists
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read_pairs(&path).unwrap()))
        .collect()
}

#[test]
fn every_line_is_a_pair_of_repositories() {
    for (name, pairs) in lists() {
        let text = fs::read_to_string(folder().join(&name)).unwrap();
        assert_eq!(text.lines().next(), Some("a\tb\trelated\trelation\tnote"), "{name}");
        assert_eq!(text.lines().count(), pairs.len() + 1, "{name}");
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            assert!(cells.len() == 5 && matches!(cells[2], "0" | "1"), "{name}: {line:?}");
        }
        for Pair { a, b, related, relation } in pairs {
            let valid = |id: &str| id.contains('/') && id.parse::<RepoId>().is_ok();
            assert!(valid(&a) && valid(&b) && a != b, "{name}: {a} | {b}");
            assert!(!relation.is_empty() && (relation == "none") != related, "{name}: {a} | {b}: {relation}");
        }
    }
}

#[test]
fn no_pair_is_listed_twice_or_labelled_two_ways() {
    let lists = lists();
    let mut labels = BTreeMap::new();
    for (name, pairs) in &lists {
        let mut seen = BTreeSet::new();
        for Pair { a, b, related, .. } in pairs {
            let key = [a.min(b), a.max(b)];
            assert!(seen.insert(key), "{name}: {key:?} twice");
            let (other, label) = *labels.entry(key).or_insert((name, *related));
            assert_eq!(label, *related, "{key:?} in {other} and {name}");
        }
    }
}

#[test]
fn the_readme_counts_them() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let lists = lists();
    assert_eq!(lists.len(), 4);
    for (name, pairs) in &lists {
        let related = pairs.iter().filter(|pair| pair.related).count();
        let unrelated = pairs.len() - related;
        let models: BTreeSet<&String> = pairs.iter().flat_map(|pair| [&pair.a, &pair.b]).collect();
        let row = format!("| `{name}` | {} | {related} | {unrelated} | {} |", pairs.len(), models.len());
        assert!(readme.contains(&row), "no {row:?} in the README");
    }
}

#[test]
fn base_models_are_many_and_each_is_listed_once() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/base-models.tsv")).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    assert_eq!(header, "repo_id\tfamily\tpublisher\tsize");
    let (mut ids, mut families, mut publishers) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for line in lines.lines() {
        let [id, family, publisher, size] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        assert!(id.parse::<RepoId>().is_ok(), "{id}");
        assert_eq!(
            id.split_once('/').map(|(owner, _)| owner.to_lowercase()).as_deref(),
            Some(publisher),
            "{id}"
        );
        assert!(family.contains("--") && matches!(size, "<=1B" | "1-10B" | "10-40B" | "40B+"), "{line:?}");
        ids.push(id);
        families.insert(family);
        publishers.insert(publisher);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "not sorted by bytes, or one is there twice");
    assert!(ids.len() >= 150 && families.len() >= 45 && publishers.len() >= 20);
}
