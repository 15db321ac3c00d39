//! What is new: a listed repository beside what is known of it. Joined on the Hub's immutable id, because names are
//! given up and taken by others.

use crate::checkpoint::row::gated;
use crate::hub::RepoEntry;
use crate::signals::fingerprint::is_outdated;
use crate::store::{Known, Outcome, Tag};

/// What has become of a repository since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not known.
    New,
    /// It has another commit, or the listing does not say which.
    Changed,
    /// It could not be read, and now may be.
    Again,
    /// It has another name.
    Renamed,
    /// It had gone, or its name was another's, and it is back, as it was.
    Returned,
    /// Access to it is granted in another way.
    Regated,
    /// Nothing but this program: its fingerprint is of an older extraction version, and may have seen less of it.
    Outdated,
    /// Nothing.
    Unchanged,
}

/// When a repository that could not be read is tried again though nothing about it has changed: if its row was made
/// before this time, milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// One that access to was refused.
    pub refused_before: i64,
    /// One whose files were not understood, by a version that understood less.
    pub unread_before: i64,
}

/// Compares a description with the live row.
pub fn change(entry: &RepoEntry, known: Option<&Known>, retry: Retry) -> Change {
    let Some(known) = known else { return Change::New };
    let sha = entry.sha.as_deref().map(Tag::of);
    if sha.is_none() || sha != known.sha {
        return Change::Changed;
    }
    let regated = Tag::of(gated(entry.gated)) != known.gated;
    // What ended for reasons that lie in its files ends in another way only where more of them is read.
    let reads_more = is_outdated(known.extraction_version);
    // Of several checkpoints any may be the one.
    let may_heal = match known.worst {
        Outcome::Indexed => false,
        Outcome::Unsupported | Outcome::Malformed => reads_more || known.crawled_at < retry.unread_before,
        Outcome::Unreachable => true,
        // The listing would say so, but for a grant to this token alone.
        Outcome::Gated | Outcome::Missing | Outcome::Disabled => {
            let enabled = known.worst == Outcome::Disabled && entry.disabled != Some(true);
            let long_ago = known.crawled_at < retry.refused_before;
            enabled || regated || known.gone || long_ago
        }
    };
    if may_heal {
        Change::Again
    } else if known.gone || known.is_superseded {
        Change::Returned
    } else if Tag::of(entry.id.as_str()) != known.name {
        Change::Renamed
    } else if regated {
        Change::Regated
    } else if reads_more && known.outcome == Outcome::Indexed {
        Change::Outdated
    } else {
        Change::Unchanged
    }
}

impl Change {
    /// Whether its files are to be read.
    pub fn is_due(self) -> bool {
        matches!(self, Self::New | Self::Changed | Self::Again | Self::Outdated)
    }

    /// Whether its row is to be written again with what the listing says, without reading files.
    pub fn is_relabelling(self) -> bool {
        matches!(self, Self::Renamed | Self::Returned | Self::Regated)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::signals::fingerprint::EXTRACTION_VERSION;
    use crate::store::schema::Key;
    use crate::store::{Live, RowRef};

    const SHA: &str = "0123456789012345678901234567890123456789";

    fn entry(more: &serde_json::Value) -> RepoEntry {
        let mut value = json!({"_id": "x", "id": "org/name", "sha": SHA});
        let object = value.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        RepoEntry::read(value, 0).unwrap()
    }

    fn refused_before(time: i64) -> Retry {
        Retry { refused_before: time, unread_before: 0 }
    }

    fn known(outcome: Outcome) -> Known {
        of_several(&[outcome])
    }

    /// A repository whose checkpoints ended like this.
    fn of_several(outcomes: &[Outcome]) -> Known {
        let mut live = Live::default();
        for (row, outcome) in (0..).zip(outcomes) {
            let key = Key {
                hub_id: "x".into(),
                component: if row == 0 { String::new() } else { format!("component-{row}") },
                repo_id: "org/name".into(),
                sha: Some(SHA.into()),
                crawled_at: 1000,
                is_gone: false,
                outcome: *outcome,
                gated: "false".into(),
                extraction_key: None,
                extraction_version: EXTRACTION_VERSION,
            };
            live.add(&key, RowRef { shard: 0, row });
        }
        *live.of("x").unwrap()
    }

    #[test]
    fn what_the_listing_says_decides() {
        let indexed = known(Outcome::Indexed);
        let of =
            |more: serde_json::Value, known: &Known| change(&entry(&more), Some(known), refused_before(0));
        assert_eq!(change(&entry(&json!({})), None, refused_before(0)), Change::New);
        assert_eq!(of(json!({}), &indexed), Change::Unchanged);
        assert_eq!(of(json!({"sha": "f".repeat(40)}), &indexed), Change::Changed);
        assert_eq!(of(json!({"sha": null}), &indexed), Change::Changed);
        assert_eq!(of(json!({"id": "org/other"}), &indexed), Change::Renamed);
        assert_eq!(of(json!({"gated": "auto"}), &indexed), Change::Regated);
        let mut gone = indexed;
        gone.gone = true;
        assert_eq!(of(json!({}), &gone), Change::Returned);
        // A new commit matters more than a new name.
        assert_eq!(of(json!({"id": "org/other", "sha": "f".repeat(40)}), &indexed), Change::Changed);
    }

    #[test]
    fn what_could_not_be_read_is_tried_again_when_it_may_work() {
        let of =
            |more: serde_json::Value, outcome, retry| change(&entry(&more), Some(&known(outcome)), retry);
        let (later, always) = (refused_before(0), refused_before(i64::MAX));
        for outcome in [Outcome::Gated, Outcome::Missing] {
            assert_eq!(of(json!({}), outcome, later), Change::Unchanged);
            assert_eq!(of(json!({}), outcome, refused_before(1000)), Change::Unchanged);
            assert_eq!(of(json!({}), outcome, refused_before(1001)), Change::Again);
            assert_eq!(of(json!({"gated": "manual"}), outcome, later), Change::Again);
        }
        assert_eq!(of(json!({"disabled": true}), Outcome::Disabled, later), Change::Unchanged);
        assert_eq!(of(json!({}), Outcome::Disabled, later), Change::Again);
        assert_eq!(of(json!({}), Outcome::Unreachable, later), Change::Again);
        for outcome in [Outcome::Malformed, Outcome::Unsupported] {
            assert_eq!(of(json!({}), outcome, always), Change::Unchanged);
            assert_eq!(of(json!({}), outcome, Retry { unread_before: 1001, ..later }), Change::Again);
        }
        // One of several that was not understood is enough.
        let several = of_several(&[Outcome::Indexed, Outcome::Unsupported]);
        let newer = Retry { unread_before: 1001, ..later };
        assert_eq!(change(&entry(&json!({})), Some(&several), newer), Change::Again);
        assert_eq!(change(&entry(&json!({})), Some(&several), later), Change::Unchanged);
        let newer = Retry { refused_before: 0, unread_before: i64::MAX };
        assert_eq!(of(json!({}), Outcome::Indexed, newer), Change::Unchanged);
        assert_eq!(of(json!({}), Outcome::Gated, newer), Change::Unchanged);
    }

    #[test]
    fn what_an_older_version_has_read_is_read_again_when_nothing_else_is_to_be_done() {
        let older = |outcome| {
            let mut known = known(outcome);
            known.extraction_version -= 1;
            known
        };
        let of =
            |more: serde_json::Value, known: &Known| change(&entry(&more), Some(known), refused_before(0));
        let indexed = older(Outcome::Indexed);
        let mut gone = indexed;
        gone.gone = true;
        assert_eq!(of(json!({}), &indexed), Change::Outdated);
        assert!(Change::Outdated.is_due() && !Change::Outdated.is_relabelling());
        // What the list says of it is written down first, and costs nothing.
        assert_eq!(of(json!({"id": "org/other"}), &indexed), Change::Renamed);
        assert_eq!(of(json!({"gated": "auto"}), &indexed), Change::Regated);
        assert_eq!(of(json!({"sha": "f".repeat(40)}), &indexed), Change::Changed);
        assert_eq!(of(json!({}), &gone), Change::Returned);
        // The same rule for what had no fingerprint, but that those come with what is new.
        assert_eq!(of(json!({}), &older(Outcome::Unsupported)), Change::Again);
        assert_eq!(of(json!({}), &older(Outcome::Malformed)), Change::Again);
        assert_eq!(of(json!({}), &older(Outcome::Gated)), Change::Unchanged);
        // One checkpoint of several is enough.
        let mut several = of_several(&[Outcome::Indexed, Outcome::Indexed]);
        assert_eq!(of(json!({}), &several), Change::Unchanged);
        several.extraction_version -= 1;
        assert_eq!(of(json!({}), &several), Change::Outdated);
    }

    #[test]
    fn who_has_its_name_back_is_noted() {
        let mut superseded = known(Outcome::Indexed);
        superseded.is_superseded = true;
        assert_eq!(change(&entry(&json!({})), Some(&superseded), refused_before(0)), Change::Returned);
    }
}
