//! enumerate: which repositories there are.

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::backlog::Order;
use crate::hub::{Hub, HubError, ListQuery, Rejected, RepoEntry, RepoRef};
use crate::store::Partition;

/// Whether repositories whose fingerprints are of an older extraction version are read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reread {
    /// After all else, the most wanted first and those that are gated last, as far as the budget goes.
    #[default]
    Budget,
    /// Those with a fingerprint stay as they are.
    Never,
}

/// What to enumerate. Without `repos` the whole catalogue in the order of creation, which later changes
/// neither skip nor repeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnumerateSettings {
    /// Only these repositories, as `org/name` or `org/name@revision`.
    pub repos: Vec<String>,
    /// Only the repositories in the first column of this table of tab-separated values with one line of names.
    pub repos_from: Option<PathBuf>,
    /// Never these.
    pub exclude: Vec<String>,
    /// Only repositories with all of these tags.
    pub filters: Vec<String>,
    /// Only repositories of this owner.
    pub author: Option<String>,
    /// Only repositories of this library, e.g. `transformers`.
    pub library: Option<String>,
    /// Only repositories for this task, e.g. `text-generation`.
    pub pipeline_tag: Option<String>,
    /// Only repositories with a file of one of these formats, e.g. `safetensors`, `gguf`.
    pub formats: Vec<String>,
    /// Only repositories with at least so many downloads in the last 30 days.
    pub min_downloads: Option<u64>,
    /// Only repositories with at least and at most so many stored weights, as far as the Hub says.
    pub min_parameters: Option<u64>,
    /// See `min_parameters`.
    pub max_parameters: Option<u64>,
    /// Private repositories, too, which the token makes visible. Those of `repos` are asked for anyway.
    pub private: bool,
    /// At most so many repositories.
    pub limit: Option<usize>,
    /// Repositories a page, at most 1000.
    pub page_size: Option<u32>,
    /// Only the repositories of this part of the Hub, e.g. `2/5`, so that several machines share the work. Each lists
    /// everything.
    pub partition: Partition,
    /// Which are read first.
    pub order: Order,
    /// Days after which a gated, disabled or missing repository is tried again though its listing has not changed.
    pub retry_days: u32,
    /// What becomes of repositories that an older version of the extraction has read.
    pub reread: Reread,
    /// Largest share of the known repositories that a sweep may find gone. More is a fault of the listing, and none
    /// is marked.
    pub max_gone: f64,
}

impl Default for EnumerateSettings {
    fn default() -> Self {
        Self {
            repos: Vec::new(),
            repos_from: None,
            exclude: Vec::new(),
            filters: Vec::new(),
            author: None,
            library: None,
            pipeline_tag: None,
            formats: Vec::new(),
            min_downloads: None,
            min_parameters: None,
            max_parameters: None,
            private: false,
            limit: None,
            page_size: None,
            partition: Partition::WHOLE,
            order: Order::default(),
            retry_days: 30,
            reread: Reread::default(),
            max_gone: 0.05,
        }
    }
}

impl EnumerateSettings {
    /// Whether everything that the Hub has, of this part, is listed, so that what is not listed has gone.
    pub fn is_whole(&self) -> bool {
        let Self { repos, filters, author, library, pipeline_tag, limit, .. } = self;
        repos.is_empty()
            && filters.is_empty()
            && (author, library, pipeline_tag, limit) == (&None, &None, &None, &None)
    }

    /// Whether a repository is nobody's business: private, and visible to this token alone. A database may be
    /// published, so not even its name is written down.
    pub fn is_secret(&self, entry: &RepoEntry) -> bool {
        entry.private == Some(true) && !self.private && self.repos.is_empty()
    }

    /// Whether a listed repository is wanted. What the listing does not say excludes nothing.
    pub fn wants(&self, entry: &RepoEntry) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.is_none() || found.is_none() || wanted == found
        };
        let has = |format: &String| {
            let suffix = format!(".{format}");
            entry.tags.contains(format) || entry.siblings.iter().flatten().any(|name| name.ends_with(&suffix))
        };
        let parameters = entry.safetensors.as_ref().and_then(|p| p.total);
        let within = |n: u64| {
            self.min_parameters.is_none_or(|least| n >= least)
                && self.max_parameters.is_none_or(|most| n <= most)
        };
        !self.exclude.iter().any(|id| id == entry.id.as_str())
            && is(&self.library, &entry.library_name)
            && is(&self.pipeline_tag, &entry.pipeline_tag)
            && (self.formats.is_empty() || self.formats.iter().any(has))
            && self.min_downloads.is_none_or(|least| entry.downloads.is_none_or(|n| n >= least))
            && parameters.is_none_or(within)
    }
}

/// One enumerated repository.
#[derive(Debug)]
pub enum Enumerated {
    /// The Hub's description of it.
    Found(Box<RepoEntry>),
    /// It was asked for by name and the Hub did not describe it.
    Failed {
        /// The name as given.
        name: String,
        /// Why.
        error: HubError,
    },
    /// The listing has it, but cannot be understood, or the name asked for is none.
    Rejected {
        /// Its immutable id or the name asked for, else its place in the listing.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Sends every repository into `out` until there are no more, the limit is reached, or the receiver is gone, and
/// calls `found` for each before it is sent. An error means that the listing itself broke off; what was sent
/// before is good.
pub async fn enumerate(
    hub: &Hub,
    settings: &EnumerateSettings,
    out: mpsc::Sender<Enumerated>,
    found: impl Fn() + Send,
) -> Result<(), HubError> {
    let limit = settings.limit.unwrap_or(usize::MAX);
    if settings.repos.is_empty() {
        list(hub, settings, limit, out, found).await
    } else {
        let mut names = HashSet::new();
        for name in settings.repos.iter().filter(|name| names.insert(*name)).take(limit) {
            found();
            if out.send(describe(hub, name).await).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

async fn describe(hub: &Hub, name: &str) -> Enumerated {
    let name = name.to_owned();
    match name.parse::<RepoRef>() {
        Ok(wanted) => match hub.info(&wanted.id, wanted.revision.as_deref()).await {
            Ok(entry) => Enumerated::Found(Box::new(entry)),
            Err(error) => Enumerated::Failed { name, error },
        },
        Err(invalid) => Enumerated::Rejected { name, reason: invalid.to_string() },
    }
}

async fn list(
    hub: &Hub,
    settings: &EnumerateSettings,
    limit: usize,
    out: mpsc::Sender<Enumerated>,
    found: impl Fn() + Send,
) -> Result<(), HubError> {
    let default = ListQuery::default();
    // Libraries and tasks are tags, too.
    let tags = settings.filters.iter().chain(&settings.library).chain(&settings.pipeline_tag);
    let query = ListQuery {
        filters: tags.cloned().collect(),
        author: settings.author.clone(),
        page_size: settings.page_size.unwrap_or(default.page_size),
        ..default
    };
    let mut pages = std::pin::pin!(hub.list(query));
    let (mut sent, mut number) = (0, 0);
    while let Some(page) = pages.try_next().await? {
        number += 1;
        let described = page.repos.into_iter().map(|entry| Enumerated::Found(Box::new(entry)));
        let rejected = page.rejected.into_iter().map(|(place, reason)| Enumerated::Rejected {
            name: match &reason {
                Rejected::NoId { object_id } | Rejected::BadId { object_id, .. } => object_id.clone(),
                _ => format!("(entry {place} of page {number})"),
            },
            reason: reason.to_string(),
        });
        for one in described.chain(rejected) {
            if sent == limit {
                return Ok(());
            }
            found();
            if out.send(one).await.is_err() {
                return Ok(());
            }
            sent += 1;
        }
    }
    Ok(())
}
