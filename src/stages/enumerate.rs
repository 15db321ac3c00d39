//! enumerate: which repositories there are.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::hub::{Hub, HubError, ListQuery, RepoEntry, RepoRef};

/// What to enumerate. Without `repos` the whole catalogue in the order of creation, which later changes
/// neither skip nor repeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnumerateSettings {
    /// Only these repositories, as `org/name` or `org/name@revision`.
    pub repos: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
    /// Only repositories with all of these tags.
    pub filters: Vec<String>,
    /// Only repositories of this owner.
    pub author: Option<String>,
    /// At most so many repositories.
    pub limit: Option<usize>,
    /// Repositories a page, at most 1000.
    pub page_size: Option<u32>,
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
        /// Its name, as far as it can be told.
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
        for name in settings.repos.iter().take(limit) {
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
    let exclude: HashSet<&str> = settings.exclude.iter().map(String::as_str).collect();
    let default = ListQuery::default();
    let query = ListQuery {
        filters: settings.filters.clone(),
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
            name: format!("(entry {place} of page {number})"),
            reason: reason.to_string(),
        });
        for one in described.chain(rejected) {
            if matches!(&one, Enumerated::Found(entry) if exclude.contains(entry.id.as_str())) {
                continue;
            }
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
