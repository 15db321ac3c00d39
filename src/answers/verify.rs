//! Whether a database is whole, and is what was published.

use schemars::JsonSchema;
use serde::Serialize;

use crate::publication::copy::{self, Copy};
use crate::publication::error::PublicationError;
use crate::retrieval::{self, Verified};
use crate::store::Database;

/// What was looked at, and what was found wrong: `db verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Verification {
    /// Shards and index.
    #[serde(flatten)]
    pub verified: Verified,
    /// The publication of which the database is a copy; null where it is none.
    pub copy: Option<Copy>,
}

/// Checks every checksum, the row totals, the signature of a copy, and that every model is found; when `deep`, by whole
/// searches as well. `progress` gets (steps done, steps in all).
pub fn verify(
    db: &Database,
    deep: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Verification, PublicationError> {
    let copy = copy::verify_copy(db.files())?;
    Ok(Verification { verified: retrieval::verify(db, deep, progress)?, copy })
}
