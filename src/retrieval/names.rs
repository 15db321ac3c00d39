//! The names of families when an index is built from nothing.
//!
//! A family is named after the checkpoint that founded it. Once all repositories of that checkpoint are gone, a build
//! from nothing knows it no more, and would give the family another name. So each family takes the name of that family of
//! the index before of which it holds the most checkpoints, if no other family holds more of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::store::Tag;

/// The families of the index before: their names, and the family of each checkpoint by the tag of its digest.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
    pub(super) of: HashMap<Tag, u32>,
}

impl Names {
    /// Replaces names where a family goes on. `checkpoints` are the tags of checkpoints with the number of their family
    /// now.
    pub(super) fn inherit(&self, ids: &mut [String], checkpoints: impl Iterator<Item = (Tag, u32)>) {
        let mut common: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for (tag, now) in checkpoints {
            if let Some(before) = self.of.get(&tag) {
                *common.entry((*before, now)).or_default() += 1;
            }
        }
        // The largest first; of equals the older families, so that the result does not depend on any other order.
        let mut pairs: Vec<((u32, u32), u32)> = common.into_iter().collect();
        pairs.sort_by_key(|(pair, n)| (std::cmp::Reverse(*n), *pair));
        let mut inherited: HashMap<u32, &String> = HashMap::new();
        let mut given: HashSet<u32> = HashSet::new();
        for ((before, now), _) in pairs {
            if let Some(name) = self.names.get(before as usize)
                && !inherited.contains_key(&now)
                && given.insert(before)
            {
                inherited.insert(now, name);
            }
        }
        let taken: HashSet<&String> = inherited.values().copied().collect();
        for (now, id) in (0..).zip(ids) {
            if let Some(name) = inherited.get(&now) {
                (*name).clone_into(id);
            } else if taken.contains(id) {
                // The founder of a family that goes on without it.
                *id = format!("{:016x}", Tag::of(id).first_word());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(checkpoint: u32) -> Tag {
        Tag::of(&checkpoint.to_string())
    }

    #[test]
    fn a_family_keeps_its_name_when_its_founder_is_gone() {
        // Checkpoints 0 to 2 were of family a, which 0 founded; 3 and 4 of b.
        let before = Names {
            names: vec!["a".into(), "b".into()],
            of: [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)].map(|(c, f)| (tag(c), f)).into(),
        };
        let mut ids = vec!["one".to_owned(), "b".into(), "new".into()];
        let now = [(1, 0), (2, 0), (3, 1), (4, 1), (9, 2)];
        before.inherit(&mut ids, now.map(|(c, f)| (tag(c), f)).into_iter());
        assert_eq!(ids, ["a", "b", "new"]);
    }

    #[test]
    fn of_two_parts_the_larger_goes_on() {
        let before =
            Names { names: vec!["a".into()], of: [(0, 0), (1, 0), (2, 0)].map(|(c, f)| (tag(c), f)).into() };
        // The founder stands alone now.
        let mut ids = vec!["a".to_owned(), "one".into()];
        before.inherit(&mut ids, [(0, 0), (1, 1), (2, 1)].map(|(c, f)| (tag(c), f)).into_iter());
        assert_eq!(ids[1], "a");
        assert_ne!(ids[0], "a");
    }
}
