//! Who may write at once.
//!
//! Commits are safe whoever makes them; a lock keeps two processes from doing the same work, and from moving what
//! another refers to. There is one for each [`Task`](super::Task), in `locks/`. In a folder it is the operating
//! system's (`system`): it ends with the process, however that ends. It also names its owner and when the claim
//! expires: for people, for file systems shared between machines whose locks reach one machine only, and for places
//! that have no other (`stated`).

mod held;
mod names;
mod stated;
mod system;

pub use held::{Lock, holders};
