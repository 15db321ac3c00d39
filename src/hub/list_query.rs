//! Which models to list, in which order, and from where on.
//!
//! The default order, oldest first by creation, is the one key that never changes: a crawl in any
//! other order skips and repeats models while it runs.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// Models per page: what the Hub promises. More has been seen to work and is not relied on.
pub const PAGE_SIZE: u32 = 1000;

/// Longest cursor kept, in bytes.
const MAX_CURSOR: usize = 4096;

/// Fields every crawl needs. Not among them are those that make a page ten times heavier
/// (`cardData`, `model-index`, `widgetData`, `spaces`): licences and parents are in the tags.
pub const SWEEP_FIELDS: [&str; 15] = [
    "baseModels",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "gated",
    "lastModified",
    "library_name",
    "likes",
    "pipeline_tag",
    "private",
    "safetensors",
    "sha",
    "siblings",
    "tags",
];

const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which models to list, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Tags a model must all have, e.g. `safetensors`, `license:mit`, `base_model:org/name`.
    pub filters: Vec<String>,
    /// Only models of this owner.
    pub author: Option<String>,
    /// Only models whose name contains this.
    pub search: Option<String>,
    /// Fields wanted beside `_id` and `id`; one unknown name makes the Hub refuse the request.
    pub expand: Vec<String>,
    /// Order.
    pub sort: Sort,
    /// Direction of the order.
    pub direction: Direction,
    /// Models per page, 1 to [`PAGE_SIZE`]; values outside are moved to the nearest bound.
    pub page_size: u32,
    /// Where to go on; `None` starts at the beginning. Must come from a listing with the same
    /// filters and order.
    pub start: Option<Cursor>,
}

impl Default for ListQuery {
    /// All models with [`SWEEP_FIELDS`], oldest first, in full pages.
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            author: None,
            search: None,
            expand: SWEEP_FIELDS.map(str::to_owned).to_vec(),
            sort: Sort::CreatedAt,
            direction: Direction::Ascending,
            page_size: PAGE_SIZE,
            start: None,
        }
    }
}

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Creation: immutable, the key of a full sweep.
    CreatedAt,
    /// Date of the head commit: for increments, descending down to a watermark.
    LastModified,
    /// Downloads: for the most used models; changes while one reads.
    Downloads,
}

/// Direction of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest or oldest first.
    Ascending,
    /// Largest or newest first.
    Descending,
}

/// Where a listing goes on. Opaque; serialisable, so that a crawl can be resumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String); // percent-encoded as received: decoding may turn '+' into a space

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list cursor")]
pub struct InvalidCursor;

impl TryFrom<String> for Cursor {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, InvalidCursor> {
        let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b'&' | b'#' | b'"' | b'<' | b'>' | b'\'');
        if text.is_empty() || text.len() > MAX_CURSOR || !text.bytes().all(legal) {
            return Err(InvalidCursor);
        }
        Ok(Self(text))
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}

impl ListQuery {
    /// As a query text, in a fixed order.
    pub(crate) fn text(&self, limit: u32, at: Option<&Cursor>) -> String {
        let mut text = format!("limit={limit}");
        let mut add = |name: &str, value: &str| {
            let _ = write!(text, "&{name}={}", utf8_percent_encode(value, QUERY_VALUE));
        };
        add(
            "sort",
            match self.sort {
                Sort::CreatedAt => "createdAt",
                Sort::LastModified => "lastModified",
                Sort::Downloads => "downloads",
            },
        );
        add(
            "direction",
            match self.direction {
                Direction::Ascending => "1",
                Direction::Descending => "-1",
            },
        );
        self.filters.iter().for_each(|tag| add("filter", tag));
        self.author.iter().for_each(|author| add("author", author));
        self.search.iter().for_each(|search| add("search", search));
        self.expand.iter().for_each(|field| add("expand", field));
        if let Some(Cursor(cursor)) = at {
            let _ = write!(text, "&cursor={cursor}"); // encoded already
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = ListQuery {
            filters: vec!["safetensors".into(), "base_model:org/a b".into()],
            author: Some("me&you".into()),
            search: Some("ü".into()),
            expand: vec!["sha".into(), "tags".into()],
            sort: Sort::LastModified,
            direction: Direction::Descending,
            ..ListQuery::default()
        };
        assert_eq!(
            query.text(1000, None),
            "limit=1000&sort=lastModified&direction=-1&filter=safetensors&filter=base_model%3Aorg%2Fa%20b\
             &author=me%26you&search=%C3%BC&expand=sha&expand=tags"
        );
    }
}
