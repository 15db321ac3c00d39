//! Signed CDN addresses, after the manner of CloudFront.
//!
//! The policy says until when, for which resource and, if pinned, for which exact Range header an
//! address is good. The signature covers path and query up to itself and must end the query as it
//! was written: a changed, re-ordered or extended address is refused. The secret lives as long as
//! the process.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::text::hex;

const KEY_PAIR: &str = "KLOCALHUBPRINT";

/// Why an address is not served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("Auth failed: invalid signature")]
    Signature,
    #[error("Auth failed: request has expired")]
    Expired,
    #[error("Auth failed: invalid range")]
    Range,
}

#[derive(Debug)]
pub(crate) struct Signer {
    secret: [u8; 32],
}

impl Signer {
    pub(crate) fn new() -> Result<Self, rand::rngs::SysError> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret)?;
        Ok(Self { secret })
    }

    /// Path and query of an address of `path` on `origin` that is good until `expires` (seconds
    /// since 1970), for any Range or for exactly the one given.
    pub(crate) fn sign(&self, origin: &str, path: &str, expires: u64, range: Option<&str>) -> String {
        let mut condition = json!({ "DateLessThan": { "AWS:EpochTime": expires } });
        if let Some(range) = range {
            condition["ByteRange"] = json!({ "ExpectedHeader": range });
        }
        let policy = json!({
            "Statement": [{ "Resource": format!("{origin}{path}*"), "Condition": condition }]
        });
        let policy = cloudfront(&STANDARD.encode(policy.to_string()));
        let signed = format!("{path}?X-Xet-Cas-Uid=public&user_id=public&Expires={expires}&Policy={policy}");
        format!("{signed}&Signature={}&Key-Pair-Id={KEY_PAIR}", self.signature(&signed))
    }

    /// Checks path and query as they arrived, at the time `now`, together with the Range header.
    pub(crate) fn verify(
        &self,
        path: &str,
        query: &str,
        now: u64,
        range: Option<&str>,
    ) -> Result<(), Denied> {
        let (covered, tail) = query.split_once("&Signature=").ok_or(Denied::Signature)?;
        let signature = self.signature(&format!("{path}?{covered}"));
        if tail != format!("{signature}&Key-Pair-Id={KEY_PAIR}") {
            return Err(Denied::Signature);
        }
        let policy = covered.split_once("&Policy=").map(|(_, policy)| policy).ok_or(Denied::Signature)?;
        let policy = STANDARD.decode(standard(policy)).map_err(|_| Denied::Signature)?;
        let policy: Value = serde_json::from_slice(&policy).map_err(|_| Denied::Signature)?;
        let condition = &policy["Statement"][0]["Condition"];
        if condition["DateLessThan"]["AWS:EpochTime"].as_u64().is_none_or(|expires| now >= expires) {
            return Err(Denied::Expired);
        }
        match condition["ByteRange"]["ExpectedHeader"].as_str() {
            Some(expected) if range != Some(expected) => Err(Denied::Range),
            _ => Ok(()),
        }
    }

    /// A keyed hash in the nested form of HMAC, which a plain `hash(secret + text)` is not.
    fn signature(&self, text: &str) -> String {
        let inner = Sha256::new().chain_update(self.secret).chain_update(text).finalize();
        hex(&Sha256::new().chain_update(self.secret).chain_update(inner).finalize())
    }
}

/// CloudFront's own alphabet, which needs no escapes in a query.
fn cloudfront(base64: &str) -> String {
    base64.replace('+', "-").replace('=', "_").replace('/', "~")
}

fn standard(text: &str) -> String {
    text.replace('-', "+").replace('_', "=").replace('~', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/xet-bridge/abc/def";

    fn check(signer: &Signer, url: &str, now: u64, range: Option<&str>) -> Result<(), Denied> {
        let (path, query) = url.split_once('?').unwrap();
        signer.verify(path, query, now, range)
    }

    #[test]
    fn bare_addresses_take_any_range_until_they_expire() {
        let signer = Signer::new().unwrap();
        let url = signer.sign("http://cdn", PATH, 100, None);
        assert_eq!(check(&signer, &url, 99, None), Ok(()));
        assert_eq!(check(&signer, &url, 99, Some("bytes=0-1")), Ok(()));
        assert_eq!(check(&signer, &url, 100, None), Err(Denied::Expired));
    }

    #[test]
    fn pinned_addresses_take_one_range() {
        let signer = Signer::new().unwrap();
        let url = signer.sign("http://cdn", PATH, 100, Some("bytes=0-15"));
        assert_eq!(check(&signer, &url, 99, Some("bytes=0-15")), Ok(()));
        assert_eq!(check(&signer, &url, 99, Some("bytes=0-16")), Err(Denied::Range));
        assert_eq!(check(&signer, &url, 99, None), Err(Denied::Range));
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let signer = Signer::new().unwrap();
        let url = signer.sign("http://cdn", PATH, 100, None);
        for broken in [
            url.replace("def?", "dee?"),
            url.replace("Expires=100", "Expires=999"),
            url.replace("X-Xet-Cas-Uid=public&user_id=public", "user_id=public&X-Xet-Cas-Uid=public"),
            format!("{url}&x=1"),
            url.replace("&Key-Pair-Id", "0&Key-Pair-Id"),
        ] {
            assert_eq!(check(&signer, &broken, 1, None), Err(Denied::Signature), "{broken}");
        }
        assert_eq!(check(&Signer::new().unwrap(), &url, 1, None), Err(Denied::Signature));
    }
}
