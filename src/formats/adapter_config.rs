//! `adapter_config.json`: which model an adapter was trained on, as peft and mlx-lm write it.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, JsonError};
use super::text::printable;

/// Its name, in the folder of the adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// What is kept of it. Self-reported: it may name a path of the machine that the adapter was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterConfig {
    /// `base_model_name_or_path`; of mlx-lm `model`.
    pub base: Option<String>,
    /// The revision of it.
    pub revision: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    base_model_name_or_path: Option<Value>,
    revision: Option<Value>,
    model: Option<Value>,
    fine_tune_type: Option<Value>,
    lora_parameters: Option<Value>,
}

impl AdapterConfig {
    /// Parses it. Fields that are empty or of another type are absent; only a file that is no JSON object is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let Fields { base_model_name_or_path, revision, model, fine_tune_type, lora_parameters } =
            json::parse(bytes)?;
        let text = |value: Option<Value>| {
            Some(printable(value?.as_str()?.as_bytes())).filter(|text| !text.is_empty())
        };
        let is_of_mlx = fine_tune_type.is_some() || lora_parameters.is_some();
        let of_mlx = text(model).filter(|_| is_of_mlx);
        Ok(Self { base: text(base_model_name_or_path).or(of_mlx), revision: text(revision) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_kept_and_nothing_else() {
        let parse = |text: &str| AdapterConfig::parse(text.as_bytes());
        let said = parse(r#"{"base_model_name_or_path": "org/base", "revision": null, "r": 8}"#).unwrap();
        assert_eq!(said, AdapterConfig { base: Some("org/base".into()), revision: None });
        assert_eq!(
            parse(r#"{"base_model_name_or_path": 7, "revision": ""}"#).unwrap(),
            AdapterConfig::default()
        );
        let of_mlx = r#"{"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}, "model": "org/base-4bit"}"#;
        assert_eq!(parse(of_mlx).unwrap().base.as_deref(), Some("org/base-4bit"));
        assert_eq!(parse(r#"{"model": "org/base"}"#).unwrap(), AdapterConfig::default());
        assert!(parse("[]").is_err() && parse("").is_err());
    }
}
