//! One comparison, for people.

use std::collections::BTreeMap;

use comfy_table::Table;

use super::tables::{right, table};
use crate::answers::compare::{CompareAnswer, ComparedModel, WholeAnswer};
use crate::answers::coverage::CoverageAnswer;
use crate::answers::judgement::{Judgement, MergeAnswer, ScreeningAnswer, SignalFigure, TestFigure};
use crate::pipeline::summary::bytes;
use crate::signals::verdict::{Direction, Relation};

/// What each named signal is, in a few words.
const MEANINGS: [(&str, &str); 8] = [
    ("MFI", "config fields that agree"),
    ("TFV", "tokenizer structure"),
    ("VOA", "vocabulary overlap"),
    ("EAS", "pairwise cosines of tokens"),
    ("END", "embedding norms, 0 is equal"),
    ("NLF", "norm gains"),
    ("LEP", "weight size over depth"),
    ("WVC", "weight values"),
];

/// Metadata and tokenizer screening.
pub(super) fn screening(screening: &ScreeningAnswer) -> String {
    let mut out = format!("screening: {}. {}", screening.tier.name(), screening.text);
    for d in &screening.differing {
        out += &format!("\n  {}: {} and {}", d.field, d.a, d.b);
    }
    out
}

/// Verdict, why, the eight signals, and the shapes.
pub(super) fn comparison(answer: &CompareAnswer) -> String {
    // Metadata first, as the stages run; the verdict follows from the weights.
    let CompareAnswer { a, b, judgement, .. } = answer;
    let screening = &judgement.screening.text;
    let mut out = format!("{a}\n{b}\nscreening: {screening}\n\n{}\n", headline(judgement));
    out += &format!("{}\n", judgement.why);
    if let Some(merge) = &judgement.merge {
        out += &format!("{}\n", shares(merge));
    }
    out.push('\n');
    let mut signals = table(&["signal", "", "value", "", "z", "n", ""]);
    for (name, meaning) in MEANINGS {
        if let Some(signal) = judgement.signals.get(name) {
            signals.add_row(row(name, meaning, signal));
        }
    }
    right(&mut signals, &[2, 4, 5]);
    out += &format!("{signals}\n\n");
    let mut shapes =
        table(&["", "architecture", "hidden", "layers", "vocabulary", "dtype", "covered", "weights", "read"]);
    for (label, model) in ["a", "b"].into_iter().zip(&answer.models) {
        shapes.add_row(std::iter::once(label.to_owned()).chain(shape(model)));
    }
    out += &shapes.to_string();
    for (label, model) in ["a", "b"].into_iter().zip(&answer.models) {
        out += &model.adapter.as_ref().map_or_else(String::new, |adapter| format!("\n{label} is {adapter}"));
    }
    for ((label, model), lines) in ["a", "b"].into_iter().zip(&answer.models).zip(&answer.not_read) {
        if let Some(rest) = model.coverage.as_ref().and_then(CoverageAnswer::rest) {
            out += &format!("\nnot covered of {label}: {rest}");
        }
        for line in lines.iter().filter(|_| model.reason.is_none()) {
            out += &format!("\nnot read of {label}: {line}");
        }
    }
    out
}

fn shares(merge: &MergeAnswer) -> String {
    let Some(shares) = &merge.shares else {
        return format!("No shares: {}.", merge.reason.as_deref().unwrap_or_default());
    };
    let parts: Vec<String> =
        shares.iter().zip(&merge.parents).map(|(share, name)| format!("{share:.3} {name}")).collect();
    let unexplained = 100.0 * merge.unexplained.unwrap_or_default();
    format!("As a sum: {}; {unexplained:.1} % unexplained.", parts.join(" + "))
}

fn headline(judgement: &Judgement) -> String {
    // Files that are equal are an identical model, and there is no more to say of that.
    let relation = judgement.relation.filter(|r| r.name() != judgement.verdict.name());
    let relation = relation.map(|r| format!(" ({})", r.name())).unwrap_or_default();
    let direction = match (judgement.relation, judgement.direction) {
        (None, _) => String::new(),
        (Some(_), Direction::Open) => ", direction undetermined".to_owned(),
        (Some(_), direction) => format!(", {}", direction.name()),
    };
    let tested = match judgement.score {
        None => "no test of the weights could be made".to_owned(),
        known => format!("{}, {}", score(known), p(judgement.p_value)),
    };
    format!("{}{relation}{direction}, {tested}", judgement.verdict.name())
}

/// `score 0.998`.
pub(super) fn score(score: Option<f64>) -> String {
    score.map_or_else(|| "no score".into(), |score| format!("score {score:.3}"))
}

/// A p-value; of one that a float cannot hold, how large it is at most.
fn p(value: f64) -> String {
    if value < f64::MIN_POSITIVE {
        format!("p < {:.0e}", f64::MIN_POSITIVE)
    } else {
        format!("p {value:.1e}")
    }
}

fn row(name: &str, meaning: &str, signal: &SignalFigure) -> [String; 7] {
    let mut cells = [name, meaning, "", "", "", "", ""].map(str::to_owned);
    let Some(value) = signal.value else {
        cells[2] = "absent".into();
        cells[6] = signal.reason.clone().unwrap_or_default();
        return cells;
    };
    cells[2] = format!("{value:.3}");
    // A distance is near where it is small.
    cells[3] = bar(if name == "END" { 1.0 - value } else { value });
    cells[5] = signal.n.map(|n| n.to_string()).unwrap_or_default();
    cells[4] = signal.z.map(|z| format!("{z:.1}")).unwrap_or_default();
    cells[6] = signal.error.map(|error| format!("estimate, +- {error:.3}")).unwrap_or_default();
    cells
}

fn shape(model: &ComparedModel) -> [String; 8] {
    let text = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    // Small files are read beside the weights.
    let read = model.reason.clone().unwrap_or_else(|| bytes(model.bytes_fetched));
    [
        text(model.architecture.clone()),
        text(model.hidden_size.map(|n| n.to_string())),
        text(model.layers.map(|n| n.to_string())),
        text(model.vocabulary.map(|n| n.to_string())),
        text(model.dtype.clone()),
        text(model.coverage.as_ref().map(CoverageAnswer::percent)),
        text(model.bytes_in_repo.map(bytes)),
        read,
    ]
}

/// Ten characters from 0 to 1.
fn bar(value: f64) -> String {
    let full = (value.clamp(0.0, 1.0) * 10.0).round() as usize;
    "█".repeat(full) + &"·".repeat(10 - full)
}

/// Every test with its figures, the correspondences that were tried, and the layer map.
pub(super) fn explanation(judgement: &Judgement) -> String {
    let mut all = table(&["test", "hidden dimensions", "value", "sd", "z", "ln p", "n", ""]);
    add_tests(&mut all, "in place", &judgement.tests);
    for realigned in &judgement.realigned {
        add_test(&mut all, realigned.by.name(), &realigned.dimensions);
        add_tests(&mut all, realigned.by.name(), &realigned.tests);
    }
    right(&mut all, &[2, 3, 4, 5, 6]);
    let mut out = format!("{all}\n\n{}\n", screening(&judgement.screening));
    let roles: Vec<String> = judgement.roles.iter().map(|(role, r)| format!("{role} {r:.5}")).collect();
    let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    out += &format!("correlation by role: {}\n", list(&roles));
    out += &format!("equal blocks: {} of {}\n", judgement.equal_blocks, judgement.common_blocks);
    if let Some((rank, rows)) = judgement.delta_rank.zip(judgement.delta_rows) {
        out += &format!("rank of the difference: {rank} in blocks of {rows} rows or more\n");
    }
    let map: Vec<String> =
        judgement.layer_map.iter().map(|(a, b, z)| format!("{a}={b} (z {z:.1})")).collect();
    out += &format!("layer map: {}\n", list(&map));
    let open: Vec<String> = judgement.not_ruled_out.iter().map(|&open| open.to_owned()).collect();
    out + &format!("not ruled out: {}", list(&open))
}

/// Sampled figures against whole tensors.
pub(super) fn whole(whole: &BTreeMap<&str, WholeAnswer>) -> String {
    let mut all = table(&["role", "rows", "whole", "sampled", "stated error", ""]);
    for (role, figures) in whole {
        let verdict = if figures.agrees { "agrees" } else { "differs" };
        all.add_row([
            (*role).to_owned(),
            figures.rows.to_string(),
            format!("{:.5}", figures.mean),
            figures.sampled.map_or_else(|| "-".into(), |v| format!("{v:.5}")),
            format!("{:.5}", figures.error),
            if figures.sampled.is_some() { verdict.to_owned() } else { String::new() },
        ]);
    }
    right(&mut all, &[1, 2, 3, 4]);
    all.to_string()
}

fn add_tests(table: &mut Table, by: &str, tests: &[TestFigure]) {
    for figure in tests {
        add_test(table, by, figure);
    }
}

fn add_test(table: &mut Table, by: &str, test: &TestFigure) {
    let figure = |value: Option<f64>, digits: usize| {
        value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
    };
    table.add_row([
        test.test.key.to_owned(),
        by.to_owned(),
        test.value.map_or_else(|| "absent".into(), |value| format!("{value:.5}")),
        figure(test.sd, 5),
        figure(test.z, 1),
        figure(test.ln_p, 1),
        test.n.map(|n| n.to_string()).unwrap_or_default(),
        test.reason.clone().unwrap_or_default(),
    ]);
}

/// Tab-separated lines: verdict, then signals.
pub(super) fn plain(answer: &CompareAnswer) -> String {
    let judgement = &answer.judgement;
    let mut lines = vec![
        format!("verdict\t{}", judgement.verdict.name()),
        format!("relation\t{}", judgement.relation.map_or("-", Relation::name)),
        format!("direction\t{}", judgement.direction.name()),
        judgement.score.map_or_else(|| "score\t-".into(), |score| format!("score\t{score:.6}")),
        format!("p\t{:.3e}", judgement.p_value),
        format!("why\t{}", judgement.why),
        format!("screening\t{}", judgement.screening.tier.name()),
        format!("bytes_read\t{}", answer.bytes_fetched),
    ];
    for (name, _) in MEANINGS {
        let Some(signal) = judgement.signals.get(name) else { continue };
        lines.push(match signal.value {
            Some(value) => {
                let z = signal.z.map_or_else(|| "-".into(), |z| format!("{z:.2}"));
                format!("{name}\t{value:.5}\t{z}\t{}", signal.n.unwrap_or_default())
            }
            None => format!("{name}\tabsent\t{}", signal.reason.as_deref().unwrap_or_default()),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::toy;

    #[test]
    fn every_test_of_the_table_has_a_line() {
        let mut all = table(&["test", "hidden dimensions", "value", "sd", "z", "ln p", "n", ""]);
        add_tests(&mut all, "in place", &TestFigure::all(&toy::evidence().in_place));
        let text = all.to_string();
        // A reason that is too long for its column goes on in lines of its own.
        let lines = text.lines().filter(|line| line.contains("in place"));
        let lines: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(lines, toy::TESTS.map(|test| test.key), "{text}");
    }
}
