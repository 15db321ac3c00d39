//! compare: two models, every signal.
//!
//! [`compare`] judges two models that were read; [`CompareJob`] reads as much of two as it takes and answers.

pub mod answer;
pub mod comparison;
pub mod job;

pub use answer::{CompareAnswer, ComparedModel, ScreenAnswer, WholeAnswer};
pub use comparison::{Comparison, Effort, compare, compare_copies, compare_merge, screening};
pub use job::{CompareError, CompareJob};
