//! Large files, by the basic transfer of git-lfs: ask where to, send, ask whether it came.
//!
//! The address to send to is signed as those of downloads are, names the content by SHA-256 and
//! length, and lies on the second origin. What arrives is written to disk as it comes, and kept if
//! it is what the address names.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json;
use crate::local_hub::ask::Ask;
use crate::local_hub::blocking::blocking;
use crate::local_hub::catalogue::Repo;
use crate::local_hub::clock::now_seconds;
use crate::local_hub::refusal::Refusal;
use crate::local_hub::reply::{self, put};
use crate::local_hub::shared::Shared;
use crate::local_hub::text::{escape_path, is_hex};
use crate::local_hub::uploads::Store;

/// Where uploads go on the second origin.
pub(crate) const PREFIX: &str = "/lfs-upload/";
/// Bytes that are written and hashed at a time.
const BATCH: usize = 1 << 20;

#[derive(Deserialize)]
struct Asked {
    operation: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    size: u64,
}

/// `POST /datasets/{id}.git/info/lfs/objects/batch`
pub(super) async fn batch(
    ask: &Ask<'_>,
    store: &Arc<Store>,
    repo: &Repo,
    body: Body,
) -> Result<Response, Refusal> {
    let asked: Asked = json::read(body).await?;
    if asked.operation != "upload" {
        return Err(Refusal::BadRequest(
            "Only uploads are negotiated; resolve leads to downloads".to_owned(),
        ));
    }
    let objects: Value = asked.objects.iter().map(|object| offer(ask.shared, store, repo, object)).collect();
    let mut answer = reply::json(StatusCode::OK, &json!({ "transfer": "basic", "objects": objects }));
    put(answer.headers_mut(), "content-type", "application/vnd.git-lfs+json");
    Ok(answer)
}

/// What to do with one object: nothing if it is here.
fn offer(shared: &Shared, store: &Store, repo: &Repo, object: &Object) -> Value {
    let Object { oid, size } = object;
    let most = shared.settings.uploads.max_object_bytes;
    let refused =
        |message: String| json!({ "oid": oid, "size": size, "error": { "code": 422, "message": message } });
    if !is_hex(oid, 64) {
        return refused("the oid is no SHA-256".to_owned());
    }
    if *size > most {
        return refused(format!("more than {most} bytes"));
    }
    if store.objects.size(oid) == Some(*size) {
        return json!({ "oid": oid, "size": size });
    }
    let life = shared.settings.url_ttl_seconds;
    let path = format!("{PREFIX}{oid}/{size}");
    let signed = shared.signer.sign(&shared.cdn_url, &path, now_seconds().saturating_add(life), None);
    let verify = format!("{}/{}.git/info/lfs/objects/verify", shared.hub_url, escape_path(&repo.id));
    json!({
        "oid": oid, "size": size, "authenticated": true,
        "actions": {
            "upload": { "href": format!("{}{signed}", shared.cdn_url), "header": {}, "expires_in": life },
            "verify": { "href": verify, "header": {} },
        },
    })
}

/// `POST /datasets/{id}.git/info/lfs/objects/verify`
pub(super) async fn verify(store: &Arc<Store>, body: Body) -> Result<Response, Refusal> {
    let Object { oid, size } = json::read(body).await?;
    if is_hex(&oid, 64) && store.objects.size(&oid) == Some(size) {
        return Ok(reply::json(StatusCode::OK, &json!({ "oid": oid, "size": size })));
    }
    Err(Refusal::NotStored(oid))
}

/// `PUT` to an address of [`offer`], whose signature holds.
pub(crate) async fn receive(
    shared: &Arc<Shared>,
    path: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let store = shared.store.clone().ok_or(Refusal::UnknownRoute)?;
    let named = path.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
    let (oid, size) = named.ok_or(Refusal::UnknownRoute)?;
    let size: u64 = size.parse().map_err(|_| Refusal::UnknownRoute)?;
    let stated =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(stated) = stated.filter(|stated| *stated != size) {
        return Err(Refusal::BadRequest(format!("{stated} bytes are announced, not {size}")));
    }

    let mut incoming = store.objects.begin()?;
    let mut chunks = body.into_data_stream();
    let (mut batch, mut waiting, mut seen) = (Vec::new(), 0, 0u64);
    loop {
        let chunk = chunks.next().await.transpose();
        let chunk = chunk.map_err(|_| Refusal::BadRequest("The body broke off".to_owned()))?;
        let last = chunk.is_none();
        if let Some(chunk) = chunk {
            seen = seen.saturating_add(chunk.len() as u64);
            if seen > size {
                return Err(Refusal::BadRequest(format!("More than {size} bytes came")));
            }
            waiting += chunk.len();
            batch.push(chunk);
        }
        if last || waiting >= BATCH {
            let full = std::mem::take(&mut batch);
            waiting = 0;
            incoming = blocking(move || -> io::Result<_> {
                for chunk in &full {
                    incoming.write_all(chunk)?;
                }
                Ok(incoming)
            })
            .await?;
        }
        if last {
            break;
        }
    }
    shared.tally.add(|counters| counters.received.count(seen));
    let sha256 = incoming.sha256();
    if (incoming.size(), sha256.as_str()) != (size, oid) {
        return Err(Refusal::BadRequest(format!(
            "{seen} bytes came, of the SHA-256 {sha256}, and not {oid}"
        )));
    }
    let etag = format!("\"{sha256}\"");
    blocking(move || store.objects.keep(incoming)).await?;
    let mut answer = reply::text(StatusCode::OK, "");
    put(answer.headers_mut(), "etag", etag);
    Ok(answer)
}
