//! Made-up names of contents. Hundreds of gigabytes, most of them holes, are not hashed to learn their name; the
//! names here tell two checkpoints apart exactly when their recipes differ, and are *not* digests of the bytes.

use sha2::{Digest, Sha256};

use super::settings::CheckpointSettings;
use crate::store::checksum::hex;

/// Part of every name, so that names change when the values do.
const VERSION: u32 = 2;

/// Names by the recipe of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Digests(String);

impl Digests {
    pub(super) fn of(settings: &CheckpointSettings) -> Self {
        let CheckpointSettings { shape, format, seed, from } = settings;
        let from = from.map_or_else(String::new, |(seed, r)| format!("{seed} {r}"));
        Self(format!("hubprint checkpoint {VERSION}\n{}\n{:?}\n{}\n{from}\n", shape.name, format, seed))
    }

    /// What stands for the SHA-256 of this file.
    pub(super) fn file(&self, name: &str) -> String {
        hex(&Sha256::new().chain_update(&self.0).chain_update(name).finalize())
    }

    /// What stands for the commit.
    pub(super) fn commit(&self) -> String {
        let mut name = self.file("");
        name.truncate(40);
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::settings::{FileType, Format};
    use super::super::shapes::SHAPES;
    use super::*;

    #[test]
    fn another_recipe_is_another_name() {
        let base = CheckpointSettings { shape: &SHAPES[0], format: Format::Safetensors, seed: 1, from: None };
        let mut names = BTreeSet::new();
        let format = Format::Safetensors;
        for (shape, format, seed, from) in [
            (0, format, 1, None),
            (1, format, 1, None),
            (0, format, 2, None),
            (0, format, 2, Some((1, 0.5))),
            (0, format, 2, Some((1, 0.6))),
            (0, Format::PyTorch, 1, None),
            (0, Format::Gguf(FileType::F16), 1, None),
            (0, Format::Gguf(FileType::Q8_0), 1, None),
        ] {
            let digests = Digests::of(&CheckpointSettings { shape: &SHAPES[shape], format, seed, from });
            assert_eq!((digests.file("a").len(), digests.commit().len()), (64, 40));
            names.extend([digests.file("a"), digests.file("b"), digests.commit()]);
        }
        assert_eq!(names.len(), 24);
        assert_eq!(Digests::of(&base).file("a"), Digests::of(&base).file("a"));
    }
}
