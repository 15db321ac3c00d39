//! What every source of models must do. Each implementation is given the same repositories.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::folder::CacheFolder;
use super::memory::{MemoryFiles, MemorySource};
use crate::checkpoint::error::ReadError;
use crate::checkpoint::source::Source;
use crate::hub::{Hub, HubErrorKind, HubSettings, ListQuery, Missing, RepoRef};
use crate::local_hub::{self, Settings};
use crate::store::atomic;

/// Repositories by name, each with its files.
type Repos = BTreeMap<&'static str, Vec<(&'static str, Vec<u8>)>>;

fn repos() -> Repos {
    let content = |seed: u8| (0..5000).map(|i| (i as u8).wrapping_mul(seed)).collect::<Vec<u8>>();
    BTreeMap::from([
        ("acme/base", vec![("config.json", b"{}".to_vec()), ("model.safetensors", content(3))]),
        ("acme/tuned", vec![("config.json", b"{ }".to_vec()), ("model.safetensors", content(5))]),
        ("other/one", vec![("README.md", b"# one".to_vec())]),
    ])
}

async fn check(source: &dyn Source) {
    let repos = repos();
    lists_each_once(source, &repos).await;
    reads_exactly_what_is_there(source, &repos).await;
    says_what_is_missing(source).await;
}

async fn lists_each_once(source: &dyn Source, repos: &Repos) {
    for page_size in [1, 2, 1000] {
        let query = ListQuery { page_size, ..ListQuery::default() };
        let pages: Vec<_> = source.list(query).try_collect().await.unwrap();
        assert!(pages.iter().all(|page| page.repos.len() <= page_size as usize && page.rejected.is_empty()));
        let mut names: Vec<&str> =
            pages.iter().flat_map(|p| &p.repos).map(|entry| entry.id.as_str()).collect();
        names.sort_unstable();
        assert!(names.iter().eq(repos.keys()), "{names:?}");
    }
    let of_owner = ListQuery { author: Some("acme".into()), ..ListQuery::default() };
    let pages: Vec<_> = source.list(of_owner).try_collect().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.repos.len()).sum::<usize>(), 2);
}

async fn reads_exactly_what_is_there(source: &dyn Source, repos: &Repos) {
    for (name, files) in repos {
        let repo: RepoRef = name.parse().unwrap();
        let entry = source.info(&repo).await.unwrap();
        assert_eq!((entry.id.as_str(), entry.object_id.is_empty()), (*name, false));
        let commit = entry.sha.clone().expect("a commit");
        // The commit is a revision, too.
        let at_commit = RepoRef { revision: Some(commit.clone()), ..repo };
        assert_eq!(source.info(&at_commit).await.unwrap().sha.as_ref(), Some(&commit));
        let opened = source.files(&entry.id, &commit, entry.siblings.unwrap());
        let mut listed: Vec<&str> = opened.names().iter().map(String::as_str).collect();
        listed.sort_unstable();
        let mut written: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        written.sort_unstable();
        assert_eq!(listed, written);
        for (path, content) in files {
            let size = content.len() as u64;
            assert_eq!(opened.small(path, size).await.unwrap(), content);
            let too_large = opened.small(path, size - 1).await;
            assert!(
                matches!(&too_large, Err(ReadError::TooLarge { cap, .. }) if *cap == size - 1)
                    || matches!(&too_large, Err(ReadError::Hub { source, .. }) if matches!(source.kind(), HubErrorKind::TooLarge { .. })),
                "{too_large:?}"
            );
            let file = opened.open(path).await.unwrap();
            assert_eq!(file.size(), size);
            for range in [0..size, 1..size, size - 1..size] {
                let expected = &content[range.start as usize..range.end as usize];
                assert_eq!(file.range(range).await.unwrap(), expected);
            }
            assert!(file.range(size - 1..size + 1).await.is_err(), "beyond the end of {path}");
            assert_eq!(file.range(0..1).await.unwrap(), content[..1], "an error does not close it");
        }
        assert!(opened.open("absent.bin").await.is_err());
        assert!(opened.small("absent.bin", 10).await.is_err());
    }
}

async fn says_what_is_missing(source: &dyn Source) {
    let missing = async |repo: &str| {
        let error = source.info(&repo.parse().unwrap()).await.unwrap_err();
        match error.kind() {
            // What an anonymous caller of the Hub hears of a repository that is not there.
            HubErrorKind::Unauthorized { with_token: false } => Missing::Repo,
            HubErrorKind::NotFound { what } => *what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(missing("acme/absent").await, Missing::Repo);
    assert_eq!(missing("acme/base@no-such-branch").await, Missing::Revision);
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    atomic::write(path, content).unwrap();
}

#[tokio::test]
async fn memory() {
    let mut source = MemorySource::default();
    for (name, files) in repos() {
        let files = files.into_iter().map(|(path, content)| (path.to_owned(), Bytes::from(content)));
        source.insert(name.parse().unwrap(), MemoryFiles::new(files));
    }
    check(&source).await;
}

#[tokio::test]
async fn the_folder_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    for (name, files) in repos() {
        let repo = dir.path().join(format!("models--{}", name.replace('/', "--")));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        write(&repo.join("refs/main"), commit.as_bytes());
        for (path, content) in files {
            write(&repo.join("snapshots").join(commit).join(path), &content);
        }
    }
    check(&CacheFolder::new(dir.path().to_owned())).await;
}

#[tokio::test]
async fn the_hub_over_http() {
    let dir = tempfile::tempdir().unwrap();
    for (name, files) in repos() {
        for (path, content) in files {
            write(&dir.path().join("models").join(name).join(path), &content);
        }
    }
    let any = ([127, 0, 0, 1], 0).into();
    let running = local_hub::start(dir.path(), any, any, Settings::default()).await.unwrap();
    let endpoint = running.hub_url().to_owned();
    let settings = HubSettings::from_env(|name| (name == "HF_ENDPOINT").then(|| endpoint.clone())).unwrap();
    check(&Hub::new(settings).unwrap()).await;
}
