//! The order of the stages: how they are wired, what they report, and the files that configure them.
//!
//! Nothing here prints or reads the environment; see [`crate::cli`] for that.

pub mod backlog;
pub mod budget;
pub mod changes;
pub mod crawl;
pub mod enumerate;
pub mod forecast;
pub mod index;
pub mod maintain;
pub mod process;
pub mod progress;
pub mod report;
pub mod run;
pub mod settings;
pub mod summary;
pub mod sweep;
pub mod write;

pub use budget::BudgetSettings;
pub use crawl::{CrawlError, crawl, foresee};
pub use forecast::Forecast;
pub use progress::Progress;
pub use report::RunReport;
pub use run::{RunAnswer, RunError, run};
pub use settings::{CrawlSettings, Pipeline};
