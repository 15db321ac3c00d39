//! What may be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use super::environment::location;
use crate::hub::RepoId;
use crate::pipeline::BudgetSettings;
use crate::pipeline::backlog::Order;
use crate::pipeline::enumerate::Reread;
use crate::store::{Location, Partition};
use crate::synthetic::checkpoint::{FileType, SHAPES};
use crate::synthetic::population::BACKGROUND;

/// Find which models of a Hugging Face Hub descend from which, from their weights.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, propagate_version = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Say more on stderr; twice for every request. RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(super) verbose: u8,
    /// Form of the log lines on stderr
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(super) log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the stages that a pipeline file declares
    Run(RunArgs),
    /// Fingerprint the models of a Hub into a database
    Crawl(CrawlArgs),
    /// Build the search index of a database
    Index(IndexArgs),
    /// Find the relatives of models in a database
    Scan(ScanArgs),
    /// Compare two models, every signal side by side
    Compare(CompareArgs),
    /// Judge a list of pairs with known answers
    Eval(EvalArgs),
    /// The local Hub server
    Hub {
        #[command(subcommand)]
        command: HubCommand,
    },
    /// What a database's crawls did, what waits, and how old it is
    Status(StatusArgs),
    /// Put a database where others can pull it: signed, with a dataset card
    Publish(PublishArgs),
    /// Look into a database, and look after it
    Db {
        #[command(subcommand)]
        command: DbCommand,
    },
    /// Made-up databases, to measure with
    Dev {
        #[command(subcommand)]
        command: DevCommand,
    },
}

/// Where the Hub is. Environment: HF_ENDPOINT, HF_TOKEN, HF_HOME and the token file, as in the Python client.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HubArgs {
    /// URL of the Hub [default: HF_ENDPOINT, else the public Hub]
    #[arg(long, value_name = "URL")]
    pub(super) hub: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The pipeline file, e.g. pipelines/demo.toml
    pub(super) pipeline: PathBuf,
    #[command(flatten)]
    pub(super) watch: CrawlWatchArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

/// What both ways to crawl have.
#[derive(Debug, clap::Args)]
pub(super) struct CrawlWatchArgs {
    /// List only, and say what a crawl would do, what it would cost and how long it would take
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Write metrics to FILE, as a Prometheus textfile
    #[arg(long, value_name = "FILE")]
    pub(super) metrics: Option<PathBuf>,
    /// Only this part of the repositories, e.g. 2/5, so that several machines share the work
    #[arg(long, value_name = "I/N")]
    pub(super) partition: Option<Partition>,
    /// Send at most N requests to the Hub; what does not fit waits for the next crawl
    #[arg(long, value_name = "N")]
    pub(super) max_requests: Option<u64>,
    /// Receive at most N bytes
    #[arg(long, value_name = "N")]
    pub(super) max_bytes: Option<u64>,
    /// Begin nothing new after this time, e.g. 6h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) deadline: Option<Duration>,
}

impl CrawlWatchArgs {
    /// The budget of a pipeline file with what was typed in its place.
    pub(super) fn budget(&self, file: BudgetSettings) -> BudgetSettings {
        BudgetSettings {
            max_requests: self.max_requests.or(file.max_requests),
            max_bytes: self.max_bytes.or(file.max_bytes),
            deadline: self.deadline.or(file.deadline),
        }
    }
}

/// Which repositories of the list are read, and in which order; as `[enumerate]` of a pipeline file.
#[derive(Debug, clap::Args)]
pub(super) struct WantedArgs {
    /// Crawl only repositories of this owner
    #[arg(long, value_name = "NAME")]
    pub(super) author: Option<String>,
    /// Crawl only repositories with this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub(super) filter: Vec<String>,
    /// Crawl only repositories of this library, e.g. transformers
    #[arg(long, value_name = "NAME")]
    pub(super) library: Option<String>,
    /// Crawl only repositories for this task, e.g. text-generation
    #[arg(long, value_name = "TASK")]
    pub(super) pipeline_tag: Option<String>,
    /// Crawl only repositories with a file of this format, e.g. safetensors; may be given several times
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Vec<String>,
    /// Crawl only repositories with at least N downloads in 30 days
    #[arg(long, value_name = "N")]
    pub(super) min_downloads: Option<u64>,
    /// Crawl only repositories with at least N weights, as far as the Hub says
    #[arg(long, value_name = "N")]
    pub(super) min_parameters: Option<u64>,
    /// Crawl only repositories with at most N weights, as far as the Hub says
    #[arg(long, value_name = "N")]
    pub(super) max_parameters: Option<u64>,
    /// Crawl private repositories too, which the token makes visible
    #[arg(long)]
    pub(super) private: bool,
    /// Leave this repository out; may be given several times
    #[arg(long, value_name = "ID")]
    pub(super) exclude: Vec<String>,
    /// What is read first, after what waited
    #[arg(long, value_enum, default_value_t)]
    pub(super) order: OrderArg,
    /// What becomes of models that an older version has read, and may have seen less of
    #[arg(long, value_enum, default_value_t)]
    pub(super) reread: RereadArg,
}

/// As [`Reread`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum RereadArg {
    /// They are read again after all else, the most wanted first, as far as the budget goes
    #[default]
    Budget,
    /// Those with a fingerprint stay as they are
    Never,
}

impl From<RereadArg> for Reread {
    fn from(reread: RereadArg) -> Self {
        match reread {
            RereadArg::Budget => Self::Budget,
            RereadArg::Never => Self::Never,
        }
    }
}

/// As [`Order`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum OrderArg {
    /// Most downloads in the last 30 days
    #[default]
    Downloads,
    /// Latest creation
    Newest,
    /// Earliest creation
    Oldest,
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Downloads => Self::Downloads,
            OrderArg::Newest => Self::Newest,
            OrderArg::Oldest => Self::Oldest,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct CrawlArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Database: a folder, or s3://, gs://, az://; made when it does not exist
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Crawl at most N repositories
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Crawl only this repository (org/name or org/name@revision); may be given several times
    #[arg(long, value_name = "ID")]
    pub(super) repo: Vec<String>,
    #[command(flatten)]
    pub(super) wanted: WantedArgs,
    /// Read config.json and the tokenizer of every model too, which no verdict needs
    #[arg(long)]
    pub(super) all_small_files: bool,
    #[command(flatten)]
    pub(super) watch: CrawlWatchArgs,
    /// Print the run report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct IndexArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Build from nothing instead of adding to the index before
    #[arg(long)]
    pub(super) rebuild: bool,
    /// Print what was built as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    /// Database: a folder, or s3://, gs://, az:// [default: HUBPRINT_DB, else the one of `hubprint db pull`]
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Option<Location>,
    /// Repository ids (org/name or org/name@revision), checkpoint folders, or cache snapshots
    #[arg(required_unless_present_any = ["from", "from_db", "all_new"], value_name = "MODEL")]
    pub(super) models: Vec<String>,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Related models to print of each family
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub(super) top_k: usize,
    /// Look at every representative and every member instead of those that the codes select
    #[arg(long)]
    pub(super) exact: bool,
    /// Print one JSON object a query
    #[arg(long)]
    pub(super) json: bool,
    /// Many models, one a line of FILE; `-` reads stdin. One short JSON object each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "from_db", "all_new"])]
    pub(super) from: Option<PathBuf>,
    /// All models of another database, from their stored fingerprints. One short JSON object each
    #[arg(long, value_name = "DB", value_parser = location, conflicts_with_all = ["models", "all_new"])]
    pub(super) from_db: Option<Location>,
    /// What the last index run added. One short JSON object each
    #[arg(long, conflicts_with = "models")]
    pub(super) all_new: bool,
    /// Append the short JSON objects to FILE and leave out queries that it already answers
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// Repository id (org/name or org/name@revision), checkpoint folder, cache snapshot, or weight file
    pub(super) a: String,
    /// The other one
    pub(super) b: String,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Another suspected parent of A beside B; may be given several times. Tells the share of each in a merge
    #[arg(long, value_name = "MODEL", conflicts_with = "screen")]
    pub(super) with: Vec<String>,
    /// Look at config and tokenizer only; reads no weights and claims no descent
    #[arg(long, conflicts_with_all = ["explain", "full"])]
    pub(super) screen: bool,
    /// Make every test, and print all figures and the layer map
    #[arg(long)]
    pub(super) explain: bool,
    /// Read the tensors of two local checkpoints whole and hold the sampled figures against them
    #[arg(long)]
    pub(super) full: bool,
    /// Tab-separated lines without bars or frames
    #[arg(long, conflicts_with = "json")]
    pub(super) plain: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct EvalArgs {
    /// TSV or JSON with a, b, related (1 or 0) and relation, e.g. data/benchmarks/llama7b-21.tsv
    pub(super) pairs: PathBuf,
    /// Folder in which the models lie under their names
    #[arg(long, value_name = "DIR", conflicts_with = "hub")]
    pub(super) root: Option<PathBuf>,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum HubCommand {
    /// Serve a folder of models and datasets as a Hugging Face Hub on this machine
    Serve(ServeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Folder with models/ORG/NAME/ and datasets/ORG/NAME/
    pub(super) folder: PathBuf,
    /// Port of the Hub; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub(super) port: u16,
    /// Port of the CDN; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub(super) cdn_port: u16,
    /// Settings file (TOML): limits, line, tokens, faults, behaviour, made_up, write
    #[arg(long, value_name = "FILE")]
    pub(super) settings: Option<PathBuf>,
    /// One setting, e.g. limits.api=500; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// What a database holds
    Info(InfoArgs),
    /// What a database knows of a model: its row, how much of it was read, and its relatives
    Show(ShowArgs),
    /// Check every checksum, the row totals, and that every model is found in the index
    Verify(VerifyArgs),
    /// Write who descends from whom as a list of edges: Parquet, CSV or GraphML
    Export(ExportArgs),
    /// Fetch or update a published database, after checking its signature and every file
    Pull(PullArgs),
    /// Join small shards and drop rows that later ones have replaced
    Compact(CompactArgs),
    /// Remove old snapshots, and files that no snapshot needs
    Vacuum(VacuumArgs),
    /// Add the rows of other databases, e.g. those of the parts of a crawl
    Merge(MergeArgs),
    /// Bring a database of an older format up to date
    Migrate(MigrateArgs),
    /// Make a key to sign publications with
    Keygen(KeygenArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Search for every distinct model as a scan does, too: about a thousand a second
    #[arg(long)]
    pub(super) deep: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// The file; its ending says in which form: .parquet, .csv or .graphml
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(super) struct PullArgs {
    /// hf://datasets/org/name, a folder, or s3://, gs://, az://
    pub(super) from: String,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Folder of the database [default: HUBPRINT_DB, else the one that `hubprint scan` uses]
    #[arg(long, value_name = "DIR")]
    pub(super) db: Option<PathBuf>,
    /// This publication instead of the latest
    #[arg(long, value_name = "V")]
    pub(super) version: Option<u64>,
    /// Public key (PEM) that must have signed it [default: the one trusted before, at first the one that comes along]
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// Trust another key than before
    #[arg(long)]
    pub(super) accept_key: bool,
    /// Take an older publication than the one that is here
    #[arg(long)]
    pub(super) accept_rollback: bool,
    /// Take another database than the one that is here, or give up what was added to it
    #[arg(long)]
    pub(super) replace: bool,
    /// Take it although this hubprint cannot use its index for scans
    #[arg(long)]
    pub(super) any_index: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct PublishArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// hf://datasets/org/name, a folder, or s3://, gs://, az://
    #[arg(long, value_name = "PLACE")]
    pub(super) to: String,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Private key (PEM) to sign with [default: HUBPRINT_SIGNING_KEY, a file or the key itself]
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// Title of the dataset card
    #[arg(long, default_value = "Weight fingerprints of the Hugging Face Hub")]
    pub(super) title: String,
    /// Licence of the database, as the Hub spells it
    #[arg(long, value_name = "ID", default_value = "cc-by-4.0")]
    pub(super) licence: String,
    /// Publications that stay there
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) keep: usize,
    /// Take the place of another database, of a later version, or of this version with other content
    #[arg(long)]
    pub(super) replace: bool,
    /// Sign with this key what was signed with another one before
    #[arg(long)]
    pub(super) new_key: bool,
    /// Publish although the index is missing or behind
    #[arg(long)]
    pub(super) any_index: bool,
    /// Make the dataset, if it is not there yet, one that only its owner sees
    #[arg(long)]
    pub(super) private: bool,
    /// Do it; without this, say what would be sent
    #[arg(long)]
    pub(super) yes: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompactArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Rows up to which neighbouring shards are joined; a row is about 8 KB
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(super) rows: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct VacuumArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Snapshots that stay readable, at least one
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) keep: usize,
    /// Keep what is younger than this, e.g. 7d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    pub(super) older_than: Duration,
    /// Say what would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct MergeArgs {
    /// Databases whose rows are added
    #[arg(required = true, value_name = "DB", value_parser = location)]
    pub(super) sources: Vec<Location>,
    /// Database that they are added to; made when it does not exist
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// Database folder
    #[arg(long, value_name = "DIR")]
    pub(super) db: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct KeygenArgs {
    /// File for the private key; the public one is written beside it as FILE.pub
    pub(super) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Write a made-up database with its truth beside it
    Population(PopulationArgs),
    /// Hold the answers of a bulk scan against the truth of a made-up database
    Score(ScoreArgs),
    /// Which tensors of listed checkpoints have a role
    Roles(RolesArgs),
    /// Write a made-up checkpoint with the tensors and files of a public model, almost all of it holes
    Checkpoint(CheckpointArgs),
}

/// Every shape, with the public model that it is taken from.
fn shapes() -> PossibleValuesParser {
    SHAPES.iter().map(|shape| PossibleValue::new(shape.name).help(shape.model)).into()
}

fn file_types() -> impl TypedValueParser<Value = FileType> {
    let find = |name: String| FileType::find(&name).ok_or_else(|| format!("no type of GGUF files {name:?}"));
    PossibleValuesParser::from(FileType::ALL.map(FileType::name)).try_map(find)
}

/// A format of weight files.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum WeightFormat {
    Safetensors,
    Pytorch,
    Gguf,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Whose layout
    #[arg(value_parser = shapes())]
    pub(super) shape: String,
    /// Format of its weight files
    #[arg(long, value_enum, default_value_t = WeightFormat::Safetensors)]
    pub(super) format: WeightFormat,
    /// As what a GGUF file has its matrices [default: F16]
    #[arg(long, value_parser = file_types())]
    pub(super) quantization: Option<FileType>,
    /// Folder, which must be empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub(super) to: PathBuf,
    /// Write it as this repository of a Hugging Face cache, which DIR is then: `hub serve` believes the names that
    /// files have there, which are made up, and hashes none of them
    #[arg(long = "as", value_name = "ORG/NAME")]
    pub(super) repo: Option<RepoId>,
    /// Seed of the values
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(super) seed: u64,
    /// Seed of a checkpoint to which this one is related
    #[arg(long, value_name = "S", requires = "correlation")]
    pub(super) from: Option<u64>,
    /// Correlation with it, 0 to 1
    #[arg(long, value_name = "R", requires = "from")]
    pub(super) correlation: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct PopulationArgs {
    /// Models of the population
    #[arg(long, value_name = "N")]
    pub(super) models: u32,
    /// Further models to scan for, in DIR/queries, a database of its own
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) queries: u32,
    /// Negatives, models that descend from none of them, in DIR/strangers, a database of its own
    #[arg(long, alias = "strangers", value_name = "N", default_value_t = 0)]
    pub(super) negatives: u32,
    /// Correlation of unrelated models of one shape, 0 to 1: what a training recipe gives
    #[arg(long, alias = "likeness", value_name = "R", default_value_t = BACKGROUND)]
    pub(super) background: f32,
    /// Seed of everything
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(super) seed: u64,
    /// Database folder
    #[arg(long, value_name = "DIR")]
    pub(super) db: PathBuf,
    /// Write models from this one on, in the order of their dates
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) begin: u32,
    /// Write models up to this one [default: all]
    #[arg(long, value_name = "N")]
    pub(super) end: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ScoreArgs {
    /// truth.tsv of the queries, e.g. DIR/queries/truth.tsv
    pub(super) truth: PathBuf,
    /// What `hubprint scan --from-db DIR/queries` printed
    pub(super) answers: PathBuf,
    /// truth.tsv of the database, e.g. DIR/truth.tsv: which models are of one family
    #[arg(long, value_name = "FILE")]
    pub(super) families: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RolesArgs {
    /// A JSON object a line: `type`, and `tensors` with the shape of each by name
    pub(super) list: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Show the last N crawls
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(super) runs: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Repositories as the crawl met them: org/name, or `org/name[component]` for one of several checkpoints
    #[arg(required = true, value_name = "MODEL")]
    pub(super) models: Vec<String>,
    /// Database: a folder, or s3://, gs://, az:// [default: HUBPRINT_DB, else the one of `hubprint db pull`]
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Option<Location>,
    /// Related models to print of each family
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub(super) top_k: usize,
    /// Print one JSON object a checkpoint
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// Database: a folder, or s3://, gs://, az://
    #[arg(long, value_name = "DB", value_parser = location)]
    pub(super) db: Location,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}
