//! What can go wrong with publications, as meanings.

use super::trust::TrustError;
use crate::hub::HubError;
use crate::store::StoreError;

/// What goes wrong with publications.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// The database, or a folder or bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A signature or a key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file is not what the publication says.
    #[error("{file} is not as published: {what}")]
    Tampered {
        /// Its name.
        file: String,
        /// What is different.
        what: String,
    },
    /// There is nothing, or not this version.
    #[error("{place} has no publication{}", of_version(*.version, .there))]
    Nothing {
        /// The remote.
        place: String,
        /// What was asked for.
        version: Option<u64>,
        /// What is there.
        there: Vec<u64>,
    },
    /// The publication is older than what is here.
    #[error(
        "{place} offers publication {offered}, here is {here}: it was put back, or somebody replays an old one"
    )]
    Rollback {
        /// The remote.
        place: String,
        /// What it offers.
        offered: u64,
        /// What is here.
        here: u64,
    },
    /// Another key than the one that was trusted.
    #[error("{place} is signed with the key {offered}, trusted is {trusted}")]
    ForeignKey {
        /// The remote.
        place: String,
        /// Fingerprint of the key that comes along.
        offered: String,
        /// Fingerprint of the key that was trusted.
        trusted: String,
    },
    /// A remote of somebody else.
    #[error("{place} is signed with the key {there}, not with {ours}")]
    OtherKey {
        /// The remote.
        place: String,
        /// Fingerprint of the key that its latest publication is signed with.
        there: String,
        /// Fingerprint of the one to sign with.
        ours: String,
    },
    /// Another database.
    #[error("{place} holds the database {offered}, {folder} the database {here}")]
    OtherDatabase {
        /// The remote.
        place: String,
        /// The id of the database there.
        offered: String,
        /// What is written to.
        folder: String,
        /// The id of the database here.
        here: String,
    },
    /// The same version of the same database, and not the same.
    #[error("{place} is version {version} of the database, and so is {other}, with other content")]
    SameVersion {
        /// What was offered.
        place: String,
        /// Its version.
        version: u64,
        /// What is there already.
        other: String,
    },
    /// The folder has commits of its own.
    #[error("{folder} is a database of its own, not a copy of a publication")]
    NotACopy {
        /// The folder.
        folder: String,
    },
    /// The folder was pulled, and has commits of its own.
    #[error("{folder} was pulled, and has become a database of its own")]
    ChangedCopy {
        /// The folder.
        folder: String,
    },
    /// Scans of this version could not use the index.
    #[error("version {version} of {place}: {source}")]
    OtherIndex {
        /// The remote.
        place: String,
        /// The publication.
        version: u64,
        /// The versions.
        source: StoreError,
    },
    /// There is something else.
    #[error("{place} holds other files than {expected}: {file}")]
    Foreign {
        /// The place.
        place: String,
        /// What may be there.
        expected: &'static str,
        /// One that is something else.
        file: String,
    },
    /// What is to be published cannot be searched, or not all of it.
    #[error("{place} has {what}")]
    NotIndexed {
        /// The database.
        place: String,
        /// What is wrong with its index.
        what: String,
    },
    /// The Hub, as the client that writes to it reports.
    #[error("{place}: {what}")]
    Write {
        /// The remote.
        place: String,
        /// What happened.
        what: String,
    },
    /// This build cannot write there.
    #[error("this hubprint was built without the client that writes to the Hub")]
    NoWriter,
}

fn of_version(version: Option<u64>, there: &[u64]) -> String {
    let list = there.iter().rev().take(10).map(u64::to_string).collect::<Vec<_>>().join(", ");
    match version {
        Some(version) => format!(" {version}; there are: {}", if list.is_empty() { "none" } else { &list }),
        None => String::new(),
    }
}

impl PublicationError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Hub(error) => error.hint().unwrap_or("check HF_TOKEN, HF_ENDPOINT and the network"),
            Self::Trust(TrustError::Key { .. }) => {
                "make one with `hubprint db keygen FILE`, or openssl genpkey -algorithm ed25519"
            }
            Self::Trust(TrustError::Newer { .. }) => "update hubprint",
            Self::Trust(_) => "do not use it; ask its publisher",
            Self::Tampered { .. } => {
                "do not use it; ask its publisher, or try again later if it is being published now"
            }
            Self::Nothing { .. } => "check the address, and HF_TOKEN if it is private",
            Self::Rollback { .. } => {
                "ask its publisher; --accept-rollback takes the older one, --version names one"
            }
            Self::ForeignKey { .. } => {
                "ask its publisher for the new key and give it with --key FILE --accept-key"
            }
            Self::OtherKey { .. } => {
                "sign with that key, or take its place with --new-key and tell those who pull"
            }
            Self::OtherDatabase { .. } => "use another folder, or --replace",
            Self::SameVersion { .. } => {
                "two of one database have gone separate ways, or somebody has changed one; --replace takes this one"
            }
            Self::Foreign { .. } => "use an empty place",
            Self::NotIndexed { .. } => {
                "run `hubprint index --db DB` first, or publish it so with --any-index"
            }
            Self::NotACopy { .. } => "pull into another folder with --db",
            Self::ChangedCopy { .. } => {
                "pull into another folder with --db, or give up what was added here with --replace"
            }
            Self::OtherIndex { .. } => {
                "use the hubprint that it was made for, or take an earlier one with --version; --any-index takes it \
                 without an index for scans"
            }
            Self::Write { .. } => "run the same command again: what has arrived is not sent again",
            Self::NoWriter => "build it with `cargo build --release --features hf-hub`",
        }
    }
}
