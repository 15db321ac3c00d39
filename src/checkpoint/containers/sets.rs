//! Which weight files belong together, and which of such sets is the model, as far as names tell.
//!
//! A set is one file, or the shards of one name. One at the top level comes before those in folders; folders count only
//! where the top has none, and of several only those that are known to hold models. Where one set is left, names decide.
//! Where several are, the component lists them as candidates, the likeliest first, and their headers tell
//! ([`crate::checkpoint::choose`]).

use std::collections::{BTreeMap, BTreeSet};

use super::dialect::{Dialect, LEFT_BEHIND, last_part, split};
use super::number_formats::words;
use crate::checkpoint::component::{self, ADAPTER};
use crate::checkpoint::container::{Candidate, Component, ComponentFiles};
use crate::formats::endings::strip;
use crate::formats::shards::ShardName;

/// Most sets whose headers are looked at.
const MOST: usize = 6;
/// Most parts of a pipeline that are read; published ones have up to ten.
const MOST_PARTS: usize = 16;

/// Files that make one checkpoint together.
#[derive(Debug)]
struct Set<'a> {
    /// Empty, or with a `/` at its end; the one above where it is named after a number format.
    folder: &'a str,
    /// What the names of its files have in common.
    stem: String,
    /// In order of their numbers.
    paths: Vec<&'a str>,
    /// Whether it is one file, or all shards.
    is_complete: bool,
    index: Option<&'a str>,
    class: Class,
    /// The words of its stem that do not name a number format.
    plain: String,
    /// Which number format its name tells, the most exact first.
    format: Option<usize>,
    /// Why it is never taken for a model, where it is not.
    never: Option<&'static str>,
}

/// What the sets of one folder have in common.
#[derive(Default)]
struct Folder<'a> {
    sets: usize,
    likeliest: Option<Class>,
    has_usual: bool,
    /// Of each name the number format that is preferred.
    formats: BTreeMap<&'a str, Option<usize>>,
}

/// What a name tells of what is in a file; the likeliest model first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nothing that speaks against a model.
    Plain,
    /// The same weights as their authors store them.
    Original,
    /// An average of weights over a training, or a part of or an aid to another model.
    Beside,
    /// Deltas to another model.
    Adapter,
    /// What a training left behind.
    LeftBehind,
}

const _: () = assert!(2 * Class::Adapter as u8 == component::NO_MODEL, "the first class of no model");

const WORDS: [(Class, &[&str]); 4] = [
    (
        Class::LeftBehind,
        &[
            "optimizer",
            "optimizers",
            "optim",
            "scheduler",
            "rng",
            "trainer",
            "training",
            "scaler",
            "gradients",
            "grads",
        ],
    ),
    (Class::Adapter, &["adapter", "adapters", "lora", "loras", "dora", "loha", "lokr"]),
    (
        Class::Beside,
        &[
            "ema",
            "draft",
            "drafter",
            "eagle",
            "eagle3",
            "medusa",
            "mtp",
            "speculator",
            "assistant",
            "head",
            "heads",
            "onnx",
        ],
    ),
    (Class::Original, &["consolidated", "original"]),
];

/// Stems that say nothing but that it is a model.
const USUAL: [&str; 5] = ["model", "pytorch_model", "diffusion_pytorch_model", "weights", "consolidated"];

/// Folders that hold the model where the top has none, beside those of sentence-transformers (`0_Transformer`) and of a
/// run's newest checkpoint.
const FOLDERS: [&str; 14] = [
    "llm",
    "language_model",
    "text_model",
    "base_model",
    "model",
    "models",
    "transformer",
    "backbone",
    "merged",
    "final",
    "final_model",
    "best",
    "best_model",
    "weights",
];

/// Names of the folders that a run leaves its checkpoints in, before a number.
const RUNS: [&str; 7] = ["checkpoint", "ckpt", "step", "global_step", "epoch", "iter", "iteration"];

/// The file that lists the parts of a pipeline of diffusers.
const PIPELINE: &str = "model_index.json";

/// How the folders of networks that denoise begin.
const DENOISERS: [&str; 3] = ["unet", "transformer", "prior"];

/// Why the other number formats of a model are not read.
pub(crate) const OTHER_FORMAT: &str = "the same model in another number format, by its name";

/// The file that lists the parts of a sentence-transformers model.
pub(crate) const MODULES: &str = "modules.json";

fn class(name: &str) -> Class {
    let found = |known: &[&str]| words(name).any(|word| known.contains(&word.as_str()));
    WORDS.iter().find(|(_, known)| found(known)).map_or(Class::Plain, |(class, _)| *class)
}

impl<'a> Set<'a> {
    fn new(
        dialect: &Dialect,
        folder: &'a str,
        stem: String,
        paths: Vec<&'a str>,
        is_complete: bool,
        index: Option<&'a str>,
    ) -> Self {
        let (plain, format) = (dialect.variant)(&stem);
        let (above, of_folder) = dialect.above(folder, &plain);
        let (class, never, format) = (class(&stem), (dialect.never)(&stem), format.or(of_folder));
        Self { folder: above, stem, paths, is_complete, index, class, plain, format, never }
    }

    /// The sets among these files, of a format whose files end so, the likeliest first.
    fn all(files: &'a [String], dialect: &Dialect) -> Vec<Self> {
        // By folder, stem and how many there are.
        type Key<'a> = (&'a str, String, usize);
        let endings = dialect.endings;
        let mut shards: BTreeMap<Key<'_>, Vec<(usize, &str)>> = BTreeMap::new();
        let mut indexes = BTreeMap::new();
        let mut sets = Vec::new();
        for path in files {
            let (folder, name) = split(path);
            if let Some(stem) = strip(name, &[".index.json"]).and_then(|name| strip(name, endings)) {
                indexes.insert((folder, stem), path.as_str());
            } else if let Some(stem) = strip(name, endings) {
                match ShardName::parse(name) {
                    Some(shard) if shard.of > 0 => {
                        let variant = strip(shard.ending(), endings).unwrap_or_default();
                        let key = (folder, format!("{}{variant}", shard.stem()), shard.of);
                        shards.entry(key).or_default().push((shard.number, path));
                    }
                    _ => sets.push(Self::new(dialect, folder, stem.to_owned(), vec![path], true, None)),
                }
            }
        }
        let mut named = BTreeSet::new();
        for ((folder, stem, of), mut found) in shards {
            found.sort_unstable();
            let is_complete = found.len() == of && found.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
            let index = indexes.get(&(folder, stem.as_str())).copied();
            named.extend(index);
            let paths = found.into_iter().map(|(_, path)| path).collect();
            sets.push(Self::new(dialect, folder, stem, paths, is_complete, index));
        }
        // An index whose shards have other names, or are not there.
        let of_others = indexes.iter().filter(|(_, path)| !named.contains(*path));
        sets.extend(of_others.map(|((folder, stem), path)| {
            Self::new(dialect, folder, (*stem).to_owned(), Vec::new(), false, Some(path))
        }));
        sets.sort_by(|a, b| a.order().cmp(&b.order()));
        sets
    }

    /// An adapter as peft or mlx-lm names it, which is never taken for a model.
    fn is_adapter(&self) -> bool {
        self.stem.starts_with("adapter_") || self.stem == "adapters"
    }

    fn is_usual(&self) -> bool {
        USUAL.contains(&self.plain.as_str())
    }

    /// The likeliest model first: an index was written for somebody to follow, then names that are usual.
    fn order(&self) -> impl Ord + use<'_, 'a> {
        (
            self.class,
            folder_order(self.folder),
            self.index.is_none(),
            !self.is_complete,
            !self.is_usual(),
            self.paths.len() == 1,
            self.format,
            self.folder,
            &self.stem,
        )
    }

    /// How little its name tells of a model.
    fn doubt(&self) -> u8 {
        2 * self.class as u8 + u8::from(!self.is_usual())
    }

    /// As which component it would be read beside another.
    fn name(&self) -> String {
        let name =
            if self.folder.is_empty() || !self.is_usual() { &self.stem } else { last_part(self.folder) };
        component::plain(name)
    }

    fn named(&self) -> ComponentFiles {
        ComponentFiles::Named(self.paths.iter().map(|path| (*path).to_owned()).collect())
    }

    /// As what is not read, for this reason.
    fn passed(&self, why: &'static str) -> Candidate {
        Candidate { name: self.name(), files: self.named(), settled: Some(why) }
    }

    /// Why it is not the model beside the others of its folder, where its name tells.
    fn settled(&self, folder: &Folder<'_>) -> Option<&'static str> {
        match self.class {
            Class::LeftBehind => (folder.sets > 1).then_some(LEFT_BEHIND),
            Class::Adapter => {
                folder.likeliest.is_some_and(|class| class < Class::Adapter).then_some("an adapter")
            }
            Class::Original => folder.has_usual.then_some("the same model in another layout, by its name"),
            Class::Plain | Class::Beside => {
                let preferred = folder.formats.get(self.plain.as_str());
                // Of one that is not all there nothing can be said that is better.
                let other = preferred.is_some_and(|preferred| {
                    *preferred < self.format || !self.is_complete && *preferred != self.format
                });
                other.then_some(OTHER_FORMAT)
            }
        }
    }
}

impl<'a> Folder<'a> {
    /// The folders of these sets.
    fn all(sets: &'a [Set<'_>]) -> BTreeMap<&'a str, Self> {
        let mut folders: BTreeMap<&str, Self> = BTreeMap::new();
        for set in sets {
            let folder = folders.entry(set.folder).or_default();
            folder.sets += 1;
            folder.likeliest = Some(folder.likeliest.map_or(set.class, |class| class.min(set.class)));
            if set.is_complete {
                folder.has_usual |= set.class == Class::Plain && set.is_usual();
                let format = folder.formats.entry(&set.plain).or_insert(set.format);
                *format = set.format.min(*format);
            }
        }
        folders
    }
}

/// The likelier of two folders first.
fn folder_order(folder: &str) -> usize {
    let last = last_part(folder).to_ascii_lowercase();
    match FOLDERS.iter().position(|known| *known == last) {
        _ if folder.is_empty() || is_numbered(&last) => 0,
        Some(place) => 1 + place,
        None => 1 + FOLDERS.len(),
    }
}

/// `0_Transformer`: a part of a sentence-transformers model.
fn is_numbered(last: &str) -> bool {
    last.split_once('_')
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The run of a checkpoint's folder, and how far that was.
fn run(folder: &str) -> Option<(&str, u64)> {
    let whole = folder.trim_end_matches('/');
    let run = whole.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = whole.strip_prefix(run)?.parse().ok()?;
    let name = last_part(run).trim_end_matches(['-', '_']).to_ascii_lowercase();
    RUNS.contains(&name.as_str()).then_some((run, number))
}

/// The checkpoints of a repository with these files, in a format whose files are named so: the main one;
/// and those in folders, of a pipeline of diffusers and of a collection of models, which has no main one.
pub(super) fn components(files: &[String], dialect: &Dialect) -> Vec<Component> {
    let main = main(files, dialect);
    let is_pipeline = files.iter().any(|file| file == PIPELINE);
    let is_main = |found: &Component| main.as_ref().is_some_and(|main| main.files == found.files);
    let beside = adapter(files, dialect).filter(|found| !is_main(found));
    let parts = match &main {
        _ if is_pipeline => parts(files, dialect, |folder| folder_of_part(folder).is_some()),
        None => {
            let parts = parts(files, dialect, |_| true).into_iter();
            parts.map(|part| Component { is_of_collection: true, ..part }).collect()
        }
        Some(_) => Vec::new(),
    };
    let mut names = BTreeSet::new();
    let unique = |found: Component| Component { name: component::unique(&found.name, &mut names), ..found };
    main.into_iter().chain(beside).chain(parts).map(unique).collect()
}

/// The adapter that lies beside a model, as peft or mlx-lm names it.
fn adapter(files: &[String], dialect: &Dialect) -> Option<Component> {
    let mut sets = Set::all(files, dialect);
    sets.retain(|set| set.is_adapter() && set.folder.is_empty());
    Some(Component { name: ADAPTER.into(), ..among(&sets)? })
}

/// What is in these folders, each under the folder's name: networks that denoise first, which is what people mean by a
/// pipeline's model.
fn parts(files: &[String], dialect: &Dialect, is_part: impl Fn(&str) -> bool) -> Vec<Component> {
    let mut folders: BTreeMap<&str, Vec<Set<'_>>> = BTreeMap::new();
    for set in Set::all(files, dialect).into_iter().filter(|set| is_part(set.folder) && set.never.is_none()) {
        folders.entry(set.folder.trim_end_matches('/')).or_default().push(set);
    }
    let mut folders: Vec<_> = folders.into_iter().collect();
    folders.sort_by_key(|(name, _)| !DENOISERS.iter().any(|known| name.starts_with(known)));
    let unseen = folders.split_off(folders.len().min(MOST_PARTS));
    let part = |(name, sets): (&str, Vec<Set<'_>>)| {
        let (mut models, mut adapters): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|set| !set.is_adapter());
        if models.is_empty() {
            std::mem::swap(&mut models, &mut adapters);
        }
        let mut component = Component { name: named(name), ..among(&models)? };
        component.rivals.extend(adapters.iter().map(|set| set.passed("an adapter")));
        Some(component)
    };
    let mut parts: Vec<Component> = folders.into_iter().filter_map(part).collect();
    if let Some(first) = parts.first_mut() {
        let why = "in one folder too many to be looked at";
        first.rivals.extend(unseen.iter().flat_map(|(_, sets)| sets).map(|set| set.passed(why)));
    }
    parts
}

/// The name of what is in a folder.
fn named(folder: &str) -> String {
    folder.split('/').map(component::plain).collect::<Vec<_>>().join("/")
}

/// The folder of a pipeline's part, where that is what it is.
fn folder_of_part(folder: &str) -> Option<&str> {
    folder.strip_suffix('/').filter(|name| !name.contains('/'))
}

/// The main checkpoint.
fn main(files: &[String], dialect: &Dialect) -> Option<Component> {
    let (never, usable): (Vec<_>, Vec<_>) =
        Set::all(files, dialect).into_iter().partition(|set| set.never.is_some());
    let (mut models, mut adapters): (Vec<_>, Vec<_>) = usable.into_iter().partition(|set| !set.is_adapter());
    let is_adapter = models.is_empty();
    if is_adapter {
        // They are all that there is.
        std::mem::swap(&mut models, &mut adapters);
    }
    let (top, mut below): (Vec<_>, Vec<_>) = models.into_iter().partition(|set| set.folder.is_empty());
    let has = |name: &str| files.iter().any(|file| file == name);
    if has(PIPELINE) {
        // Those are components of their own.
        below.retain(|set| folder_of_part(set.folder).is_none());
    }
    let (of_model, rest) = if top.iter().any(|set| !set.paths.is_empty()) {
        (top, below)
    } else if has(PIPELINE) {
        // No part of it is the model.
        return None;
    } else {
        let (mut chosen, rest) = in_folders(below, has(MODULES));
        // An index whose shards are nowhere still says what is wrong.
        if chosen.is_empty() {
            chosen = top;
        }
        (chosen, rest)
    };
    let mut component = among(&of_model)?;
    if is_adapter {
        component.name = ADAPTER.into();
    }
    component.rivals.extend(rest.iter().map(|set| set.passed("in another folder")));
    component.rivals.extend(adapters.iter().map(|set| set.passed("an adapter")));
    component.rivals.extend(never.iter().filter_map(|set| Some(set.passed(set.never?))));
    Some(component)
}

/// The sets of the folders that may hold the model, and the others.
fn in_folders(sets: Vec<Set<'_>>, are_listed: bool) -> (Vec<Set<'_>>, Vec<Set<'_>>) {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for (run, number) in sets.iter().filter_map(|set| run(set.folder)) {
        let most = newest.entry(run).or_default();
        *most = number.max(*most);
    }
    let is_passed =
        |folder| run(folder).is_some_and(|(run, number)| newest.get(run).is_some_and(|most| number < *most));
    let best = sets.iter().filter(|set| !is_passed(set.folder)).map(|set| class(set.folder)).min();
    let (likely, mut rest): (Vec<_>, Vec<_>) =
        sets.into_iter().partition(|set| !is_passed(set.folder) && Some(class(set.folder)) == best);
    let folders: BTreeSet<&str> = likely.iter().map(|set| set.folder).collect();
    if folders.len() <= 1 || are_listed {
        return (likely, rest);
    }
    let is_known = |folder: &str| folder_order(folder) <= FOLDERS.len() || run(folder).is_some();
    let (known, others): (Vec<_>, Vec<_>) = likely.into_iter().partition(|set| is_known(set.folder));
    rest.extend(others);
    (known, rest)
}

/// The component of these sets: what names settle, and what only content can.
fn among(sets: &[Set<'_>]) -> Option<Component> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut settled = Vec::new();
    let folders = Folder::all(sets);
    let why = |set: &Set<'_>| folders.get(set.folder).and_then(|folder| set.settled(folder));
    let is_settled: Vec<_> = sets.iter().map(why).collect();
    let open = is_settled.iter().filter(|why| why.is_none()).count();
    for (set, why) in sets.iter().zip(&is_settled) {
        let candidate = |files, settled| Candidate { name: set.name(), files, settled };
        if why.is_some() {
            settled.push(candidate(set.named(), *why));
            continue;
        }
        // Names are enough where all shards are there and nothing else is: an index costs a request, and of the largest
        // models it is larger than all that is read of them.
        let asks_index = open > 1 || !set.is_complete;
        if let Some(index) = set.index.filter(|_| asks_index) {
            let index = ComponentFiles::Index(index.to_owned());
            if candidates.iter().all(|known| known.files != index) {
                candidates.push(candidate(index, None));
            }
        }
        // Whatever the index says of them.
        if !set.paths.is_empty() {
            candidates.push(candidate(set.named(), None));
        }
    }
    let mut candidates = candidates.into_iter();
    let main = candidates.next()?;
    let doubt = sets.iter().zip(&is_settled).find(|(_, why)| why.is_none()).map_or(0, |(set, _)| set.doubt());
    let mut rivals: Vec<Candidate> = candidates.collect();
    for unseen in rivals.iter_mut().skip(MOST - 1) {
        unseen.settled = Some("one set of weight files too many to be looked at");
    }
    rivals.extend(settled);
    Some(Component { rivals, doubt, ..Component::main(main.files) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dialect::{GGUF, SAFETENSORS};
    use super::*;

    const INDEX: &str = "model.safetensors.index.json";

    fn component(files: &[&str]) -> Option<Component> {
        let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
        super::main(&files, &SAFETENSORS)
    }

    fn named(files: &[&str]) -> ComponentFiles {
        ComponentFiles::Named(files.iter().map(|f| (*f).to_owned()).collect())
    }

    /// What is read, and what may be, of these files, in this order.
    fn candidates(files: &[&str]) -> Vec<ComponentFiles> {
        let found = component(files).unwrap();
        assert_eq!(found.name, "");
        let rivals = found.unsettled().map(|rival| rival.files.clone());
        std::iter::once(found.files.clone()).chain(rivals).collect()
    }

    #[test]
    fn names_are_enough_where_they_are_clear() {
        let usual = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let with = |more: &[&'static str]| [&usual[..], more].concat();
        for (files, expected) in [
            (vec!["model.safetensors", "config.json"], vec!["model.safetensors"]),
            (vec!["MODEL.SAFETENSORS"], vec!["MODEL.SAFETENSORS"]),
            (vec!["diffusion_pytorch_model.safetensors"], vec!["diffusion_pytorch_model.safetensors"]),
            (with(&[INDEX]), usual.to_vec()),
            (with(&[]), usual.to_vec()),
            // The same in another layout or number format, and what is none.
            (
                with(&[INDEX, "consolidated.safetensors", "original/consolidated.00.safetensors"]),
                usual.to_vec(),
            ),
            (with(&[INDEX, "consolidated-00001-of-00002.safetensors"]), usual.to_vec()),
            (vec!["model.safetensors", "model.fp16.safetensors"], vec!["model.safetensors"]),
            (vec!["model.fp16.safetensors", "model.bf16.safetensors"], vec!["model.bf16.safetensors"]),
            (
                vec!["model.safetensors", "adapter_model.safetensors", "lora.safetensors"],
                vec!["model.safetensors"],
            ),
            (vec!["x.safetensors", "optimizer.safetensors", "rng_state.safetensors"], vec!["x.safetensors"]),
            // Folders below do not count.
            (
                vec!["model.safetensors", "1_Dense/model.safetensors", "modules.json"],
                vec!["model.safetensors"],
            ),
        ] {
            assert_eq!(candidates(&files), [named(&expected)], "{files:?}");
        }
        let adapter = component(&["adapter_model.safetensors"]).unwrap();
        assert_eq!((adapter.name.as_str(), adapter.files), (ADAPTER, named(&["adapter_model.safetensors"])));
        for none in [&["config.json", "pytorch_model.bin"][..], &[]] {
            assert_eq!(component(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_index_is_asked_where_names_leave_open_which_files_belong_together() {
        let index = ComponentFiles::Index(INDEX.into());
        let one = "model-00001-of-00002.safetensors";
        assert_eq!(candidates(&[one, INDEX]), [index.clone(), named(&[one])]);
        assert_eq!(
            candidates(&["output.safetensors", INDEX]),
            [index.clone(), named(&["output.safetensors"])]
        );
        let both = [one, "model-00002-of-00002.safetensors"];
        assert_eq!(
            candidates(&[both[0], both[1], "model.safetensors", INDEX]),
            [index.clone(), named(&both), named(&["model.safetensors"])]
        );
        let of_one = "model-00001-of-00001.safetensors";
        assert_eq!(candidates(&[of_one, one, INDEX]), [index.clone(), named(&[of_one]), named(&[one])]);
        assert_eq!(candidates(&[INDEX]), [index]);
    }

    #[test]
    fn the_likeliest_of_several_comes_first() {
        for files in [
            ["model.safetensors", "a.safetensors"],
            ["pytorch_model.safetensors", "draft.safetensors"],
            ["pytorch_model.safetensors", "ema.safetensors"],
            ["finetune.safetensors", "ema.safetensors"],
            ["z-00001-of-00001.safetensors", "a-00001-of-00002.safetensors"],
        ] {
            assert_eq!(candidates(&files), files.map(|file| named(&[file])));
        }
        let rivals =
            component(&["model.safetensors", "ema.safetensors", "x_ema.safetensors"]).unwrap().rivals;
        assert_eq!(rivals.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["ema", "x_ema"]);
    }

    #[test]
    fn folders_count_where_the_top_has_none() {
        for (files, expected) in [
            (
                &["anything/at/all/model.safetensors", "config.json"][..],
                &["anything/at/all/model.safetensors"][..],
            ),
            (
                &["0_Transformer/model.safetensors", "1_Pooling/config.json", "modules.json"],
                &["0_Transformer/model.safetensors"],
            ),
            (
                &[
                    "checkpoint-500/model.safetensors",
                    "checkpoint-1000/model.safetensors",
                    "checkpoint-90/model.safetensors",
                ],
                &["checkpoint-1000/model.safetensors"],
            ),
            (&["LLM/model.safetensors", "codec/model.safetensors"], &["LLM/model.safetensors"]),
            (&["a/model.safetensors", "original/consolidated.safetensors"], &["a/model.safetensors"]),
            (&["adapter_model.safetensors", "merged/model.safetensors"], &["merged/model.safetensors"]),
        ] {
            assert_eq!(candidates(files), [named(expected)], "{files:?}");
        }
        let two = ["0_Query/model.safetensors", "1_Document/model.safetensors"];
        assert_eq!(candidates(&two), two.map(|file| named(&[file])));
        // modules.json will say which.
        let listed = ["a/model.safetensors", "b/model.safetensors", "modules.json"];
        assert_eq!(candidates(&listed).len(), 2);
        // Models of a collection, and a pipeline's parts, are not the model of the repository.
        assert_eq!(component(&listed[..2]), None);
        assert_eq!(component(&["text_encoder/model.safetensors", "model_index.json"]), None);
        let names = component(&two).unwrap().rivals;
        assert_eq!(names.iter().map(|rival| rival.name.as_str()).collect::<Vec<_>>(), ["1_Document"]);
    }

    #[test]
    fn folders_of_a_pipeline_are_components() {
        let files = [
            "model_index.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder_2/model-00001-of-00002.safetensors",
            "text_encoder_2/model-00002-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors",
            "transformer/onnx/model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        ];
        let files = files.map(str::to_owned);
        let read = |files: &[String]| -> Vec<(String, ComponentFiles)> {
            super::components(files, &SAFETENSORS)
                .into_iter()
                .map(|found| (found.name, found.files))
                .collect()
        };
        let expected = [
            ("transformer", &["transformer/diffusion_pytorch_model.safetensors"][..]),
            ("text_encoder", &["text_encoder/model.safetensors"]),
            (
                "text_encoder_2",
                &[
                    "text_encoder_2/model-00001-of-00002.safetensors",
                    "text_encoder_2/model-00002-of-00002.safetensors",
                ],
            ),
            ("vae", &["vae/diffusion_pytorch_model.safetensors"]),
        ];
        let expected: Vec<_> = expected.map(|(name, files)| (name.to_owned(), named(files))).into();
        assert_eq!(read(&files), expected);
        // A checkpoint beside them in one file is the main one.
        let with_one = [&files[..], &["sd.safetensors".to_owned()]].concat();
        assert_eq!(read(&with_one)[0], (String::new(), named(&["sd.safetensors"])));
        assert_eq!(read(&with_one)[1..], expected);
        let many: Vec<String> =
            (0..1000).map(|i| format!("part_{i}/model.safetensors")).chain([files[0].clone()]).collect();
        let parts = super::components(&many, &SAFETENSORS);
        assert_eq!((parts.len(), parts[0].rivals.len()), (MOST_PARTS, 1000 - MOST_PARTS));
    }

    #[test]
    fn what_is_not_read_is_named() {
        let files = [
            "model.safetensors",
            "lora.safetensors",
            "original/consolidated.00.safetensors",
            "adapter_x.safetensors",
        ];
        let found = component(&files).unwrap();
        let named: BTreeSet<&str> = found
            .rivals
            .iter()
            .flat_map(|rival| match &rival.files {
                ComponentFiles::Named(paths) => paths.iter().map(String::as_str),
                ComponentFiles::Index(index) => panic!("{index}"),
            })
            .collect();
        assert_eq!(named, files[1..].iter().copied().collect());
        assert!(found.rivals.iter().all(|rival| rival.settled.is_some()));
    }

    #[test]
    fn of_twenty_quantisations_the_most_exact_is_the_model() {
        let gguf = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|f| (*f).to_owned()).collect();
            super::main(&files, &GGUF)
        };
        for (files, expected) in [
            (&["M-Q4_K_M.gguf", "M-Q8_0.gguf", "M-IQ2_XXS.gguf"][..], &["M-Q8_0.gguf"][..]),
            (&["M.Q2_K.gguf", "M.i1-IQ3_M.gguf", "M.f16.gguf", "M.BF16.gguf"], &["M.BF16.gguf"]),
            // Folders that are named after formats, and what is at the top.
            (
                &["UD-Q4_K_XL/M-UD-Q4_K_XL.gguf", "Q8_0/M-Q8_0-00001-of-00001.gguf", "M-Q6_K.gguf"],
                &["Q8_0/M-Q8_0-00001-of-00001.gguf"],
            ),
            (
                &["M-Q6_K/M-Q6_K-00001-of-00002.gguf", "M-Q6_K/M-Q6_K-00002-of-00002.gguf", "M-Q4_K_M.gguf"],
                &["M-Q6_K/M-Q6_K-00001-of-00002.gguf", "M-Q6_K/M-Q6_K-00002-of-00002.gguf"],
            ),
            // One that is not all there is none that is better.
            (&["M-BF16-00001-of-00002.gguf", "M-Q8_0.gguf"], &["M-Q8_0.gguf"]),
            (&["M-BF16-00001-of-00002.gguf"], &["M-BF16-00001-of-00002.gguf"]),
            (&["mmproj-M-F16.gguf", "mtp-M-F16.gguf", "imatrix.gguf", "M-Q4_0.gguf"], &["M-Q4_0.gguf"]),
            (&["x/M-Q4_0.gguf", "README.md"], &["x/M-Q4_0.gguf"]),
        ] {
            let found = gguf(files).unwrap();
            assert_eq!((&found.files, found.unsettled().count()), (&named(expected), 0), "{files:?}");
            let others: usize = found
                .rivals
                .iter()
                .map(|rival| match &rival.files {
                    ComponentFiles::Named(paths) => paths.len(),
                    ComponentFiles::Index(_) => 0,
                })
                .sum();
            let all = files.iter().filter(|file| file.ends_with(".gguf")).count();
            assert_eq!(others + expected.len(), all, "which others there are is said: {files:?}");
        }
        assert_eq!(gguf(&["mmproj-F16.gguf", "model.safetensors", "imatrix.gguf"]), None);
        // Two models are two, each in its most exact format.
        let two = gguf(&["a-Q4_0.gguf", "b-Q8_0.gguf", "a-Q8_0.gguf", "b-Q2_K.gguf"]).unwrap();
        let names: Vec<&str> = two.unsettled().map(|rival| rival.name.as_str()).collect();
        assert_eq!((&two.files, names), (&named(&["a-Q8_0.gguf"]), vec!["b-Q8_0"]));
    }

    #[test]
    fn few_are_looked_at_of_many_and_in_short_time() {
        let files: Vec<String> = (0..20_000).map(|i| format!("style_{i}_lora.safetensors")).collect();
        let found = super::main(&files, &SAFETENSORS).unwrap();
        assert_eq!((found.unsettled().count(), found.rivals.len()), (MOST - 1, files.len() - 1));
    }

    proptest! {
        #[test]
        fn every_weight_file_is_read_or_named(
            files in prop::collection::btree_set(
                r"((0_A|checkpoint-[1-3]|x|original)/)?(model|a|ema|lora|optimizer|adapter_x)(\.fp16)?(-0000[1-3]-of-0000[1-3])?\.safetensors(\.index\.json)?",
                0..12,
            ),
            shift in 0usize..12,
        ) {
            let mut files: Vec<String> = files.into_iter().collect();
            let found = super::main(&files, &SAFETENSORS);
            if let Some(found) = &found {
                let all = std::iter::once(&found.files).chain(found.rivals.iter().map(|rival| &rival.files));
                let mut named: Vec<&String> = all.filter_map(|files| match files {
                    ComponentFiles::Named(paths) => Some(paths),
                    ComponentFiles::Index(_) => None,
                }).flatten().collect();
                named.sort();
                named.dedup();
                let weights: Vec<&String> = files.iter().filter(|file| file.ends_with(".safetensors")).collect();
                prop_assert_eq!(named, weights);
            }
            // The order of names means nothing.
            let by = shift.min(files.len());
            files.rotate_left(by);
            prop_assert_eq!(super::main(&files, &SAFETENSORS), found);
        }
    }
}
