//! The verdict on one pair of models with its evidence, as a plain value.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::compare::comparison::Comparison;
use crate::signals::battery::HIDDEN_DIMENSIONS;
use crate::signals::evidence::{Correspondence, Realigned, Tests};
use crate::signals::merge::Shares;
use crate::signals::named::{Named, Significance};
use crate::signals::screen::{Difference, Screening, Tier};
use crate::signals::verdict::{Direction, Relation, VerdictKind};
use crate::signals::{Signal, Test};

/// The verdict on a pair, a and b. In a scan, a is the query.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Judgement {
    /// What the evidence amounts to.
    pub verdict: VerdictKind,
    /// Whether the two share weights; null where the weights do not tell.
    pub related: Option<bool>,
    /// In what way they are related, where they are.
    pub relation: Option<Relation>,
    /// Which of them descends from which.
    pub direction: Direction,
    /// Posterior probability of descent, 0 to 1; null where no test of the weights could be made.
    pub score: Option<f64>,
    /// Probability of such evidence between independent models, corrected for the tests made and the models searched.
    pub p_value: f64,
    /// The verdict in words.
    pub why: String,
    /// What config and tokenizer say.
    pub screening: ScreeningAnswer,
    /// The eight named signals, by name.
    pub signals: BTreeMap<&'static str, SignalFigure>,
    /// The tests behind the verdict, by name, with hidden dimensions and tensors where they are.
    #[serde(serialize_with = "as_map")]
    #[schemars(with = "BTreeMap<String, TestFigure>")]
    pub tests: Vec<TestFigure>,
    /// The tests with hidden dimensions brought into correspondence; empty unless the tensors in place left the
    /// question open.
    pub realigned: Vec<RealignedAnswer>,
    /// Ways of descent that could not be looked for.
    pub not_ruled_out: Vec<&'static str>,
    /// Mean correlation of each kind of tensor, -1 to 1.
    pub roles: BTreeMap<&'static str, f64>,
    /// Blocks of equal values.
    pub equal_blocks: usize,
    /// Blocks that both have.
    pub common_blocks: usize,
    /// Rank of the difference, where blocks were read in detail.
    pub delta_rank: Option<usize>,
    /// Rows of the smallest of these blocks, which bound the rank.
    pub delta_rows: Option<usize>,
    /// Layer of a, layer of b and z of the best match of layers that keeps their order.
    pub layer_map: Vec<(u16, u16, f64)>,
    /// The shares of suspected parents in a, where there were several.
    pub merge: Option<MergeAnswer>,
}

/// One test.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TestFigure {
    /// Which one. Its key is the key of this in JSON.
    #[serde(skip)]
    pub test: &'static Test,
    /// Whether it counts: it is present, and no other that is says the same.
    pub counts: bool,
    /// A mean matched correlation, -1 to 1, or a share of matches, 0 to 1; null where the test is absent.
    pub value: Option<f64>,
    /// Standard deviation of the value between independent models.
    pub sd: Option<f64>,
    /// Distance from the mean of independent models, in standard deviations.
    pub z: Option<f64>,
    /// Natural logarithm of the p-value, corrected for the choices of the test.
    pub ln_p: Option<f64>,
    /// What was compared: cells, rows, layers or dimensions.
    pub n: Option<usize>,
    /// Why the test is absent.
    pub reason: Option<String>,
}

/// One of the eight named signals.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SignalFigure {
    /// The figure, whose range and meaning are the signal's; null where it is absent.
    pub value: Option<f64>,
    /// What entered: fields, components, tokens, pairs, blocks or curves.
    pub n: Option<usize>,
    /// Distance from the mean of independent models in standard deviations, where that is known.
    pub z: Option<f64>,
    /// Standard error, where the value is an estimate.
    pub error: Option<f64>,
    /// Why the signal is absent.
    pub reason: Option<String>,
}

/// What config and tokenizer say; never a claim of descent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ScreeningAnswer {
    /// How close the two configs are.
    pub tier: Tier,
    /// Share of the compared fields that agree, weighted, 0 to 1; null where nothing could be compared.
    pub score: Option<f64>,
    /// Fields that both configs state.
    pub fields_compared: usize,
    /// Fields that they state differently.
    pub differing: Vec<DifferenceAnswer>,
    /// The same in words.
    pub text: String,
}

/// A field that both configs state, and state differently.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DifferenceAnswer {
    /// The field.
    pub field: &'static str,
    /// As a states it.
    pub a: String,
    /// As b states it.
    pub b: String,
}

/// The tests after hidden dimensions were brought into correspondence.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RealignedAnswer {
    /// How they were found to correspond.
    pub by: Correspondence,
    /// Share of the dimensions that correspond.
    pub dimensions: TestFigure,
    /// The tests by name. What the correspondence was estimated from is absent in them.
    #[serde(serialize_with = "as_map")]
    #[schemars(with = "BTreeMap<String, TestFigure>")]
    pub tests: Vec<TestFigure>,
}

/// A model taken apart into suspected parents.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct MergeAnswer {
    /// The suspected parents.
    pub parents: Vec<String>,
    /// The share of each, in the same order; null where there are none.
    pub shares: Option<Vec<f64>>,
    /// Share of the model that they leave unexplained, 0 to 1.
    pub unexplained: Option<f64>,
    /// Why there are no shares.
    pub reason: Option<String>,
}

impl Judgement {
    /// Of this comparison, in which `parents` are b and the other suspected parents.
    pub(super) fn new(comparison: &Comparison, parents: Vec<String>) -> Self {
        let Comparison { evidence, verdict, screening, named, merge } = comparison;
        Self {
            verdict: verdict.kind,
            related: verdict.kind.related(),
            relation: verdict.relation,
            direction: verdict.direction,
            score: verdict.score,
            p_value: verdict.p_value,
            why: verdict.why.clone(),
            screening: screening.into(),
            signals: named.iter().map(|signal| (signal.name, signal.into())).collect(),
            tests: TestFigure::all(&evidence.in_place),
            realigned: evidence.realigned.iter().map(Into::into).collect(),
            not_ruled_out: evidence.open.iter().map(|open| open.name()).collect(),
            roles: evidence.in_place.roles.iter().map(|(role, r)| (role.name(), *r)).collect(),
            equal_blocks: evidence.reuse.equal,
            common_blocks: evidence.reuse.of,
            delta_rank: evidence.delta.map(|delta| delta.rank),
            delta_rows: evidence.delta.map(|delta| delta.rows),
            layer_map: evidence.in_place.matched_layers.clone(),
            merge: merge.as_ref().map(|merge| MergeAnswer::new(merge, parents)),
        }
    }
}

impl MergeAnswer {
    fn new(merge: &Result<Shares, String>, parents: Vec<String>) -> Self {
        match merge.clone() {
            Ok(Shares { shares, unexplained, .. }) => {
                Self { parents, shares: Some(shares), unexplained: Some(unexplained), reason: None }
            }
            Err(reason) => Self { parents, reason: Some(reason), ..Self::default() },
        }
    }
}

/// Keeps the order of the tests.
fn as_map<S: Serializer>(tests: &[TestFigure], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tests.iter().map(|figure| (figure.test.key, figure)))
}

impl TestFigure {
    /// Of each test, in the order of reports.
    pub fn all(tests: &Tests) -> Vec<Self> {
        let counted: Vec<&Test> = tests.counted().map(|(test, _)| test).collect();
        tests.iter().map(|(test, signal)| Self::new(test, signal, counted.contains(&test))).collect()
    }

    fn new(test: &'static Test, signal: &Signal, counts: bool) -> Self {
        let effect = signal.effect();
        let reason = if let Signal::Absent(reason) = signal { Some(reason.clone()) } else { None };
        Self {
            test,
            counts,
            value: effect.map(|effect| effect.value),
            sd: effect.map(|effect| effect.sd),
            z: effect.map(|effect| effect.z()),
            ln_p: effect.map(|effect| effect.ln_p()),
            n: effect.map(|effect| effect.cells),
            reason,
        }
    }
}

impl From<&Named> for SignalFigure {
    fn from(named: &Named) -> Self {
        match &named.value {
            Ok(value) => Self {
                value: Some(value.value),
                n: Some(value.n),
                z: value.significance.and_then(Significance::z),
                error: value.significance.and_then(Significance::error),
                reason: None,
            },
            Err(reason) => Self { reason: Some(reason.clone()), ..Self::default() },
        }
    }
}

impl From<&Screening> for ScreeningAnswer {
    fn from(screening: &Screening) -> Self {
        let difference = |d: &Difference| DifferenceAnswer { field: d.field, a: d.a.clone(), b: d.b.clone() };
        Self {
            tier: screening.tier,
            score: screening.score,
            fields_compared: screening.compared,
            differing: screening.differing.iter().map(difference).collect(),
            text: screening.text.clone(),
        }
    }
}

impl From<&Realigned> for RealignedAnswer {
    fn from(realigned: &Realigned) -> Self {
        let dimensions = &realigned.dimensions;
        Self {
            by: realigned.by,
            dimensions: TestFigure::new(&HIDDEN_DIMENSIONS, dimensions, dimensions.effect().is_some()),
            tests: TestFigure::all(&realigned.tests),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;
    use serde_json::Value;

    use super::*;
    use crate::signals::toy;

    #[test]
    fn every_test_of_the_table_has_a_key() {
        #[derive(Serialize)]
        struct Some(#[serde(serialize_with = "as_map")] Vec<TestFigure>);
        let found = serde_json::to_value(Some(TestFigure::all(&toy::evidence().in_place))).unwrap();
        let mut keys = toy::TESTS.map(|test| test.key);
        keys.sort_unstable();
        assert!(found.as_object().unwrap().keys().eq(keys.iter()), "{found}");
        assert_eq!(found["toy_blocks"]["value"], 1.0);
    }

    /// Asserts that JSON has the names that people read, and that none of `all` is left out.
    fn has_the_names<T: Serialize + JsonSchema>(all: &[T], name: impl Fn(&T) -> &'static str) {
        let written: Vec<Value> = all.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
        assert_eq!(written, all.iter().map(name).collect::<Vec<_>>());
        let schema = schema_for!(T).to_value();
        let listed: Vec<&Value> =
            schema["oneOf"].as_array().unwrap().iter().map(|word| &word["const"]).collect();
        assert_eq!(listed, written.iter().collect::<Vec<_>>());
    }

    #[test]
    fn words_are_the_names_that_people_read() {
        use {Correspondence as C, Direction as D, Relation as R, Tier as T, VerdictKind as V};
        let verdicts = [V::Identical, V::Derived, V::SameFamily, V::Independent, V::NoWeightEvidence];
        has_the_names(&verdicts, |verdict| verdict.name());
        let relations = [
            R::Identical,
            R::Copy,
            R::Quantised,
            R::Lora,
            R::Rescaled,
            R::PartialFineTune,
            R::FineTune,
            R::ContinuedPretraining,
            R::VocabularyChanged,
            R::DepthPruned,
            R::LayersAdded,
            R::WidthPruned,
            R::Permuted,
            R::Rotated,
            R::BasisChanged,
            R::MoeFromDense,
            R::Merged,
        ];
        has_the_names(&relations, |relation| relation.name());
        has_the_names(&[D::AToB, D::BToA, D::Open], |direction| direction.name());
        let tiers = [T::SameWithTokenizer, T::Same, T::Family, T::Different, T::Unknown];
        has_the_names(&tiers, |tier| tier.name());
        has_the_names(&[C::Tokens, C::Gains, C::Rotation], |by| by.name());
    }
}
