//! `GET /api/models`: filter, sort, cut a page, show the fields that were asked for.

mod filter;
mod keyset;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use self::filter::Filter;
use self::keyset::{Place, Sort};
use super::fields::{self, Scope, View};
use super::hub::Ask;
use super::refusal::Refusal;
use super::reply;
use super::text::query_without;

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

    let mut rows: Vec<_> = ask
        .catalogue
        .repos
        .iter()
        .filter(|repo| ask.reader.may_see(repo) && filter.admits(repo))
        .map(|repo| (Place::of(repo, sort), repo))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place.compare(after, ascending).is_gt()))
        .collect();
    rows.sort_by(|(a, _), (b, _)| a.compare(b, ascending));
    let more = rows.len().saturating_sub(skip) > limit;
    let page: Vec<_> = rows.into_iter().skip(skip).take(limit).collect();

    let heavy = ask.shared.settings.faults.heavy_page;
    if heavy > 0 && page.len() > heavy && !expand.is_empty() {
        ask.shared.tally.add(|counters| counters.faults.error_5xx += 1);
        return Err(Refusal::HeavyPage);
    }

    let names = shown(&expand, ask, sort);
    let view = View { catalogue: &ask.catalogue, blobs: false, xet: ask.shared.settings.behaviour.xet };
    let items: Value = page.iter().map(|(_, repo)| view.render(repo, names.iter().copied())).collect();
    let mut answer = reply::json(StatusCode::OK, &items);
    if let (true, Some((last, _))) = (more, page.last()) {
        // The offset is used up by the first page.
        let kept = query_without(ask.raw_query, &["cursor", "skip"]);
        let cursor = last.cursor(sort, ascending);
        reply::next_page(answer.headers_mut(), &ask.shared.hub_url, "/api/models", &kept, &cursor);
    }
    Ok(answer)
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
