//! The seam between a file format of weights and everything that reads checkpoints.
//!
//! A container answers four questions, and does no I/O: which of a repository's files are its own, as which components
//! ([`Container::components`]); which bytes it needs next ([`Decoder::step`]); which weights there are, with name, shape,
//! encoding and place ([`Tensors::weights`]); and which metadata the files carry ([`Tensors::metadata`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::component::{ADAPTER, NO_MODEL};
use crate::formats::packed::{QuantConfig, States};
use crate::formats::{FileRange, Limits, ModelConfig, Weight};
use crate::store::AdapterFacts;

/// A file format of weights.
pub trait Container: fmt::Debug + Send + Sync {
    /// Its name in reports, e.g. `safetensors`.
    fn name(&self) -> &'static str;

    /// The checkpoints in this format among the files of a repository, the main one first.
    fn components(&self, files: &[String]) -> Vec<Component>;

    /// Whether its files say themselves what config.json says of others: [`Tensors::config`].
    fn describes_itself(&self) -> bool {
        false
    }

    /// Whether models are exported to it from other formats: then what it has counts only where those have no model.
    fn is_export(&self) -> bool {
        false
    }

    /// A decoder for these opened files.
    fn decoder(&self, files: &[OpenedFile<'_>], limits: &Limits) -> Box<dyn Decoder>;
}

/// A file of a component that is open.
#[derive(Clone, Copy, Debug)]
pub struct OpenedFile<'a> {
    /// Its path in the repository: one file may name another.
    pub path: &'a str,
    /// Its size, bytes.
    pub size: u64,
}

/// One checkpoint of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name: empty for the main one, else e.g. `unet` or `text_encoder`.
    pub name: String,
    /// Its weight files.
    pub files: ComponentFiles,
    /// Other sets of weight files of the repository. Where one is not settled, content tells which is the model.
    pub rivals: Vec<Candidate>,
    /// How little its name tells of a model: 0 where it is one that models have.
    pub doubt: u8,
    /// Whether it is one of several models in folders, where no format has a main one.
    pub is_of_collection: bool,
}

/// A set of weight files that may be the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As which component it is read where it is another model.
    pub name: String,
    /// Its files.
    pub files: ComponentFiles,
    /// Why it is not read, where its name tells.
    pub settled: Option<&'static str>,
}

impl Component {
    /// The main checkpoint of a repository.
    pub fn main(files: ComponentFiles) -> Self {
        Self { name: String::new(), files, rivals: Vec::new(), doubt: 0, is_of_collection: false }
    }

    /// The rivals that only content can settle.
    pub fn unsettled(&self) -> impl Iterator<Item = &Candidate> {
        self.rivals.iter().filter(|rival| rival.settled.is_none())
    }
}

/// Where the weights of a component are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentFiles {
    /// In these files, in the order of the model.
    Named(Vec<String>),
    /// In whatever this index of shards lists.
    Index(String),
}

impl ComponentFiles {
    /// The folder that they are in: empty, or with a `/` at its end.
    pub fn folder(&self) -> &str {
        let path = match self {
            Self::Named(paths) => paths.first().map_or("", String::as_str),
            Self::Index(path) => path,
        };
        path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or_default()
    }
}

/// A push decoder: it says which bytes of the opened files it needs, is given them, and is asked again.
pub trait Decoder: Send {
    /// What it needs next, or what the files hold. It never asks for bytes beyond a file's end, nor for more than the
    /// limits allow of all files together.
    fn step(&mut self) -> Result<Step, Damaged>;

    /// The bytes of a range that it asked for.
    fn give(&mut self, range: &FileRange, bytes: &[u8]);
}

/// What a decoder answers.
#[derive(Debug)]
pub enum Step {
    /// These bytes are needed; of each file at most one range at a time.
    Need(Vec<FileRange>),
    /// Done.
    Ready(Box<dyn Tensors>),
}

/// A file that is damaged or hostile, or of a kind that is not read.
#[derive(Debug)]
pub struct Damaged {
    /// Which of the opened files.
    pub file: usize,
    /// What is wrong with it; [`Unsupported`](crate::formats::Unsupported) where that is its kind alone.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What the opened files of a checkpoint hold.
pub trait Tensors: fmt::Debug + Send + Sync {
    /// Files that were opened.
    fn files(&self) -> usize;

    /// Names of all tensors, as they are stored.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Stored elements of all tensors.
    fn elements(&self) -> u64;

    /// What the files say of themselves.
    fn metadata(&self) -> BTreeMap<String, String>;

    /// What it changes, where it is an adapter: then the weights are differences to those of another model.
    fn adapter(&self) -> Option<&AdapterFacts> {
        None
    }

    /// What the files say of the model's type and shape and of how they are quantised, where they do.
    fn config(&self) -> Option<ModelConfig> {
        None
    }

    /// The repositories that the files name as what the model was made from, `org/name`.
    fn declared_bases(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the weights can only be read with what config.json says of how they are packed.
    fn needs_config(&self) -> bool {
        false
    }

    /// The weights. `config` is what config.json says of packed ones, `states` what was read of those that
    /// [`Form::After`](crate::formats::Form::After) stands for.
    fn weights(&self, config: &QuantConfig, states: &States) -> Vec<Weight<'_>>;
}

/// The containers that a reader knows, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Containers(Vec<Arc<dyn Container>>);

impl Containers {
    /// Of two that have a component of one name that counts whose name is more that of a model, then one at the top level
    /// before one in a folder, then the first.
    pub fn new(containers: Vec<Arc<dyn Container>>) -> Self {
        Self(containers)
    }

    /// The checkpoints of a repository with these files, each with its container.
    pub fn components(&self, files: &[String]) -> Vec<(Arc<dyn Container>, Component)> {
        let all = self.0.iter().flat_map(|container| {
            container.components(files).into_iter().map(|component| (Arc::clone(container), component))
        });
        let mut chosen: Vec<(Arc<dyn Container>, Component)> = Vec::new();
        for (container, component) in all {
            let rank = |component: &Component| (component.doubt, !component.files.folder().is_empty());
            match chosen.iter_mut().find(|(_, known)| known.name == component.name) {
                None => chosen.push((container, component)),
                Some(known) if rank(&component) < rank(&known.1) => *known = (container, component),
                Some(_) => {}
            }
        }
        let is_model = |component: &Component| component.name != ADAPTER && component.doubt < NO_MODEL;
        if chosen.iter().any(|(of, component)| !of.is_export() && is_model(component)) {
            chosen.retain(|(of, _)| !of.is_export());
        }
        if chosen.iter().any(|(_, component)| component.name.is_empty()) {
            // What one format has in folders is beside the model of another.
            chosen.retain(|(_, component)| !component.is_of_collection);
        }
        // Of several formats one may have the main model and another the rest.
        chosen.sort_by_key(|(_, component)| !component.name.is_empty());
        // What is beside no model is what the repository is about.
        if let [(_, only)] = chosen.as_mut_slice()
            && only.name == ADAPTER
        {
            only.name = String::new();
        }
        chosen
    }

    /// The names of the formats.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|container| container.name()).collect()
    }
}
