//! The bodies of questions.

use axum::body::{Body, to_bytes};
use serde::de::DeserializeOwned;

use crate::local_hub::refusal::Refusal;

/// Room for the questions about some ten thousand files.
const MAX_JSON: usize = 16 << 20;

/// Reads a body as JSON.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = to_bytes(body, MAX_JSON).await.map_err(|_| Refusal::TooLarge)?;
    serde_json::from_slice(&body).map_err(|error| Refusal::BadRequest(format!("Invalid body: {error}")))
}
