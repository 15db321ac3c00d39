//! One checkpoint while it is read: a single owner from its files to what the row says of it.
//!
//! A [`Reader`] holds the settings and what all readings share; [`Reader::open`] makes a [`Reading`] of each checkpoint
//! of a repository. It can be read in steps: what an earlier plan read is not asked for again.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, Key};
use super::choose::{Chooser, Chosen, Headers, Rival};
use super::container::{Component, Container, Containers, Tensors};
use super::containers::sets::MODULES;
use super::cpu::off_thread;
use super::error::{ReadError, in_full};
use super::extract::{self, Extracted, Fetched};
use super::fetch::WeightFiles;
use super::metadata::Metadata;
use super::part::Part;
use super::plan::{self, Ask, Place, PlanError, PlanSettings, SmallFiles};
use super::row;
use super::source::RepoFiles;
use super::tokenizer::Tokenizers;
use crate::formats::packed::States;
use crate::formats::{FileRange, Limits, ModelConfig, endings, json};
use crate::hub::RepoEntry;
use crate::signals::Fingerprint;
use crate::store::{Outcome, Row, WeightFile};

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
    /// What stands in front of its names, where it is not the main one of several models in the same files.
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
        for component in self.components(&**files).await? {
            opened.extend(self.open_component(files, component, &metadata).await?);
            // They were read once, for all of them.
            metadata.bytes_fetched = 0;
        }
        Ok(opened)
    }

    /// Opens the weight files of the main checkpoint alone.
    pub async fn open_main(
        &self,
        files: &Arc<dyn RepoFiles>,
        metadata: &Metadata,
    ) -> Result<Reading<'_>, ReadError> {
        let main = self.components(&**files).await?.into_iter().next();
        let main = main.ok_or_else(|| self.no_weights(files.names()))?;
        let first = self.open_component(files, main, metadata).await?.into_iter().next();
        first.map_or_else(|| Err(self.no_weights(files.names()).into()), |(_, reading)| reading)
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
        let found = files.iter().find(|file| endings::is_weights(file)).cloned();
        PlanError::NoWeights { formats: self.settings.containers.names().join(" or "), found }
    }
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
            error @ (PlanError::NoWeights { .. } | PlanError::Unsupported { .. } | PlanError::NoRoles { .. }),
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

    /// The weight files; size and digest are known for the opened ones.
    pub fn weight_files(&self) -> Vec<WeightFile> {
        self.weights.list()
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
        if self.reader.settings.small_files == SmallFiles::Needed {
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
        let parts = match self.parts().await {
            Ok(parts) => parts,
            Err(error) => return vec![(self.component, Err(error))],
        };
        // Whoever has the same files would take the row of the main one alone.
        let key = self.extraction_key().filter(|_| parts.is_empty());
        let mut rows = vec![(self.component.clone(), Box::pin(self.row(entry.clone(), key)).await)];
        for part in parts {
            rows.push((part.component.clone(), Box::pin(part.row(entry.clone(), None)).await));
        }
        rows
    }

    /// The further whole models in the opened files.
    async fn parts(&mut self) -> Result<Vec<Self>, ReadError> {
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
        metadata.bytes_fetched = 0;
        if !part.shares_vocabulary() {
            metadata.tokenizer = Err("the tokenizer is that of the main model".into());
        }
        Self {
            reader: self.reader,
            files: Arc::clone(&self.files),
            container: Arc::clone(&self.container),
            component: format!("{}{}", self.component, part.name()),
            rivals: Vec::new(),
            beside: None,
            metadata,
            weights: self.weights.unread(),
            part: Some(part.prefix().to_owned()),
            headers: Some(Headers { tensors: Arc::new(part), bytes_fetched: 0 }),
        }
    }

    async fn row(mut self, entry: RepoEntry, key: Option<String>) -> Result<Row, ReadError> {
        let weights = self.read(&self.reader.settings.plan).await?;
        // With all bytes that were read.
        let Self { metadata, component, .. } = self;
        let row = off_thread(move || {
            let fingerprinted = weights.map_err(|error| in_full(&*error)).and_then(|extracted| {
                let fingerprint = Fingerprint::new(&extracted.samples).map_err(|error| in_full(&error))?;
                Ok((extracted, fingerprint))
            });
            let row = match fingerprinted {
                Ok((extracted, fingerprint)) => row::indexed(&entry, &metadata, key, extracted, fingerprint),
                Err(reason) => row::failed(&entry, Outcome::Unsupported, reason),
            };
            Row { component, ..row }
        });
        Ok(row.await)
    }

    /// The row of the repository where its weights were read before, for the row `same`.
    pub fn copied_row(self, entry: &RepoEntry, same: Row) -> Row {
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
        if let Some(index) = &self.weights.index {
            let prefix = self.part.as_deref().unwrap_or_default();
            let names = index.weight_map.keys().map(String::as_str);
            return plan::layers(names.filter(|name| name.starts_with(prefix)));
        }
        let layers = plan::layers(tensors.names());
        if self.weights.is_whole() || self.part.is_some() {
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
