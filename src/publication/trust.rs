//! Why a publication is not believed.

/// Version of the publication file.
pub const PUBLICATION_VERSION: u32 = 1;

/// Why a publication cannot be trusted, or a key not be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The signature is not by this key, or not of these bytes.
    #[error(
        "the signature {file}.sig is not of {file} by the key {key} ({file}.pem): one of the three was changed, or another \
         key signed it"
    )]
    Signature {
        /// The publication.
        file: String,
        /// Fingerprint of the key.
        key: String,
    },
    /// The file is no publication.
    #[error("{file} is no publication that this version understands: {what}")]
    NotAPublication {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A newer hubprint wrote it.
    #[error("{file} is a publication of form {found}; this hubprint reads form {PUBLICATION_VERSION}")]
    Newer {
        /// The file.
        file: String,
        /// The form it says it has.
        found: u64,
    },
    /// The key cannot be read.
    #[error("{name} is no ed25519 key in PEM: {what}")]
    Key {
        /// Its file.
        name: String,
        /// What is wrong.
        what: String,
    },
}
