//! What a scan asks for: a model that was read, or one whose weight files the database has, which is not.

use std::sync::{Arc, OnceLock};

use crate::checkpoint::model::{LoadError, Subject};
use crate::checkpoint::plan::PlanError;
use crate::formats::ModelConfig;
use crate::hub::SettingsError;
use crate::retrieval::SearchQuery;
use crate::signals::evidence::Evidence;
use crate::signals::fingerprint::FingerprintError;
use crate::signals::named::{self, Named, Tokens};
use crate::signals::profile::{Population, Profile, STORED_TOKENS};
use crate::signals::screen::{self, Screening};
use crate::signals::tokenizer::TokenizerPrint;
use crate::signals::{Coverage, Fingerprint};
use crate::store::{AdapterFacts, Outcome, Row, StoreError, Tag};

/// What a search needs of a model.
#[derive(Clone, Debug)]
pub struct Known {
    pub(super) fingerprint: Fingerprint,
    pub(super) weights: Option<Tag>,
    pub(super) samples: Option<Tag>,
    pub(super) itself: Option<String>,
}

impl Known {
    /// With the digests of its weight files and of its samples, as far as they are known.
    pub fn new(fingerprint: Fingerprint, weights: Option<&str>, samples: Option<&str>) -> Self {
        Self { fingerprint, weights: weights.map(Tag::of), samples: samples.map(Tag::of), itself: None }
    }

    /// The checkpoint of the index with this name, which is no relative of its own.
    #[must_use]
    pub fn of_index(self, name: String) -> Self {
        Self { itself: Some(name), ..self }
    }

    /// What is known of its weights.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// As the index takes it.
    pub fn search_query(&self) -> SearchQuery<'_> {
        let Self { fingerprint, weights, samples, itself } = self;
        SearchQuery { fingerprint, weights: *weights, samples: *samples, but: itself.as_deref() }
    }
}

/// Why a model cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It could not be opened or read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its weights are in no form that this version reads.
    #[error(transparent)]
    Unreadable(Arc<PlanError>),
    /// Its weights tell nothing.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// The database or a local file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was asked of the Hub, and the crawl that met it made no fingerprint.
    #[error("the database has no fingerprint of it: {}{}", outcome.name(), in_words(reason.as_deref()))]
    Unread {
        /// How the crawl ended.
        outcome: Outcome,
        /// Why.
        reason: Option<String>,
    },
    /// There is no client to read it with.
    #[error(transparent)]
    Hub(#[from] SettingsError),
}

impl QueryError {
    /// One line of advice, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Load(error) => error.hint(),
            Self::Store(error) => Some(error.hint()),
            Self::Unread { .. } | Self::Unreadable(_) | Self::Fingerprint(_) | Self::Hub(_) => None,
        }
    }
}

fn in_words(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(", {reason}"))
}

/// A model that is scanned.
#[derive(Debug)]
pub struct Query {
    name: String,
    sha: Option<String>,
    config: ModelConfig,
    tokenizer: Result<TokenizerPrint, String>,
    bytes_fetched: u64,
    weights: Weights,
    known: Known,
}

/// Where the weights are known from.
#[derive(Debug)]
enum Weights {
    /// They were read. Bulk scans do without the profile.
    Read { subject: Box<Subject>, profile: OnceLock<Box<Profile>> },
    /// From this row, which says what reading them would give.
    Stored { row: Box<Row>, profile: Box<Profile>, adapter: Option<AdapterFacts> },
}

impl Query {
    /// A model that was read.
    pub fn read(subject: Subject) -> Result<Self, QueryError> {
        let weights = subject.weights.as_ref().map_err(|error| QueryError::Unreadable(Arc::clone(error)))?;
        let fingerprint = Fingerprint::new(&weights.samples)?;
        let known =
            Known::new(fingerprint, weights.weights_digest.as_deref(), weights.sample_digest.as_deref());
        let weights = |subject| Weights::Read { subject: Box::new(subject), profile: OnceLock::new() };
        Ok(Self::new(subject, known, weights))
    }

    /// A model that was not read, with the weights of this row of another name or commit; `None` where the row has no
    /// fingerprint.
    pub(super) fn like(subject: Subject, row: Row) -> Option<Self> {
        let (known, row, profile) = taken(row)?;
        let adapter = row.adapter.clone().map(|facts| subject.metadata.named(facts));
        let weights = |_| Weights::Stored { row, profile, adapter };
        Some(Self::new(subject, known, weights))
    }

    fn new(subject: Subject, known: Known, weights: impl FnOnce(Subject) -> Weights) -> Self {
        let metadata = &subject.metadata;
        Self {
            name: subject.name.clone(),
            sha: subject.sha.clone(),
            config: metadata.config.clone(),
            tokenizer: metadata.tokenizer.as_ref().map(|known| known.print.clone()).map_err(String::clone),
            bytes_fetched: subject.bytes_fetched(),
            weights: weights(subject),
            known,
        }
    }

    /// A checkpoint of the database, of which nothing is read or asked: all is in its row.
    pub fn stored(row: Row) -> Result<Self, QueryError> {
        let (outcome, reason) = (row.outcome, row.reason.clone());
        let (known, row, profile) = taken(row).ok_or(QueryError::Unread { outcome, reason })?;
        let tokenizer = row.tokenizer.clone().ok_or_else(|| "the database has no tokenizer of it".to_owned());
        Ok(Self {
            name: row.name(),
            sha: row.sha.clone(),
            config: row.config.clone().unwrap_or_default(),
            tokenizer,
            bytes_fetched: 0,
            known: known.of_index(row.name()),
            weights: Weights::Stored { adapter: row.adapter.clone(), row, profile },
        })
    }

    /// The same under the name that the user gave it.
    pub(super) fn called(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// As the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The commit, for a repository.
    pub fn sha(&self) -> Option<&str> {
        self.sha.as_deref()
    }

    /// Bytes of file content read.
    pub fn bytes_fetched(&self) -> u64 {
        self.bytes_fetched
    }

    /// The checkpoint of the database from whose row the weights are known, by its name; `None` where they were read.
    pub fn known_from(&self) -> Option<String> {
        self.row().map(Row::name)
    }

    fn row(&self) -> Option<&Row> {
        if let Weights::Stored { row, .. } = &self.weights { Some(row) } else { None }
    }

    /// The checkpoint of the database that it is, so that it is no relative of its own.
    pub(super) fn itself(&self) -> Option<&str> {
        self.known.itself.as_deref()
    }

    /// How much of it was read; `None` where that is not known.
    pub fn coverage(&self) -> Option<&Coverage> {
        match &self.weights {
            Weights::Stored { row, .. } => row.coverage.as_ref(),
            Weights::Read { subject, .. } => subject.weights.as_ref().ok()?.samples.coverage.as_ref(),
        }
    }

    /// What it changes, where it is an adapter.
    pub fn adapter(&self) -> Option<AdapterFacts> {
        match &self.weights {
            Weights::Stored { adapter, .. } => adapter.clone(),
            Weights::Read { subject, .. } => subject.adapter(),
        }
    }

    /// The model that an adapter names as its base: its config, else the card of the repository that has it.
    pub(super) fn adapter_base(&self) -> Option<String> {
        let of_card = || self.row().filter(|_| self.itself().is_some())?.declared_bases.first().cloned();
        self.adapter()?.base.or_else(of_card)
    }

    /// What a search needs of it.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// That alone: the rest may be megabytes.
    pub fn into_known(self) -> Known {
        self.known
    }

    /// Digest over the SHA-256 of the weight files. Local files are read whole, so ask only when it matters.
    pub(super) fn weights_digest(&self) -> Result<Option<String>, StoreError> {
        match &self.weights {
            Weights::Stored { row, .. } => Ok(row.weights_digest.clone()),
            Weights::Read { subject, .. } => subject.weights_digest(),
        }
    }

    fn profile(&self) -> Option<&Profile> {
        match &self.weights {
            Weights::Stored { profile, .. } => Some(profile),
            Weights::Read { subject, profile } => {
                let samples = &subject.weights.as_ref().ok()?.samples;
                Some(profile.get_or_init(|| Box::new(Profile::new(samples, STORED_TOKENS))))
            }
        }
    }

    pub(super) fn screening(&self, row: &Row) -> Screening {
        let config: ModelConfig = row.config.clone().unwrap_or_default();
        screen::screen(&self.config, &config, self.tokenizer.as_ref().ok().zip(row.tokenizer.as_ref()))
    }

    pub(super) fn named(
        &self,
        row: &Row,
        screening: &Screening,
        evidence: &Evidence,
        population: &Population,
    ) -> Vec<Named> {
        let tokenizers = match (&self.tokenizer, &row.tokenizer) {
            (Ok(own), Some(print)) => Ok((Tokens { print: own, keys: None }, Tokens { print, keys: None })),
            (Err(reason), _) => Err(reason.clone()),
            (_, None) => Err("the database has no tokenizer of this model".into()),
        };
        let profiles = self.profile().zip(row.profile.as_ref());
        let mut signals = named::named(screening, tokenizers, profiles, evidence, Some(population));
        if let Some(reason) = self.other_tokens()
            && let Some(signal) = signals.iter_mut().find(|signal| signal.name == "EAS")
        {
            signal.value = Err(reason);
        }
        signals
    }

    /// Why the cosines of tokens in the row do not hold for this model: they are of other tokens.
    fn other_tokens(&self) -> Option<String> {
        let row = self.row()?;
        let own = self.tokenizer.as_ref().ok()?;
        let is_other = row.tokenizer.as_ref().is_some_and(|print| print != own);
        let from = row.name();
        is_other
            .then(|| format!("the weights were not read; {from}, which has the same, has another tokenizer"))
    }
}

/// What a row knows of its weights, the rest of it, and its profile.
fn taken(mut row: Row) -> Option<(Known, Box<Row>, Box<Profile>)> {
    let (fingerprint, profile) = row.fingerprint.take().zip(row.profile.take())?;
    let known = Known::new(fingerprint, row.weights_digest.as_deref(), row.sample_digest.as_deref());
    Some((known, Box::new(row), Box::new(profile)))
}
