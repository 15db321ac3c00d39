//! What is written.

use super::shapes::Shape;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointSettings {
    /// Whose layout.
    pub shape: &'static Shape,
    /// Decides the values.
    pub seed: u64,
    /// Seed of a checkpoint to which this one is related, and the correlation of the weights, 0 to 1.
    pub from: Option<(u64, f64)>,
}
