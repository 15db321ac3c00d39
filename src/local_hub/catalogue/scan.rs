//! From a folder to a catalogue.
//!
//! Two layouts are read, side by side if need be: `models/<org>/<name>/...`, and the cache of
//! huggingface_hub (`models--org--name/snapshots/<sha>/...`); datasets are `datasets/<org>/<name>/...`
//! and `datasets--org--name/...`. A repository that cannot be read is left
//! out with a warning, and so is one whose `.hub.json` is damaged: it may have said `private`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use tracing::{info, warn};

use super::describe::{Evidence, config_subset};
use super::digest::DigestCache;
use super::made_up::MadeUp;
use super::overrides::{FolderOverrides, ModelOverrides};
use super::repo::{Repo, RepoFile};
use super::snapshot::Catalogue;
use super::walk::{self, FolderFile};
use super::{card, weights};
use crate::local_hub::names::DATASETS;
use crate::local_hub::settings;
use crate::local_hub::text::{hex, is_hex, parse_timestamp};

/// Cards, configurations and overrides beyond this size are not read.
const MAX_TEXT: u64 = 8 << 20;

/// A folder that cannot be served, or a model that is left out.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
    /// `hub.json` or `.hub.json` is not what it should be.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what is wrong.
        source: serde_json::Error,
    },
    /// A date in `.hub.json` that is none.
    #[error("{}: `{text}` is no RFC 3339 date", path.display())]
    Date {
        /// The file.
        path: PathBuf,
        /// What it says.
        text: String,
    },
    /// Made-up repositories shall have the files of a model that the folder does not have.
    #[error("made_up.template: there is no {0} in the folder")]
    NoTemplate(String),
}

/// Where a repository lies.
struct Source {
    id: String,
    folder: PathBuf,
    /// Known from a cache; otherwise computed from the content.
    sha: Option<String>,
}

/// Reads the folder; unchanged files are not hashed again.
pub(crate) fn scan(
    root: &Path,
    digests: &DigestCache,
    made_up: &settings::MadeUpSettings,
) -> Result<Catalogue, ScanError> {
    let at = |source| ScanError::Io { path: root.to_owned(), source };
    let root = root.canonicalize().map_err(at)?;
    let folder: FolderOverrides = json_or_default(&root.join("hub.json"))?;
    let sources = sources(&root).map_err(at)?;
    let repos: Vec<Repo> = sources
        .into_par_iter()
        .filter_map(|source| match read(&root, &source, digests) {
            Ok(repo) => Some(repo),
            Err(error) => {
                warn!(repo.id = source.id, %error, "left out {}", source.id);
                None
            }
        })
        .collect();
    info!(repos = repos.len(), "scanned {}", root.display());
    let template = made_up.template.as_ref().map(|id| {
        let missing = || ScanError::NoTemplate(id.clone());
        repos.iter().find(|repo| repo.id == *id).ok_or_else(missing)
    });
    let made_up = MadeUp::new(made_up.clone(), template.transpose()?);
    Ok(Catalogue::new(repos, folder.renames, made_up))
}

/// Every repository's folder, in either layout, sorted by id; `models/` and `datasets/` win over the cache.
fn sources(root: &Path) -> io::Result<Vec<Source>> {
    let mut found = BTreeMap::new();
    for (name, folder) in folders(root, root)? {
        let cached = name.strip_prefix("models--").map(|id| ("", id));
        if let Some((kind, id)) = cached.or_else(|| Some((DATASETS, name.strip_prefix("datasets--")?)))
            && let Some((folder, sha)) = snapshot(&folder)
        {
            let id = format!("{kind}{}", id.replacen("--", "/", 1));
            found.insert(id.clone(), Source { id, folder, sha: Some(sha) });
        }
    }
    for (kind, place) in [("", root.join("models")), (DATASETS, root.join("datasets"))] {
        if !place.is_dir() {
            continue;
        }
        for (org, folder) in folders(root, &place)? {
            for (name, folder) in folders(root, &folder)? {
                let id = format!("{kind}{org}/{name}");
                found.insert(id.clone(), Source { id, folder, sha: None });
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The folders directly in `folder` whose names may be part of a repository id.
fn folders(root: &Path, folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(location) = entry.path().canonicalize() else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if named && !name.starts_with('.') && location.starts_with(root) && location.is_dir() {
            found.push((name, location));
        }
    }
    Ok(found)
}

/// The snapshot that `main` of a cached model points to, or any if there is no such ref.
fn snapshot(cached: &Path) -> Option<(PathBuf, String)> {
    let snapshots = cached.join("snapshots");
    let named = |sha: String| is_hex(&sha, 40).then(|| (snapshots.join(&sha), sha));
    let main = fs::read_to_string(cached.join("refs/main")).ok().and_then(|sha| named(sha.trim().to_owned()));
    main.filter(|(folder, _)| folder.is_dir()).or_else(|| {
        let names =
            fs::read_dir(&snapshots).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(named).max_by_key(|(folder, _)| folder.metadata().and_then(|m| m.modified()).ok())
    })
}

fn read(root: &Path, source: &Source, digests: &DigestCache) -> Result<Repo, ScanError> {
    let at = |error| ScanError::Io { path: source.folder.clone(), source: error };
    let overrides_path = source.folder.join(".hub.json");
    let overrides: ModelOverrides = json_or_default(&overrides_path)?;
    let found = walk::files(root, &source.folder).map_err(at)?;

    let text = |path: &str| found.iter().find(|f| f.path == path).and_then(small_text);
    let json = |path: &str| text(path).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let card: Map<String, Value> = text("README.md").map(|t| card::front_matter(&t)).unwrap_or_default();
    // Of a dataset only the card speaks: a config.json in it is data like any other file.
    let is_model = !source.id.starts_with(DATASETS);
    let (config, tokenizer) =
        if is_model { (json("config.json"), json("tokenizer_config.json")) } else { (None, None) };
    let telling = if is_model { found.as_slice() } else { &[] };
    let evidence = Evidence { files: telling, card: &card, config: config.as_ref(), overrides: &overrides };
    let (tags, bases) = (evidence.tags(), evidence.bases());
    let (pipeline_tag, library_name) = (evidence.pipeline_tag(), evidence.library_name());

    let date = |text: &Option<String>, default: fn(&[FolderFile]) -> Option<SystemTime>| match text {
        None => Ok(default(&found).map_or(0, millis)),
        Some(text) => parse_timestamp(text)
            .ok_or_else(|| ScanError::Date { path: overrides_path.clone(), text: text.clone() }),
    };
    let created = date(&overrides.created_at, |files| files.iter().map(|f| f.modified).min())?;
    let modified = date(&overrides.last_modified, |files| files.iter().map(|f| f.modified).max())?;

    let parameters = weights::parameters(telling);
    let files = found
        .into_par_iter()
        .map(|found| {
            let blob = digests.blob(&found)?;
            Ok(RepoFile { path: found.path, location: found.location, size: found.size, blob })
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(at)?;

    Ok(Repo {
        object_id: object_id(&source.id, created),
        sha: source.sha.clone().unwrap_or_else(|| commit(&source.id, &files)),
        id: source.id.clone(),
        created,
        modified,
        gated: overrides.gated,
        disabled: overrides.disabled,
        private: overrides.private,
        downloads: overrides.downloads,
        likes: overrides.likes,
        tags,
        pipeline_tag,
        library_name,
        bases,
        config: config_subset(config.as_ref(), tokenizer.as_ref()).map(Arc::new),
        card,
        parameters,
        folders: folder_ids(&files),
        files: files.into(),
        log: None,
    })
}

/// The overrides in `path`, or the default if there is no such file.
fn json_or_default<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ScanError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text)) {
        Ok(_) => {
            serde_json::from_str(&text).map_err(|source| ScanError::Json { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(source) => Err(ScanError::Io { path: path.to_owned(), source }),
    }
}

fn small_text(file: &FolderFile) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(&file.location).ok()?.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Creation in seconds, then a hash of the id: what a database would have handed out.
pub(crate) fn object_id(id: &str, created: i64) -> String {
    let seconds = u32::try_from(created / 1000).unwrap_or(0);
    format!("{seconds:08x}{}", hex(&Sha256::digest(id)[..8]))
}

/// A commit id that changes exactly when the content does.
fn commit(id: &str, files: &[RepoFile]) -> String {
    let mut hasher = Sha1::new().chain_update(id);
    for file in files {
        hasher.update(format!("\0{}\0{}", file.path, file.blob.oid));
    }
    hex(&hasher.finalize())
}

/// Git's tree id of every folder.
pub(crate) fn folder_ids(files: &[RepoFile]) -> BTreeMap<String, String> {
    // Deepest first, so that the entries of a folder are complete when its turn comes.
    let mut folders: BTreeSet<(std::cmp::Reverse<usize>, &str)> = BTreeSet::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let folder = &file.path[..end];
            folders.insert((std::cmp::Reverse(folder.matches('/').count()), folder));
        }
    }
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for (_, folder) in folders {
        let child = |path: &'_ str| -> Option<String> {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        let plain = files.iter().filter_map(|f| Some((child(&f.path)?, "100644", f.blob.oid.as_str())));
        let nested = ids.iter().filter_map(|(path, oid)| Some((child(path)?, "40000", oid.as_str())));
        // Git sorts a folder as if its name ended in a slash.
        let mut entries: Vec<_> = plain.chain(nested).collect();
        entries
            .sort_by_key(|(name, mode, _)| if *mode == "40000" { format!("{name}/") } else { name.clone() });
        let mut body = Vec::new();
        for (name, mode, oid) in entries {
            body.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            body.extend(
                (0..oid.len() / 2).filter_map(|i| u8::from_str_radix(oid.get(2 * i..2 * i + 2)?, 16).ok()),
            );
        }
        let id = Sha1::new().chain_update(format!("tree {}\0", body.len())).chain_update(&body).finalize();
        ids.insert(folder.to_owned(), hex(&id));
    }
    ids
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::repo::Blob;
    use super::*;

    fn file(path: &str, oid: &str) -> RepoFile {
        let blob = Blob { oid: oid.to_owned(), lfs: None };
        RepoFile { path: path.to_owned(), location: PathBuf::new(), size: 0, blob }
    }

    #[test]
    fn folder_ids_are_those_of_git() {
        // git init; mkdir -p d/e; printf 'hello\n' | tee d/f > d/e/g; git add .; git ls-tree -rt $(git write-tree)
        let hello = "ce013625030ba8dba906f756967f9e9ca394464a";
        let ids = folder_ids(&[file("d/e/g", hello), file("d/f", hello), file("top", hello)]);
        assert_eq!(ids.keys().collect::<Vec<_>>(), ["d", "d/e"]);
        assert_eq!(ids["d/e"], "10ad8796cd0c9bcd6073d54a85348c69a04152d7");
        assert_eq!(ids["d"], "c5db30e72663e15766c3d3840a13bb921be110f4");
    }

    #[test]
    fn ids_and_commits_follow_their_sources() {
        assert_eq!(&object_id("a/b", 1_646_263_744_000)[..8], "621ffdc0");
        assert_ne!(object_id("a/b", 0), object_id("a/c", 0));
        let (one, two) = (file("x", "1"), file("x", "2"));
        assert_ne!(commit("a/b", &[one]), commit("a/b", &[two]));
    }
}
