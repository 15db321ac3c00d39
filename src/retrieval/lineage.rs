//! The families in the words of repositories, for people and other tools: who is whose copy, and whose relative.

use std::collections::HashMap;

use super::representatives::Representative;
use super::tables::{Checkpoint, FamilyRow, Lineage, Named, Posting};
use crate::store::RowRef;

/// The lineage of every repository, in the order of the postings; with the immutable ids of their rows, because names
/// are used again.
pub(super) fn of(
    checkpoints: &[Checkpoint],
    representatives: &[Representative],
    table: &[FamilyRow],
    postings: &[Posting],
    hub_ids: &HashMap<RowRef, String>,
) -> Vec<Lineage> {
    let mut oldest: Vec<Option<&Posting>> = vec![None; checkpoints.len()];
    let age = |p: &Posting| (p.created_at.unwrap_or(i64::MAX), p.repo_id.clone(), p.component.clone());
    for posting in postings {
        let oldest = &mut oldest[posting.checkpoint as usize];
        if oldest.is_none_or(|before| age(posting) < age(before)) {
            *oldest = Some(posting);
        }
    }
    let named = |posting: &Posting| Named {
        repo_id: posting.repo_id.clone(),
        hub_id: hub_ids.get(&posting.at).cloned().unwrap_or_default(),
        component: posting.component.clone(),
    };
    let name = |checkpoint: u32| oldest[checkpoint as usize].map(named);
    let lineage = |posting: &'_ Posting| {
        let place = checkpoints[posting.checkpoint as usize].place;
        let representative = &representatives[place.representative as usize];
        let family = &table[representative.family as usize];
        let (linked_to, correlation, p_value) = match representative.link {
            // It is near its representative.
            _ if representative.checkpoint != posting.checkpoint => {
                (Some(representative.checkpoint), Some(place.effect), None)
            }
            Some(link) => (
                Some(representatives[link.representative as usize].checkpoint),
                Some(link.effect),
                Some(link.p_value),
            ),
            None => (None, None, None),
        };
        (family, linked_to, correlation, p_value)
    };
    postings
        .iter()
        .map(|posting| {
            let (family, linked_to, correlation, p_value) = lineage(posting);
            let this = named(posting);
            Lineage {
                created_at: posting.created_at,
                family: family.id.clone(),
                root: name(family.root),
                copy_of: name(posting.checkpoint).filter(|oldest| *oldest != this),
                this,
                linked_to: linked_to.and_then(name),
                correlation,
                p_value,
            }
        })
        .collect()
}
