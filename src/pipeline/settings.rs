//! Pipeline files: one TOML table a stage, and the database and the Hub that they work on.
//!
//! Relative paths are taken from the file's own folder. Unknown keys are refused.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::budget::BudgetSettings;
use crate::answers::scan::job::{ScanJob, ScanOptions, TOP_K};
use crate::checkpoint::plan::{PlanSettings, SmallFiles};
use crate::checkpoint::reading::ReadSettings;
use crate::pipeline::enumerate::EnumerateSettings;
use crate::pipeline::maintain::MaintainSettings;
use crate::pipeline::write::WriteSettings;
use crate::publication::prepare::PublishSettings;
use crate::retrieval::BuildSettings;

/// A pipeline file. A stage runs when its table is present; `enumerate` stands for the crawl as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Where the fingerprints are.
    pub database: DatabaseSettings,
    /// Where the models are; the Hub of the environment by default.
    #[serde(default)]
    pub hub: HubChoice,
    /// Which repositories to crawl.
    pub enumerate: Option<EnumerateSettings>,
    /// How much to read of each.
    #[serde(default)]
    pub plan: PlanSettings,
    /// How many to read at once.
    #[serde(default)]
    pub fetch: FetchSettings,
    /// How rows become shards.
    #[serde(default)]
    pub write: WriteSettings,
    /// What a crawl may cost.
    #[serde(default)]
    pub budget: BudgetSettings,
    /// Build the index.
    pub index: Option<BuildSettings>,
    /// Keep the database small.
    pub maintenance: Option<MaintainSettings>,
    /// Scan models against the database.
    pub scan: Option<ScanSettings>,
    /// Publish the database, signed.
    pub publish: Option<PublishSettings>,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The folder, made when it does not exist, or an address of a bucket, e.g. `s3://bucket/prefix`.
    pub path: PathBuf,
}

/// `[fetch]`: how repositories are read, beside `[plan]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchSettings {
    /// Repositories read at once. The client itself keeps to 8 CDN requests and the Hub's rate limits.
    pub repos_in_flight: usize,
    /// `needed`: one counted request for a model in one file. `all`: config.json and the tokenizer too.
    pub small_files: SmallFiles,
}

impl Default for FetchSettings {
    fn default() -> Self {
        let CrawlSettings { read, repos_in_flight, .. } = CrawlSettings::default();
        Self { repos_in_flight, small_files: read.small_files }
    }
}

/// `[hub]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubChoice {
    /// URL of the Hub. Default: `HF_ENDPOINT`, else the public Hub.
    pub endpoint: Option<String>,
    /// Serve this folder with the local Hub server for the length of the run, and use that.
    pub serve: Option<PathBuf>,
    /// Hosts that files may be served from, beside those that the Hub is known to use.
    pub cdn_hosts: Vec<String>,
    /// Most requests to the CDN in flight: 8, which the public Hub's bears. More keeps a long line to another Hub busy.
    pub cdn_requests: Option<usize>,
}

/// `[scan]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSettings {
    /// Repository ids or checkpoint folders.
    pub models: Vec<String>,
    /// Related models to print of each.
    #[serde(default = "default_top_k")]
    pub top_k: usize,
}

fn default_top_k() -> usize {
    TOP_K
}

impl ScanSettings {
    /// The scans.
    pub fn jobs(&self) -> Vec<ScanJob> {
        let options = ScanOptions { top_k: self.top_k, ..ScanOptions::default() };
        self.models.iter().map(|model| ScanJob { model: model.clone(), options }).collect()
    }
}

/// A pipeline file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no valid pipeline.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A table of repositories without any.
    #[error("{} names no repository", path.display())]
    Empty {
        /// The table.
        path: PathBuf,
    },
    /// It publishes, and does not say where.
    #[error("{}: [publish] needs `to`", path.display())]
    NoPlace {
        /// The file.
        path: PathBuf,
    },
    /// It says two things at once.
    #[error("{}: [hub] has both endpoint and serve; give one", path.display())]
    TwoHubs {
        /// The file.
        path: PathBuf,
    },
}

impl Pipeline {
    /// Reads a pipeline file.
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PipelineError::Io { path: path.to_owned(), source })?;
        let mut pipeline: Self = toml::from_str(&text)
            .map_err(|source| PipelineError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        if pipeline.hub.endpoint.is_some() && pipeline.hub.serve.is_some() {
            return Err(PipelineError::TwoHubs { path: path.to_owned() });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        if !pipeline.database.path.to_string_lossy().contains("://") {
            pipeline.database.path = folder.join(&pipeline.database.path);
        }
        if let Some(publish) = &mut pipeline.publish {
            publish.key = publish.key.take().map(|key| folder.join(key));
            if publish.to.is_empty() {
                return Err(PipelineError::NoPlace { path: path.to_owned() });
            }
            if !publish.to.contains("://") {
                publish.to = folder.join(&publish.to).to_string_lossy().into_owned();
            }
        }
        pipeline.hub.serve = pipeline.hub.serve.map(|serve| folder.join(serve));
        if let Some(enumerate) = &mut pipeline.enumerate
            && let Some(table) = enumerate.repos_from.take()
        {
            let table = folder.join(table);
            let text = std::fs::read_to_string(&table)
                .map_err(|source| PipelineError::Io { path: table.clone(), source })?;
            let names = text.lines().skip(1).filter_map(|line| line.split('\t').next());
            enumerate.repos.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            if enumerate.repos.is_empty() {
                return Err(PipelineError::Empty { path: table });
            }
        }
        Ok(pipeline)
    }

    /// The settings of the five crawl stages, if the file declares them.
    pub fn crawl(&self) -> Option<CrawlSettings> {
        Some(CrawlSettings {
            enumerate: self.enumerate.clone()?,
            read: ReadSettings {
                plan: self.plan.clone(),
                small_files: self.fetch.small_files,
                ..ReadSettings::default()
            },
            repos_in_flight: self.fetch.repos_in_flight,
            write: self.write.clone(),
            budget: self.budget,
        })
    }
}

/// Settings of all five stages.
#[derive(Clone, Debug)]
pub struct CrawlSettings {
    /// Which repositories.
    pub enumerate: EnumerateSettings,
    /// How each is read.
    pub read: ReadSettings,
    /// Repositories read at once. The client itself keeps to 8 CDN requests and the Hub's rate limits.
    pub repos_in_flight: usize,
    /// How rows become shards.
    pub write: WriteSettings,
    /// What it may cost.
    pub budget: BudgetSettings,
}

impl Default for CrawlSettings {
    fn default() -> Self {
        Self {
            enumerate: EnumerateSettings::default(),
            read: ReadSettings { small_files: SmallFiles::Needed, ..ReadSettings::default() },
            repos_in_flight: 8,
            write: WriteSettings::default(),
            budget: BudgetSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::RepoId;
    use crate::store::atomic;

    #[test]
    fn every_shipped_pipeline_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let mut found = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                Pipeline::read(&path).unwrap();
                found += 1;
            }
        }
        assert_eq!(found, 4, "demo, nightly, backfill, base-db");
        let base = Pipeline::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/base-db.toml"));
        let repos = base.unwrap().enumerate.unwrap().repos;
        assert!(repos.len() >= 150 && repos.iter().all(|name| name.parse::<RepoId>().is_ok()));
    }

    /// The keys of a table, as the message about an unknown one lists them.
    fn keys(table: &str) -> Vec<String> {
        let text = format!("[database]\npath = 'x'\n[{table}]\nno_such_key = 1\n")
            .replace("[database]\npath = 'x'\n[database]", "[database]");
        let error = toml::from_str::<Pipeline>(&text).unwrap_err().to_string();
        let (_, list) = error.split_once("expected ").unwrap_or_else(|| panic!("{table}: {error}"));
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_is_documented() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        for table in keys("no_such_table").iter().filter(|t| *t != "no_such_table") {
            let (_, rest) =
                readme.split_once(&format!("| `[{table}]` |")).unwrap_or_else(|| panic!("no [{table}]"));
            let lines: Vec<&str> = rest
                .lines()
                .enumerate()
                .take_while(|(i, l)| *i == 0 || l.starts_with("| |"))
                .map(|(_, l)| l)
                .collect();
            for key in keys(table) {
                assert!(lines.iter().any(|line| line.contains(&format!("`{key}`"))), "[{table}] {key}");
            }
        }
    }

    #[test]
    fn unknown_keys_and_two_hubs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        let read = |text: &str| {
            atomic::write(&path, text.as_bytes()).unwrap();
            Pipeline::read(&path)
        };
        assert!(read("[database]\npath = 'db'").unwrap().crawl().is_none());
        let error = read("[database]\npath = 'db'\n[enumerate]\nlimits = 3").unwrap_err().to_string();
        assert!(error.contains("limits"), "{error}");
        assert!(matches!(
            read("[database]\npath = 'db'\n[hub]\nendpoint = 'http://x'\nserve = 'y'"),
            Err(PipelineError::TwoHubs { .. })
        ));
        assert!(matches!(read("[database]\npath = 'db'\n[publish]"), Err(PipelineError::NoPlace { .. })));
        let relative = read("[database]\npath = 'db'").unwrap();
        assert_eq!(relative.database.path, dir.path().join("db"));
        let bucket = read("[database]\npath = 's3://bucket/db'").unwrap();
        assert_eq!(bucket.database.path, Path::new("s3://bucket/db"));
    }
}
