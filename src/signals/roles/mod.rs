//! The role map: which tensor is what, from the names of a whole checkpoint and, where names are shared, from shapes.
//!
//! One table for all families, and [`Naming`] that finds which family stands where. A name that no row matches has no
//! role and is never read; so an unknown architecture yields an absent signal, not a wrong one.

mod names;
mod naming;
mod positions;
mod role;
mod table;
#[cfg(test)]
mod tests;

pub use names::without_numbers;
pub use naming::{Component, Naming, position};
pub use positions::{of_differences, positions, survey};
pub use role::{Layout, Position, Role, Stack};
