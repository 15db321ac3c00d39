//! A comparison that can be carried to whoever makes it.

use std::time::Instant;

use futures_util::future::{try_join, try_join_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{CompareAnswer, ScreenAnswer};
use super::comparison::{self, Comparison, Effort};
use crate::checkpoint::full::{self, FullError};
use crate::checkpoint::model::{self, LoadError, Model, Subject};
use crate::checkpoint::plan::PlanSettings;
use crate::checkpoint::reading::Reader;
use crate::hub::Hub;
use crate::store::StoreError;

/// Two models to be compared. Each is a repository (`org/name` or `org/name@revision`), a checkpoint folder, a cache
/// snapshot, or a weight file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareJob {
    /// The first.
    pub a: String,
    /// The second.
    pub b: String,
    /// Other suspected parents of a, beside b: the share of each is estimated.
    #[serde(default)]
    pub others: Vec<String>,
    /// Whether every test is made, and not only as many as the verdict takes.
    #[serde(default)]
    pub everything: bool,
    /// Whether the tensors of two local checkpoints are read whole, too.
    #[serde(default)]
    pub whole: bool,
}

/// Why two models were not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// One could not be read.
    #[error("{model}")]
    Load {
        /// As it was named.
        model: String,
        /// Why.
        source: LoadError,
    },
    /// A local file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They cannot be read whole.
    #[error(transparent)]
    Whole(#[from] FullError),
}

impl CompareError {
    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Load { source, .. } => source.hint(),
            Self::Store(error) => Some(error.hint()),
            Self::Whole(_) => None,
        }
    }
}

impl CompareJob {
    /// Reads and compares. Of each model as much is read as the plan of `reader` says, at most.
    /// `progress` gets (blocks done, blocks in all) of tensors that are read whole.
    pub async fn run(
        &self,
        hub: &Hub,
        reader: &Reader,
        progress: impl Fn(u64, u64),
    ) -> Result<CompareAnswer, CompareError> {
        let begun = Instant::now();
        let (mut a, mut b) = try_join(open(&self.a, hub, reader), open(&self.b, hub, reader)).await?;
        let effort = if self.everything { Effort::Everything } else { Effort::Enough };
        let others = try_join_all(self.others.iter().map(|name| load(name, hub, reader))).await?;
        // What was read before costs nothing, so nothing is saved where all of it was.
        let is_kept = a.is_kept(&reader.settings.plan) && b.is_kept(&reader.settings.plan);
        let is_enough = effort == Effort::Enough && others.is_empty() && !self.whole && !is_kept;
        let settled = if is_enough { copies(&mut a, &mut b).await? } else { None };
        let (a, b, found) = if let Some(settled) = settled {
            settled
        } else {
            let (a, b) = read(&mut a, &mut b, &reader.settings.plan).await?;
            let found = if others.is_empty() {
                comparison::compare(&a, &b, effort)?
            } else {
                comparison::compare_merge(&a, &b, &others, effort)?
            };
            (a, b, found)
        };
        let whole = if self.whole {
            Some(full::full(&a, &b, &found.evidence.in_place, reader, progress).await?)
        } else {
            None
        };
        let seconds = begun.elapsed().as_secs_f64();
        Ok(CompareAnswer::new(&a, &b, &others, &found, whole.as_deref(), seconds))
    }

    /// Holds config and tokenizer against each other, and reads no weights.
    pub async fn screen(&self, hub: &Hub, reader: &Reader) -> Result<ScreenAnswer, CompareError> {
        let begun = Instant::now();
        let reader = Reader { metadata_only: true, ..reader.clone() };
        let (a, b) = try_join(load(&self.a, hub, &reader), load(&self.b, hub, &reader)).await?;
        Ok(ScreenAnswer::new(&a, &b, begun.elapsed().as_secs_f64()))
    }
}

/// Copies are told by what a database holds of them and by bytes of what it does not hold, which is a part of what else
/// is read.
async fn copies(
    a: &mut Model<'_>,
    b: &mut Model<'_>,
) -> Result<Option<(Subject, Subject, Comparison)>, CompareError> {
    let (a, b) = read(a, b, &PlanSettings::probing()).await?;
    Ok(comparison::compare_copies(&a, &b)?.map(|found| (a, b, found)))
}

async fn open<'a>(name: &str, hub: &Hub, reader: &'a Reader) -> Result<Model<'a>, CompareError> {
    Model::open(name, hub, reader).await.map_err(|source| about(name, source))
}

/// Reads both by this plan.
async fn read(
    a: &mut Model<'_>,
    b: &mut Model<'_>,
    plan: &PlanSettings,
) -> Result<(Subject, Subject), CompareError> {
    async fn one(model: &mut Model<'_>, plan: &PlanSettings) -> Result<Subject, CompareError> {
        model.read(plan).await.map_err(|source| about(model.name(), source))
    }
    try_join(one(a, plan), one(b, plan)).await
}

async fn load(name: &str, hub: &Hub, reader: &Reader) -> Result<Subject, CompareError> {
    model::load(name, hub, reader).await.map_err(|source| about(name, source))
}

fn about(name: &str, source: LoadError) -> CompareError {
    CompareError::Load { model: name.to_owned(), source }
}
