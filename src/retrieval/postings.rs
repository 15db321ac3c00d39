//! Which repositories stand behind a content, and which content a digest names.

use rayon::prelude::*;

use super::tables::Posting;
use crate::store::Tag;

/// All postings, by content and by digest.
#[derive(Debug, Default)]
pub struct Postings {
    /// Ordered by content, oldest first.
    all: Vec<Posting>,
    offsets: Vec<u32>,
    /// (start of the tag of a digest, posting), ordered.
    digests: Vec<(u64, u32)>,
}

impl Postings {
    /// Orders postings of so many contents.
    pub fn new(mut all: Vec<Posting>, contents: usize) -> Self {
        all.par_sort_by(|a, b| {
            let key = |p: &Posting| (p.content, p.created_at.unwrap_or(i64::MAX));
            key(a).cmp(&key(b)).then_with(|| a.repo_id.cmp(&b.repo_id))
        });
        let mut offsets = vec![0u32; contents + 1];
        for posting in &all {
            if let Some(offset) = offsets.get_mut(posting.content as usize + 1) {
                *offset += 1;
            }
        }
        for i in 0..contents {
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

    /// The repositories behind a content, oldest first.
    pub fn of(&self, content: u32) -> &[Posting] {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or_default() as usize;
        self.all.get(at(content as usize)..at(content as usize + 1)).unwrap_or_default()
    }

    /// The content with this weights or sample digest.
    pub fn content_of(&self, tag: Tag) -> Option<u32> {
        let key = tag.first_word();
        let first = self.digests.partition_point(|d| d.0 < key);
        self.digests[first..].iter().take_while(|d| d.0 == key).find_map(|(_, i)| {
            let posting = &self.all[*i as usize];
            (posting.weights == Some(tag) || posting.samples == Some(tag)).then_some(posting.content)
        })
    }

    /// Every posting, ordered by content.
    pub fn all(&self) -> &[Posting] {
        &self.all
    }
}
