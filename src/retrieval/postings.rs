//! Which repositories stand behind a checkpoint, and which checkpoint a digest names.

use rayon::prelude::*;

use super::tables::Posting;
use crate::store::Tag;

/// All postings, by checkpoint and by digest.
#[derive(Debug, Default)]
pub struct Postings {
    /// Ordered by checkpoint, oldest first.
    all: Vec<Posting>,
    offsets: Vec<u32>,
    /// (start of the tag of a digest, posting), ordered.
    digests: Vec<(u64, u32)>,
}

impl Postings {
    /// Orders postings of so many checkpoints.
    pub fn new(mut all: Vec<Posting>, checkpoints: usize) -> Self {
        all.par_sort_by(|a, b| {
            let key = |p: &Posting| (p.checkpoint, p.created_at.unwrap_or(i64::MAX));
            key(a).cmp(&key(b)).then_with(|| (&a.repo_id, &a.component).cmp(&(&b.repo_id, &b.component)))
        });
        let mut offsets = vec![0u32; checkpoints + 1];
        for posting in &all {
            if let Some(offset) = offsets.get_mut(posting.checkpoint as usize + 1) {
                *offset += 1;
            }
        }
        for i in 0..checkpoints {
            offsets[i + 1] += offsets[i];
        }
        let mut digests: Vec<(u64, u32)> = all
            .iter()
            .enumerate()
            .flat_map(|(i, p)| p.weights.iter().chain(&p.samples).map(move |d| (d.first_word(), i as u32)))
            .collect();
        digests.par_sort_unstable();
        Self { all, offsets, digests }
    }

    /// The repositories behind a checkpoint, oldest first.
    pub fn of(&self, checkpoint: u32) -> &[Posting] {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or_default() as usize;
        self.all.get(at(checkpoint as usize)..at(checkpoint as usize + 1)).unwrap_or_default()
    }

    /// The checkpoint with this weights or sample digest.
    pub fn checkpoint_of(&self, tag: Tag) -> Option<u32> {
        let key = tag.first_word();
        let first = self.digests.partition_point(|d| d.0 < key);
        self.digests[first..].iter().take_while(|d| d.0 == key).find_map(|(_, i)| {
            let posting = &self.all[*i as usize];
            (posting.weights == Some(tag) || posting.samples == Some(tag)).then_some(posting.checkpoint)
        })
    }

    /// Every posting, ordered by checkpoint.
    pub fn all(&self) -> &[Posting] {
        &self.all
    }
}
