//! Scans of many models: short answers, in parallel, with bounded memory, in the order in which the models come.

pub mod answer;
pub mod file;
pub mod lines;
pub mod queries;
pub mod run;
pub mod search;

pub use answer::{BulkAnswer, BulkFamily, BulkLine, CloseModel};
pub use file::AnswersFile;
pub use lines::BulkError;
pub use queries::Queries;
pub use run::{BulkScan, BulkTotals, Work};
pub use search::families;
