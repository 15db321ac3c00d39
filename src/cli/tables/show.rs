//! What a database knows of one model, for people.

use chrono::{DateTime, Utc};

use super::scans;
use crate::answers::show::ShowAnswer;
use crate::pipeline::summary::bytes;
use crate::store::{Outcome, checkpoint_name};

/// A row, and the model's relatives.
pub(in crate::cli) fn show(answer: &ShowAnswer) -> String {
    let mut out = checkpoint_name(&answer.repo_id, &answer.component) + "\n";
    for (what, value) in lines(answer) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out += &format!("  {what:<14} {value}\n");
        }
    }
    match (&answer.relatives, &answer.no_relatives) {
        (Some(relatives), _) => out + "\n" + scans::relatives(relatives).trim_end() + "\n",
        (None, Some(why)) if answer.outcome == Outcome::Indexed => out + &format!("  relatives      {why}\n"),
        (None, _) => out,
    }
}

/// What is known, in the order in which people ask.
fn lines(answer: &ShowAnswer) -> [(&'static str, Option<String>); 15] {
    let day = |time: Option<DateTime<Utc>>| time.map(|time| time.format("%Y-%m-%d %H:%M UTC").to_string());
    let outcome = match &answer.reason {
        Some(reason) => format!("{}: {reason}", answer.outcome.name()),
        None => answer.outcome.name().to_owned(),
    };
    let shape = answer.hidden_size.zip(answer.layers).map(|(hidden, layers)| {
        let vocabulary = answer.vocabulary.map_or_else(String::new, |n| format!(", vocabulary {n}"));
        format!("hidden size {hidden}, {layers} layers{vocabulary}")
    });
    let weights =
        answer.dtype.as_ref().zip(answer.parameters).map(|(dtype, parameters)| {
            format!("{dtype}, {parameters} values, {}", bytes(answer.bytes_in_repo))
        });
    let covered = answer.coverage.as_ref().map(|coverage| {
        let rest = coverage.rest().map_or_else(String::new, |rest| format!("; not {rest}"));
        format!("{}{rest}", coverage.percent())
    });
    let outdated = (answer.outdated && answer.outcome == Outcome::Indexed)
        .then(|| "not known: an older version has read it".to_owned());
    let base = answer.relatives.as_ref().and_then(|relatives| relatives.adapter_base.as_ref());
    let base = base.map_or_else(String::new, |base| format!("; {base}"));
    let adapter = answer.adapter.as_ref().map(|adapter| format!("{adapter}{base}"));
    let files: Vec<&str> = answer.weight_files.iter().map(|file| file.path.as_str()).collect();
    let listed = match files.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        [first, .., last] => Some(format!("{} files, {first} to {last}", files.len())),
    };
    [
        ("outcome", Some(outcome)),
        ("covered", covered.or(outdated)),
        ("architecture", answer.architecture.clone().or_else(|| answer.model_type.clone())),
        ("shape", shape),
        ("weights", weights),
        ("files", listed),
        ("quantisation", answer.quantization.clone()),
        ("adapter", adapter),
        ("licence", answer.license.clone()),
        ("declared base", Some(answer.declared_bases.join(", "))),
        ("downloads", answer.downloads.map(|n| n.to_string())),
        ("commit", answer.sha.clone()),
        ("created", day(answer.created_at)),
        ("crawled", day(answer.crawled_at)),
        ("gone since", day(answer.gone_at)),
    ]
}
