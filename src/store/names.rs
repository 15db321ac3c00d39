//! Which rows the repositories of a database have, by name.

use std::collections::HashMap;

use super::database::Database;
use super::error::StoreError;
use super::row::{Row, RowRef};
use super::tag::Tag;

/// Where the live rows of each repository lie, by its name: the main checkpoint first, then by component.
#[derive(Debug)]
pub struct Names(HashMap<Tag, Vec<RowRef>>);

impl Database {
    /// The names of all repositories. Reads the keys of every row.
    pub fn names(&self) -> Result<Names, StoreError> {
        let live = self.live()?;
        let places = |id| live.checkpoints_of(id).map(|checkpoint| checkpoint.at).collect();
        Ok(Names(live.repositories().map(|(id, known)| (known.name, places(id))).collect()))
    }

    /// The rows of the repository with this name, or of one component of it.
    pub fn named(
        &self,
        names: &Names,
        repo_id: &str,
        component: Option<&str>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = self.rows(names.0.get(&Tag::of(repo_id)).map_or(&[], Vec::as_slice))?;
        rows.retain(|row| component.is_none_or(|component| row.component == component));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::testing::row;
    use super::super::task::Task;
    use super::*;

    #[test]
    fn checkpoints_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let unet = Row { component: "unet".into(), ..row("a", None) };
        db.append(&[unet, row("b", None), row("a", None)]).unwrap();
        let names = db.names().unwrap();
        let found = |name, component| {
            let rows = db.named(&names, name, component).unwrap();
            rows.iter().map(Row::name).collect::<Vec<_>>()
        };
        assert_eq!(found("org/a", None), ["org/a", "org/a[unet]"]);
        assert_eq!(found("org/a", Some("unet")), ["org/a[unet]"]);
        assert!(found("org/a", Some("vae")).is_empty() && found("org", None).is_empty());
    }
}
