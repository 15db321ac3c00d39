//! One checkpoint while it is read: a single owner from its files to what the row says of it.
//!
//! A [`Reader`] holds the settings and what all readings share; [`Reader::open`] makes a [`Reading`] of each checkpoint
//! of a repository. It can be read in steps: what an earlier plan read is not asked for again.

use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, Key};
use super::choose::{Chooser, Chosen, Headers, Rival};
use super::component;
use super::container::{Component, Container, Containers, Tensors};
use super::containers::sets::MODULES;
use super::cpu::off_thread;
use super::error::{ReadError, in_full};
use super::extract::{self, Extracted, Fetched};
use super::fetch::WeightFiles;
use super::metadata::Metadata;
use super::part::Part;
use super::plan::{self, Ask, Place, PlanError, PlanSettings, SmallFiles};
use super::row::{self, Unread};
use super::source::RepoFiles;
use super::tokenizer::Tokenizers;
use crate::formats::packed::States;
use crate::formats::{FileRange, Limits, ModelConfig, endings, json};
use crate::hub::RepoEntry;
use crate::signals::{Coverage, Fingerprint};
use crate::store::Row;

/// Other weight files of a repository of which a comparison reads some bytes.
const MOST_RIVALS: usize = 4;

/// How checkpoints are read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// How much of each.
    pub plan: PlanSettings,
    /// Which small files are read beside the weights.
    pub small_files: SmallFiles,
    /// What to believe of a file.
    #[serde(skip)]
    pub limits: Limits,
    /// The formats that are read.
    #[serde(skip)]
    pub containers: Containers,
}

/// Reads checkpoints: the settings, and what was read before. Clones share the latter.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// How much is read.
    pub settings: ReadSettings,
    /// Tokenizers that are known already.
    pub tokenizers: Tokenizers,
    /// Where samples are kept by content.
    pub samples: Option<Cache>,
    /// The Hugging Face cache (`models--org--name` folders), used for repository ids when offline.
    pub hub_cache: Option<PathBuf>,
    /// Leave the weights alone.
    pub metadata_only: bool,
}

impl From<ReadSettings> for Reader {
    fn from(settings: ReadSettings) -> Self {
        Self { settings, ..Self::default() }
    }
}

/// What was read of the weights of one checkpoint, or why nothing was.
pub type Weights = Result<Extracted, Arc<PlanError>>;

/// One of the checkpoints of a repository: the name of the component, and what became of it.
pub type OfComponent<T> = (String, Result<T, ReadError>);

/// A checkpoint whose weight files are open.
pub struct Reading<'a> {
    reader: &'a Reader,
    files: Arc<dyn RepoFiles>,
    container: Arc<dyn Container>,
    /// Which checkpoint of its repository: empty for the main one.
    pub component: String,
    /// Other weight files of the repository, which are not part of it.
    pub rivals: Vec<Rival>,
    /// Of some of them path, size and bytes, once a comparison has asked for them.
    beside: Option<Vec<(String, u64, Bytes)>>,
    /// Config and tokenizer, as far as they were read.
    pub metadata: Metadata,
    weights: WeightFiles,
    headers: Option<Headers>,
    /// Which one it is, where it is not the main one of several models in the same files.
    part: Option<String>,
}

impl Reader {
    /// Requests to the Hub that reading a repository with these files takes, as far as their names tell.
    pub fn requests(&self, files: &[String]) -> u64 {
        let components = self.settings.containers.components(files);
        let of_each = components.iter().map(|(_, component)| component);
        plan::requests(files, of_each, &self.settings.plan, self.settings.small_files)
    }

    /// What is known of a checkpoint before its weights are: all that its small files say, or what the list says.
    /// `config` is what the Hub's list repeats of config.json.
    pub async fn metadata(
        &self,
        files: &dyn RepoFiles,
        config: Option<&serde_json::Value>,
    ) -> Result<Metadata, ReadError> {
        match self.settings.small_files {
            SmallFiles::All => self.metadata_beside(files, &self.likely_folder(files)).await,
            SmallFiles::Needed => Ok(Metadata::listed(config)),
        }
    }

    async fn metadata_beside(&self, files: &dyn RepoFiles, folder: &str) -> Result<Metadata, ReadError> {
        Metadata::read(files, folder, &self.settings.limits, &self.tokenizers).await
    }

    /// The folder of the main checkpoint, as far as names tell.
    fn likely_folder(&self, files: &dyn RepoFiles) -> String {
        let main = self.settings.containers.components(files.names()).into_iter().next();
        main.map(|(_, component)| component.files.folder().to_owned()).unwrap_or_default()
    }

    /// Opens the weight files of every checkpoint of a repository, the main one first. One that cannot be read leaves
    /// the others alone.
    pub async fn open(
        &self,
        files: &Arc<dyn RepoFiles>,
        metadata: &Metadata,
    ) -> Result<Vec<OfComponent<Reading<'_>>>, ReadError> {
        let mut opened = Vec::new();
        let mut metadata = metadata.clone();
        let mut names = BTreeSet::new();
        for (container, component) in self.components(&**files).await? {
            let name = component.name.clone();
            let found = match self.open_component(files, (container, component), &metadata).await {
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => vec![(name, Err(error))],
                Ok(found) => found,
            };
            opened.extend(found.into_iter().map(|found| named(found, &mut names)));
            // They were read once, for all of them.
            metadata.bytes_fetched = 0;
        }
        Ok(opened)
    }

    /// Opens the weight files of one checkpoint alone: of that with this name, else of the main one.
    pub async fn open_one(
        &self,
        files: &Arc<dyn RepoFiles>,
        metadata: &Metadata,
        name: Option<&str>,
    ) -> Result<Reading<'_>, ReadError> {
        let mut components = self.components(&**files).await?;
        let Some(name) = name else {
            components.truncate(1);
            let main = components.pop().ok_or_else(|| self.no_weights(files.names()))?;
            let first = self.open_component(files, main, metadata).await?.into_iter().next();
            return first.map_or_else(|| Err(self.no_weights(files.names()).into()), |(_, reading)| reading);
        };
        if components.iter().any(|(_, component)| component.name == name) {
            components.retain(|(_, component)| component.name == name);
        }
        let mut others = Vec::new();
        let mut names = BTreeSet::new();
        for component in components {
            let found = match self.open_component(files, component, metadata).await {
                Err(error) if error.is_passing() => return Err(error),
                // What is not the one need not be readable.
                found => found.unwrap_or_default(),
            };
            for found in found {
                let (component, reading) = named(found, &mut names);
                if component == name {
                    return reading;
                }
                let parts = match reading {
                    Ok(mut reading) => reading.parts().await,
                    Err(error) => Err(error),
                };
                let parts = match parts {
                    Err(error) if error.is_passing() => return Err(error),
                    // What is not the one need not be readable.
                    parts => parts.unwrap_or_default(),
                };
                others.extend(iter::once(component).chain(parts.iter().map(|part| part.component.clone())));
                if let Some(part) = parts.into_iter().find(|part| part.component == name) {
                    return Ok(part);
                }
            }
        }
        let others =
            others.into_iter().map(|name| if name.is_empty() { "the main one".to_owned() } else { name });
        Err(PlanError::NoComponent { name: name.to_owned(), others: others.collect() }.into())
    }

    /// The checkpoints of a repository, as far as names tell, and what modules.json says where several folders may hold
    /// the model.
    async fn components(
        &self,
        files: &dyn RepoFiles,
    ) -> Result<Vec<(Arc<dyn Container>, Component)>, ReadError> {
        let containers = &self.settings.containers;
        let mut components = containers.components(files.names());
        let is_open = |(_, main): &(_, Component)| {
            !main.files.folder().is_empty()
                && main.unsettled().any(|r| r.files.folder() != main.files.folder())
        };
        if components.first().is_some_and(is_open) && files.names().iter().any(|name| name == MODULES) {
            let json = files.small(MODULES, self.settings.limits.config_bytes).await?;
            let modules: Vec<Module> = json::parse(&json)
                .map_err(|source| ReadError::Config { path: MODULES.to_owned(), source })?;
            let named = containers.components(&within(files.names(), &modules));
            // It may be the file of another upload.
            if !named.is_empty() {
                components = named;
            }
        }
        if components.is_empty() { Err(self.no_weights(files.names()).into()) } else { Ok(components) }
    }

    async fn open_component(
        &self,
        files: &Arc<dyn RepoFiles>,
        (container, component): (Arc<dyn Container>, Component),
        metadata: &Metadata,
    ) -> Result<Vec<OfComponent<Reading<'_>>>, ReadError> {
        let ReadSettings { plan, limits, .. } = &self.settings;
        let chooser = Chooser { files: &**files, container: &*container, plan, limits, metadata };
        let mut readings = Vec::new();
        let mut metadata = metadata.clone();
        // Boxed, because what waits for it would be as large.
        for chosen in Box::pin(chooser.choose(component)).await? {
            let name = chosen.name.clone();
            let reading =
                Reading::open(self, Arc::clone(files), Arc::clone(&container), chosen, metadata.clone());
            readings.push((name, Box::pin(reading).await));
            metadata.bytes_fetched = 0;
        }
        Ok(readings)
    }

    fn no_weights(&self, files: &[String]) -> PlanError {
        let unread = |file: &String| Some(format!("{file}, {}", endings::unread(file)?));
        let found = files.iter().find_map(unread);
        PlanError::NoWeights { formats: self.settings.containers.names().join(" or "), found }
    }
}

/// A component under a name that no other one of its repository has.
fn named<'r>(
    (name, mut reading): OfComponent<Reading<'r>>,
    names: &mut BTreeSet<String>,
) -> OfComponent<Reading<'r>> {
    let name = component::unique(&name, names);
    if let Ok(reading) = &mut reading {
        reading.component.clone_from(&name);
    }
    (name, reading)
}

/// A part of a sentence-transformers model, in modules.json.
#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
}

/// The files of these folders, and those at the top.
fn within(files: &[String], modules: &[Module]) -> Vec<String> {
    let folder = |module: &Module| module.path.replace('\\', "/").trim_matches(['/', '.']).to_owned();
    let folders: Vec<String> = modules.iter().map(folder).collect();
    let is_in = |file: &&String| match file.rsplit_once('/') {
        Some((of_file, _)) => folders.iter().any(|folder| folder == of_file),
        None => true,
    };
    files.iter().filter(is_in).cloned().collect()
}

/// What this version does not read is no error.
pub fn readable<T>(read: Result<T, ReadError>) -> Result<Result<T, Arc<PlanError>>, ReadError> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(ReadError::Plan(
            error @ (PlanError::NoWeights { .. }
            | PlanError::Unsupported { .. }
            | PlanError::NoRoles { .. }
            | PlanError::Adapter { .. }),
        )) => Ok(Err(Arc::new(error))),
        Err(error) => Err(error),
    }
}

impl<'a> Reading<'a> {
    async fn open(
        reader: &'a Reader,
        files: Arc<dyn RepoFiles>,
        container: Arc<dyn Container>,
        chosen: Chosen,
        metadata: Metadata,
    ) -> Result<Self, ReadError> {
        let Chosen { name: component, opened, rivals, bytes_fetched } = chosen;
        let (weights, headers) = opened?;
        let is_all = reader.settings.small_files == SmallFiles::All;
        let beside = None;
        let mut reading = Self {
            reader,
            files,
            container,
            component,
            rivals,
            beside,
            metadata,
            weights,
            headers,
            part: None,
        };
        if is_all && reading.weights.folder != reader.likely_folder(&*reading.files) {
            // Others than were read before this was chosen.
            let before = reading.metadata.bytes_fetched;
            reading.metadata = reader.metadata_beside(&*reading.files, &reading.weights.folder).await?;
            reading.metadata.bytes_fetched += before;
        }
        reading.metadata.bytes_fetched += reading.weights.index_bytes + bytes_fetched;
        if !is_all && !reading.weights.is_whole() {
            reading.read_config().await?;
        }
        if let Some(headers) = &reading.headers {
            // Last, because whatever was read of the small files stands in its place.
            reading.metadata.learn(&*headers.tensors);
        }
        Ok(reading)
    }

    async fn read_config(&mut self) -> Result<(), ReadError> {
        let limits = &self.reader.settings.limits;
        let metadata = self.metadata.clone();
        self.metadata = metadata.with_config(&*self.files, &self.weights.folder, limits).await?;
        Ok(())
    }

    /// Reads the headers, and config.json where they show that the weights cannot be read without it. Whether it was:
    /// then [`Reading::extraction_key`] is another one.
    pub async fn read_headers(&mut self) -> Result<bool, ReadError> {
        if self.headers.is_some() {
            return Ok(false);
        }
        let headers = self.take_headers().await?;
        let is_listed = self.reader.settings.small_files == SmallFiles::Needed && self.weights.is_whole();
        let needs_config = is_listed && headers.tensors.needs_config();
        self.headers = Some(headers);
        if needs_config {
            self.read_config().await?;
        }
        Ok(needs_config)
    }

    fn key(&self, plan: &PlanSettings) -> Option<Key> {
        if self.part.is_some() {
            // What is kept of the files is the main model.
            return None;
        }
        Key::of(&self.weights.list(), self.weights.opened_paths(), &self.metadata, plan)
    }

    /// Equal for checkpoints that are read with the same result: the same content of the same files, read in the
    /// same way. `None` where the content of a file is not known without reading it.
    pub fn extraction_key(&self) -> Option<String> {
        self.key(&self.reader.settings.plan).as_ref().map(ToString::to_string)
    }

    /// Whether what this plan wants was read before, and kept.
    pub fn is_kept(&self, plan: &PlanSettings) -> bool {
        let entry = self.reader.samples.as_ref().zip(self.key(plan));
        entry.is_some_and(|(cache, key)| cache.has(&key))
    }

    /// Whether the files say of themselves what config.json and card say of others.
    pub fn describes_itself(&self) -> bool {
        self.container.describes_itself()
    }

    /// Digest over the SHA-256 of the weight files, where the Hub states them.
    pub fn weights_digest(&self) -> Option<String> {
        extract::weights_digest(&self.weights.list(), self.part.as_deref())
    }

    /// The weights by this plan, from the cache where they were read before.
    pub async fn read(&mut self, plan: &PlanSettings) -> Result<Weights, ReadError> {
        let mut weights = self.read_files(plan).await?;
        if let Ok(extracted) = &mut weights {
            self.add_beside(extracted, plan).await?;
        }
        Ok(weights)
    }

    async fn read_files(&mut self, plan: &PlanSettings) -> Result<Weights, ReadError> {
        if self.reader.settings.small_files == SmallFiles::Needed || self.container.describes_itself() {
            // They may show that config.json is needed, which is part of what an entry of the cache is known by.
            self.read_headers().await?;
        }
        let tokens = self.metadata.tokenizer.as_ref().ok().map(|known| Arc::clone(&known.keys));
        let entry = self.reader.samples.clone().zip(self.key(plan));
        let mut turn = None;
        if let Some((cache, key)) = entry.clone() {
            turn = Some(cache.turn(&key).await);
            let tokens = tokens.clone();
            if let Some(found) = off_thread(move || cache.get(&key, tokens)).await {
                return Ok(Ok(found));
            }
        }
        let fetched = match readable(self.fetch(plan).await)? {
            Ok(fetched) => fetched,
            Err(error) => return Ok(Err(error)),
        };
        let extracted = off_thread(move || {
            let extracted = extract::extract(fetched, tokens);
            if let Some((cache, key)) = &entry {
                cache.put(key, &extracted);
            }
            extracted
        });
        let extracted = extracted.await;
        drop(turn);
        Ok(Ok(extracted))
    }

    /// Reads the weights, and makes the row of the repository that the list describes by `entry`; behind it those of the
    /// further whole models in the same files.
    pub async fn rows(mut self, entry: &RepoEntry) -> Vec<OfComponent<Row>> {
        let mut rows = Vec::new();
        let main = Box::pin(self.row(entry)).await;
        let has_others =
            main.as_ref().is_ok_and(|row| row.coverage.as_ref().is_some_and(Coverage::has_other_models));
        rows.push((self.component.clone(), main));
        if !has_others {
            return rows;
        }
        match self.parts().await {
            Ok(parts) => {
                for mut part in parts {
                    let row = Box::pin(part.row(entry)).await;
                    rows.push((part.component, row));
                }
            }
            Err(error) => rows.push((self.component, Err(error))),
        }
        rows
    }

    /// The further whole models in the opened files.
    pub async fn parts(&mut self) -> Result<Vec<Self>, ReadError> {
        self.read_headers().await?;
        let headers = self.take_headers().await?;
        let parts = Part::others(&headers.tensors, &self.metadata.quantization);
        self.headers = Some(headers);
        Ok(parts.into_iter().map(|part| self.of_part(part)).collect())
    }

    fn of_part(&self, part: Part) -> Self {
        let mut metadata = self.metadata.clone();
        // It describes the whole.
        metadata.config = ModelConfig::default();
        metadata.declared_bases = Vec::new();
        metadata.bytes_fetched = 0;
        if !part.shares_vocabulary() {
            metadata.tokenizer = Err("the tokenizer is that of the main model".into());
        }
        let between = if self.component.is_empty() { "" } else { "/" };
        Self {
            reader: self.reader,
            files: Arc::clone(&self.files),
            container: Arc::clone(&self.container),
            component: format!("{}{between}{}", self.component, part.name()),
            rivals: Vec::new(),
            beside: None,
            metadata,
            weights: self.weights.unread(),
            part: Some(part.name().to_owned()),
            headers: Some(Headers { tensors: Arc::new(part), bytes_fetched: 0 }),
        }
    }

    async fn row(&mut self, entry: &RepoEntry) -> Result<Row, ReadError> {
        let weights = self.read(&self.reader.settings.plan).await?;
        // With all that was read for it.
        let metadata = self.metadata.clone();
        let key = self.extraction_key();
        // Files that are a part's are the main model's, and counted there.
        let bytes_in_repo = if self.part.is_some() { 0 } else { self.weights.bytes() };
        let of_headers = self.headers.as_ref().map_or(0, |headers| headers.bytes_fetched);
        let mut unread = Unread {
            files: self.weights.list(),
            bytes_in_repo,
            bytes_read: of_headers + self.weights.bytes_read(),
            coverage: None,
            adapter: None,
        };
        let (component, entry) = (self.component.clone(), entry.clone());
        let row = off_thread(move || {
            let row = match weights {
                Err(error) => {
                    unread.coverage = error.coverage().cloned();
                    unread.adapter = error.adapter().cloned();
                    row::unsupported(&entry, &metadata, unread, in_full(&*error))
                }
                Ok(extracted) => match Fingerprint::new(&extracted.samples) {
                    Ok(fingerprint) => {
                        // Whoever has the files of several models would take the row of one of them.
                        let is_one =
                            !extracted.samples.coverage.as_ref().is_some_and(Coverage::has_other_models);
                        let row =
                            row::indexed(&entry, &metadata, key.filter(|_| is_one), extracted, fingerprint);
                        Row { bytes_in_repo: row.bytes_in_repo.min(bytes_in_repo), ..row }
                    }
                    Err(error) => {
                        unread.coverage.clone_from(&extracted.samples.coverage);
                        unread.adapter = extracted.adapter;
                        row::unsupported(&entry, &metadata, unread, in_full(&error))
                    }
                },
            };
            Row { component, ..row }
        });
        Ok(row.await)
    }

    /// The row of the repository where its weights were read before, for the row `same`.
    pub fn copied_row(mut self, entry: &RepoEntry, same: Row) -> Row {
        if let Some(config) = same.config.clone().filter(|_| self.container.describes_itself()) {
            // Its headers were not read, and say the same.
            self.metadata.config = self.metadata.config.or(config);
        }
        let mut row = row::copied(entry, &self.metadata, self.weights.list(), same);
        if let Some(coverage) = &mut row.coverage {
            // Of other files the other repository has others.
            coverage.rest.retain(|rest| !rest.kind.is_beside());
            coverage.add_rest(self.rivals.iter().map(Rival::rest));
        }
        Row { component: self.component, ..row }
    }

    /// Takes the headers, read now if they were not; whoever takes them puts them back.
    async fn take_headers(&mut self) -> Result<Headers, ReadError> {
        if let Some(headers) = self.headers.take() {
            return Ok(headers);
        }
        let limits = &self.reader.settings.limits;
        let (tensors, bytes_fetched) = self.weights.tensors(&*self.container, limits).await?;
        self.metadata.learn(&*tensors);
        Ok(Headers { tensors, bytes_fetched })
    }

    /// Reads the small tensors that say how others are packed.
    async fn read_states(&mut self, headers: &Headers, plan: &PlanSettings) -> Result<States, ReadError> {
        let wanted = plan::states(&*headers.tensors, &self.metadata.quantization, plan);
        self.weights.read(&wanted).await?;
        let state = |f: FileRange| Some(((f.file, f.bytes.start), self.weights.slice(&f)?));
        Ok(wanted.into_iter().filter_map(state).collect())
    }

    /// Reads what is sampled of the weights, but for what was read of them before.
    pub async fn fetch(&mut self, settings: &PlanSettings) -> Result<Fetched, ReadError> {
        let headers = self.take_headers().await?;
        let fetched = self.fetch_with(&headers, settings).await;
        self.headers = Some(headers);
        fetched
    }

    async fn fetch_with(&mut self, headers: &Headers, settings: &PlanSettings) -> Result<Fetched, ReadError> {
        let states = self.read_states(headers, settings).await?;
        let Headers { tensors, bytes_fetched } = headers;
        let tokens = self.metadata.anchors(settings);
        let config = &self.metadata.quantization;
        let plan = tracing::info_span!("plan")
            .in_scope(|| plan::sample(&**tensors, config, &states, settings, &tokens))?;
        self.weights.read(&plan.fetches).await?;
        let weights = &self.weights;
        let blocks = plan.asks.into_iter().filter_map(|ask| {
            let bytes = ask.pieces.iter().map(|piece| weights.slice(piece)).collect::<Option<_>>()?;
            Some((ask, bytes))
        });
        let bytes_of = |place: Place| Some((place.clone(), weights.slice(&place.bytes)?));
        let probes = plan.probes.into_iter().filter_map(bytes_of).collect();
        Ok(Fetched {
            part: self.part.clone(),
            adapter: tensors.adapter().cloned(),
            blocks: blocks.collect(),
            layers: self.layers(&**tensors),
            probes,
            coverage: plan.coverage,
            unopened: weights.unopened().filter(|_| !weights.has_all(&**tensors)),
            vocabulary: plan.vocabulary,
            parameters: tensors.elements(),
            files: weights.list(),
            unreadable: plan.unreadable,
            bytes_fetched: bytes_fetched + weights.bytes_read(),
            bytes_in_repo: weights.bytes(),
        })
    }

    /// What the repository has beside the checkpoint, which is no part of what is kept by the content of its files: other
    /// weight files, and bytes of them for a comparison, because two models may share an adapter.
    async fn add_beside(&mut self, extracted: &mut Extracted, plan: &PlanSettings) -> Result<(), ReadError> {
        if let Some(coverage) = &mut extracted.samples.coverage {
            coverage.add_rest(self.rivals.iter().map(Rival::rest));
        }
        if plan.detail.is_none() {
            return Ok(());
        }
        if self.beside.is_none() {
            self.beside = Some(self.read_beside().await?);
        }
        for (path, size, bytes) in self.beside.iter().flatten() {
            extracted.bytes_fetched += bytes.len() as u64;
            if let Some(probe) = extract::probe(*size, bytes) {
                extracted.samples.probes.insert(path.clone(), probe);
            }
        }
        Ok(())
    }

    /// Path, size and bytes from the middle of other weight files.
    async fn read_beside(&self) -> Result<Vec<(String, u64, Bytes)>, ReadError> {
        let mut read = Vec::new();
        for path in self.rivals.iter().filter_map(|rival| rival.paths.first()).take(MOST_RIVALS) {
            let middle = async {
                let file = self.files.open(path).await?;
                let (size, length) = (file.size(), file.size().min(plan::PROBE_BYTES));
                let start = (size - length) / 2;
                Ok((path.clone(), size, file.range(start..start + length).await?))
            };
            match middle.await {
                Ok(found) => read.push(found),
                // Without it the answer would be another one.
                Err(error) if ReadError::is_passing(&error) => return Err(error),
                // What cannot be read is beside the model.
                Err(_) => {}
            }
        }
        Ok(read)
    }

    /// Layers of the main stack.
    fn layers(&self, tensors: &dyn Tensors) -> u16 {
        let layers = plan::layers(tensors.names());
        // Of a part, and of what an adapter changes, the names are not those of the index.
        if self.part.is_some() || tensors.adapter().is_some() {
            return layers;
        }
        if let Some(index) = &self.weights.index {
            return plan::layers(index.weight_map.keys().map(String::as_str));
        }
        if self.weights.is_whole() {
            return layers;
        }
        // The last layers may be in a shard that was not opened.
        let stated = self.metadata.config.layers.or(self.metadata.config.decoder_layers);
        stated.and_then(|n| u16::try_from(n).ok()).map_or(layers, |stated| layers.max(stated))
    }

    /// Every row of every weight that has a role, in blocks.
    pub async fn whole(&mut self) -> Result<Vec<Ask>, ReadError> {
        let headers = self.take_headers().await?;
        let states = self.read_states(&headers, &self.reader.settings.plan).await;
        let asks = states.map(|states| plan::whole(&*headers.tensors, &self.metadata.quantization, &states));
        self.headers = Some(headers);
        asks
    }

    /// The values of one block, read by itself; why there are none in the words of a report.
    pub async fn block(&self, ask: &Ask) -> Result<Result<Vec<f32>, String>, ReadError> {
        let mut pieces = Vec::with_capacity(ask.pieces.len());
        for piece in &ask.pieces {
            pieces.push(self.weights.range(piece).await?);
        }
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        Ok(ask.decode(&pieces))
    }
}
