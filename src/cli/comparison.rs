//! One comparison, for people.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table};

use super::tables::{bytes, table};
use crate::answers::compare::Comparison;
use crate::checkpoint::full::Whole;
use crate::checkpoint::model::Subject;
use crate::signals::battery::HIDDEN_DIMENSIONS;
use crate::signals::evidence::Tests;
use crate::signals::merge::Shares;
use crate::signals::named::{Named, Significance};
use crate::signals::screen::Screening;
use crate::signals::verdict::Direction;
use crate::signals::{Signal, Test};

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
pub(super) fn screening(screening: &Screening) -> String {
    let mut out = format!("screening: {}. {}", screening.tier.name(), screening.text);
    for d in &screening.differing {
        out += &format!("\n  {}: {} and {}", d.field, d.a, d.b);
    }
    out
}

/// Verdict, why, the eight signals, and the shapes.
pub(super) fn comparison(a: &Subject, b: &Subject, others: &[Subject], comparison: &Comparison) -> String {
    // Metadata first, as the stages run; the verdict follows from the weights.
    let screening = &comparison.screening.text;
    let mut out = format!("{}\n{}\nscreening: {screening}\n\n{}\n", a.name, b.name, headline(comparison));
    out += &format!("{}\n", comparison.verdict.why);
    if let Some(merge) = &comparison.merge {
        out += &format!("{}\n", shares(b, others, merge));
    }
    out.push('\n');
    let mut signals = table(&["signal", "", "value", "", "z", "n", ""]);
    for named in &comparison.named {
        signals.add_row(row(named));
    }
    right(&mut signals, &[2, 4, 5]);
    out += &format!("{signals}\n\n");
    let mut shapes = table(&["", "architecture", "hidden", "layers", "vocabulary", "dtype", "read"]);
    for (label, subject) in [("a", a), ("b", b)] {
        shapes.add_row(std::iter::once(label.to_owned()).chain(shape(subject)));
    }
    out += &shapes.to_string();
    for (label, subject) in [("a", a), ("b", b)] {
        for line in subject.weights.iter().flat_map(|weights| &weights.unreadable) {
            out += &format!("\nnot read of {label}: {line}");
        }
    }
    out
}

fn shares(b: &Subject, others: &[Subject], merge: &Result<Shares, String>) -> String {
    match merge {
        Err(reason) => format!("No shares: {reason}."),
        Ok(found) => {
            let names = std::iter::once(b).chain(others).map(|s| &s.name);
            let parts: Vec<String> =
                found.shares.iter().zip(names).map(|(share, name)| format!("{share:.3} {name}")).collect();
            format!("As a sum: {}; {:.1} % unexplained.", parts.join(" + "), 100.0 * found.unexplained)
        }
    }
}

fn headline(comparison: &Comparison) -> String {
    let verdict = &comparison.verdict;
    let relation = verdict.relation.map(|r| format!(" ({})", r.name())).unwrap_or_default();
    let direction = match (verdict.relation, verdict.direction) {
        (None, _) => String::new(),
        (Some(_), Direction::Open) => ", direction undetermined".to_owned(),
        (Some(_), direction) => format!(", {}", direction.name()),
    };
    format!(
        "{}{relation}{direction}, score {:.3}, p {:.1e}",
        verdict.kind.name(),
        verdict.score,
        verdict.p_value
    )
}

fn row(named: &Named) -> [String; 7] {
    let meaning = MEANINGS.iter().find(|(name, _)| *name == named.name).map_or("", |(_, meaning)| meaning);
    let mut cells = [named.name, meaning, "", "", "", "", ""].map(str::to_owned);
    match &named.value {
        Err(reason) => {
            cells[2] = "absent".into();
            cells[6].clone_from(reason);
        }
        Ok(value) => {
            cells[2] = format!("{:.3}", value.value);
            // A distance is near where it is small.
            cells[3] = bar(if named.name == "END" { 1.0 - value.value } else { value.value });
            cells[5] = value.n.to_string();
            match value.significance {
                Some(Significance::Z(z)) => cells[4] = format!("{z:.1}"),
                Some(Significance::Error(error)) => cells[6] = format!("estimate, +- {error:.3}"),
                None => {}
            }
        }
    }
    cells
}

fn shape(subject: &Subject) -> [String; 6] {
    let unknown = || "?".to_owned();
    let architecture = subject.metadata.config.architecture.clone().unwrap_or_else(unknown);
    match &subject.weights {
        Err(error) => [architecture, unknown(), unknown(), unknown(), unknown(), error.to_string()],
        Ok(weights) => [
            architecture,
            weights.samples.hidden_size.to_string(),
            weights.samples.layers.to_string(),
            weights.samples.vocabulary.map_or_else(unknown, |v| v.to_string()),
            weights.dtype.clone().unwrap_or_else(unknown),
            format!("{} of {}", bytes(subject.bytes_fetched()), bytes(weights.bytes_in_repo)),
        ],
    }
}

/// Ten characters from 0 to 1.
fn bar(value: f64) -> String {
    let full = (value.clamp(0.0, 1.0) * 10.0).round() as usize;
    "█".repeat(full) + &"·".repeat(10 - full)
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Every test with its figures, the correspondences that were tried, and the layer map.
pub(super) fn explanation(comparison: &Comparison) -> String {
    let evidence = &comparison.evidence;
    let mut all = table(&["test", "hidden dimensions", "value", "sd", "z", "ln p", "n", ""]);
    add_tests(&mut all, "in place", &evidence.in_place);
    for realigned in &evidence.realigned {
        add_test(&mut all, &HIDDEN_DIMENSIONS, realigned.by.name(), &realigned.dimensions);
        add_tests(&mut all, realigned.by.name(), &realigned.tests);
    }
    right(&mut all, &[2, 3, 4, 5, 6]);
    let mut out = format!("{all}\n\n{}\n", screening(&comparison.screening));
    let roles: BTreeMap<&str, f64> =
        evidence.in_place.roles.iter().map(|(role, r)| (role.name(), *r)).collect();
    let roles: Vec<String> = roles.into_iter().map(|(role, r)| format!("{role} {r:.5}")).collect();
    let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    out += &format!("correlation by role: {}\n", list(&roles));
    out += &format!("equal blocks: {} of {}\n", evidence.reuse.equal, evidence.reuse.of);
    if let Some(delta) = evidence.delta {
        out += &format!("rank of the difference: {} in blocks of {} rows or more\n", delta.rank, delta.rows);
    }
    let map: Vec<String> =
        evidence.in_place.matched_layers.iter().map(|(a, b, z)| format!("{a}={b} (z {z:.1})")).collect();
    out += &format!("layer map: {}\n", list(&map));
    let open: Vec<String> = evidence.open.iter().map(|o| o.name().to_owned()).collect();
    out + &format!("not ruled out: {}", list(&open))
}

/// Sampled figures against whole tensors.
pub(super) fn whole(whole: &[Whole]) -> String {
    let mut all = table(&["role", "rows", "whole", "sampled", "stated error", ""]);
    for role in whole {
        let verdict = if role.agrees() { "agrees" } else { "differs" };
        all.add_row([
            role.role.name().to_owned(),
            role.rows.to_string(),
            format!("{:.5}", role.mean),
            role.sampled.map_or_else(|| "-".into(), |v| format!("{v:.5}")),
            format!("{:.5}", role.error),
            if role.sampled.is_some() { verdict.to_owned() } else { String::new() },
        ]);
    }
    right(&mut all, &[1, 2, 3, 4]);
    all.to_string()
}

fn add_tests(table: &mut Table, by: &str, tests: &Tests) {
    for (test, signal) in tests.iter() {
        add_test(table, test, by, signal);
    }
}

fn add_test(table: &mut Table, test: &Test, by: &str, signal: &Signal) {
    let (name, by) = (test.key.to_owned(), by.to_owned());
    match signal {
        Signal::Present(e) => table.add_row([
            name,
            by,
            format!("{:.5}", e.value),
            format!("{:.5}", e.sd),
            format!("{:.1}", e.z()),
            format!("{:.1}", e.ln_p()),
            e.cells.to_string(),
            String::new(),
        ]),
        Signal::Absent(reason) => {
            let none = String::new;
            table.add_row([name, by, "absent".into(), none(), none(), none(), none(), reason.clone()])
        }
    };
}

/// Tab-separated lines: verdict, then signals, then tests.
pub(super) fn plain(comparison: &Comparison, bytes: u64) -> String {
    let verdict = &comparison.verdict;
    let relation = verdict.relation.map_or("-", crate::signals::verdict::Relation::name);
    let mut lines = vec![
        format!("verdict\t{}", verdict.kind.name()),
        format!("relation\t{relation}"),
        format!("direction\t{}", verdict.direction.name()),
        format!("score\t{:.6}", verdict.score),
        format!("p\t{:.3e}", verdict.p_value),
        format!("why\t{}", verdict.why),
        format!("screening\t{}", comparison.screening.tier.name()),
        format!("bytes_read\t{bytes}"),
    ];
    for named in &comparison.named {
        lines.push(match &named.value {
            Ok(v) => {
                let z = v.significance.and_then(Significance::z).map_or("-".into(), |z| format!("{z:.2}"));
                format!("{}\t{:.5}\t{z}\t{}", named.name, v.value, v.n)
            }
            Err(reason) => format!("{}\tabsent\t{reason}", named.name),
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
        add_tests(&mut all, "in place", &toy::evidence().in_place);
        let text = all.to_string();
        let lines: Vec<&str> =
            text.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(lines, toy::TESTS.map(|test| test.key), "{text}");
    }
}
