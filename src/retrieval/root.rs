//! The likeliest ancestor of a family.
//!
//! Hard facts first: a quantised model, or one with another hidden size or number of layers than most, is a child. Of the
//! rest, the one created first on the Hub: an ancestor is older than its descendants, though an upload date is a prior and
//! no proof. Where dates are missing, task vectors tell: independent fine-tunes of one parent differ from it in nearly
//! orthogonal directions, and from each other in directions that share half (arXiv:2405.18432 uses the same in
//! weight space). So the parent is the `p` that minimises the mean `|cos(x - p, y - p)|` over pairs of the others.
//! It is computed wherever there are enough members, and the evidence says whether both agree.

use super::vector::{Vector, dot};

/// Members whose directions are looked at.
const SAMPLE: usize = 24;
/// Candidates of each kind.
const CANDIDATES: usize = 6;
/// Fewest other members for the test of directions.
const LEAST_MEMBERS: usize = 3;
/// Mean |cos| up to which the differences from a candidate count as orthogonal. It is 1/2 for a sibling.
const ORTHOGONAL: f32 = 0.25;
/// Squared distance below which a difference is rounding and has no direction.
const LEAST_DISTANCE: f32 = 1e-3;

/// What speaks for and against a checkpoint being an ancestor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckpointFacts {
    /// Creation of its oldest repository, milliseconds since 1970.
    pub created_at: Option<i64>,
    /// Whether it is stored quantised.
    pub quantised: bool,
    /// Its hidden size.
    pub hidden_size: u32,
    /// Its layers.
    pub layers: u16,
    /// Repositories of the family whose cards name it as their base.
    pub declared_by: u32,
}

/// A member of a family.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its checkpoint.
    pub checkpoint: u32,
    /// What is known of it.
    pub facts: CheckpointFacts,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// The checkpoint.
    pub checkpoint: u32,
    /// Why, in words.
    pub evidence: String,
}

/// Chooses among the members of one family; `vector` gives the vector of a checkpoint. `None` for no members.
pub fn root<E>(
    members: &[Member],
    mut vector: impl FnMut(u32) -> Result<Vector, E>,
) -> Result<Option<Root>, E> {
    let Some(first) = members.first() else { return Ok(None) };
    if members.len() == 1 {
        return Ok(Some(Root { checkpoint: first.checkpoint, evidence: "the only member".into() }));
    }
    let usual = usual_shape(members);
    let mut eligible: Vec<&Member> =
        members.iter().filter(|m| !m.facts.quantised && shape(m) == usual).collect();
    if eligible.is_empty() {
        eligible = members.iter().collect();
    }
    eligible.sort_by_key(|m| (m.facts.created_at.unwrap_or(i64::MAX), m.checkpoint));
    let dated = eligible.iter().all(|m| m.facts.created_at.is_some());

    let mut candidates: Vec<&Member> = eligible.iter().copied().take(CANDIDATES).collect();
    let mut declared: Vec<&Member> = eligible.iter().copied().filter(|m| m.facts.declared_by > 0).collect();
    declared.sort_by_key(|m| std::cmp::Reverse(m.facts.declared_by));
    candidates.extend(declared.into_iter().take(CANDIDATES));
    // By checkpoint: the first ones are representatives that others were placed under.
    let mut by_checkpoint = eligible.clone();
    by_checkpoint.sort_by_key(|m| m.checkpoint);
    candidates.extend(by_checkpoint.into_iter().take(CANDIDATES));
    let mut seen = Vec::new();
    candidates.retain(|m| {
        !seen.contains(&m.checkpoint) && {
            seen.push(m.checkpoint);
            true
        }
    });
    let sample: Vec<&Member> = (0..eligible.len().min(SAMPLE))
        .map(|i| eligible[i * eligible.len() / eligible.len().min(SAMPLE)])
        .collect();

    let mut spread = Vec::with_capacity(candidates.len());
    if sample.len() > LEAST_MEMBERS {
        let of_sample: Vec<(u32, Unit)> = sample
            .iter()
            .map(|m| Ok((m.checkpoint, Unit::new(&vector(m.checkpoint)?))))
            .collect::<Result<_, E>>()?;
        for candidate in &candidates {
            let parent = Unit::new(&vector(candidate.checkpoint)?);
            let others: Vec<&Unit> = of_sample
                .iter()
                .filter(|(checkpoint, _)| *checkpoint != candidate.checkpoint)
                .map(|(_, u)| u)
                .collect();
            if let Some(value) = mean_cosine(&parent, &others) {
                spread.push((*candidate, value));
            }
        }
    }
    let hub = spread.iter().copied().min_by(|x, y| x.1.total_cmp(&y.1));
    let of =
        |wanted: &Member| spread.iter().find(|(m, _)| m.checkpoint == wanted.checkpoint).map(|(_, v)| *v);

    let chosen = match hub {
        Some((hub, _)) if !dated => hub,
        _ => eligible[0],
    };
    let n = members.len();
    let mut evidence =
        if dated { format!("created first of {n} checkpoints") } else { format!("one of {n} checkpoints") };
    match (of(chosen), hub) {
        (Some(value), _) if value <= ORTHOGONAL => {
            evidence += &format!(
                "; the others differ from it in nearly orthogonal directions (mean |cos| {value:.2}), as independent children do"
            );
        }
        (Some(value), Some((_, least))) if least <= ORTHOGONAL => {
            evidence += &format!(
                "; the others share a direction away from it (mean |cos| {value:.2}), so that most may descend from a later member of the family"
            );
        }
        _ => {}
    }
    if chosen.facts.declared_by > 0 {
        evidence += &match chosen.facts.declared_by {
            1 => "; 1 member declares it as its base".to_owned(),
            n => format!("; {n} members declare it as their base"),
        };
    }
    Ok(Some(Root { checkpoint: chosen.checkpoint, evidence }))
}

/// Hidden size and layers.
fn shape(member: &Member) -> (u32, u16) {
    (member.facts.hidden_size, member.facts.layers)
}

/// The shape that most members have.
fn usual_shape(members: &[Member]) -> (u32, u16) {
    let mut counts = std::collections::BTreeMap::new();
    for member in members {
        *counts.entry(shape(member)).or_insert(0u32) += 1;
    }
    // Of equals the larger: dimensions and layers are dropped more often than added.
    counts.into_iter().max_by_key(|&(shape, n)| (n, shape)).map_or((0, 0), |(shape, _)| shape)
}

/// A vector of unit length.
struct Unit(Vec<f32>);

impl Unit {
    fn new(vector: &Vector) -> Self {
        let norm = (dot(vector, vector) as f32).sqrt().max(f32::MIN_POSITIVE);
        Self(vector.iter().map(|v| f32::from(*v) / norm).collect())
    }
}

fn mean_cosine(parent: &Unit, others: &[&Unit]) -> Option<f32> {
    let away: Vec<(Vec<f32>, f32)> = others
        .iter()
        .map(|x| x.0.iter().zip(&parent.0).map(|(x, p)| x - p).collect::<Vec<f32>>())
        .map(|d| (d.iter().map(|v| v * v).sum::<f32>(), d))
        .filter(|(square, _)| *square > LEAST_DISTANCE)
        .map(|(square, d)| (d, square.sqrt()))
        .collect();
    if away.len() < LEAST_MEMBERS {
        return None;
    }
    let (mut sum, mut pairs) = (0.0, 0.0f32);
    for (i, (x, of_x)) in away.iter().enumerate() {
        for (y, of_y) in &away[..i] {
            let inner: f32 = x.iter().zip(y).map(|(x, y)| x * y).sum();
            sum += (inner / (of_x * of_y)).abs();
            pairs += 1.0;
        }
    }
    Some(sum / pairs)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::signals::testing::Model;

    /// A base and six children; `dates` by checkpoint.
    fn family(dates: impl Fn(u32) -> Option<i64>) -> (Vec<Member>, Vec<Vector>) {
        let base = Model::random(1, 6, 96);
        let mut vectors: Vec<Vector> = (0..6).map(|s| base.tuned(0.9, 50 + s).fingerprint().vector).collect();
        vectors.insert(2, base.fingerprint().vector);
        let facts = |checkpoint| CheckpointFacts {
            created_at: dates(checkpoint),
            quantised: false,
            hidden_size: 64,
            layers: 6,
            declared_by: 0,
        };
        let member = |checkpoint| Member { checkpoint, facts: facts(checkpoint) };
        ((0..7).map(member).collect(), vectors)
    }

    fn chosen(members: &[Member], vectors: &[Vector]) -> Root {
        root::<Infallible>(members, |checkpoint| Ok(vectors[checkpoint as usize])).unwrap().unwrap()
    }

    #[test]
    fn directions_tell_the_parent_without_dates() {
        let (members, vectors) = family(|_| None);
        let root = chosen(&members, &vectors);
        assert_eq!(root.checkpoint, 2, "{}", root.evidence);
        assert!(root.evidence.contains("orthogonal"), "{}", root.evidence);
    }

    #[test]
    fn the_oldest_wins_and_what_speaks_against_it_is_said() {
        let (members, vectors) = family(|checkpoint| Some(100 + i64::from(checkpoint)));
        let root = chosen(&members, &vectors);
        assert_eq!(root.checkpoint, 0);
        assert!(root.evidence.contains("share a direction"), "{}", root.evidence);
        let (members, vectors) = family(|checkpoint| Some(i64::from((checkpoint + 5) % 7)));
        assert_eq!(chosen(&members, &vectors).checkpoint, 2);
    }

    #[test]
    fn children_by_fact_are_no_roots() {
        let (mut members, vectors) = family(|checkpoint| Some(i64::from(checkpoint)));
        members[0].facts.quantised = true;
        members[1].facts.layers = 3;
        members[2].facts.hidden_size = 48;
        assert_eq!(chosen(&members, &vectors).checkpoint, 3);
        assert_eq!(chosen(&members[..1], &vectors).evidence, "the only member");
        assert_eq!(root::<Infallible>(&[], |_| unreachable!()).unwrap(), None);
    }
}
