//! What was sent to the CDN: whole requests, for tests that look for what should not have been.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;

/// Requests that are kept, the latest.
const MOST: usize = 1000;

/// The requests, each as text.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<VecDeque<String>>);

impl Heard {
    /// Keeps the head of a request.
    pub(crate) fn keep(&self, asked: &Parts) {
        let mut text = format!("{} {}\n", asked.method, asked.uri);
        for (name, value) in &asked.headers {
            // A token is marked as one that is not shown, so its bytes are written.
            let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        let mut heard = self.lock();
        if heard.len() == MOST {
            heard.pop_front();
        }
        heard.push_back(text);
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
