//! The list of models, page by page: `GET /api/models`.
//!
//! Pages are followed by the cursor in the `Link` header and by nothing else: they are never
//! counted, and shorter pages than asked for are normal. Only the cursor is taken from the
//! `Link`; the rest of the URL is ours, so a reply can neither lead the crawl elsewhere nor
//! change what is asked. A page the server is too busy to build is asked for again in halves.

use futures_util::Stream;
use reqwest::{Method, header::LINK};
use serde::{
    Deserializer,
    de::{DeserializeSeed, SeqAccess, Visitor},
};
use serde_json::Value;
use url::Url;

use super::{
    answer::Answer,
    client::Hub,
    entry::{Rejected, RepoEntry},
    error::HubError,
    error_kind::{HubErrorKind, Missing, Phase, Refusal},
    http::Arrival,
    list_query::{Cursor, ListQuery, PAGE_SIZE},
};
use crate::formats::text::printable;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The models, in the order of the list.
    pub repos: Vec<RepoEntry>,
    /// Items that could not be named, by position in the page. Their number and that of `repos`
    /// make up the whole page.
    pub rejected: Vec<(usize, Rejected)>,
    /// The cursor this page was read at; `None` for the first page.
    pub cursor: Option<Cursor>,
    /// Where the list goes on; `None` after the last page.
    pub next: Option<Cursor>,
}

/// Where a listing stands.
struct Listing {
    hub: Hub,
    query: ListQuery,
    at: Option<Cursor>,
    limit: u32,
    done: bool,
}

impl Hub {
    /// Lists models page by page, until the last page or the first error.
    ///
    /// Retries happen inside. After an error, a listing started at the last page's `next` goes on
    /// where this one stopped.
    ///
    /// # Errors
    /// [`HubErrorKind::Rejected`] for a query the Hub does not accept,
    /// [`HubErrorKind::NotFound`] from a proxy without this route,
    /// [`HubErrorKind::Malformed`] for a page or `Link` that cannot be understood,
    /// [`HubErrorKind::ForeignRedirect`] for a `Link` to another origin, and those of the network.
    pub fn list(&self, query: ListQuery) -> impl Stream<Item = Result<Page, HubError>> + Send + use<> {
        let limit = query.page_size.clamp(1, PAGE_SIZE);
        let listing = Listing { hub: self.clone(), at: query.start.clone(), query, limit, done: false };
        futures_util::stream::try_unfold(listing, |mut listing| async move {
            if listing.done {
                return Ok(None);
            }
            let page = listing.page().await?;
            listing.at.clone_from(&page.next);
            listing.done = page.next.is_none();
            Ok(Some((page, listing)))
        })
    }
}

impl Listing {
    /// The page at the cursor, with retries.
    async fn page(&mut self) -> Result<Page, HubError> {
        let mut budget = self.hub.http.budget();
        loop {
            match self.page_once().await {
                Ok(page) => {
                    // The next page may be lighter again.
                    self.limit = self.limit.saturating_mul(2).min(self.query.page_size.clamp(1, PAGE_SIZE));
                    return Ok(page);
                }
                Err(error) => {
                    let smaller = (self.limit / 2).max(1);
                    if is_overload(error.kind()) && smaller < self.limit {
                        // A smaller page is another question: it has a budget of its own. A thousand halves
                        // ten times, so this ends.
                        self.limit = smaller;
                        budget = self.hub.http.budget();
                    }
                    self.hub.http.again(&mut budget, error).await?;
                }
            }
        }
    }

    async fn page_once(&self) -> Result<Page, HubError> {
        let http = &self.hub.http;
        let limits = &http.settings().limits;
        let url = http.routes().list(&self.query.text(self.limit, self.at.as_ref()))?;
        let answer = match http.walk(Method::GET, url, Missing::List).await? {
            Arrival::Hub(answer) => answer,
            Arrival::Cdn { redirect, to } => return Err(redirect.leaves_origin(&to)),
        };
        match answer.status().as_u16() {
            200 => {}
            // A proxy's reason may speak of a repository, but none was asked for.
            404 => return Err(answer.error(HubErrorKind::NotFound { what: Missing::List })),
            _ => return Err(answer.failure()),
        }
        let next = self.next(&answer)?;
        let url = answer.url().clone();
        let body = answer.body(limits.page).await?;
        let (repos, rejected) = Items { config_cap: limits.config }.read(&body).map_err(|error| {
            HubError::new(&url, HubErrorKind::Malformed { part: "list page", detail: error.to_string() })
        })?;
        Ok(Page { repos, rejected, cursor: self.at.clone(), next })
    }

    /// The cursor of the next page, if there is one.
    fn next(&self, answer: &Answer<'_>) -> Result<Option<Cursor>, HubError> {
        let malformed =
            |detail: String| answer.error(HubErrorKind::Malformed { part: "Link header", detail });
        let Some(link) = answer.headers().get(LINK) else { return Ok(None) };
        if link.len() > self.hub.settings().limits.link {
            return Err(malformed(format!("{} bytes long", link.len())));
        }
        let Some(target) = link.to_str().ok().map(next_link) else {
            return Err(malformed(printable(link.as_bytes())));
        };
        let Some(target) = target else { return Ok(None) };
        let url = answer.url().join(target).map_err(|error| malformed(error.to_string()))?;
        if !self.hub.http.routes().is_hub(&url) {
            let to = url.host_str().unwrap_or_default().to_owned();
            return Err(answer.error(HubErrorKind::ForeignRedirect { to, why: Refusal::LeavesOrigin }));
        }
        let cursor =
            cursor_of(&url).ok_or_else(|| malformed("a next page without a usable cursor".to_owned()))?;
        if self.at.as_ref() == Some(&cursor) {
            return Err(malformed("the next page is this page".to_owned()));
        }
        Ok(Some(cursor))
    }
}

/// Whether a smaller page may succeed.
fn is_overload(kind: &HubErrorKind) -> bool {
    match kind {
        HubErrorKind::Server { .. } => true,
        HubErrorKind::Stalled { phase, .. } => *phase != Phase::Connect,
        _ => false,
    }
}

/// The target of `rel="next"` in a `Link` header.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    // `<target>; params, <target>; params`: targets hold no `<`, params here no `,<`.
    while let Some((_, after)) = rest.split_once('<') {
        let (target, params) = after.split_once('>')?;
        let end = params.find('<').unwrap_or(params.len());
        let is_next = params[..end].split([';', ',']).any(|param| {
            let Some((name, value)) = param.split_once('=') else { return false };
            let names = |rel: &str| rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"));
            name.trim().eq_ignore_ascii_case("rel") && names(value.trim().trim_matches('"'))
        });
        if is_next {
            return Some(target);
        }
        rest = &params[end..];
    }
    None
}

fn cursor_of(url: &Url) -> Option<Cursor> {
    let cursor = url.query()?.split('&').find_map(|pair| pair.strip_prefix("cursor="))?;
    Cursor::try_from(cursor.to_owned()).ok()
}

/// Reads a page item by item: beside the raw page, one item at a time is held as JSON.
struct Items {
    config_cap: usize,
}

type ReadItems = (Vec<RepoEntry>, Vec<(usize, Rejected)>);

impl Items {
    fn read(self, page: &[u8]) -> Result<ReadItems, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(page);
        let items = self.deserialize(&mut json)?;
        json.end()?;
        Ok(items)
    }
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = ReadItems;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ReadItems, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = ReadItems;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of models")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ReadItems, A::Error> {
        let (mut repos, mut rejected) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Value>()? {
            match RepoEntry::read(item, self.config_cap) {
                Ok(repo) => repos.push(repo),
                Err(why) => rejected.push((repos.len() + rejected.len(), why)),
            }
        }
        Ok((repos, rejected))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::list_query::InvalidCursor;
    use super::*;

    #[test]
    fn links() {
        let next = "https://h/api/models?limit=2&cursor=abc%3D";
        for header in [
            format!("<{next}>; rel=\"next\""),
            format!("<{next}>;rel=next"),
            format!("<https://h/first>; rel=\"first\", <{next}>; title=\"a\"; rel=\"last next\""),
            format!("<{next}>; REL=\"Next\", <https://h/x>; rel=\"prev\""),
        ] {
            assert_eq!(next_link(&header), Some(next), "{header}");
        }
        for header in ["", "<x>", "<x>; rel=\"prev\"", "<x; rel=next", "x; rel=next", "<x>; xrel=next"] {
            assert_eq!(next_link(header), None, "{header}");
        }
    }

    #[test]
    fn cursors_stay_as_they_are() {
        let url = Url::parse("https://h/api/models?limit=1&xcursor=no&cursor=a%2Bb+c/=%3D&z=1").unwrap();
        let cursor = cursor_of(&url).unwrap();
        assert_eq!(String::from(cursor.clone()), "a%2Bb+c/=%3D");
        let text = ListQuery { expand: vec![], ..ListQuery::default() }.text(7, Some(&cursor));
        assert_eq!(text, "limit=7&sort=createdAt&direction=1&cursor=a%2Bb+c/=%3D");
        assert_eq!(cursor_of(&Url::parse("https://h/?cursor=").unwrap()), None);
        for bad in ["", "a&limit=9", "a#b", "a b", "ä", &"x".repeat(5000)] {
            assert_eq!(Cursor::try_from(bad.to_owned()), Err(InvalidCursor), "{bad}");
        }
    }

    #[test]
    fn nameless_items_are_reported_with_their_place() {
        let page = br#"[{"_id":"1","id":"a/b"}, 7, {"_id":"2"}, {"_id":"3","id":"c","_id":"4"}]"#;
        let (repos, rejected) = Items { config_cap: 0 }.read(page).unwrap();
        assert_eq!(repos.iter().map(|repo| repo.object_id.as_str()).collect::<Vec<_>>(), ["1", "4"]);
        assert_eq!(rejected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2]);
        for bad in ["", "{}", "[", "[1] x", &"[".repeat(1000)] {
            assert!(Items { config_cap: 0 }.read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_link_header_panics(header in "[<>;,=\"a-zA-Z ]{0,60}") {
            if let Some(target) = next_link(&header) {
                prop_assert!(header.contains(target));
            }
        }
    }
}
