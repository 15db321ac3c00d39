//! hubprint finds which models of a Hugging Face Hub descend from which, from their weights.
//!
//! It reads a few megabytes of each checkpoint over HTTP ranges, keeps a fingerprint of at most 16 KB in Parquet,
//! and names the family of a model among hundreds of thousands.
//!
//! ```text
//! enumerate -> plan -> fetch -> extract -> write => Parquet + manifest => index => scan | compare | publish
//! ```
//!
//! | stage | module | what it does |
//! |---|---|---|
//! | enumerate | [`pipeline::enumerate`] | lists repositories in the order of creation |
//! | plan | [`checkpoint::plan`] | chooses files and byte ranges; pure |
//! | fetch | [`checkpoint::fetch`] | reads them, from a Hub or a folder |
//! | extract | [`checkpoint::extract`] | decodes and sketches; CPU only |
//! | write | [`pipeline::write`] | rows into immutable shards |
//! | index | [`pipeline::index`] | families of near-duplicates, with their roots |
//! | scan | [`answers::scan`] | relatives of a model in the database |
//! | compare | [`answers::compare`] | two models, every signal |
//! | publish | [`publication::publish`] | a signed snapshot where others can pull it |
//!
//! Folders depend in one direction, each on those before it:
//! [`formats`], [`local_hub`], [`signals`], [`hub`], [`store`], [`checkpoint`], [`retrieval`], [`publication`],
//! [`synthetic`], [`answers`], [`pipeline`], [`cli`].
//!
//! # As a library
//!
//! Everything that the command line does can be called, and every answer is a value that serde writes as `docs/json.md`
//! says. A program that opens a database, scans a model and prints the answer:
//!
//! ```
//! use hubprint::answers::scan::{ScanJob, Scanner};
//! use hubprint::checkpoint::reading::Reader;
//! use hubprint::hub::{Hub, HubSettings};
//! use hubprint::store::Database;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     use hubprint::pipeline::{CrawlSettings, enumerate::EnumerateSettings, run::stages};
//! #     let any = "127.0.0.1:0".parse()?;
//! #     let served = hubprint::local_hub::start("data/demo-hub".as_ref(), any, any, Default::default()).await?;
//! #     let url = served.hub_url().to_owned();
//! #     let made = tempfile::tempdir()?;
//! #     let fingerprints = made.path();
//! #     let crawled = Hub::new(HubSettings::from_env(|name| (name == "HF_ENDPOINT").then(|| url.clone()))?)?;
//! #     let repos = vec!["lumenworks/stdlib-llama-500k".into(), "orchardml/pyllama-500k".into()];
//! #     let enumerate = EnumerateSettings { repos, ..EnumerateSettings::default() };
//! #     let settings = CrawlSettings { enumerate, ..CrawlSettings::default() };
//! #     stages::crawl(&crawled, &fingerprints.into(), &settings, &()).await?;
//! #     stages::index(&fingerprints.into(), &Default::default(), false, &())?;
//! #     let model = "data/demo-hub/models/lumenworks/stdlib-llama-500k-docs";
//!     let hub = Hub::new(HubSettings::from_env(|name| std::env::var(name).ok())?)?;
//!     let scanner = Scanner::open(Database::open(fingerprints)?)?;
//!     for line in scanner.answers(&ScanJob::new(model), &hub, &Reader::default()).await {
//!         println!("{}", serde_json::to_string(&line)?);
//! #         let hubprint::answers::scan::ScanLine::Answered(answer) = line else { panic!("{line:?}") };
//! #         assert_eq!(answer.families[0].root.repo_id, "lumenworks/stdlib-llama-500k");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Two folders, or two repositories, side by side:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hubprint::answers::compare::CompareJob;
//! # use hubprint::checkpoint::reading::Reader;
//! # use hubprint::hub::{Hub, HubSettings};
//! # let hub = Hub::new(HubSettings::from_env(|_| None)?)?;
//!
//! let models = "data/demo-hub/models/lumenworks";
//! let [a, b] = ["stdlib-llama-500k", "stdlib-llama-500k-docs"].map(|name| format!("{models}/{name}"));
//! let job = CompareJob { a, b, ..CompareJob::default() };
//! let answer = job.run(&hub, &Reader::default(), |_, _| ()).await?;
//! assert_eq!(answer.judgement.related, Some(true), "{}", answer.judgement.why);
//! # Ok(())
//! # }
//! ```
//!
//! One checkpoint, and the fingerprint that a database would keep of it:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hubprint::checkpoint::model::load;
//! use hubprint::signals::Fingerprint;
//! # use hubprint::checkpoint::reading::Reader;
//! # use hubprint::hub::{Hub, HubSettings};
//! # let hub = Hub::new(HubSettings::from_env(|_| None)?)?;
//!
//! let model = load("data/demo-hub/models/lumenworks/stdlib-llama-500k", &hub, &Reader::default()).await?;
//! let weights = model.weights?;
//! assert_eq!((weights.samples.layers, weights.dtype.as_deref()), (6, Some("F16")));
//! let fingerprint = Fingerprint::new(&weights.samples)?;
//! assert!(fingerprint.cells.len() <= 200);
//! # Ok(())
//! # }
//! ```

pub mod answers;
pub mod checkpoint;
pub mod cli;
pub mod formats;
pub mod hub;
pub mod local_hub;
pub mod pipeline;
pub mod publication;
pub mod retrieval;
pub mod signals;
pub mod store;
pub mod synthetic;
