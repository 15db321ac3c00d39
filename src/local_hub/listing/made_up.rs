//! The made-up repositories among the rows of a list, found without looking at those before them.

use super::filter::Filter;
use super::keyset::{Key, Place, Sort};
use crate::local_hub::catalogue::{MadeUp, Numbers};
use crate::local_hub::refusal::Refusal;
use crate::local_hub::text::timestamp;

/// The made-up rows behind `after`, in order; each is a place and a number. Only the order of
/// creation can be continued by arithmetic, so other orders, and a search in names, are refused.
pub(super) fn rows<'a>(
    made_up: &'a MadeUp,
    filter: &Filter<'_>,
    after: Option<&Place>,
    (sort, ascending): (Sort, bool),
) -> Result<impl Iterator<Item = (Place, u64)> + use<'a>, Refusal> {
    let beyond_arithmetic = sort != Sort::CreatedAt || filter.searches();
    if beyond_arithmetic && !made_up.is_empty() {
        return Err(Refusal::BadRequest(
            "Made-up repositories are listed with sort=createdAt and without search only".to_owned(),
        ));
    }
    let admitted: Vec<bool> = made_up.kinds().iter().map(|kind| filter.admits_kind(kind)).collect();
    let numbers = if admitted.contains(&true) { made_up.numbers(filter.author()) } else { Numbers::NONE };
    let place = |number| Place {
        key: Key::Text(timestamp(made_up.created(number))),
        object_id: made_up.object_id(number),
    };
    let mut places = numbers.places();
    if let Some(after) = after {
        let comes_after = |at| place(numbers.at(at, ascending)).compare(after, ascending).is_gt();
        // The rows up to `start` do not come after it, those from `end` do.
        let (mut start, mut end) = (places.start, places.end);
        while start < end {
            let middle = start.midpoint(end);
            if comes_after(middle) { end = middle } else { start = middle + 1 }
        }
        places.start = start;
    }
    Ok(places
        .map(move |at| numbers.at(at, ascending))
        .filter(move |&number| made_up.exists(number) && admitted.get(made_up.kind(number)) == Some(&true))
        .map(move |number| (place(number), number)))
}
