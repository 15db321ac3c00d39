//! What a crawl leaves for the next one, and how it is written down with the last rows.

use super::database::Database;
use super::error::StoreError;
use super::files::DatabaseFiles;
use super::manifest::ShardEntry;
use super::row::{Row, Waiting};
use super::shard;
use super::tag::Tag;
use super::task::Partition;

impl Database {
    /// Adds rows and replaces what waits of a part of the Hub, in one commit.
    pub fn append_last(
        &mut self,
        rows: &[Row],
        part: Partition,
        waiting: impl Iterator<Item = Result<Waiting, StoreError>>,
    ) -> Result<(), StoreError> {
        let ours = shard::write_waiting(self.files(), waiting)?;
        if rows.is_empty() && ours.is_none() && self.manifest().waiting.is_empty() {
            return Ok(());
        }
        let shard = if rows.is_empty() { None } else { Some(shard::write(self.files(), rows)?) };
        let files = self.files().clone();
        self.commit(|manifest| {
            manifest.shards.extend(shard.clone());
            let before = std::mem::take(&mut manifest.waiting);
            for (label, entry) in before {
                if label == part.to_string() {
                    continue;
                }
                // Of another division of the Hub: what belongs to this part was taken over by it.
                let all = read_waiting(&files, &entry)?;
                let rest: Vec<Waiting> =
                    all.iter().filter(|w| !part.has(Tag::of(&w.hub_id))).cloned().collect();
                if rest.len() == all.len() {
                    manifest.waiting.insert(label, entry);
                } else if let Some(rest) = shard::write_waiting(&files, rest.into_iter().map(Ok))? {
                    manifest.waiting.insert(label, rest);
                }
            }
            if let Some(ours) = &ours {
                manifest.waiting.insert(part.to_string(), ours.clone());
            }
            Ok(())
        })
    }

    /// What the last crawls left for the next one, of a part of the Hub.
    pub fn waiting(&self, part: Partition) -> Result<Vec<Waiting>, StoreError> {
        self.each_waiting(part)?.collect()
    }

    /// The same, read as it is taken: after a first sweep it may be the whole Hub.
    pub fn each_waiting(
        &self,
        part: Partition,
    ) -> Result<impl Iterator<Item = Result<Waiting, StoreError>>, StoreError> {
        let lists = self.manifest().waiting.values().map(|entry| shard::read_waiting(self.files(), entry));
        let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
        let each = lists.into_iter().flatten().flat_map(|batch| match batch {
            Ok(batch) => batch.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        Ok(each.filter(move |waiting| waiting.as_ref().map_or(true, |w| part.has(Tag::of(&w.hub_id)))))
    }
}

fn read_waiting(files: &DatabaseFiles, entry: &ShardEntry) -> Result<Vec<Waiting>, StoreError> {
    let mut waiting = Vec::new();
    for batch in shard::read_waiting(files, entry)? {
        waiting.extend(batch?);
    }
    Ok(waiting)
}

#[cfg(test)]
mod tests {
    use super::super::schema::testing::row;
    use super::super::task::Task;
    use super::*;

    fn rows(names: &[&str]) -> Vec<Row> {
        names.iter().map(|name| row(name, None)).collect()
    }

    fn each(waiting: &[Waiting]) -> impl Iterator<Item = Result<Waiting, StoreError>> {
        waiting.iter().cloned().map(Ok)
    }

    #[test]
    fn what_waits_is_replaced_with_the_last_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let waiting = |id: &str| Waiting { hub_id: id.into(), repo_id: format!("org/{id}"), since: 7 };
        let all = [waiting("x"), waiting("y")];
        let whole = Partition::WHOLE;
        db.append_last(&rows(&["a"]), whole, each(&all)).unwrap();
        assert_eq!(Database::open(dir.path()).unwrap().waiting(whole).unwrap(), all);
        db.append_last(&[], whole, each(&all[1..])).unwrap();
        assert_eq!(db.waiting(whole).unwrap(), &all[1..]);
        db.append_last(&rows(&["y"]), whole, each(&[])).unwrap();
        assert_eq!(db.waiting(whole).unwrap(), []);
        assert_eq!(db.manifest().generation, 4);
        db.append_last(&[], whole, each(&[])).unwrap();
        assert_eq!(db.manifest().generation, 4);
    }

    #[test]
    fn what_waits_survives_another_division_of_the_hub() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open_or_create(dir.path(), Task::CRAWL).unwrap();
        let all: Vec<Waiting> = (0..40)
            .map(|i| Waiting { hub_id: format!("x{i}"), repo_id: format!("org/{i}"), since: i })
            .collect();
        db.append_last(&[], Partition::WHOLE, each(&all)).unwrap();
        let parts = [1, 2].map(|number| Partition { number, of: 2 });
        let theirs = parts.map(|part| db.waiting(part).unwrap());
        assert_eq!(theirs[0].len() + theirs[1].len(), 40);
        // The first part finishes all of its own; nothing of the second is lost.
        db.append_last(&rows(&["a"]), parts[0], each(&[])).unwrap();
        assert_eq!(
            (db.waiting(parts[0]).unwrap(), db.waiting(parts[1]).unwrap()),
            (vec![], theirs[1].clone())
        );
        db.append_last(&[], parts[1], each(&theirs[1][1..])).unwrap();
        assert_eq!(db.waiting(Partition::WHOLE).unwrap(), &theirs[1][1..]);
    }
}
