//! Which sets of weight files are models, where names leave it open: their headers tell.
//!
//! The main model is the set whose tensors form one: layers and an embedding under known names, as many layers as
//! config.json says, the most parameters. A set that forms another model is a component of its own; one that forms none,
//! or holds the same weights, is named and not read. Nothing here is asked where names are enough.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use super::component;
use super::container::{Candidate, Component, ComponentFiles, Container, Tensors};
use super::containers::sets::OTHER_FORMAT;
use super::error::{ReadError, in_full};
use super::fetch::WeightFiles;
use super::listed::listed;
use super::metadata::Metadata;
use super::plan::{self, PlanError, PlanSettings};
use super::source::RepoFiles;
use crate::formats::packed::{QuantConfig, States};
use crate::formats::shards::ShardName;
use crate::formats::{FileRange, Limits, Weight};
use crate::signals::coverage::{Rest, RestKind};
use crate::signals::roles::{self, Role};

/// Bytes of each of a few weights by which two sets are told apart.
const GLANCE: u64 = 1024;
/// Most weights that are looked at: one of each kind.
const GLANCES: usize = 16;

/// Most characters that say what other files are: twenty quantisations of a model have their names in it.
const WHAT_CHARS: usize = 300;

/// Weight files of the repository that are not read as part of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Their paths.
    pub paths: Vec<String>,
    /// Their size, where they were opened.
    pub bytes: Option<u64>,
    /// Why they are not part of it.
    pub why: String,
    /// The component that they are, where they are a whole model of their own.
    pub component: Option<String>,
}

impl Rival {
    /// As a part of the repository that is not read.
    pub fn rest(&self) -> Rest {
        let what: String = format!("{}: {}", self.listed(), self.why).chars().take(WHAT_CHARS).collect();
        let kind = if self.component.is_some() { RestKind::OtherModel } else { RestKind::OtherFile };
        Rest { kind, what, parameters: 0, bytes: self.bytes.unwrap_or(0) }
    }

    /// Their names, of shards the first.
    fn listed(&self) -> String {
        let is_first = |path: &&str| ShardName::parse(path).is_none_or(|shard| shard.number < 2);
        let all = self.paths.iter().map(String::as_str);
        let firsts: Vec<&str> = all.clone().filter(is_first).collect();
        listed(&if firsts.is_empty() { all.take(1).collect() } else { firsts })
    }

    fn new(candidate: &Candidate, why: impl Into<String>) -> Self {
        let paths = match &candidate.files {
            ComponentFiles::Named(paths) => paths.clone(),
            // Its shards are sets of their own.
            ComponentFiles::Index(_) => Vec::new(),
        };
        Self { paths, bytes: None, why: why.into(), component: None }
    }

    fn opened(weights: &WeightFiles, why: impl Into<String>) -> Self {
        let paths = weights.list().into_iter().map(|file| file.path).collect();
        Self { paths, bytes: Some(weights.bytes()), why: why.into(), component: None }
    }
}

/// What the opened files hold.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) tensors: Arc<dyn Tensors>,
    pub(super) bytes_fetched: u64,
}

/// A component whose files are open, or why they are not.
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) opened: Result<(WeightFiles, Option<Headers>), ReadError>,
    pub(super) rivals: Vec<Rival>,
    /// Bytes read of sets that are no component.
    pub(super) bytes_fetched: u64,
}

/// What the choice goes by.
pub(super) struct Chooser<'a> {
    pub(super) files: &'a dyn RepoFiles,
    pub(super) container: &'a dyn Container,
    pub(super) plan: &'a PlanSettings,
    pub(super) limits: &'a Limits,
    pub(super) metadata: &'a Metadata,
}

/// A set whose headers were read.
struct Seen {
    /// Its place in the order of names.
    place: usize,
    name: String,
    weights: WeightFiles,
    headers: Headers,
    forms: Forms,
}

/// What the tensors of a set form, as far as its opened files tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Forms {
    /// Layers of the main stack.
    layers: u64,
    has_embedding: bool,
    /// Parameters with a role.
    parameters: u64,
    /// Parameters of all kinds.
    all: u64,
}

impl Forms {
    fn of<'w>(weights: impl Iterator<Item = &'w Weight<'w>> + Clone) -> Self {
        let positions = roles::positions(weights.clone().map(|weight| (&*weight.name, &*weight.shape)));
        let mut forms = Self::default();
        for (weight, position) in weights.zip(positions) {
            let unpacked = weight.shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
            let parameters =
                if weight.elements == 0 { 0 } else { unpacked.unwrap_or(0).max(weight.elements) };
            forms.all = forms.all.saturating_add(parameters);
            let Some(position) = position.filter(|_| parameters > 0) else { continue };
            forms.parameters = forms.parameters.saturating_add(parameters);
            forms.has_embedding |= position.role == Role::Embedding;
            if position.is_main() && position.role.is_matrix() {
                forms.layers = forms.layers.max(u64::from(position.layer) + 1);
            }
        }
        forms
    }

    /// The same for all files of a set, of which these are opened: an estimate.
    fn of_all(self, weights: &WeightFiles) -> Self {
        let (all, opened) = (weights.list().len() as u64, weights.opened_paths().len().max(1) as u64);
        let scaled = |parameters: u64| (parameters / opened).saturating_mul(all).max(parameters);
        // What is in the others, the index says.
        let index = weights.index.as_ref().filter(|_| opened < all);
        let names = index.map(|index| index.weight_map.keys().map(String::as_str));
        let layers = names.map_or(0, plan::layers);
        Self {
            layers: self.layers.max(layers.into()),
            parameters: scaled(self.parameters),
            all: scaled(self.all),
            ..self
        }
    }

    fn is_model(self) -> bool {
        self.layers > 0 && self.has_embedding
    }
}

impl Chooser<'_> {
    /// The components of these files, the main one first.
    pub(super) async fn choose(&self, component: Component) -> Result<Vec<Chosen>, ReadError> {
        let Component { name, files, rivals, .. } = component;
        let (settled, open): (Vec<_>, Vec<_>) = rivals.into_iter().partition(|rival| rival.settled.is_some());
        let settled = settled.iter().map(|rival| Rival::new(rival, rival.settled.unwrap_or_default()));
        // The shards of an index are sets of their own.
        let mut named: Vec<Rival> = settled.filter(|rival| !rival.paths.is_empty()).collect();
        together(&mut named);
        if open.is_empty() {
            let opened = self.open(&files).await.map(|weights| (weights, None));
            return Ok(vec![Chosen { name, opened, rivals: named, bytes_fetched: 0 }]);
        }
        let candidates = iter::once(Candidate { name: String::new(), files, settled: None }).chain(open);
        let (mut opened, mut failed) = (Vec::new(), None);
        for candidate in candidates {
            let ComponentFiles::Named(paths) = &candidate.files else {
                self.attempt(candidate, &mut opened, &mut failed, &mut named).await?;
                continue;
            };
            // What the index lists is part of its set.
            if !opened.iter().any(|(_, weights): &(Candidate, WeightFiles)| weights.has_any(paths)) {
                self.attempt(candidate, &mut opened, &mut failed, &mut named).await?;
            }
        }
        if opened.len() == 1
            && let Some((_, weights)) = opened.pop()
        {
            return Ok(vec![Chosen { name, opened: Ok((weights, None)), rivals: named, bytes_fetched: 0 }]);
        }
        let mut limits = self.limits.clone();
        let mut seen: Vec<Seen> = Vec::new();
        for (place, (candidate, weights)) in opened.into_iter().enumerate() {
            match weights.tensors(self.container, &limits).await {
                Ok((tensors, bytes_fetched)) => {
                    limits.header_bytes = limits.header_bytes.saturating_sub(bytes_fetched);
                    let forms = Forms::of(self.weights(&*tensors).iter()).of_all(&weights);
                    let headers = Headers { tensors, bytes_fetched };
                    seen.push(Seen { place, name: candidate.name, weights, headers, forms });
                }
                Err(error) => {
                    named.push(Rival::opened(&weights, in_full(&error)));
                    note(error, &mut failed)?;
                }
            }
        }
        self.judge(seen, named, failed, name).await
    }

    async fn open(&self, files: &ComponentFiles) -> Result<WeightFiles, ReadError> {
        WeightFiles::open(self.files, files, self.plan, self.limits).await
    }

    /// Opens a candidate. An index that names nothing that is there is passed over, a damaged one is an error.
    async fn attempt(
        &self,
        candidate: Candidate,
        opened: &mut Vec<(Candidate, WeightFiles)>,
        failed: &mut Option<ReadError>,
        named: &mut Vec<Rival>,
    ) -> Result<(), ReadError> {
        match self.open(&candidate.files).await {
            Ok(weights) => opened.push((candidate, weights)),
            Err(error @ ReadError::Index { .. }) => return Err(error),
            Err(error) => {
                if let ComponentFiles::Named(_) = candidate.files {
                    named.push(Rival::new(&candidate, in_full(&error)));
                }
                note(error, failed)?;
            }
        }
        Ok(())
    }

    fn weights<'t>(&self, tensors: &'t dyn Tensors) -> Vec<Weight<'t>> {
        tensors.weights(&self.metadata.quantization, &States::new())
    }

    /// The main model, and the other ones, of these sets.
    async fn judge(
        &self,
        mut seen: Vec<Seen>,
        mut named: Vec<Rival>,
        failed: Option<ReadError>,
        name: String,
    ) -> Result<Vec<Chosen>, ReadError> {
        if let Some(whole) = self.joined(&seen).await? {
            let bytes_fetched = seen.iter().map(|set| set.headers.bytes_fetched).sum();
            return Ok(vec![Chosen { name, opened: Ok((whole, None)), rivals: named, bytes_fetched }]);
        }
        let config = self.config(&seen).await?;
        let stated = config.config.layers.or(config.config.decoder_layers);
        seen.sort_by_key(|Seen { place, forms, .. }| {
            (
                !forms.is_model(),
                forms.layers == 0,
                stated != Some(forms.layers),
                Reverse(forms.parameters),
                Reverse(forms.all),
                *place,
            )
        });
        let mut seen = seen.into_iter();
        let Some(main) = seen.next() else {
            // None could be read: what is wrong with the first is what is wrong.
            let opened = failed.map_or_else(|| Err(self.nothing()), Err);
            return Ok(vec![Chosen { name, opened, rivals: named, bytes_fetched: 0 }]);
        };
        let (mut others, mut bytes_fetched, mut names) = (Vec::new(), 0, BTreeSet::from([name.clone()]));
        for set in seen {
            let why = if set.forms.is_model() {
                let is_same = self.is_same(&main, &set).await?;
                is_same.then_some("the same weights in another layout")
            } else {
                Some("its tensors form no whole model")
            };
            if let Some(why) = why {
                named.push(Rival::opened(&set.weights, why));
                bytes_fetched += set.headers.bytes_fetched;
                continue;
            }
            let own = if name.is_empty() { set.name.clone() } else { format!("{name}/{}", set.name) };
            let own = component::unique(&own, &mut names);
            let other = Rival::opened(&set.weights, format!("another model, read as component {own}"));
            named.push(Rival { component: Some(own.clone()), ..other });
            let opened = Ok((set.weights, Some(set.headers)));
            others.push(Chosen { name: own, opened, rivals: Vec::new(), bytes_fetched: 0 });
        }
        let opened = Ok((main.weights, Some(main.headers)));
        let main = Chosen { name, opened, rivals: named, bytes_fetched };
        Ok(iter::once(main).chain(others).collect())
    }

    /// The error of a component that has no files at all.
    fn nothing(&self) -> ReadError {
        PlanError::NoWeights { formats: self.container.name().to_owned(), found: None }.into()
    }

    /// What config.json says, read now where it can decide between several models.
    async fn config(&self, seen: &[Seen]) -> Result<Metadata, ReadError> {
        let depths: BTreeSet<u64> =
            seen.iter().filter(|set| set.forms.is_model()).map(|set| set.forms.layers).collect();
        let said = &self.metadata.config;
        if depths.len() < 2 || said.layers.or(said.decoder_layers).is_some() {
            return Ok(self.metadata.clone());
        }
        let folder = seen.first().map_or("", |set| set.weights.folder.as_str());
        self.metadata.clone().with_config(self.files, folder, self.limits).await
    }

    /// Files of one folder that are a model only together, with no tensor in two of them: shards that are not named as
    /// such.
    async fn joined(&self, seen: &[Seen]) -> Result<Option<WeightFiles>, ReadError> {
        let parts: Vec<&Seen> = seen.iter().filter(|set| set.forms.parameters > 0).collect();
        let is_one_folder = parts.windows(2).all(|pair| pair[0].weights.folder == pair[1].weights.folder);
        if parts.len() < 2 || !is_one_folder || parts.iter().any(|set| set.forms.is_model()) {
            return Ok(None);
        }
        let mut names = BTreeSet::new();
        let is_disjoint =
            parts.iter().flat_map(|set| set.headers.tensors.names()).all(|name| names.insert(name));
        let weights: Vec<Weight<'_>> =
            parts.iter().flat_map(|set| self.weights(&*set.headers.tensors)).collect();
        if !is_disjoint || !Forms::of(weights.iter()).is_model() {
            return Ok(None);
        }
        let paths = parts.iter().flat_map(|set| set.weights.list()).map(|file| file.path);
        let paths: BTreeSet<String> = paths.collect();
        self.open(&ComponentFiles::Named(paths.into_iter().collect())).await.map(Some)
    }

    /// Whether two sets hold the same weights, by the first bytes of one of each kind, in a layer in the middle: training
    /// leaves some kinds as they were.
    async fn is_same(&self, a: &Seen, b: &Seen) -> Result<bool, ReadError> {
        let (of_a, of_b) = (places(&*a.headers.tensors), places(&*b.headers.tensors));
        let common: Vec<_> = of_a
            .iter()
            .filter_map(|(name, range)| {
                let at = of_b.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
                Some((name, range, &of_b.get(at)?.1))
            })
            .collect();
        // One of them may store a tied head twice.
        let fewer = of_a.len().min(of_b.len());
        let is_all = fewer > 0 && common.len() == fewer && a.forms.layers == b.forms.layers;
        if !is_all || common.iter().any(|(_, one, other)| one.len() != other.len()) {
            return Ok(false);
        }
        let mut kinds: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, one, other) in common {
            kinds.entry(roles::without_numbers(name)).or_default().push((one, other));
        }
        let mut glances: Vec<_> = kinds.into_values().map(|kind| kind[kind.len() / 2]).collect();
        glances.sort_by_key(|(one, _)| Reverse(one.len()));
        for (one, other) in glances.into_iter().take(GLANCES) {
            let start = |range: &FileRange| FileRange {
                bytes: range.bytes.start..range.bytes.end.min(range.bytes.start.saturating_add(GLANCE)),
                ..range.clone()
            };
            if a.weights.range(&start(one)).await? != b.weights.range(&start(other)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes one of the other number formats of a model, of which there may be many.
fn together(rivals: &mut Vec<Rival>) {
    let (formats, others): (Vec<_>, Vec<_>) = rivals.drain(..).partition(|rival| rival.why == OTHER_FORMAT);
    *rivals = others;
    let formats = formats.into_iter().reduce(|mut all, other| {
        all.paths.extend(other.paths);
        all
    });
    rivals.extend(formats);
}

/// Keeps the first error; one that may pass ends the choice, which would be another one without it.
fn note(error: ReadError, failed: &mut Option<ReadError>) -> Result<(), ReadError> {
    if error.is_passing() {
        return Err(error);
    }
    failed.get_or_insert(error);
    Ok(())
}

/// Where the content of each weight begins, in order of names.
fn places(tensors: &dyn Tensors) -> Vec<(String, FileRange)> {
    let weights = tensors.weights(&QuantConfig::default(), &States::new());
    let first = |weight: Weight<'_>| {
        let range = weight.parts.into_values().find(|range| !range.is_empty())?;
        Some((weight.name.into_owned(), range))
    };
    let mut places: Vec<_> = weights.into_iter().filter_map(first).collect();
    places.sort_by(|(a, _), (b, _)| a.cmp(b));
    places
}
