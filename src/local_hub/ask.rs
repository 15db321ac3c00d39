//! One request, as the handlers see it.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::access::Reader;
use super::catalogue::{Catalogue, Found, Repo};
use super::names::DATASETS;
use super::query::Query;
use super::refusal::Refusal;
use super::shared::Shared;
use super::uploads::Store;

/// A request to the hub: who asks, for what, and of which snapshot.
pub(crate) struct Ask<'a> {
    pub(crate) shared: &'a Shared,
    /// The snapshot that this request works on from beginning to end.
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) reader: Reader<'a>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) raw_query: &'a str,
    pub(crate) query: Query,
}

impl Ask<'_> {
    /// The repository of this name, at its head: one that clients write, or one of the folder.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Repo>, Refusal> {
        let uploaded = self.shared.store.as_ref().map_or(Found::Nothing, |store| store.find(id));
        let found = if let Found::Nothing = uploaded { self.catalogue.find(id) } else { uploaded };
        self.reader.see(found, self.shared.settings.behaviour.error_code_on_missing)
    }

    /// The store, for those who may write to the repository of this name; whether it exists stays open.
    pub(crate) fn writable(&self, id: &str) -> Result<Arc<Store>, Refusal> {
        if matches!(self.reader, Reader::Anonymous) {
            return Err(Refusal::Unauthenticated { with_code: false });
        }
        let store = self.shared.store.as_ref().ok_or(Refusal::NotWritable("This server is read-only"))?;
        if !id.starts_with(DATASETS) {
            return Err(Refusal::NotWritable("Only datasets can be written"));
        }
        if !self.reader.may_write(id) {
            return Err(Refusal::NotWritable("You don't have the rights to write to this namespace"));
        }
        Ok(Arc::clone(store))
    }
}
