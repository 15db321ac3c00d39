//! From a file's name to where its bytes are: one bare `HEAD /{id}/resolve/{rev}/{path}`.
//!
//! The request never carries a `Range`: the Hub would sign a URL that serves that range only. A
//! bare one yields a URL that serves any ranges, in parallel, for about an hour, at the cost of a
//! single counted request. The signed URL stays inside [`RemoteFile`] and is never shown.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDateTime};
use reqwest::{
    Method,
    header::{DATE, ETAG, HeaderName},
};
use tokio::sync::Mutex;
use url::Url;

use super::{
    answer::Answer,
    client::Hub,
    error::HubError,
    error_kind::{HubErrorKind, Missing},
    http::Arrival,
    id::{RepoId, is_commit_sha},
    status::REPO_COMMIT,
};

const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");

/// A signed URL is renewed this long before it expires, or at nine tenths of a short life.
const EARLY: Duration = Duration::from_secs(30);

/// A file that was found, ready for [`Hub::read_range`]. Clones share the signed URL.
#[derive(Clone)]
pub struct RemoteFile(Arc<Inner>);

struct Inner {
    id: RepoId,
    revision: String,
    path: String,
    size: u64,
    sha256: Option<String>,
    content_id: Option<String>,
    etag: OnceLock<String>,
    place: Mutex<Place>,
}

/// Where the bytes are at present.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: Url,
    /// On a CDN by a signed URL, rather than on the Hub.
    pub(crate) signed: bool,
    /// How many places the file had before.
    pub(crate) generation: u64,
    good_until: Option<Instant>,
}

/// What one resolve tells.
struct Found {
    place: Place,
    size: u64,
    sha256: Option<String>,
    content_id: Option<String>,
    commit: Option<String>,
}

impl RemoteFile {
    /// The repository, by the name it was asked for.
    pub fn id(&self) -> &RepoId {
        &self.0.id
    }

    /// The commit the file was found in; the revision as asked when the server did not say.
    pub fn revision(&self) -> &str {
        &self.0.revision
    }

    /// Path in the repository.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Size in bytes, as the Hub states it.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// SHA-256 of the content, 64 hex digits, for files in LFS storage. `None` for files in git
    /// and through proxies that hide it.
    pub fn sha256(&self) -> Option<&str> {
        self.0.sha256.as_deref()
    }

    /// What equal content has in common across repositories, where the Hub states it: the SHA-256 of a file
    /// in LFS storage, the blob id of one in git.
    pub fn content_id(&self) -> Option<&str> {
        self.0.content_id.as_deref()
    }

    /// The `ETag` all ranges of this file must carry: that of the first one, given by `seen`.
    pub(crate) fn pinned_etag(&self, seen: &str) -> &str {
        self.0.etag.get_or_init(|| seen.to_owned())
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { id, revision, path, size, sha256, .. } = &*self.0;
        write!(f, "RemoteFile({id}@{revision}:{path}, {size} bytes, sha256 {sha256:?})")
    }
}

impl Hub {
    /// Finds a file. `revision` should be the commit the list stated; with a branch, the commit
    /// it points to now is used for all later reads.
    ///
    /// One request to the Hub for a large file, two for a small one or a renamed repository.
    ///
    /// # Errors
    /// [`HubErrorKind::NotFound`], [`HubErrorKind::Gated`], [`HubErrorKind::Unauthorized`],
    /// [`HubErrorKind::Disabled`], [`HubErrorKind::ForeignRedirect`] for a CDN host that is not
    /// in the settings, [`HubErrorKind::Changed`] when the server answers for another commit,
    /// [`HubErrorKind::Malformed`] when it does not state the size, and those of the network.
    pub async fn open(&self, id: &RepoId, revision: &str, path: &str) -> Result<RemoteFile, HubError> {
        let Found { place, size, sha256, content_id, commit } = self.find(id, revision, path).await?;
        Ok(RemoteFile(Arc::new(Inner {
            id: id.clone(),
            revision: commit.unwrap_or_else(|| revision.to_owned()),
            path: path.to_owned(),
            size,
            sha256,
            content_id,
            etag: OnceLock::new(),
            place: Mutex::new(place),
        })))
    }

    /// Where the file is now. Renews a signed URL that is about to expire.
    pub(crate) async fn place(&self, file: &RemoteFile) -> Result<Place, HubError> {
        let mut place = file.0.place.lock().await;
        if place.good_until.is_some_and(|until| until <= Instant::now()) {
            *place = self.find_again(file, place.generation).await?;
        }
        Ok(place.clone())
    }

    /// A new place, because `refused` no longer serves the file. However many readers ask, one resolve is
    /// made: the others get its result.
    pub(crate) async fn renew(&self, file: &RemoteFile, refused: &Place) -> Result<Place, HubError> {
        let mut place = file.0.place.lock().await; // held across the request: that is the single flight
        if place.generation == refused.generation {
            self.http.usage().expired_url();
            *place = self.find_again(file, refused.generation).await?;
        }
        Ok(place.clone())
    }

    async fn find_again(&self, file: &RemoteFile, generation: u64) -> Result<Place, HubError> {
        let Inner { id, revision, path, size, sha256, .. } = &*file.0;
        let found = self.find(id, revision, path).await?;
        let changed = |mark, before: String, now: String| {
            Err(HubError::new(&found.place.url, HubErrorKind::Changed { mark, before, now }))
        };
        if found.size != *size {
            return changed("size", size.to_string(), found.size.to_string());
        }
        if let (Some(before), Some(now)) = (sha256, &found.sha256)
            && before != now
        {
            return changed("sha256", before.clone(), now.clone());
        }
        Ok(Place { generation: generation + 1, ..found.place })
    }

    async fn find(&self, id: &RepoId, revision: &str, path: &str) -> Result<Found, HubError> {
        let mut budget = self.http.budget();
        loop {
            match self.find_once(id, revision, path).await {
                Ok(found) => return Ok(found),
                Err(error) => self.http.again(&mut budget, error).await?,
            }
        }
    }

    async fn find_once(&self, id: &RepoId, revision: &str, path: &str) -> Result<Found, HubError> {
        let url = self.http.routes().resolve(id, revision, path)?;
        let (answer, place) = match self.http.walk(Method::HEAD, url, Missing::File).await? {
            Arrival::Cdn { redirect, to } => {
                let good_until = life(&to, redirect.header(&DATE)).map(|life| Instant::now() + life);
                (redirect, Place { url: to, signed: true, generation: 0, good_until })
            }
            Arrival::Hub(answer) if answer.status() == 200 => {
                let url = answer.url().clone();
                (answer, Place { url, signed: false, generation: 0, good_until: None })
            }
            Arrival::Hub(answer) => return Err(answer.failure()),
        };
        let commit = answer.header(&REPO_COMMIT).filter(|sha| is_commit_sha(sha)).map(str::to_owned);
        if let Some(now) = commit.as_ref().filter(|now| is_commit_sha(revision) && *now != revision) {
            let (before, now) = (revision.to_owned(), now.clone());
            return Err(answer.error(HubErrorKind::Changed { mark: "commit", before, now }));
        }
        let size = size(&answer, place.signed)?;
        // The ETag of a redirect is that of the redirect.
        let own = if place.signed { None } else { answer.header(&ETAG) };
        let content_id = answer.header(&LINKED_ETAG).or(own).and_then(digest).map(str::to_owned);
        let sha256 = content_id.clone().filter(|id| id.len() == 64);
        Ok(Found { place, size, sha256, content_id, commit })
    }
}

/// The size of the file. The length of a redirect's body is not it.
fn size(answer: &Answer<'_>, redirect: bool) -> Result<u64, HubError> {
    let linked = answer.header(&LINKED_SIZE).and_then(|size| size.trim().parse().ok());
    let direct = if redirect { None } else { answer.stated_length() };
    linked.or(direct).ok_or_else(|| {
        let part = if redirect { "X-Linked-Size header" } else { "Content-Length header" };
        answer
            .error(HubErrorKind::Malformed { part, detail: "the size of the file is not stated".to_owned() })
    })
}

/// The digest in an `ETag`: a SHA-256 for files in LFS storage, a SHA-1 (git blob id) for files in git.
fn digest(etag: &str) -> Option<&str> {
    let digest = etag.trim().trim_start_matches("W/").trim_matches('"');
    (matches!(digest.len(), 40 | 64) && digest.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digest)
}

/// How long a signed URL is good for, less a margin: `Expires` of `CloudFront`, or `X-Amz-Date`
/// with `X-Amz-Expires`, measured by the server's own clock where it states it.
fn life(url: &Url, date: Option<&str>) -> Option<Duration> {
    let parameter =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let expires = if let Some(epoch) = parameter("Expires").and_then(|epoch| epoch.parse::<i64>().ok()) {
        epoch
    } else {
        let signed = NaiveDateTime::parse_from_str(&parameter("X-Amz-Date")?, "%Y%m%dT%H%M%SZ").ok()?;
        signed.and_utc().timestamp().checked_add(parameter("X-Amz-Expires")?.parse().ok()?)?
    };
    let now = date
        .and_then(|date| DateTime::parse_from_rfc2822(date).ok())
        .map_or_else(chrono::Utc::now, Into::into);
    let left = u64::try_from(expires.saturating_sub(now.timestamp())).unwrap_or(0);
    let left = Duration::from_secs(left.min(7 * 24 * 3600));
    Some(left.saturating_sub(EARLY.min(left / 10)))
}

impl RemoteFile {
    /// Checks a range against the file's size.
    pub(crate) fn check(&self, asked: &Range<u64>) -> Result<u64, HubErrorKind> {
        if asked.start > asked.end || asked.end > self.0.size {
            return Err(HubErrorKind::OutOfFile { asked: asked.clone(), size: self.0.size });
        }
        Ok(asked.end - asked.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Tue, 29 Sep 2026 12:00:00 GMT";
    const EPOCH: i64 = 1_790_683_200;

    fn life_of(query: &str, date: Option<&str>) -> Option<u64> {
        life(&Url::parse(&format!("https://cdn/f?{query}")).unwrap(), date).map(|life| life.as_secs())
    }

    #[test]
    fn signed_urls_live_by_the_servers_clock() {
        assert_eq!(life_of(&format!("Expires={}&Policy=x", EPOCH + 3600), Some(DATE)), Some(3570));
        assert_eq!(life_of("X-Amz-Date=20260929T115900Z&X-Amz-Expires=3600", Some(DATE)), Some(3510));
        assert_eq!(
            life_of(&format!("Expires={}", EPOCH + 20), Some(DATE)),
            Some(18),
            "short lives end early, too"
        );
        assert_eq!(life_of(&format!("Expires={}", EPOCH - 5), Some(DATE)), Some(0));
        assert_eq!(life_of(&format!("Expires={}", i64::MAX), Some(DATE)), Some(7 * 24 * 3600 - 30));
        assert!(life_of(&format!("Expires={}", chrono::Utc::now().timestamp() + 100), None).unwrap() > 80);
        for none in ["", "Expires=soon", "X-Amz-Expires=60", "X-Amz-Date=x&X-Amz-Expires=60"] {
            assert_eq!(life_of(none, Some(DATE)), None, "{none}");
        }
    }

    #[test]
    fn an_etag_is_a_digest_or_nothing() {
        for digits in [40, 64] {
            let id = "ab".repeat(digits / 2);
            assert_eq!(digest(&format!("\"{id}\"")), Some(id.as_str()));
            assert_eq!(digest(&format!("W/\"{id}\"")), Some(id.as_str()));
        }
        assert_eq!(digest("\"1234\""), None);
        assert_eq!(digest(&"zz".repeat(32)), None);
    }
}
