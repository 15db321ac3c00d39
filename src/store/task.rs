//! What a writer does, and who may write beside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::tag::Tag;

/// Part `number` of `of` equal parts of the Hub. Which part a repository belongs to follows from its immutable id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition {
    /// From 1 on.
    pub number: u32,
    /// At least `number`.
    pub of: u32,
}

impl Partition {
    /// The whole Hub.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Whether a repository, by the tag of its immutable id, belongs to this part.
    pub fn has(self, id: Tag) -> bool {
        id.first_word() % u64::from(self.of) == u64::from(self.number - 1)
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(number, of)| Some(Self { number: number.parse().ok()?, of: of.parse().ok()? }));
        parsed
            .filter(|p| (1..=p.of).contains(&p.number))
            .ok_or_else(|| format!("{text:?} is no part; the second of five is 2/5"))
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.to_string()
    }
}

/// What a writer does. Crawls and builds only add, so they go on beside one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Crawls a part of the Hub.
    Crawl(Partition),
    /// Builds the index.
    Index,
    /// Moves or removes what others refer to.
    Maintenance,
}

impl Task {
    /// Crawls the whole Hub.
    pub const CRAWL: Self = Self::Crawl(Partition::WHOLE);

    /// Whether two of them must not be at work at once.
    pub fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Maintenance, _) | (_, Self::Maintenance) | (Self::Index, Self::Index) => true,
            (Self::Crawl(a), Self::Crawl(b)) => a.of != b.of || a.number == b.number,
            (Self::Crawl(_), Self::Index) | (Self::Index, Self::Crawl(_)) => false,
        }
    }

    /// As part of a file name.
    pub(super) fn label(self) -> String {
        match self {
            Self::Crawl(Partition::WHOLE) => "crawl".into(),
            Self::Crawl(Partition { number, of }) => format!("crawl-{number}-of-{of}"),
            Self::Index => "index".into(),
            Self::Maintenance => "maintenance".into(),
        }
    }

    /// The task with this label.
    pub(super) fn from_label(label: &str) -> Option<Self> {
        match label {
            "crawl" => Some(Self::Crawl(Partition::WHOLE)),
            "index" => Some(Self::Index),
            "maintenance" => Some(Self::Maintenance),
            _ => {
                let part = label.strip_prefix("crawl-")?.replacen("-of-", "/", 1);
                part.parse().ok().map(Self::Crawl)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_in_one_part() {
        for of in [1, 2, 5] {
            let parts: Vec<Partition> = (1..=of).map(|number| Partition { number, of }).collect();
            let mut sizes = vec![0; of as usize];
            for i in 0..1000 {
                let id = Tag::of(&format!("id-{i}"));
                let holders: Vec<usize> = (0..parts.len()).filter(|p| parts[*p].has(id)).collect();
                assert_eq!(holders.len(), 1);
                sizes[holders[0]] += 1;
            }
            assert!(sizes.iter().all(|n| *n > 800 / of), "{sizes:?}");
        }
    }

    #[test]
    fn parts_are_written_as_they_are_read() {
        assert_eq!("2/5".parse::<Partition>().unwrap().to_string(), "2/5");
        for wrong in ["", "0/5", "6/5", "2", "a/b", "1/0", "-1/2"] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
        let part = |number, of| Task::Crawl(Partition { number, of });
        for task in [part(1, 1), part(2, 5), Task::Index, Task::Maintenance] {
            assert_eq!(Task::from_label(&task.label()), Some(task));
            assert!(task.excludes(task) && task.excludes(Task::Maintenance));
        }
        assert!(!part(1, 5).excludes(part(2, 5)) && part(1, 5).excludes(part(2, 4)));
        assert!(!part(1, 1).excludes(Task::Index));
        assert_eq!(Task::from_label("crawl-9-of-5"), None);
    }
}
