//! The decisive evidence in words.

use std::fmt;

use super::super::evidence::{Correspondence, Evidence, Realigned, Tests};
use super::super::signal::Effect;
use super::answer::VerdictKind;
use super::hypotheses::{Hypothesis, Source, Way};
use super::relation::Relation;
use super::unseen;

/// Why two models are related.
pub(super) fn derived(
    evidence: &Evidence,
    found: &Hypothesis<'_>,
    best: &Source,
    relation: Option<Relation>,
) -> String {
    let mut text = String::new();
    if let Some(Realigned { by, dimensions, .. }) = found.way.realigned() {
        let possible = evidence.a.hidden_size.min(evidence.b.hidden_size);
        text += &match (by, dimensions.effect()) {
            (Correspondence::Rotation, _) | (_, None) => {
                "Seen through the embedding of common tokens, which a rotation does not change: ".to_owned()
            }
            (Correspondence::Tokens, Some(e)) => format!(
                "{} of {possible} hidden dimensions correspond one to one by what they say about common tokens. ",
                e.cells
            ),
            (Correspondence::Gains, Some(e)) => {
                format!(
                    "{} of {possible} hidden dimensions correspond one to one by their norm gains. ",
                    e.cells
                )
            }
        };
    }
    text += &(best.test.sentence)(best.test, &best.effect);
    if evidence.a.layers != evidence.b.layers && !matches!(found.way, Way::Invariant) {
        let map = LayerMap(found.way.tests(evidence));
        text += &format!(" {} layers against {}", evidence.a.layers, evidence.b.layers);
        text += &if map.0.matched_layers.is_empty() { ".".to_owned() } else { format!(", matched {map}.") };
    }
    if let (Some(Relation::Lora), Some(delta)) = (relation, evidence.delta) {
        text += &format!(" The difference has rank {} in blocks of {} rows.", delta.rank, delta.rows);
    }
    text += &unseen::partly_read(evidence);
    text
}

/// Why they are not, or why the weights do not tell.
pub(super) fn undecided(
    evidence: &Evidence,
    kind: VerdictKind,
    strongest: Option<(&Hypothesis<'_>, &Source)>,
    shares_nothing: bool,
    unseen: &[String],
) -> String {
    let seen = match strongest {
        None => "No block of weights could be compared.".to_owned(),
        Some((h, s)) => {
            let under = h.way.realigned().map(|r| format!(" ({})", r.by.name())).unwrap_or_default();
            let Effect { value, .. } = s.effect;
            let z = s.effect.z();
            match kind {
                VerdictKind::Independent => format!(
                    "The weights share nothing: the strongest of all tests, {}{under}, gives {value:.3} (z {z:.1}), also with hidden dimensions permuted, pruned or rotated.",
                    s.test.name
                ),
                _ if shares_nothing => format!(
                    "What was compared shares nothing: the strongest of all tests, {}{under}, gives {value:.3} (z {z:.1}).",
                    s.test.name
                ),
                _ => format!(
                    "The strongest test, {}{under}, gives {value:.3} (z {z:.1}), which decides nothing.",
                    s.test.name
                ),
            }
        }
    };
    let open: Vec<&str> = evidence.open.iter().map(|open| open.name()).collect();
    let mut text = seen;
    if kind != VerdictKind::Independent && !open.is_empty() {
        text += &format!(" Not ruled out: {}.", open.join("; "));
    }
    if kind != VerdictKind::Independent && shares_nothing && !unseen.is_empty() {
        text += &format!(" That says nothing of the whole models: {}.", unseen.join("; "));
    }
    if kind == VerdictKind::SameFamily {
        text += " Config and shapes are those of one family, which says nothing about descent.";
    }
    text
}

struct LayerMap<'a>(&'a Tests);

impl fmt::Display for LayerMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.matched_layers.iter().map(|(a, b, _)| format!("{a}={b}")).collect();
        f.write_str(&pairs.join(" "))
    }
}
