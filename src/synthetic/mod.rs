//! What measurements are made on: made-up populations of models, and checkpoints of public shapes that are mostly holes.

pub mod checkpoint;
pub mod population;
pub mod truth;
