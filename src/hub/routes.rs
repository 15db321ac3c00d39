//! The Hub's URLs. Everything that goes into a path is checked or percent-encoded here, so no
//! file name or revision can leave its place in the path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{
    error::HubError,
    error_kind::HubErrorKind,
    id::{RepoId, is_revision},
    rate::Bucket,
};
use crate::formats::text::printable;

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longest path of a file in a repository, in bytes.
const MAX_PATH: usize = 4096;

/// The endpoint, and the URLs below it.
#[derive(Debug)]
pub(crate) struct Routes {
    endpoint: Url,
    base: String,
}

impl Routes {
    pub(crate) fn new(endpoint: &Url) -> Self {
        Self { endpoint: endpoint.clone(), base: endpoint.as_str().trim_end_matches('/').to_owned() }
    }

    /// Whether a URL is on the endpoint's scheme, host and port.
    pub(crate) fn is_hub(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// The bucket a URL counts in.
    pub(crate) fn bucket(&self, url: &Url) -> Bucket {
        if !self.is_hub(url) {
            return Bucket::Cdn;
        }
        let prefix = self.endpoint.path().trim_end_matches('/');
        Bucket::of_path(url.path().strip_prefix(prefix).unwrap_or(url.path()))
    }

    /// `/api/models?query`; the query must be encoded already.
    pub(crate) fn list(&self, query: &str) -> Result<Url, HubError> {
        self.url(&format!("/api/models?{query}"))
    }

    /// `/api/models/{id}[/revision/{rev}]`
    pub(crate) fn info(&self, id: &RepoId, revision: Option<&str>) -> Result<Url, HubError> {
        match revision {
            None => self.url(&format!("/api/{}", of_api(id))),
            Some(revision) => self.url(&format!("/api/{}/revision/{}", of_api(id), self.revision(revision)?)),
        }
    }

    /// `/{id}/resolve/{rev}/{path}`
    pub(crate) fn resolve(&self, id: &RepoId, revision: &str, path: &str) -> Result<Url, HubError> {
        self.url(&format!("/{id}/resolve/{}/{}", self.revision(revision)?, self.path(path)?))
    }

    /// `/api/resolve-cache/models/{id}/{sha}/{path}`
    pub(crate) fn resolve_cache(&self, id: &RepoId, sha: &str, path: &str) -> Result<Url, HubError> {
        let (sha, path) = (self.revision(sha)?, self.path(path)?);
        self.url(&format!("/api/resolve-cache/{}/{sha}/{path}", of_api(id)))
    }

    /// Whether a URL on the Hub belongs to this repository, rather than to the one it was renamed
    /// to.
    pub(crate) fn is_of(url: &Url, id: &RepoId) -> bool {
        url.path().contains(&format!("/{id}/"))
    }

    fn url(&self, tail: &str) -> Result<Url, HubError> {
        Url::parse(&format!("{}{tail}", self.base)).map_err(|_| self.unaddressable("path", tail))
    }

    fn revision(&self, revision: &str) -> Result<String, HubError> {
        if is_revision(revision) {
            Ok(utf8_percent_encode(revision, SEGMENT).to_string())
        } else {
            Err(self.unaddressable("revision", revision))
        }
    }

    /// Each segment encoded, slashes kept.
    fn path(&self, path: &str) -> Result<String, HubError> {
        let segment_ok = |s: &str| !matches!(s, "" | "." | "..") && !s.chars().any(char::is_control);
        if path.len() > MAX_PATH || !path.split('/').all(segment_ok) {
            return Err(self.unaddressable("path", path));
        }
        let segments: Vec<String> =
            path.split('/').map(|s| utf8_percent_encode(s, SEGMENT).to_string()).collect();
        Ok(segments.join("/"))
    }

    fn unaddressable(&self, what: &'static str, text: &str) -> HubError {
        HubError::new(&self.endpoint, HubErrorKind::Unaddressable { what, text: printable(text.as_bytes()) })
    }
}

/// A repository in an address below `/api`: there a model has a prefix, too.
fn of_api(id: &RepoId) -> String {
    if id.is_dataset() { id.to_string() } else { format!("models/{id}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn routes(endpoint: &str) -> Routes {
        Routes::new(&Url::parse(endpoint).unwrap())
    }

    fn id() -> RepoId {
        "org/name".parse().unwrap()
    }

    #[test]
    fn urls() {
        let hub = routes("https://huggingface.co");
        assert_eq!(hub.info(&id(), None).unwrap().as_str(), "https://huggingface.co/api/models/org/name");
        let dataset = RepoId::dataset("org/prints").unwrap();
        assert_eq!(hub.info(&dataset, None).unwrap().path(), "/api/datasets/org/prints");
        assert_eq!(hub.resolve(&dataset, "main", "x").unwrap().path(), "/datasets/org/prints/resolve/main/x");
        let pr = hub.info(&id(), Some("refs/pr/1")).unwrap();
        assert_eq!(pr.path(), "/api/models/org/name/revision/refs%2Fpr%2F1");
        let file = hub.resolve(&id(), "main", "docs/naïve file+1?#%2e.txt").unwrap();
        assert_eq!(file.path(), "/org/name/resolve/main/docs/na%C3%AFve%20file%2B1%3F%23%252e.txt");
        let mirror = routes("http://mirror:8080/hf/");
        let small = mirror.resolve_cache(&id(), SHA, "config.json").unwrap();
        assert_eq!(small.path(), format!("/hf/api/resolve-cache/models/org/name/{SHA}/config.json"));
        assert_eq!(mirror.bucket(&small), Bucket::Resolvers);
        assert_eq!(mirror.bucket(&mirror.info(&id(), None).unwrap()), Bucket::Api);
        assert_eq!(mirror.bucket(&Url::parse("http://mirror:8081/hf/api/models").unwrap()), Bucket::Cdn);
    }

    #[test]
    fn nothing_escapes() {
        let hub = routes("https://huggingface.co");
        for path in ["", "/a", "a/", "a//b", "../x", "a/../b", "a/./b", ".", "a\nb", &"x".repeat(5000)] {
            let error = hub.resolve(&id(), "main", path).unwrap_err();
            assert!(matches!(error.kind(), HubErrorKind::Unaddressable { what: "path", .. }), "{path:?}");
        }
        for revision in ["", ".", "..", "a..b", "a b"] {
            assert!(hub.resolve(&id(), revision, "x").is_err(), "{revision:?}");
        }
    }

    proptest! {
        #[test]
        fn every_file_stays_below_its_repository(path in "\\PC{1,40}", revision in "\\PC{1,20}") {
            let hub = routes("https://huggingface.co");
            if let Ok(url) = hub.resolve(&id(), &revision, &path) {
                let rest = url.path().strip_prefix("/org/name/resolve/").unwrap();
                let (sent_revision, sent_path) = rest.split_once('/').unwrap();
                let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
                prop_assert_eq!(decode(sent_revision), revision);
                prop_assert_eq!(decode(sent_path), path);
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
