//! Scans, for people.

use super::style::{right, table};
use crate::answers::census::Census;
use crate::answers::coverage::CoverageAnswer;
use crate::answers::judgement::{Judgement, TestFigure};
use crate::answers::scan::{Candidate, ScanAnswer};
use crate::answers::score::{Band, Score};
use crate::signals::coverage::WHOLE;
use crate::signals::verdict::{Relation, VerdictKind};

/// One query's relatives.
pub(in crate::cli) fn scan(answer: &ScanAnswer) -> String {
    let name = &answer.query;
    let mut out = match &answer.known_from {
        None => String::new(),
        Some(_) if answer.bytes_fetched == 0 => {
            format!("{name}: as the database has it; nothing was read\n")
        }
        Some(from) => {
            format!("{name}: its weight files are those of {from}, by their digests, and were not read\n")
        }
    };
    if let Some(adapter) = &answer.adapter {
        let base = answer.adapter_base.as_ref().map_or_else(String::new, |base| format!("; {base}"));
        out += &format!("{name}: {adapter}{base}\n");
    }
    if let Some(coverage) = answer.coverage.as_ref().filter(|coverage| coverage.share < WHOLE) {
        let rest = coverage.rest().map_or_else(String::new, |rest| format!("; not {rest}"));
        out += &format!("{name}: {} of it was covered{rest}\n", coverage.percent());
    }
    out + &relatives(answer)
}

/// The families that a query belongs to.
pub(super) fn relatives(answer: &ScanAnswer) -> String {
    let ScanAnswer { query: name, searched, .. } = answer;
    let mut out = String::new();
    if answer.families.is_empty() {
        let nearest = answer.closest_rejected.as_ref().map_or_else(String::new, |c| {
            let similarity = c.similarity.unwrap_or(0.0);
            let verdict = c.judgement.verdict.name();
            format!("; nearest: {} ({verdict}, similarity {similarity:.3})", c.name())
        });
        out += &format!(
            "{name}: no relative among {searched} distinct models{nearest}; only `compare` looks for copies with permuted \
             heads or neurons\n"
        );
        return out + &undecided(answer);
    }
    for family in &answer.families {
        let mut rows =
            table(&["", "model", "metadata", "relation", "score", "similarity", "covered", "evidence"]);
        let root = family.root.name();
        rows.add_row(candidate("root", &family.root));
        for member in family.members.iter().filter(|m| m.name() != root) {
            rows.add_row(candidate("member", member));
        }
        out += &format!(
            "{name}: of the family of {root}, {} of {searched} distinct models (root: {})\n{rows}\n",
            family.contents, family.root_evidence
        );
    }
    if answer.outdated > 0 {
        out += &format!(
            "{} of the {searched} distinct models were read by an older version: how much of them it covers is not known\n",
            answer.outdated
        );
    }
    out += &undecided(answer);
    out + &false_positives(answer.negatives, answer.false_positives, answer.false_rate_at_most) + "\n"
}

/// Adapters that correlate, and why that decides nothing.
fn undecided(answer: &ScanAnswer) -> String {
    if answer.undecided.is_empty() {
        return String::new();
    }
    let named = answer.undecided.iter().map(|candidate| {
        let similarity = candidate.similarity.map_or_else(|| "-".into(), |v| format!("{v:.3}"));
        format!("{} ({similarity})", candidate.name())
    });
    format!(
        "{}: what it changes correlates with that of {}; so it is with adapters of one base, whether or not one descends \
         from the other\n",
        answer.query,
        named.collect::<Vec<_>>().join(", ")
    )
}

/// How often a search is wrong: families named for some of these made-up models without relatives.
pub(in crate::cli) fn false_positives(negatives: usize, named: usize, at_most: Option<f64>) -> String {
    match at_most {
        Some(rate) => format!(
            "false positives: a family named for {named} of {negatives} made-up models without relatives, so for at \
             most {} of a million (95 %)",
            (rate * 1e6).ceil()
        ),
        None => "false positives: not measured on this index".to_owned(),
    }
}

fn candidate(what: &str, candidate: &Candidate) -> [String; 8] {
    let judgement = &candidate.judgement;
    let copies = match candidate.copies.len() {
        0 => String::new(),
        1 => format!(" (= {})", candidate.copies[0]),
        n => format!(" (= {} and {} more)", candidate.copies[0], n - 1),
    };
    let gone = if candidate.gone_at.is_some() { " (gone from the Hub)" } else { "" };
    let relation = judgement.relation.map_or(judgement.verdict.name(), Relation::name);
    [
        what.to_owned(),
        format!("{}{copies}{gone}", candidate.name()),
        judgement.screening.tier.name().to_owned(),
        relation.to_owned(),
        judgement.score.map_or_else(|| "-".into(), |score| format!("{score:.3}")),
        candidate.similarity.map_or_else(|| "-".into(), |v| format!("{v:.4}")),
        candidate.coverage.as_ref().map_or_else(|| "?".into(), CoverageAnswer::percent),
        evidence(judgement),
    ]
}

/// The tests in a few words.
fn evidence(judgement: &Judgement) -> String {
    if judgement.verdict == VerdictKind::Identical {
        return "same weight files".into();
    }
    words(&judgement.tests)
}

fn words(tests: &[TestFigure]) -> String {
    let counted = tests.iter().filter(|figure| figure.counts);
    let words: Vec<String> = counted
        .map(|figure| format!("{} z {:.0}", figure.test.short, figure.z.unwrap_or_default()))
        .collect();
    words.join(", ")
}

/// How scans of a made-up database did.
pub(in crate::cli) fn score(score: &Score) -> String {
    let mut out = String::new();
    for (bands, what) in [(&score.related, ""), (&score.moved, ", hidden dimensions moved")] {
        for Band { from, to, queries, found, recall } in bands {
            out += &format!(
                "correlation {from:.1} to {to:.1}{what}: {found} of {queries} families found first ({recall:.4})\n"
            );
        }
    }
    out + &format!(
        "wrong families named first: {}; a family named for {} of {} without relatives, so for at most {:.1e} of them \
         (95 %)\nroot right: {} of {}; closest is the parent: {} of {}",
        score.wrong_families,
        score.false_positives,
        score.negatives,
        score.false_rate_at_most.unwrap_or(1.0),
        score.right_roots,
        score.found,
        score.right_parents,
        score.found
    )
}

/// What the role table knows of listed checkpoints.
pub(in crate::cli) fn census(census: &Census) -> String {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let mut rows = table(&["type", "usable", "layers", "of layers", "of all", "tensors", "prefix", "others"]);
    right(&mut rows, &[2, 3, 4, 5]);
    for known in &census.each {
        rows.add_row(vec![
            known.kind.clone(),
            if known.usable { "yes" } else { "no" }.to_owned(),
            known.layers.map_or_else(|| "-".to_owned(), |layers| layers.to_string()),
            percent(known.share_of_layers),
            percent(known.share),
            format!("{} of {}", known.with_role, known.tensors),
            known.prefix.clone(),
            known.others.join(" "),
        ]);
    }
    format!("{rows}\nusable roles: {} of {}", census.usable, census.checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::testing::Model;
    use crate::signals::{sampled, toy};

    #[test]
    fn every_test_has_a_word_of_its_own() {
        let base = Model::random(1, 4, 96).samples();
        let said = words(&TestFigure::all(&sampled::compare(&base, &base).in_place));
        let said: Vec<&str> =
            said.split(", ").filter_map(|word| word.rsplit_once(" z ")).map(|word| word.0).collect();
        assert_eq!(said, ["gains", "weights", "embedding", "rows", "row cosines"]);
        let with_toy = words(&TestFigure::all(&toy::evidence().in_place));
        assert!(with_toy.ends_with(", blocks z 50"), "{with_toy}");
    }
}
