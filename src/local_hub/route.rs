//! The grammar of hub paths. Pure: text in, route out.
//!
//! Repository ids have one or two segments, revisions and paths may be escaped as a whole, and a
//! redirect for a renamed repository has to keep the rest of the path letter for letter. That is
//! more than a route table expresses, and less than forty lines by hand.

use super::bucket::Bucket;
use super::names::DATASETS;
use super::text::unescape;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    List,
    WhoAmI,
    Create,
    ValidateYaml,
    Repo(RepoRoute<'a>),
    Unknown(Bucket),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RepoRoute<'a> {
    /// `org/name`, for datasets `datasets/org/name`.
    pub(crate) id: String,
    /// What stood before the id: `/`, `/api/`, `/api/models/`, `/api/resolve-cache/models/`.
    pub(crate) prefix: &'static str,
    /// What stood behind it, as it was written.
    pub(crate) tail: &'a str,
    pub(crate) action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Info { revision: Option<String> },
    Tree { revision: String, path: String },
    PathsInfo { revision: String },
    Refs,
    Commits { revision: String },
    Resolve { revision: String, path: String },
    ResolveCache { sha: String, path: String },
    Raw { revision: String, path: String },
    Write(WriteAction),
}

/// What changes a repository, or prepares it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriteAction {
    Preupload { revision: String },
    Commit { revision: String },
    Tag { revision: String },
    LfsBatch,
    LfsVerify,
}

impl Action {
    /// The revision that is asked for; a sha is one.
    pub(crate) fn revision(&self) -> Option<&str> {
        match self {
            Self::Info { revision } => revision.as_deref(),
            Self::Tree { revision, .. }
            | Self::PathsInfo { revision }
            | Self::Commits { revision }
            | Self::Resolve { revision, .. }
            | Self::Raw { revision, .. }
            | Self::ResolveCache { sha: revision, .. } => Some(revision),
            Self::Refs | Self::Write(_) => None,
        }
    }
}

/// Second segments that belong to an action, so that the id before them has only one.
const VERBS: [&str; 7] = ["tree", "revision", "paths-info", "refs", "commits", "resolve", "raw"];

pub(crate) fn parse(path: &str) -> Route<'_> {
    const API: &str = "/api/models/";
    const CACHE: &str = "/api/resolve-cache/models/";
    const PAGE: &str = "/";
    // `datasets/` is part of the id.
    const DATA_API: &str = "/api/";
    const DATA_CACHE: &str = "/api/resolve-cache/";

    match path {
        "/api/models" | API => return Route::List,
        "/api/whoami-v2" => return Route::WhoAmI,
        "/api/repos/create" => return Route::Create,
        "/api/validate-yaml" => return Route::ValidateYaml,
        _ => {}
    }
    let dataset = |before: &'static str| {
        let rest = path.strip_prefix(before)?;
        rest.starts_with(DATASETS).then_some(rest)
    };
    let (found, bucket) = if let Some(rest) = path.strip_prefix(API) {
        (repo(API, "", rest, api_action), Bucket::Api)
    } else if let Some(rest) = path.strip_prefix(CACHE) {
        (repo(CACHE, "", rest, cache_action), Bucket::Resolvers)
    } else if let Some(rest) = dataset(DATA_API) {
        (repo(DATA_API, DATASETS, rest, api_action), Bucket::Api)
    } else if let Some(rest) = dataset(DATA_CACHE) {
        (repo(DATA_CACHE, DATASETS, rest, cache_action), Bucket::Resolvers)
    } else if path.starts_with("/api/") {
        (None, Bucket::Api)
    } else if let Some(rest) = dataset(PAGE) {
        (repo(PAGE, DATASETS, rest, page_action), Bucket::Pages)
    } else {
        (path.strip_prefix(PAGE).and_then(|rest| repo(PAGE, "", rest, page_action)), Bucket::Pages)
    };
    found.map_or(Route::Unknown(bucket), Route::Repo)
}

impl Route<'_> {
    pub(crate) fn bucket(&self) -> Bucket {
        match self {
            Self::List | Self::WhoAmI | Self::Create | Self::ValidateYaml => Bucket::Api,
            Self::Unknown(bucket) => *bucket,
            Self::Repo(route) => match route.action {
                Action::Resolve { .. } | Action::ResolveCache { .. } | Action::Raw { .. } => {
                    Bucket::Resolvers
                }
                _ => Bucket::Api,
            },
        }
    }
}

/// A route about a repository: `rest` begins with its id, and that with `kind`.
fn repo<'a>(
    prefix: &'static str,
    kind: &str,
    rest: &'a str,
    action: fn(&[String]) -> Option<Action>,
) -> Option<RepoRoute<'a>> {
    let named = rest.strip_prefix(kind)?;
    if let Some((name, _)) = named.split_once(".git/info/lfs/") {
        let id = format!("{kind}{}", unescape(name)?);
        let tail = &rest[kind.len() + name.len()..];
        let whole = name.split('/').count() == 2 && name.split('/').all(|part| !part.is_empty());
        return whole.then_some(RepoRoute { id, prefix, tail, action: lfs_action(prefix, tail)? });
    }
    let segments: Vec<String> = named.split('/').map(unescape).collect::<Option<_>>()?;
    let one = segments.get(1).is_none_or(|second| VERBS.contains(&second.as_str()) || second.is_empty());
    let length = if one { 1 } else { 2 };
    let (id, further) = segments.split_at(length);
    if id.iter().any(String::is_empty) {
        return None;
    }
    let tail_at = named.match_indices('/').nth(length - 1).map_or(named.len(), |(at, _)| at);
    let id = format!("{kind}{}", id.join("/"));
    Some(RepoRoute { id, prefix, tail: &named[tail_at..], action: action(further)? })
}

fn api_action(segments: &[String]) -> Option<Action> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    Some(match segments.as_slice() {
        [] | [""] => Action::Info { revision: None },
        ["refs"] => Action::Refs,
        ["revision", revision] => Action::Info { revision: Some((*revision).to_owned()) },
        ["paths-info", revision] => Action::PathsInfo { revision: (*revision).to_owned() },
        ["commits", revision] => Action::Commits { revision: (*revision).to_owned() },
        ["tree", revision, path @ ..] => {
            let path = path.join("/").trim_matches('/').to_owned();
            Action::Tree { revision: (*revision).to_owned(), path }
        }
        ["preupload", revision] => Action::Write(WriteAction::Preupload { revision: (*revision).to_owned() }),
        ["commit", revision] => Action::Write(WriteAction::Commit { revision: (*revision).to_owned() }),
        ["tag", revision] => Action::Write(WriteAction::Tag { revision: (*revision).to_owned() }),
        _ => return None,
    })
}

/// The routes of git-lfs, below the address of the git repository.
fn lfs_action(prefix: &str, tail: &str) -> Option<Action> {
    match (prefix, tail) {
        ("/", ".git/info/lfs/objects/batch") => Some(Action::Write(WriteAction::LfsBatch)),
        ("/", ".git/info/lfs/objects/verify") => Some(Action::Write(WriteAction::LfsVerify)),
        _ => None,
    }
}

fn cache_action(segments: &[String]) -> Option<Action> {
    let (sha, path) = segments.split_first()?;
    (!path.is_empty()).then(|| Action::ResolveCache { sha: sha.clone(), path: path.join("/") })
}

fn page_action(segments: &[String]) -> Option<Action> {
    let [verb, revision, path @ ..] = segments else { return None };
    let (revision, path) = (revision.clone(), path.join("/"));
    match verb.as_str() {
        _ if path.is_empty() => None,
        "resolve" => Some(Action::Resolve { revision, path }),
        "raw" => Some(Action::Raw { revision, path }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str) -> (String, Action, &str) {
        match parse(path) {
            Route::Repo(route) => (route.id, route.action, route.tail),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn file(revision: &str, path: &str) -> Action {
        Action::Resolve { revision: revision.to_owned(), path: path.to_owned() }
    }

    fn tree(revision: &str, path: &str) -> Action {
        Action::Tree { revision: revision.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn ids_have_one_or_two_segments() {
        assert_eq!(
            found("/a/b/resolve/main/x/y.json"),
            ("a/b".into(), file("main", "x/y.json"), "/resolve/main/x/y.json")
        );
        assert_eq!(found("/gpt2/resolve/main/x"), ("gpt2".into(), file("main", "x"), "/resolve/main/x"));
        assert_eq!(found("/api/models/a/b"), ("a/b".into(), Action::Info { revision: None }, ""));
        assert_eq!(found("/api/models/gpt2"), ("gpt2".into(), Action::Info { revision: None }, ""));
        assert_eq!(found("/api/models/gpt2/refs"), ("gpt2".into(), Action::Refs, "/refs"));
    }

    #[test]
    fn escapes_are_read_once_and_kept_in_the_tail() {
        assert_eq!(
            found("/a/b/resolve/refs%2Fpr%2F1/d%2Fx%20y"),
            ("a/b".into(), file("refs/pr/1", "d/x y"), "/resolve/refs%2Fpr%2F1/d%2Fx%20y")
        );
        assert_eq!(found("/a/b/resolve/main/x%2520y").1, file("main", "x%20y"));
    }

    #[test]
    fn trees_with_and_without_path_or_slash() {
        for path in ["/api/models/a/b/tree/main", "/api/models/a/b/tree/main/"] {
            assert_eq!(found(path).1, tree("main", ""), "{path}");
        }
        for path in [
            "/api/models/a/b/tree/main/d/e",
            "/api/models/a/b/tree/main/d%2Fe",
            "/api/models/a/b/tree/main/d/e/",
        ] {
            assert_eq!(found(path).1, tree("main", "d/e"), "{path}");
        }
    }

    #[test]
    fn datasets_carry_their_kind_in_their_id() {
        assert_eq!(
            found("/datasets/a/b/resolve/main/x/y"),
            ("datasets/a/b".into(), file("main", "x/y"), "/resolve/main/x/y")
        );
        assert_eq!(found("/datasets/squad/resolve/main/x").0, "datasets/squad");
        assert_eq!(found("/api/datasets/a/b/tree/v1%2F0/d").1, tree("v1/0", "d"));
        assert_eq!(found("/api/datasets/a/b"), ("datasets/a/b".into(), Action::Info { revision: None }, ""));
        let cached = found("/api/resolve-cache/datasets/a/b/0123/x");
        assert_eq!(cached.0, "datasets/a/b");
        assert_eq!(cached.1, Action::ResolveCache { sha: "0123".into(), path: "x".into() });
        for path in ["/api/datasets", "/api/datasets/", "/datasets/", "/datasets/a/b"] {
            assert!(matches!(parse(path), Route::Unknown(_)), "{path}");
        }
    }

    #[test]
    fn routes_that_write() {
        let main = || "main".to_owned();
        for (path, id, action, tail) in [
            (
                "/api/datasets/a/b/commit/main",
                "datasets/a/b",
                WriteAction::Commit { revision: main() },
                "/commit/main",
            ),
            (
                "/api/datasets/a/b/tag/main",
                "datasets/a/b",
                WriteAction::Tag { revision: main() },
                "/tag/main",
            ),
            (
                "/api/datasets/a/b/preupload/main",
                "datasets/a/b",
                WriteAction::Preupload { revision: main() },
                "/preupload/main",
            ),
            (
                "/datasets/a/b%20c.git/info/lfs/objects/batch",
                "datasets/a/b c",
                WriteAction::LfsBatch,
                ".git/info/lfs/objects/batch",
            ),
            (
                "/a/b.git/info/lfs/objects/verify",
                "a/b",
                WriteAction::LfsVerify,
                ".git/info/lfs/objects/verify",
            ),
        ] {
            assert_eq!(found(path), (id.into(), Action::Write(action), tail), "{path}");
        }
        for path in [
            "/datasets/a/b.git/info/lfs/locks",
            "/datasets/b.git/info/lfs/objects/batch",
            "/api/datasets/a/b.git/info/lfs/objects/batch",
            "/api/models/a/tag",
        ] {
            assert!(
                !matches!(parse(path), Route::Repo(RepoRoute { action: Action::Write(_), .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn buckets() {
        for (path, bucket) in [
            ("/api/models", Bucket::Api),
            ("/api/models/a/b/nonsense", Bucket::Api),
            ("/api/whatever", Bucket::Api),
            ("/a/b/resolve/main/x", Bucket::Resolvers),
            ("/a/b/raw/main/x", Bucket::Resolvers),
            ("/api/resolve-cache/models/a/b/0123/x", Bucket::Resolvers),
            ("/datasets/Salesforce/wikitext/resolve/main/.gitattributes", Bucket::Resolvers),
            ("/api/datasets/a/b", Bucket::Api),
            ("/api/repos/create", Bucket::Api),
            ("/datasets/a/b.git/info/lfs/objects/batch", Bucket::Api),
            ("/datasets/a/b", Bucket::Pages),
            ("/", Bucket::Pages),
            ("", Bucket::Pages),
        ] {
            assert_eq!(parse(path).bucket(), bucket, "{path}");
        }
    }

    proptest! {
        #[test]
        fn prefix_id_and_tail_make_up_the_path(path in "(/api/models|/api/resolve-cache/models|/api|/api/resolve-cache)?(/(a|b%20c|%|tree|main|resolve|raw|datasets|d.git|info|lfs|objects|batch)?){0,9}") {
            if let Route::Repo(route) = parse(&path) {
                prop_assert!(path.starts_with(route.prefix) && path.ends_with(route.tail));
                let id = &path[route.prefix.len()..path.len() - route.tail.len()];
                prop_assert_eq!(unescape(id), Some(route.id));
            }
        }
    }
}
