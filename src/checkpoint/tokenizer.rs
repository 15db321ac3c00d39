//! The tokenizer of a checkpoint, read and parsed once for each content.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::cpu::off_thread;
use super::error::ReadError;
use super::plan;
use super::source::{OpenFile, RepoFiles};
use crate::formats::Limits;
use crate::formats::tokenizer::{Tokenizer, TokenizerFiles};
use crate::signals::tokenizer::TokenizerPrint;
use crate::signals::tokens::TokenKeys;
use crate::store::checksum::hex;

/// Tokenizers that are kept with their tokens: a quarter million tokens are 8 MB.
const KEPT: usize = 32;

/// What is known of one tokenizer.
#[derive(Debug)]
pub struct KnownTokenizer {
    /// What the database stores.
    pub print: TokenizerPrint,
    /// Which row is which token.
    pub keys: Arc<TokenKeys>,
}

/// Why a checkpoint's tokenizer is not known.
pub type Unknown = String;

type Entry = Arc<OnceCell<Result<Arc<KnownTokenizer>, Unknown>>>;

/// Tokenizers by content. Clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct Tokenizers(Arc<Mutex<HashMap<String, Entry>>>);

/// A tokenizer with the bytes of content that were read for it.
pub(super) struct Read {
    pub(super) tokenizer: Result<Arc<KnownTokenizer>, Unknown>,
    pub(super) bytes: u64,
}

impl Tokenizers {
    /// The tokenizer of weights in this folder. A checkpoint without one, or with a damaged one, is none the worse:
    /// what depends on it is absent. Only a Hub that does not answer is an error: asked again, it may have one.
    pub(super) async fn of(
        &self,
        files: &dyn RepoFiles,
        folder: &str,
        limits: &Limits,
    ) -> Result<Read, ReadError> {
        let wanted = plan::tokenizer_files(files.names(), folder);
        if wanted.is_empty() {
            return Ok(Read { tokenizer: Err("the checkpoint has no tokenizer files".into()), bytes: 0 });
        }
        match self.read(files, &wanted, limits).await {
            Err(error) if error.is_passing() => Err(error),
            Err(error) => Ok(Read { tokenizer: Err(error.to_string()), bytes: 0 }),
            read => read,
        }
    }

    async fn read(
        &self,
        files: &dyn RepoFiles,
        wanted: &[String],
        limits: &Limits,
    ) -> Result<Read, ReadError> {
        let mut opened = Vec::with_capacity(wanted.len());
        for path in wanted {
            let file = files.open(path).await?;
            let (size, cap) = (file.size(), limits.tokenizer_bytes);
            if size > cap {
                return Err(ReadError::TooLarge { path: path.clone(), size, cap });
            }
            // What each is for does not depend on where it is.
            opened.push((path.rsplit('/').next().unwrap_or(path), file));
        }
        // Equal content is known before it is read where the Hub states what it is, else after.
        let stated: Option<Vec<String>> =
            opened.iter().map(|(_, file)| file.content_id().map(str::to_owned)).collect();
        let mut bytes = 0;
        let mut contents = Vec::new();
        if stated.is_none() {
            contents = contents_of(&opened).await?;
            bytes = contents.iter().map(|(_, content)| content.len() as u64).sum();
        }
        let identity = match stated {
            Some(ids) => {
                let parts = opened.iter().zip(ids).map(|((name, _), id)| format!("{name}={id}"));
                parts.collect::<Vec<_>>().join(" ")
            }
            None => digest(&contents),
        };
        let entry = self.entry(identity);
        let fetched = &mut bytes;
        let tokenizer = entry
            .get_or_try_init(|| async {
                if contents.is_empty() {
                    contents = contents_of(&opened).await?;
                    *fetched = contents.iter().map(|(_, content)| content.len() as u64).sum();
                }
                let limits = limits.clone();
                Ok::<_, ReadError>(off_thread(move || parse(&contents, &limits)).await)
            })
            .await?
            .clone();
        Ok(Read { tokenizer, bytes })
    }

    fn entry(&self, identity: String) -> Entry {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT && !known.contains_key(&identity) {
            // Which one goes does not matter much: the common ones are soon back.
            if let Some(other) = known.keys().next().cloned() {
                known.remove(&other);
            }
        }
        Arc::clone(known.entry(identity).or_default())
    }
}

async fn contents_of(opened: &[(&str, Box<dyn OpenFile>)]) -> Result<Vec<(String, Bytes)>, ReadError> {
    let mut contents = Vec::with_capacity(opened.len());
    for (name, file) in opened {
        contents.push(((*name).to_owned(), file.range(0..file.size()).await?));
    }
    Ok(contents)
}

fn digest(contents: &[(String, Bytes)]) -> String {
    let mut hasher = Sha256::new();
    for (name, content) in contents {
        hasher.update(name.as_bytes());
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hex(&hasher.finalize())
}

fn parse(contents: &[(String, Bytes)], limits: &Limits) -> Result<Arc<KnownTokenizer>, Unknown> {
    let mut files = TokenizerFiles::default();
    for (name, content) in contents {
        files.insert(name, content);
    }
    let tokenizer = Tokenizer::parse(&files, limits).map_err(|error| error.to_string())?;
    let keys = TokenKeys::of(&tokenizer);
    Ok(Arc::new(KnownTokenizer { print: TokenizerPrint::of(&tokenizer, &keys), keys: Arc::new(keys) }))
}
