//! `GET /api/models`: filter, sort, cut a page, show the fields that were asked for.

mod filter;
mod keyset;
mod made_up;

use std::borrow::Cow;
use std::cmp::Ordering;

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Serialize, Serializer};

use self::filter::Filter;
use self::keyset::{Place, Sort};
use super::ask::Ask;
use super::catalogue::{MadeUp, Repo};
use super::fields::{self, Item, Scope, View};
use super::refusal::Refusal;
use super::reply;
use super::text::query_without;

/// A row before it is shown.
enum Row<'a> {
    Folder(&'a Repo),
    MadeUp(u64),
}

/// A page; of the made-up repositories there is one at a time while it is written.
struct Items<'a> {
    rows: &'a [(Place, Row<'a>)],
    made_up: &'a MadeUp,
    view: &'a View<'a>,
    names: &'a [&'a str],
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|(_, row)| {
            let repo = match row {
                Row::Folder(repo) => Cow::Borrowed(*repo),
                Row::MadeUp(number) => Cow::Owned(self.made_up.listed(*number)),
            };
            Item { view: self.view, repo, names: self.names }
        }))
    }
}

pub(crate) fn list(ask: &Ask<'_>) -> Result<Response, Refusal> {
    let query = &ask.query;
    let expand = fields::check(query.all("expand"), Scope::List)?;
    let sort = query.get("sort").unwrap_or("trendingScore");
    let sort = Sort::parse(sort).ok_or_else(|| Refusal::BadRequest("Invalid sort parameter".to_owned()))?;
    let ascending = query.get("direction") == Some("1");
    let limit = query.limit(ask.shared.settings.page_limit)?;
    let skip = query.number("skip")?.unwrap_or(0);
    let filter = Filter::parse(query)?;
    let after = match query.get("cursor") {
        None => None,
        Some(text) => Some(
            Place::from_cursor(text, sort, ascending)
                .ok_or_else(|| Refusal::BadRequest("Invalid cursor".to_owned()))?,
        ),
    };

    let mut folder: Vec<_> = ask
        .catalogue
        .repos
        .iter()
        .filter(|repo| ask.reader.may_see(repo) && filter.admits(repo))
        .map(|repo| (Place::of(repo, sort), Row::Folder(repo)))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place.compare(after, ascending).is_gt()))
        .collect();
    folder.sort_by(|(a, _), (b, _)| a.compare(b, ascending));
    let made_up = &ask.catalogue.made_up;
    let further = made_up::rows(made_up, &filter, after.as_ref(), (sort, ascending))?
        .map(|(place, number)| (place, Row::MadeUp(number)));
    let rows = merged(folder.into_iter(), further, |(a, _), (b, _)| a.compare(b, ascending));
    // One more than the page, to know whether there is another.
    let mut page: Vec<_> = rows.skip(skip).take(limit.saturating_add(1)).collect();
    let more = page.len() > limit;
    page.truncate(limit);

    let heavy = ask.shared.settings.faults.heavy_page;
    if heavy > 0 && page.len() > heavy && !expand.is_empty() {
        ask.shared.tally.add(|counters| counters.faults.error_5xx += 1);
        return Err(Refusal::HeavyPage);
    }

    let names = shown(&expand, ask, sort);
    let view = View { catalogue: &ask.catalogue, blobs: false, xet: ask.shared.settings.behaviour.xet };
    let items = Items { rows: &page, made_up, view: &view, names: &names };
    let mut answer = reply::json(StatusCode::OK, &items);
    if let (true, Some((last, _))) = (more, page.last()) {
        // The offset is used up by the first page.
        let kept = query_without(ask.raw_query, &["cursor", "skip"]);
        let cursor = last.cursor(sort, ascending);
        reply::next_page(
            answer.headers_mut(),
            &ask.shared.hub_url,
            "/api/models",
            &kept,
            ("cursor", &cursor),
        );
    }
    Ok(answer)
}

/// Two ordered sequences as one.
fn merged<T>(
    left: impl Iterator<Item = T>,
    right: impl Iterator<Item = T>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> impl Iterator<Item = T> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if compare(a, b).is_gt() => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}

/// The fields of an item; the sort key is always among them.
fn shown<'a>(expand: &[&'a str], ask: &Ask<'_>, sort: Sort) -> Vec<&'a str> {
    let mut names = expand.to_vec();
    if expand.is_empty() {
        names.extend(fields::LISTED);
        let further = [("full", &fields::FULL[..]), ("config", &["config"]), ("cardData", &["cardData"])];
        for (flag, fields) in further {
            if ask.query.flag(flag) {
                names.extend(fields);
            }
        }
    }
    if !names.contains(&sort.name()) {
        names.push(sort.name());
    }
    names
}
