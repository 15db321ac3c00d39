//! The keys that publications are signed with.

use std::io::Write;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SIGNATURE_LENGTH, Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::error::PublicationError;
use super::trust::TrustError;
use crate::store::checksum::hex;
use crate::store::{StoreError, atomic};

/// A key that signs.
pub struct Key(SigningKey);

/// A key that a signature can be held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl Key {
    /// A new key.
    pub fn generate() -> Self {
        Self(SigningKey::from_bytes(&rand::random()))
    }

    /// From PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it. `name` is for the error.
    pub fn from_pem(pem: &str, name: &str) -> Result<Self, TrustError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|error| not_a_key(name, &error.to_string()))
    }

    /// As PKCS#8 in PEM.
    pub fn to_pem(&self) -> Result<String, TrustError> {
        let pem =
            self.0.to_pkcs8_pem(LineEnding::LF).map_err(|error| not_a_key("key", &error.to_string()))?;
        Ok(pem.as_str().to_owned())
    }

    /// What signatures by it are held against.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// A detached signature.
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.0.sign(bytes).to_bytes()
    }
}

impl PublicKey {
    /// From PEM, as `openssl pkey -pubout` writes it. `name` is for the error.
    pub fn from_pem(pem: &str, name: &str) -> Result<Self, TrustError> {
        VerifyingKey::from_public_key_pem(pem).map(Self).map_err(|error| not_a_key(name, &error.to_string()))
    }

    /// Whether this is a signature of it under these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(bytes, &signature).is_ok())
    }

    /// As PEM.
    pub fn to_pem(&self) -> Result<String, TrustError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|error| not_a_key("key", &error.to_string()))
    }

    /// The start of its SHA-256: what people compare.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..8])
    }
}

fn not_a_key(name: &str, what: &str) -> TrustError {
    TrustError::Key { name: name.to_owned(), what: what.to_owned() }
}

/// Writes a new key into a file that only its owner can read, and the public one beside it, `FILE.pub`. What is there
/// already stays.
pub fn write_key(path: &Path) -> Result<String, PublicationError> {
    use std::os::unix::fs::OpenOptionsExt;

    let key = Key::generate();
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = Path::new(&public);
    if !atomic::create(public, key.public().to_pem()?.as_bytes())? {
        return Err(StoreError::io(public)(std::io::ErrorKind::AlreadyExists.into()).into());
    }
    let pem = key.to_pem()?;
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        // The key that it belongs to is nowhere.
        let _ = std::fs::remove_file(public);
        return Err(StoreError::io(path)(error).into());
    }
    Ok(key.public().fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        let key = Key::generate();
        let again = Key::from_pem(&key.to_pem().unwrap(), "k").unwrap();
        assert_eq!(again.public(), key.public());
        let public = PublicKey::from_pem(&key.public().to_pem().unwrap(), "k").unwrap();
        assert_eq!(public, key.public());
        assert!(Key::from_pem("nonsense", "my.pem").err().unwrap().to_string().contains("my.pem"));
    }
}
