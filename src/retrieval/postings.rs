//! Which repositories stand behind a content, and which content a digest names.

use super::tables::Posting;

/// All postings, by content and by digest.
#[derive(Debug, Default)]
pub struct Postings {
    /// Ordered by content, oldest first.
    all: Vec<Posting>,
    offsets: Vec<u32>,
    /// (start of a digest, posting), ordered.
    digests: Vec<(u64, u32)>,
}

impl Postings {
    /// Orders postings of so many contents.
    pub fn new(mut all: Vec<Posting>, contents: usize) -> Self {
        all.sort_by(|a, b| {
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
            .flat_map(|(i, p)| {
                p.weights_digest.iter().chain(&p.sample_digest).map(move |d| (start(d), i as u32))
            })
            .collect();
        digests.sort_unstable();
        Self { all, offsets, digests }
    }

    /// The repositories behind a content, oldest first.
    pub fn of(&self, content: u32) -> &[Posting] {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or_default() as usize;
        self.all.get(at(content as usize)..at(content as usize + 1)).unwrap_or_default()
    }

    /// The content with this weights or sample digest.
    pub fn content_of(&self, digest: &str) -> Option<u32> {
        let key = start(digest);
        let first = self.digests.partition_point(|d| d.0 < key);
        self.digests[first..].iter().take_while(|d| d.0 == key).find_map(|(_, i)| {
            let posting = &self.all[*i as usize];
            let equal = |d: &Option<String>| d.as_deref() == Some(digest);
            (equal(&posting.weights_digest) || equal(&posting.sample_digest)).then_some(posting.content)
        })
    }

    /// Every posting, ordered by content.
    pub fn all(&self) -> &[Posting] {
        &self.all
    }
}

/// The first eight bytes of a digest's text: enough to find it, not to tell it.
fn start(digest: &str) -> u64 {
    digest.bytes().take(16).fold(0u64, |key, byte| {
        let nibble = char::from(byte).to_digit(16).unwrap_or_else(|| u32::from(byte) & 15);
        key << 4 | u64::from(nibble)
    })
}
