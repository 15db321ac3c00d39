//! The order of the list, and the cursor that continues it.
//!
//! Rows are ordered by (sort key, `_id` ascending). A cursor names the last row that was sent and
//! selects what comes after it *now*: rows that appear, vanish or move between two pages are shown,
//! lacking or repeated exactly as their present key says. It is written as the database query that
//! it stands for, in base64.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::local_hub::catalogue::Repo;
use crate::local_hub::text::timestamp;

/// What a list can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    CreatedAt,
    LastModified,
    Downloads,
    Likes,
    TrendingScore,
    Likes30d,
    NumParameters,
    MainSize,
    Id,
}

/// A sort key; a missing one is smaller than all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Missing,
    Number(u64),
    Text(String),
}

impl Sort {
    const NAMES: [(&'static str, Self); 9] = [
        ("createdAt", Self::CreatedAt),
        ("lastModified", Self::LastModified),
        ("downloads", Self::Downloads),
        ("likes", Self::Likes),
        ("trendingScore", Self::TrendingScore),
        ("likes30d", Self::Likes30d),
        ("num_parameters", Self::NumParameters),
        ("mainSize", Self::MainSize),
        ("id", Self::Id),
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, sort)| *sort)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, sort)| *sort == self).map_or("", |(name, _)| name)
    }

    pub(super) fn key(self, repo: &Repo) -> Key {
        match self {
            // Time stamps have a fixed width: their order as text is their order in time.
            Self::CreatedAt => Key::Text(timestamp(repo.created)),
            Self::LastModified => Key::Text(timestamp(repo.modified)),
            Self::Downloads => Key::Number(repo.downloads),
            Self::Likes | Self::TrendingScore | Self::Likes30d => Key::Number(repo.likes),
            Self::NumParameters => repo.parameters.as_ref().map_or(Key::Missing, |p| Key::Number(p.total)),
            Self::MainSize => Key::Number(repo.stored_bytes()),
            Self::Id => Key::Text(repo.id.clone()),
        }
    }
}

/// A place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) object_id: String,
}

impl Place {
    pub(super) fn of(repo: &Repo, sort: Sort) -> Self {
        Self { key: sort.key(repo), object_id: repo.object_id.clone() }
    }

    pub(super) fn compare(&self, other: &Self, ascending: bool) -> Ordering {
        let keys = self.key.cmp(&other.key);
        let keys = if ascending { keys } else { keys.reverse() };
        keys.then_with(|| self.object_id.cmp(&other.object_id))
    }

    pub(super) fn cursor(&self, sort: Sort, ascending: bool) -> String {
        STANDARD.encode(self.query(sort, ascending).to_string())
    }

    /// Reads a cursor; one made for another order is refused.
    pub(super) fn from_cursor(text: &str, sort: Sort, ascending: bool) -> Option<Self> {
        let query: Value = serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()?;
        let last = query.get("$or")?.get(0)?;
        let key = match last.get(sort.name())? {
            Value::Null => Key::Missing,
            Value::Number(number) => Key::Number(number.as_u64()?),
            Value::String(text) => Key::Text(text.clone()),
            _ => return None,
        };
        let place = Self { key, object_id: last.get("_id")?.get("$gt")?.as_str()?.to_owned() };
        (place.query(sort, ascending) == query).then_some(place)
    }

    fn query(&self, sort: Sort, ascending: bool) -> Value {
        let name = sort.name();
        let key = match &self.key {
            Key::Missing => Value::Null,
            Key::Number(number) => json!(number),
            Key::Text(text) => json!(text),
        };
        let tie = json!({ name: key, "_id": { "$gt": self.object_id } });
        match (&self.key, ascending) {
            (Key::Missing, true) => json!({ "$or": [tie, { name: { "$ne": null } }] }),
            (Key::Missing, false) => json!({ "$or": [tie] }),
            (_, true) => json!({ "$or": [tie, { name: { "$gt": key } }] }),
            (_, false) => json!({ "$or": [tie, { name: { "$lt": key } }, { name: null }] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: Key) -> Place {
        Place { key, object_id: "6390d9f33de76d60299acbe0".to_owned() }
    }

    #[test]
    fn cursors_survive_the_way_and_back() {
        for (key, sort) in [
            (Key::Number(2), Sort::Downloads),
            (Key::Text("2022-03-02T23:29:04.000Z".to_owned()), Sort::CreatedAt),
            (Key::Missing, Sort::NumParameters),
        ] {
            for ascending in [true, false] {
                let place = place(key.clone());
                let cursor = place.cursor(sort, ascending);
                assert_eq!(Place::from_cursor(&cursor, sort, ascending), Some(place));
                assert_eq!(Place::from_cursor(&cursor, sort, !ascending), None);
                assert_eq!(Place::from_cursor(&cursor, Sort::Likes, ascending), None);
            }
        }
    }

    #[test]
    fn a_cursor_is_a_query() {
        assert_eq!(
            place(Key::Number(2)).query(Sort::Downloads, false).to_string(),
            r#"{"$or":[{"_id":{"$gt":"6390d9f33de76d60299acbe0"},"downloads":2},{"downloads":{"$lt":2}},{"downloads":null}]}"#
        );
    }

    #[test]
    fn nonsense_is_no_cursor() {
        for text in ["", "x", "e30=", &STANDARD.encode(r#"{"$or":[{"likes":1,"_id":{"$gt":1}}]}"#)] {
            assert_eq!(Place::from_cursor(text, Sort::Likes, true), None, "{text}");
        }
    }

    #[test]
    fn ties_go_by_id_and_missing_keys_come_last_when_descending() {
        let later = Place { object_id: "7".to_owned(), ..place(Key::Number(2)) };
        for ascending in [true, false] {
            assert_eq!(place(Key::Number(2)).compare(&later, ascending), Ordering::Less);
        }
        assert_eq!(place(Key::Missing).compare(&place(Key::Number(0)), false), Ordering::Greater);
        assert_eq!(place(Key::Missing).compare(&place(Key::Number(0)), true), Ordering::Less);
    }
}
