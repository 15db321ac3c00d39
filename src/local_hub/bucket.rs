//! The kinds of requests that the Hub limits apart.

use serde::Serialize;

/// The three quotas of the Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bucket {
    Api,
    Resolvers,
    Pages,
}

impl Bucket {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Resolvers => "resolvers",
            Self::Pages => "pages",
        }
    }
}

/// Something, by default a number, for each rate-limit bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PerBucket<T = u64> {
    /// `/api/...`, apart from resolve-cache.
    pub api: T,
    /// `/resolve/`, `/raw/` and `/api/resolve-cache/`.
    pub resolvers: T,
    /// Everything else.
    pub pages: T,
}

impl<T> PerBucket<T> {
    pub(crate) fn of(&mut self, bucket: Bucket) -> &mut T {
        match bucket {
            Bucket::Api => &mut self.api,
            Bucket::Resolvers => &mut self.resolvers,
            Bucket::Pages => &mut self.pages,
        }
    }

    pub(crate) fn map<U>(&self, change: impl Fn(&T) -> U) -> PerBucket<U> {
        let Self { api, resolvers, pages } = self;
        PerBucket { api: change(api), resolvers: change(resolvers), pages: change(pages) }
    }
}
