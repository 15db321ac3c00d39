//! The role map: which tensor is what, from its name and, where names are shared, from shapes.
//!
//! One table for all families. A name that no row matches has no role and is never read; so an unknown
//! architecture yields an absent signal, not a wrong one.

mod naming;
mod role;
mod table;
#[cfg(test)]
mod tests;

pub use naming::{position, positions};
pub use role::{Layout, Position, Role, Stack};
