//! eval: a list of pairs with known answers, judged.

pub mod answer;
pub mod merit;
pub mod pairs;
pub mod run;

pub use answer::JudgedPair;
pub use merit::{Bin, Found, Merit};
pub use pairs::{Pair, PairsError, read_pairs};
pub use run::{EvalAnswer, EvalSettings, eval};
