//! The report of an evaluation, for people.

use super::comparison::score;
use super::tables::table;
use crate::answers::eval::{EvalAnswer, JudgedPair};
use crate::answers::judgement::Judgement;
use crate::pipeline::summary::bytes;

/// Figures of merit, then every wrong pair with its evidence.
pub(super) fn evaluation(found: &EvalAnswer) -> String {
    let merit = &found.merit;
    let percent = |share: Option<f64>| share.map_or_else(|| "-".into(), |s| format!("{:.1} %", 100.0 * s));
    let figure = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.4}"));
    let mut out = format!(
        "{} pairs of {} models: accuracy {}, precision {}, recall {}, ROC AUC {}, Brier score {}\n",
        merit.pairs,
        found.models,
        percent(merit.accuracy),
        percent(merit.precision),
        percent(merit.recall),
        figure(merit.auc),
        figure(merit.brier),
    );
    out += &format!(
        "related: {} found, {} called independent, {} undecided; unrelated: {} called independent, {} undecided, {} called related\n",
        merit.true_positives,
        merit.called_independent,
        merit.abstained_related,
        merit.true_negatives,
        merit.abstained_unrelated,
        merit.false_positives,
    );
    let models = found.models.max(1);
    out += &format!(
        "read {} ({} a model), {:.1} s reading ({:.2} a model), {:.1} s comparing ({:.1} ms a pair)\n",
        bytes(found.bytes),
        bytes(found.bytes / models as u64),
        found.reading_seconds,
        found.reading_seconds / models as f64,
        found.comparing_seconds,
        1e3 * found.comparing_seconds / merit.pairs.max(1) as f64,
    );
    let mut relations = table(&["relation", "pairs", "found", "recall"]);
    for (relation, of) in &merit.by_relation {
        let name = if relation.is_empty() { "-" } else { relation };
        let recall = percent(Some(of.found as f64 / of.pairs as f64));
        relations.add_row([name.to_owned(), of.pairs.to_string(), of.found.to_string(), recall]);
    }
    out += &format!("\n{relations}\n");
    let mut bins = table(&["score", "pairs", "mean score", "related"]);
    for (i, bin) in merit.calibration.iter().enumerate().filter(|(_, bin)| bin.pairs > 0) {
        bins.add_row([
            format!(".{i} to {}", if i == 9 { "1".into() } else { format!(".{}", i + 1) }),
            bin.pairs.to_string(),
            format!("{:.4}", bin.mean_score),
            percent(Some(bin.related)),
        ]);
    }
    out += &format!("\n{bins}\n");
    let wrong: Vec<(&JudgedPair, &Judgement)> = found
        .pairs
        .iter()
        .filter(|pair| !pair.is_right())
        .filter_map(|pair| Some((pair, pair.judgement.as_ref()?)))
        .collect();
    if !wrong.is_empty() {
        out += &format!("\n{} wrong:\n", wrong.len());
    }
    for (pair, judgement) in wrong {
        out += &format!(
            "  {} | {} ({}): {}, {}. {}\n",
            pair.a,
            pair.b,
            pair.expected_relation,
            judgement.verdict.name(),
            score(judgement.score),
            judgement.why
        );
    }
    if !found.unavailable.is_empty() {
        out += &format!(
            "\n{} models could not be read, {} pairs left out:\n",
            found.unavailable.len(),
            merit.unavailable
        );
    }
    for (model, reason) in &found.unavailable {
        out += &format!("  {model}: {reason}\n");
    }
    out.trim_end().to_owned()
}
