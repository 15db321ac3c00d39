//! Repositories that exist only as a rule: any number of them, in no memory.
//!
//! They measure what takes a real Hub to measure otherwise: sweeps of millions, nights in which a
//! share of them has changed. Each is computed from the seed and its number when it is asked for,
//! and their order of creation is that of their numbers, so a page of the list starts where
//! arithmetic says.
//!
//! | | |
//! |---|---|
//! | name | `made-up-0042/model-0000042`; renamed, `made-up-0042/renamed-0000042` |
//! | `_id` | seconds of creation, five bytes of the seed, the number in three |
//! | `createdAt` | 2020, and 15 seconds later for each number |
//! | files | those of the template, but each states LFS hashes of its own |
//!
//! The stated sha256 is not that of the bytes: whoever downloads a whole file and checks it, fails.

mod draw;

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::draw::{Draw, Question};
use super::digest::lfs_named;
use super::repo::{Found, Repo, RepoFile};
use crate::local_hub::settings;
use crate::local_hub::text::hex;

/// 2020-01-01, in milliseconds.
const FIRST_CREATED: i64 = 1_577_836_800_000;
/// Between two creations. The ten millionth is of 2024.
const STEP: i64 = 15_000;
/// Within so many milliseconds of its creation a repository was last modified.
const SETTLED: u64 = 30 * DAY;
/// 2025-01-01: the night in which the changed ones were modified, later than all others.
const NIGHT: i64 = 1_735_689_600_000;
const DAY: u64 = 24 * 3600 * 1000;
/// Owners take turns, so the numbers of each are an arithmetic sequence.
const OWNERS: u64 = 10_000;

const LICENSES: [&str; 5] = ["apache-2.0", "mit", "llama3.1", "cc-by-nc-4.0", "other"];
const TASKS: [&str; 4] = ["text-generation", "text-classification", "fill-mask", "feature-extraction"];

/// The made-up part of a catalogue; the number of a repository is its place in it.
#[derive(Debug)]
pub(crate) struct MadeUp {
    settings: settings::MadeUpSettings,
    draw: Draw,
    /// The part of every `_id` that comes from the seed.
    machine: String,
    /// A repository of each kind, without what is its own: tags, task and the template's part.
    kinds: Vec<Repo>,
}

impl MadeUp {
    pub(super) fn new(settings: settings::MadeUpSettings, template: Option<&Repo>) -> Self {
        let kinds =
            TASKS.iter().flat_map(|task| LICENSES.iter().map(|license| kind(task, license, template)));
        let machine = hex(&Sha256::digest(settings.seed.to_be_bytes())[..5]);
        Self { draw: Draw { seed: settings.seed }, machine, kinds: kinds.collect(), settings }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settings.repos == 0
    }

    /// One repository of each kind, with all that a filter can ask for but name and owner.
    pub(crate) fn kinds(&self) -> &[Repo] {
        &self.kinds
    }

    pub(crate) fn kind(&self, number: u64) -> usize {
        self.draw.below(Question::Kind, number, self.kinds.len() as u64) as usize
    }

    /// Whether there is such a repository, and it is not gone.
    pub(crate) fn exists(&self, number: u64) -> bool {
        number < self.settings.repos && !self.draw.hit(Question::Gone, number, self.settings.gone)
    }

    /// The numbers that an owner, or anyone, may have repositories of, in ascending order.
    pub(crate) fn numbers(&self, owner: Option<&str>) -> Numbers {
        let (first, step) = match owner {
            None => (0, 1),
            Some(name) => match name.strip_prefix("made-up-").and_then(|digits| digits.parse().ok()) {
                Some(first) if owner_of(first) == name => (first, OWNERS),
                _ => (self.settings.repos, OWNERS),
            },
        };
        Numbers { first, step, count: self.settings.repos.saturating_sub(first).div_ceil(step) }
    }

    /// Milliseconds since 1970; grows with the number.
    pub(crate) fn created(&self, number: u64) -> i64 {
        let within = self.draw.below(Question::Created, number, STEP as u64) as i64;
        FIRST_CREATED.saturating_add((number as i64).saturating_mul(STEP)).saturating_add(within)
    }

    pub(crate) fn object_id(&self, number: u64) -> String {
        let seconds = self.created(number) / 1000;
        format!("{seconds:08x}{}{number:06x}", self.machine)
    }

    /// The repository as the list shows it: the files are those of the template.
    pub(crate) fn listed(&self, number: u64) -> Repo {
        let kind = self.kinds.get(self.kind(number)).cloned().unwrap_or_default();
        let created = self.created(number);
        let version = self.version(number);
        let (since, span) = if version == 0 { (created, SETTLED) } else { (NIGHT, DAY) };
        let (downloads, likes) = self.draw.popularity(number);
        Repo {
            id: self.name(number),
            object_id: self.object_id(number),
            sha: self.draw.commit(number, version),
            created,
            modified: since.saturating_add(self.draw.below(Question::Modified, number, span) as i64),
            downloads,
            likes,
            ..kind
        }
    }

    /// The repository with the hashes that its files state.
    fn whole(&self, number: u64) -> Repo {
        let repo = self.listed(number);
        let (origin, version) = self.origin(number);
        let stated = |file: &RepoFile| {
            let sha256 = || self.draw.sha256(origin, version, &file.path);
            let blob = file.blob.lfs.as_ref().map(|_| lfs_named(sha256(), file.size));
            RepoFile { blob: blob.unwrap_or_else(|| file.blob.clone()), ..file.clone() }
        };
        Repo { files: repo.files.iter().map(stated).collect(), ..repo }
    }

    /// What a name, present or former, leads to.
    pub(super) fn find(&self, id: &str) -> Found {
        let number = id.rsplit_once('-').and_then(|(_, digits)| digits.parse().ok());
        let Some(number) = number.filter(|&number| self.exists(number)) else { return Found::Nothing };
        let (name, spelt) = (self.name(number), id.to_lowercase());
        if id == name {
            Found::Repo(Arc::new(self.whole(number)))
        } else if spelt == name || spelt == first_name(number) {
            Found::Renamed(Arc::new(self.whole(number)))
        } else {
            Found::Nothing
        }
    }

    /// The file that the CDN knows as `xet_hash` of the repository `object_id`.
    pub(super) fn content(&self, object_id: &str, xet_hash: &str) -> Option<(Arc<Repo>, usize)> {
        let number = u64::from_str_radix(object_id.get(18..)?, 16).ok()?;
        if !self.exists(number) || self.object_id(number) != object_id {
            return None;
        }
        let repo = self.whole(number);
        let at = repo.content_at(xet_hash)?;
        Some((Arc::new(repo), at))
    }

    fn name(&self, number: u64) -> String {
        if self.draw.hit(Question::Renamed, number, self.settings.renamed) {
            format!("{}/renamed-{number:07}", owner_of(number))
        } else {
            first_name(number)
        }
    }

    fn version(&self, number: u64) -> u32 {
        self.draw.hit(Question::Changed, number, self.settings.changed).into()
    }

    /// Whose files a repository has, and of which version: its own, or, where it is a duplicate,
    /// those that an earlier one began with. A changed repository has new files in any case, and
    /// an unchanged duplicate keeps its files when the earlier one changes.
    fn origin(&self, number: u64) -> (u64, u32) {
        let version = self.version(number);
        let mut origin = number;
        while version == 0
            && origin > 0
            && self.draw.hit(Question::Duplicate, origin, self.settings.duplicates)
        {
            origin = self.draw.below(Question::Original, origin, origin);
        }
        (origin, version)
    }
}

/// An arithmetic sequence of repositories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    first: u64,
    step: u64,
    count: u64,
}

impl Numbers {
    /// No repositories.
    pub(crate) const NONE: Self = Self { first: 0, step: 1, count: 0 };

    /// Places in the sequence.
    pub(crate) fn places(self) -> Range<u64> {
        0..self.count
    }

    /// The number at a place; `ascending` or from the end.
    pub(crate) fn at(self, place: u64, ascending: bool) -> u64 {
        let place = if ascending { place } else { self.count.saturating_sub(place).saturating_sub(1) };
        self.first.saturating_add(place.saturating_mul(self.step))
    }
}

fn owner_of(number: u64) -> String {
    format!("made-up-{:04}", number % OWNERS)
}

fn first_name(number: u64) -> String {
    format!("{}/model-{number:07}", owner_of(number))
}

fn kind(task: &str, license: &str, template: Option<&Repo>) -> Repo {
    let config = template.and_then(|template| template.config.clone());
    let model_type = config.as_ref().and_then(|config| config["model_type"].as_str()).map(str::to_owned);
    let before = ["transformers", "safetensors"].map(str::to_owned).into_iter();
    let after = [task.to_owned(), format!("license:{license}"), "region:us".to_owned()];
    Repo {
        tags: before.chain(model_type).chain(after).collect(),
        pipeline_tag: Some(task.to_owned()),
        library_name: Some("transformers".to_owned()),
        config,
        parameters: template.and_then(|template| template.parameters.clone()),
        files: template.map(|template| Arc::clone(&template.files)).unwrap_or_default(),
        folders: template.map(|template| template.folders.clone()).unwrap_or_default(),
        ..Repo::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::path::PathBuf;

    use super::super::repo::Blob;
    use super::*;

    fn made_up(change: impl FnOnce(&mut settings::MadeUpSettings)) -> MadeUp {
        let file = |path: &str, blob| RepoFile {
            path: path.to_owned(),
            location: PathBuf::from("/template").join(path),
            size: 7,
            blob,
        };
        let git = Blob { oid: "0".repeat(40), lfs: None };
        let files = vec![
            file("config.json", git),
            file("a.safetensors", lfs_named("1".repeat(64), 7)),
            file("b.safetensors", lfs_named("2".repeat(64), 7)),
        ];
        let template = Repo { files: files.into(), ..Repo::default() };
        let mut settings = settings::MadeUpSettings { repos: 2_000, ..settings::MadeUpSettings::default() };
        change(&mut settings);
        MadeUp::new(settings, Some(&template))
    }

    /// What a repository states, by path.
    fn stated(repo: &Repo) -> BTreeMap<&str, &str> {
        let lfs = repo.files.iter().filter_map(|file| Some((file, file.blob.lfs.as_ref()?)));
        lfs.map(|(file, lfs)| (file.path.as_str(), lfs.sha256.as_str())).collect()
    }

    #[test]
    fn creation_and_ids_grow_with_the_number_to_the_last_one() {
        let made_up = made_up(|settings| settings.repos = settings::MadeUpSettings::MOST);
        let last = settings::MadeUpSettings::MOST - 1;
        let mut before = (0, String::new());
        for number in (0..2_000).chain([1 << 16, (1 << 20) + 1, last - 1, last]) {
            let repo = made_up.listed(number);
            assert!(repo.created > before.0 && repo.object_id > before.1, "{number}");
            assert!(repo.object_id.len() == 24 && repo.modified >= repo.created && repo.modified < NIGHT);
            assert_eq!(i64::from_str_radix(&repo.object_id[..8], 16).unwrap(), repo.created / 1000);
            before = (repo.created, repo.object_id);
        }
        assert_eq!(made_up.name(last), "made-up-9999/model-9999999");
        assert!(!made_up.exists(last + 1));
    }

    #[test]
    fn every_file_of_every_version_states_a_hash_of_its_own() {
        let (first, night) = (made_up(|_| {}), made_up(|settings| settings.changed = 1.0));
        let mut hashes = HashSet::new();
        for (made_up, number) in [(&first, 0), (&first, 1), (&night, 0), (&night, 1)] {
            let repo = made_up.whole(number);
            assert_eq!(stated(&repo).keys().collect::<Vec<_>>(), [&"a.safetensors", &"b.safetensors"]);
            for sha256 in stated(&repo).into_values() {
                assert!(sha256.len() == 64 && hashes.insert(sha256.to_owned()), "{sha256}");
            }
            assert!(repo.sha.len() == 40 && hashes.insert(repo.sha.clone()));
            assert_eq!(repo.files[0].blob.oid, "0".repeat(40), "git's files are the template's");
        }
        assert!(night.listed(0).modified >= NIGHT);
        assert_eq!(first.whole(1).sha, made_up(|_| {}).whole(1).sha);
    }

    #[test]
    fn duplicates_state_what_an_earlier_one_began_with() {
        let first = made_up(|settings| settings.duplicates = 0.3);
        let night = made_up(|settings| (settings.duplicates, settings.changed) = (0.3, 0.5));
        let mut known = HashSet::new();
        let mut duplicates = 0;
        for number in 0..2_000 {
            let (repo, later) = (first.whole(number), night.whole(number));
            duplicates += u32::from(!known.insert(format!("{:?}", stated(&repo))));
            assert_eq!(repo.sha == later.sha, stated(&repo) == stated(&later), "{number}");
        }
        assert!((500..700).contains(&duplicates), "{duplicates} of 2000 at a share of 0.3");
    }

    #[test]
    fn names_lead_where_they_should() {
        let made_up = made_up(|settings| (settings.gone, settings.renamed) = (0.1, 0.1));
        for number in 0..2_000 {
            let (first, gone) = (first_name(number), !made_up.exists(number));
            let present = made_up.name(number);
            match made_up.find(&first) {
                Found::Nothing => assert!(gone, "{first}"),
                Found::Repo(repo) => assert!(!gone && repo.id == first && present == first),
                Found::Renamed(repo) => assert!(!gone && repo.id == present && present != first),
            }
            assert_eq!(matches!(made_up.find(&present), Found::Repo(_)), !gone);
            let other = format!("{}/renamed-{number:07}", owner_of(number));
            assert_eq!(matches!(made_up.find(&other), Found::Nothing), gone || present == first);
        }
        let number = (0..2_000).find(|&number| made_up.exists(number)).unwrap();
        let shouted = first_name(number).to_uppercase();
        assert!(matches!(made_up.find(&shouted), Found::Renamed(_)));
        for id in
            ["", "-", "made-up-0001/model-1", "made-up-0001/model-+000001", "made-up-0000/model-0002000"]
        {
            assert!(matches!(made_up.find(id), Found::Nothing), "{id}");
        }
    }

    #[test]
    fn owners_take_turns() {
        let made_up = made_up(|settings| settings.repos = 25_000);
        let numbers = |owner, ascending| {
            let numbers = made_up.numbers(Some(owner));
            numbers.places().map(|at| numbers.at(at, ascending)).collect::<Vec<_>>()
        };
        assert_eq!(numbers("made-up-0042", true), [42, 10_042, 20_042]);
        assert_eq!(numbers("made-up-7000", false), [17_000, 7_000]);
        for owner in ["made-up-42", "made-up-10042", "made-up-", "acme"] {
            assert!(numbers(owner, true).is_empty(), "{owner}");
        }
        let all = made_up.numbers(None);
        assert_eq!((all.places(), all.at(0, true), all.at(0, false)), (0..25_000, 0, 24_999));
    }

    #[test]
    fn contents_are_found_by_object_id() {
        let made_up = made_up(|settings| settings.gone = 0.1);
        let number = (0..2_000).find(|&number| made_up.exists(number)).unwrap();
        let repo = made_up.whole(number);
        let xet_hash = &repo.files[2].blob.lfs.as_ref().unwrap().xet_hash;
        assert_eq!(made_up.content(&repo.object_id, xet_hash).unwrap().1, 2);
        assert!(made_up.content(&repo.object_id, "").is_none());
        let gone = (0..2_000).find(|&number| !made_up.exists(number)).unwrap();
        assert!(made_up.content(&made_up.object_id(gone), xet_hash).is_none());
        for object_id in ["", "0", &"0".repeat(24), &format!("{}ffffff", &repo.object_id[..18])] {
            assert!(made_up.content(object_id, xet_hash).is_none(), "{object_id}");
        }
    }
}
