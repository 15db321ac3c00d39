//! How many scans of a made-up database come out right.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json_lines::{self, JsonLinesError};
use crate::retrieval::Quality;
use crate::synthetic::truth::{COPY, MOVED, STRANGER, Truth};

/// Bounds of the bands of correlation.
const BOUNDS: [f64; 6] = [0.2, 0.3, 0.5, 0.7, 0.9, 1.0];

/// How scans did: `dev score --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Score {
    /// Queries with a parent in the database, by least correlation with it, and how many found its family first.
    pub related: Vec<Band>,
    /// The same of those whose hidden dimensions are in another order than the parent's.
    pub moved: Vec<Band>,
    /// Queries without any.
    #[serde(rename = "strangers")]
    pub negatives: usize,
    /// How many of those a family was named for.
    #[serde(rename = "false_families")]
    pub false_positives: usize,
    /// Largest share of such queries for which that is so, with 95 % confidence; null where there were none.
    pub false_rate_at_most: Option<f64>,
    /// Related queries whose first family is a wrong one.
    pub wrong_families: usize,
    /// Found families whose root is the true one.
    pub right_roots: usize,
    /// Found families whose closest checkpoint is the true parent or a copy of it.
    pub right_parents: usize,
    /// Related queries whose family was found.
    pub found: usize,
}

/// Related queries of one band of correlation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Band {
    /// Least correlation.
    pub from: f64,
    /// The next band begins here.
    pub to: f64,
    /// Queries in it.
    pub queries: usize,
    /// How many of them found their family first.
    pub found: usize,
    /// Share of them that did.
    pub recall: f64,
}

/// What is read of an answer; other versions may have written it.
#[derive(Deserialize)]
struct Answer {
    query: String,
    #[serde(default)]
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    root: Option<String>,
    judged: Option<String>,
    closest: Vec<Close>,
}

#[derive(Deserialize)]
struct Close {
    repo_id: String,
}

/// Holds the answers of a bulk scan against the truth about its queries, and about the models of the database.
pub fn score(
    answers: &Path,
    queries: &BTreeMap<String, Truth>,
    models: &BTreeMap<String, Truth>,
) -> Result<Score, JsonLinesError> {
    let family = |name: &str| models.get(name).map(|truth| truth.family.as_str());
    // The content of a copy is that of the model it was copied from.
    let content = |name: &str| {
        let mut name = name.to_owned();
        while let Some(truth) = models.get(&name).filter(|truth| truth.relation == COPY) {
            name.clone_from(&truth.parent);
        }
        name
    };
    let mut score = Score { related: bands(), moved: bands(), ..Score::default() };
    for answer in json_lines::read::<Answer>(answers)? {
        let Some(truth) = queries.get(&answer.query) else { continue };
        let first = answer.families.first();
        if truth.relation == STRANGER {
            score.negatives += 1;
            score.false_positives += usize::from(first.is_some());
            continue;
        }
        let named = first.and_then(|first| family(first.judged.as_deref()?));
        let found = named == Some(truth.family.as_str());
        let bands = if truth.relation == MOVED { &mut score.moved } else { &mut score.related };
        if let Some(band) = bands.iter_mut().rfind(|band| truth.r >= band.from) {
            band.queries += 1;
            band.found += usize::from(found);
        }
        score.wrong_families += usize::from(first.is_some() && !found);
        if let Some(first) = first.filter(|_| found) {
            score.found += 1;
            score.right_roots +=
                usize::from(first.root.as_deref().map(content) == Some(content(&truth.root)));
            let closest = first.closest.first().map(|close| content(&close.repo_id));
            score.right_parents += usize::from(closest == Some(content(&truth.parent)));
        }
    }
    for band in score.related.iter_mut().chain(&mut score.moved) {
        band.recall = band.found as f64 / band.queries.max(1) as f64;
    }
    let Score { negatives, false_positives, .. } = score;
    let quality = Quality { negatives, false_positives, ..Quality::default() };
    score.false_rate_at_most = quality.false_rate_at_most();
    Ok(score)
}

fn bands() -> Vec<Band> {
    BOUNDS.windows(2).map(|bounds| Band { from: bounds[0], to: bounds[1], ..Band::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic;

    #[test]
    fn answers_are_held_against_the_truth() {
        let truth = |family: &str, root: &str, parent: &str, relation: &str, r| {
            let [family, root, parent, relation] = [family, root, parent, relation].map(str::to_owned);
            Truth { family, root, parent, relation, r }
        };
        let models = BTreeMap::from([
            ("m/1".to_owned(), truth("0", "m/1", "", "root", 1.0)),
            ("m/2".to_owned(), truth("0", "m/1", "m/1", COPY, 1.0)),
            ("m/3".to_owned(), truth("1", "m/3", "", "root", 1.0)),
        ]);
        let queries = BTreeMap::from([
            ("q/1".to_owned(), truth("0", "m/1", "m/1", "tuned", 0.6)),
            ("q/2".to_owned(), truth("0", "m/1", "m/1", MOVED, 0.95)),
            ("q/3".to_owned(), truth("", "", "", STRANGER, 0.0)),
            ("q/4".to_owned(), truth("", "", "", STRANGER, 0.0)),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers");
        let family = |name: &str| {
            format!(r#"{{"root":"{name}","judged":"{name}","closest":[{{"repo_id":"{name}"}}]}}"#)
        };
        let line = |query: &str, family: &str| format!("{{\"query\":\"{query}\",\"families\":[{family}]}}\n");
        let text = [
            line("q/1", &family("m/2")),
            line("q/2", &family("m/3")),
            line("q/3", &family("m/3")),
            line("q/4", ""),
            "{\"query\":\"q/5\",\"error\":\"gone\"}\n".to_owned(),
        ];
        atomic::write(&path, text.concat().as_bytes()).unwrap();
        let found = score(&path, &queries, &models).unwrap();
        assert_eq!((found.related[2].queries, found.related[2].found), (1, 1));
        assert_eq!((found.moved[4].queries, found.moved[4].found, found.wrong_families), (1, 0, 1));
        assert_eq!((found.negatives, found.false_positives), (2, 1));
        assert_eq!((found.found, found.right_roots, found.right_parents), (1, 1, 1), "a copy is its parent");
        assert!(found.false_rate_at_most.unwrap() > 0.5);
        atomic::write(&path, b"{\"query\":\"q/3\"}\nno answer\n").unwrap();
        assert!(score(&path, &queries, &models).unwrap_err().to_string().contains("line 2"));
    }
}
