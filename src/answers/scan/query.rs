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
use crate::store::{AdapterFacts, Row, StoreError, Tag};

/// What a search needs of a model.
#[derive(Clone, Debug)]
pub struct Known {
    pub(super) fingerprint: Fingerprint,
    pub(super) weights: Option<Tag>,
    pub(super) samples: Option<Tag>,
}

impl Known {
    /// With the digests of its weight files and of its samples, as far as they are known.
    pub fn new(fingerprint: Fingerprint, weights: Option<&str>, samples: Option<&str>) -> Self {
        Self { fingerprint, weights: weights.map(Tag::of), samples: samples.map(Tag::of) }
    }

    /// What is known of its weights.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// As the index takes it; `but` is the repository of the index that it is, which is no relative of its own.
    pub fn search_query<'a>(&'a self, but: Option<&'a str>) -> SearchQuery<'a> {
        SearchQuery { fingerprint: &self.fingerprint, weights: self.weights, samples: self.samples, but }
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
            Self::Unreadable(_) | Self::Fingerprint(_) | Self::Hub(_) => None,
        }
    }
}

/// A model that is scanned.
#[derive(Debug)]
pub struct Query {
    subject: Subject,
    known: Known,
    /// What is taken instead of the weights, where those were not read.
    row: Option<Row>,
    /// Bulk scans do without.
    profile: OnceLock<Profile>,
}

impl Query {
    /// A model that was read.
    pub fn read(subject: Subject) -> Result<Self, QueryError> {
        let weights = subject.weights.as_ref().map_err(|error| QueryError::Unreadable(Arc::clone(error)))?;
        let fingerprint = Fingerprint::new(&weights.samples)?;
        let known =
            Known::new(fingerprint, weights.weights_digest.as_deref(), weights.sample_digest.as_deref());
        Ok(Self { subject, known, row: None, profile: OnceLock::new() })
    }

    /// A model that was not read, with the weights of this row; `None` where the row has no fingerprint.
    pub(super) fn stored(subject: Subject, mut row: Row) -> Option<Self> {
        let (fingerprint, profile) = row.fingerprint.take().zip(row.profile.take())?;
        let known = Known::new(fingerprint, row.weights_digest.as_deref(), row.sample_digest.as_deref());
        Some(Self { subject, known, row: Some(row), profile: profile.into() })
    }

    /// As the user named it.
    pub fn name(&self) -> &str {
        &self.subject.name
    }

    /// The commit, for a repository.
    pub fn sha(&self) -> Option<&str> {
        self.subject.sha.as_deref()
    }

    /// Bytes of file content read.
    pub fn bytes_fetched(&self) -> u64 {
        self.subject.bytes_fetched()
    }

    /// The checkpoint of the database from whose row the weights are known, by its name; `None` where they were read.
    pub fn known_from(&self) -> Option<String> {
        self.row.as_ref().map(Row::name)
    }

    /// How much of it was read; `None` where that is not known.
    pub fn coverage(&self) -> Option<&Coverage> {
        match &self.row {
            Some(row) => row.coverage.as_ref(),
            None => self.subject.weights.as_ref().ok()?.samples.coverage.as_ref(),
        }
    }

    /// What it changes, where it is an adapter.
    pub fn adapter(&self) -> Option<AdapterFacts> {
        match &self.row {
            Some(row) => Some(self.subject.metadata.named(row.adapter.clone()?)),
            None => self.subject.adapter(),
        }
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
        match &self.row {
            Some(row) => Ok(row.weights_digest.clone()),
            None => self.subject.weights_digest(),
        }
    }

    fn profile(&self) -> Option<&Profile> {
        match &self.subject.weights {
            Ok(read) => Some(self.profile.get_or_init(|| Profile::new(&read.samples, STORED_TOKENS))),
            Err(_) => self.profile.get(),
        }
    }

    pub(super) fn screening(&self, row: &Row) -> Screening {
        let own = &self.subject.metadata;
        let tokenizer: Option<&TokenizerPrint> = own.tokenizer.as_ref().ok().map(|known| &known.print);
        let config: ModelConfig = row.config.clone().unwrap_or_default();
        screen::screen(&own.config, &config, tokenizer.zip(row.tokenizer.as_ref()))
    }

    pub(super) fn named(
        &self,
        row: &Row,
        screening: &Screening,
        evidence: &Evidence,
        population: &Population,
    ) -> Vec<Named> {
        let tokenizers = match (&self.subject.metadata.tokenizer, &row.tokenizer) {
            (Ok(own), Some(print)) => {
                Ok((Tokens { print: &own.print, keys: None }, Tokens { print, keys: None }))
            }
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
        let row = self.row.as_ref()?;
        let own = self.subject.metadata.tokenizer.as_ref().ok()?;
        let is_other = row.tokenizer.as_ref().is_some_and(|print| *print != own.print);
        let from = row.name();
        is_other
            .then(|| format!("the weights were not read; {from}, which has the same, has another tokenizer"))
    }
}
