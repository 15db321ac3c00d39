//! fetch: reads what the plan asks for, from the Hub or from a folder.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::adapter;
use super::container::{ComponentFiles, Container, OpenedFile, Step, Tensors};
use super::error::ReadError;
use super::plan::{self, PlanError, PlanSettings};
use super::source::{OpenFile, RepoFiles};
use crate::formats::{FileRange, Limits, ShardIndex, Unsupported, shards};
use crate::store::WeightFile;

/// Ranges of one checkpoint under way at once; the Hub client has a limit of its own for all of them.
const PARALLEL_RANGES: usize = 8;

/// The weight files of one checkpoint, those that are read of them open.
#[derive(Clone, Debug)]
pub struct WeightFiles {
    paths: Vec<String>,
    chosen: Vec<String>,
    files: Vec<Arc<dyn OpenFile>>,
    /// The index of shards, where it was read.
    pub index: Option<ShardIndex>,
    /// Its bytes.
    pub index_bytes: u64,
    /// Shards that the index or their numbers tell of, and that are not there.
    pub missing: Vec<String>,
    /// Where the files are: empty, or with a `/` at its end.
    pub folder: String,
    /// What was read of the files, headers apart.
    pieces: Vec<(FileRange, Bytes)>,
}

impl WeightFiles {
    /// Chooses the files of a component that are read, and opens them. Of shards that are not all there, those that are.
    pub async fn open(
        files: &dyn RepoFiles,
        component: &ComponentFiles,
        settings: &PlanSettings,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let folder = component.folder().to_owned();
        let mut index_bytes = 0;
        let (paths, chosen, missing, index) = match component {
            ComponentFiles::Named(paths) => {
                // The ends of the model, where embedding and final norm usually are, before what lies between.
                let ends = [paths.first(), paths.last()].into_iter().flatten().cloned();
                let chosen = plan::thin(paths, ends, settings);
                (paths.clone(), chosen, shards::missing(paths, limits.shards), None)
            }
            ComponentFiles::Index(path) => {
                let json = files.small(path, limits.index_bytes).await?;
                index_bytes = json.len() as u64;
                let index = ShardIndex::parse(&json, limits)
                    .map_err(|source| ReadError::Index { path: path.clone(), source })?
                    .in_folder(&folder);
                let (there, missing) = plan::there(&index, path, files.names());
                let chosen = plan::shards(&index, &there, settings)?;
                (there, chosen, missing, Some(index))
            }
        };
        let opened = stream::iter(&chosen)
            .map(|path| files.open(path))
            .buffered(PARALLEL_RANGES)
            .map_ok(Arc::from)
            .try_collect()
            .await?;
        Ok(Self { paths, chosen, files: opened, index, index_bytes, missing, folder, pieces: Vec::new() })
    }

    /// The same files, of which nothing was read.
    #[must_use]
    pub fn unread(&self) -> Self {
        Self { pieces: Vec::new(), ..self.clone() }
    }

    /// Whether one of these is among its files.
    pub fn has_any(&self, paths: &[String]) -> bool {
        self.paths.iter().any(|path| paths.contains(path))
    }

    /// All weight files; size and digest are known for the opened ones.
    pub fn list(&self) -> Vec<WeightFile> {
        let file = |path: &String| {
            let file = self.chosen.iter().position(|p| p == path).map(|i| &self.files[i]);
            let sha256 = file.and_then(|file| file.sha256()).map(str::to_owned);
            WeightFile { path: path.clone(), size: file.map(|file| file.size()), sha256 }
        };
        self.paths.iter().map(file).collect()
    }

    /// The paths of those that are open.
    pub fn opened_paths(&self) -> &[String] {
        &self.chosen
    }

    /// Whether that is all of the model's.
    pub fn is_whole(&self) -> bool {
        self.chosen.len() == self.paths.len() && self.missing.is_empty()
    }

    /// Files that are not open, or not there, and their bytes: as the index has it, or as large as the others.
    pub fn unopened(&self) -> Option<(usize, u64)> {
        let files = self.paths.len().saturating_sub(self.chosen.len()) + self.missing.len();
        let opened: u64 = self.files.iter().map(|file| file.size()).sum();
        let alike = (opened / self.files.len().max(1) as u64).saturating_mul(files as u64);
        let stated = self.index.as_ref().and_then(|index| index.total_size?.checked_sub(opened));
        (files > 0).then(|| (files, stated.unwrap_or(alike)))
    }

    /// Whether every tensor that the index names is in the opened files: it may be that of other shards.
    pub fn has_all(&self, tensors: &dyn Tensors) -> bool {
        let there: HashSet<&str> = tensors.names().collect();
        self.index
            .as_ref()
            .is_some_and(|index| index.weight_map.keys().all(|name| there.contains(name.as_str())))
    }

    /// Bytes of all weight files, as far as known.
    pub fn bytes(&self) -> u64 {
        let known: u64 = self.files.iter().map(|file| file.size()).sum();
        known.max(self.index.as_ref().and_then(|index| index.total_size).unwrap_or(0))
    }

    /// What the open files hold, by the decoder of their format, and the bytes that this took.
    pub async fn tensors(
        &self,
        container: &dyn Container,
        limits: &Limits,
    ) -> Result<(Arc<dyn Tensors>, u64), ReadError> {
        let files = self.chosen.iter().zip(&self.files);
        let files: Vec<_> = files.map(|(path, file)| OpenedFile { path, size: file.size() }).collect();
        let mut decoder = container.decoder(&files, limits);
        let mut bytes_fetched = 0;
        loop {
            let step = decoder.step().map_err(|damaged| {
                let path = self.chosen.get(damaged.file).cloned().unwrap_or_default();
                match damaged.source.downcast::<Unsupported>() {
                    Ok(what) => PlanError::Unsupported { path, what: *what }.into(),
                    Err(source) => ReadError::Header { path, source },
                }
            })?;
            match step {
                Step::Ready(tensors) => return Ok((adapter::seen(tensors.into()), bytes_fetched)),
                Step::Need(ranges) => {
                    let mut read = stream::iter(ranges)
                        .map(|range| async move { self.range(&range).await.map(|bytes| (range, bytes)) })
                        .buffered(PARALLEL_RANGES);
                    while let Some((range, bytes)) = read.try_next().await? {
                        bytes_fetched += range.len();
                        decoder.give(&range, &bytes);
                    }
                }
            }
        }
    }

    /// One range, read now and not kept.
    pub async fn range(&self, range: &FileRange) -> Result<Bytes, ReadError> {
        self.files[range.file].range(range.bytes.clone()).await
    }

    /// Reads ranges, several at once, but for those that lie in one that was read before.
    pub async fn read(&mut self, ranges: &[FileRange]) -> Result<(), ReadError> {
        let missing = ranges.iter().filter(|range| self.slice(range).is_none());
        let read: Vec<(FileRange, Bytes)> = stream::iter(missing)
            .map(|range| async { self.range(range).await.map(|bytes| (range.clone(), bytes)) })
            .buffer_unordered(PARALLEL_RANGES)
            .try_collect()
            .await?;
        self.pieces.extend(read);
        Ok(())
    }

    /// The bytes of a piece, where they were read.
    pub fn slice(&self, piece: &FileRange) -> Option<Bytes> {
        let holds = |f: &FileRange| {
            f.file == piece.file && f.bytes.start <= piece.bytes.start && piece.bytes.end <= f.bytes.end
        };
        let (range, bytes) = self.pieces.iter().find(|(range, _)| holds(range))?;
        let at = |offset: u64| usize::try_from(offset - range.bytes.start).ok();
        let (start, end) = (at(piece.bytes.start)?, at(piece.bytes.end)?);
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }

    /// Bytes that [`WeightFiles::read`] has read so far.
    pub fn bytes_read(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}
