//! `tokenizer_config.json` and `special_tokens_map.json`: which token serves as what.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::vocabulary::Tokens;
use super::{Function, TokenKind, Tokenizer, TokenizerError, TokenizerFiles};
use crate::formats::Limits;
use crate::formats::json;

const CONFIG: &str = "tokenizer_config.json";

/// Both files; one that is not there says nothing.
pub(super) struct Settings {
    config: Map<String, Value>,
    special_tokens: Map<String, Value>,
}

impl Settings {
    pub(super) fn parse(files: &TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        let object = |part, json: Option<&[u8]>| {
            let parsed = json.map(json::parse).transpose();
            parsed.map(Option::unwrap_or_default).map_err(|error| TokenizerError::of_json(part, error))
        };
        Ok(Self {
            config: object(CONFIG, files.tokenizer_config)?,
            special_tokens: object("special_tokens_map.json", files.special_tokens_map)?,
        })
    }

    /// The tokens of `added_tokens_decoder`.
    pub(super) fn added(&self, tokens: &mut Tokens<'_>) -> Result<(), TokenizerError> {
        let added = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in added.into_iter().flatten() {
            let (Ok(id), Some(text)) = (id.parse(), text_of(token)) else { continue };
            let special = token.get("special").and_then(Value::as_bool) == Some(true);
            let kind = if special { TokenKind::Special } else { TokenKind::Added };
            tokens.push(id, text, kind).map_err(|source| TokenizerError::Token { file: CONFIG, source })?;
        }
        Ok(())
    }

    /// Adds what the settings say. A field of a wrong type is absent.
    pub(super) fn apply(&self, tokenizer: &mut Tokenizer, limits: &Limits) {
        for function in Function::ALL {
            let said = [&self.config, &self.special_tokens]
                .into_iter()
                .find_map(|from| text_of(from.get(function.key())?));
            if let Some(text) = said.filter(|text| text.len() <= limits.token_bytes) {
                tokenizer.special.insert(function, text.to_owned());
            }
        }
        let lowercase = self.config.get("do_lower_case").and_then(Value::as_bool);
        tokenizer.lowercase = tokenizer.lowercase.or(lowercase);
        // Where no length is set, transformers writes 10^30, which is no u64.
        tokenizer.model_max_length = self.config.get("model_max_length").and_then(Value::as_u64);
        tokenizer.chat_template = self.config.get("chat_template").and_then(|template| match template {
            Value::String(text) => Some(Sha256::digest(text).into()),
            // Several templates by name.
            Value::Array(_) => Some(Sha256::digest(template.to_string()).into()),
            _ => None,
        });
    }
}

/// A token is a string, or an object that holds it among its flags.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
