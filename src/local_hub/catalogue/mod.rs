//! The models and datasets of the folder, as an immutable snapshot.
//!
//! A scan builds a new `Catalogue`; requests hold on to the one they started with. Files are found
//! by looking their path up in this table and never by joining paths, so no request can leave the
//! folder.

mod card;
mod describe;
mod digest;
mod made_up;
mod overrides;
mod repo;
mod scan;
mod snapshot;
mod walk;
mod weights;

pub(crate) use card::front_matter;
pub(crate) use describe::card_tags;
pub(crate) use digest::{DigestCache, LFS_SUFFIXES, git_oid, goes_to_lfs, lfs_named, pointer};
pub(crate) use made_up::{MadeUp, Numbers};
pub(crate) use repo::{Bases, Blob, Found, Gated, Repo, RepoFile};
pub use scan::ScanError;
pub(crate) use scan::{folder_ids, object_id, scan};
pub(crate) use snapshot::Catalogue;
