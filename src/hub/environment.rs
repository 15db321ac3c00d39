//! Settings from the environment.
//!
//! The variables are those of the Hugging Face clients, so that one login serves all tools. The
//! environment is a lookup function: nothing here reads the process, and a value that cannot be
//! understood is an error, never a silent default.

use std::{
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{
    settings::{HubSettings, PUBLIC_ENDPOINT, SettingsError},
    token::Token,
};

impl HubSettings {
    /// Reads the variables of the Hugging Face clients through `var`, which returns the value of
    /// a variable, or `None`:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `HF_ENDPOINT` | the endpoint, default [`PUBLIC_ENDPOINT`] |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | the token, the first that is not empty |
    /// | `HF_TOKEN_PATH` | the token file, default `$HF_HOME/token` |
    /// | `HF_HOME` | default `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | take no token from anywhere |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | refuse all requests |
    /// | `HF_HUB_USER_AGENT_ORIGIN` | appended to the user agent |
    ///
    /// Switches are on for `1`, `ON`, `YES`, `TRUE` in any case. A missing token file is no error.
    ///
    /// # Errors
    /// [`SettingsError`] for a value that cannot be understood.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let var = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let switch = |name: &str| {
            var(name).is_some_and(|value| {
                matches!(&*value.trim().to_ascii_uppercase(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let mut settings = Self::new(var("HF_ENDPOINT").as_deref().unwrap_or(PUBLIC_ENDPOINT))?;
        settings.offline = switch("HF_HUB_OFFLINE") || switch("TRANSFORMERS_OFFLINE");
        if let Some(origin) = var("HF_HUB_USER_AGENT_ORIGIN") {
            settings.user_agent.push_str("; origin/");
            settings.user_agent.push_str(origin.trim());
        }
        if !switch("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            settings.token = implicit_token(&var)?;
        }
        settings.check()?;
        Ok(settings)
    }
}

fn implicit_token(var: &impl Fn(&str) -> Option<String>) -> Result<Option<Token>, SettingsError> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = var(name) {
            let token = Token::new(&text);
            return token
                .map(Some)
                .map_err(|source| SettingsError::Token { origin: name.to_owned(), source });
        }
    }
    let home = |path: String| match (path.strip_prefix("~/"), var("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    };
    let path = match (var("HF_TOKEN_PATH"), var("HF_HOME"), var("XDG_CACHE_HOME")) {
        (Some(path), _, _) => home(path),
        (None, Some(hf), _) => home(hf).join("token"),
        (None, None, Some(xdg)) => home(xdg).join("huggingface/token"),
        (None, None, None) if var("HOME").is_some() => home("~/.cache/huggingface/token".to_owned()),
        (None, None, None) => return Ok(None),
    };
    read_token(&path)
}

fn read_token(path: &Path) -> Result<Option<Token>, SettingsError> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64 << 10).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::TokenFile { path: path.to_owned(), source }),
        Ok(_) if text.trim().is_empty() => Ok(None),
        Ok(_) => match Token::new(&text) {
            Ok(token) => Ok(Some(token)),
            Err(source) => Err(SettingsError::Token { origin: path.display().to_string(), source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Result<HubSettings, SettingsError> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        HubSettings::from_env(move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    fn bearer(settings: &HubSettings) -> Option<String> {
        settings.token.as_ref().map(|token| token.header().to_str().unwrap().to_owned())
    }

    #[test]
    fn an_empty_environment_is_the_public_hub() {
        let settings = env(&[("HF_ENDPOINT", ""), ("HF_TOKEN", " ")]).unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://huggingface.co/");
        assert!(settings.token.is_none() && !settings.offline && !settings.is_loopback());
        assert!(settings.user_agent.starts_with("hubprint/"), "{}", settings.user_agent);
    }

    #[test]
    fn endpoints() {
        let settings = env(&[("HF_ENDPOINT", "http://127.0.0.1:8000//")]).unwrap();
        assert_eq!(settings.endpoint.as_str(), "http://127.0.0.1:8000/");
        assert!(settings.is_loopback());
        for bad in
            ["huggingface.co", "ftp://h", "https://u:pw@h", "https://h/?q=1", "https://h/#f", "https://"]
        {
            let error = env(&[("HF_ENDPOINT", bad)]).unwrap_err();
            assert!(matches!(error, SettingsError::Endpoint { .. }), "{bad}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn tokens_in_order() {
        let both = [("HF_TOKEN", "hf_a\n"), ("HUGGING_FACE_HUB_TOKEN", "hf_b")];
        assert_eq!(bearer(&env(&both).unwrap()).as_deref(), Some("Bearer hf_a"));
        assert_eq!(bearer(&env(&both[1..]).unwrap()).as_deref(), Some("Bearer hf_b"));
        let off = [both[0], ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")];
        assert_eq!(bearer(&env(&off).unwrap()), None);
        assert!(matches!(env(&[("HF_TOKEN", "a b")]), Err(SettingsError::Token { .. })));
    }

    #[test]
    fn token_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let place = |path: &str, token: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), token.as_bytes()).unwrap();
        };
        place(".cache/huggingface/token", "hf_home\n");
        place("xdg/huggingface/token", "hf_xdg");
        place("hf/token", "hf_hf");
        place("mine", "hf_mine");
        place("empty", "\n");
        let from = |vars: &[(&str, &str)]| bearer(&env(vars).unwrap());
        let (home, xdg) = (("HOME", root), ("XDG_CACHE_HOME", &*format!("{root}/xdg")));
        assert_eq!(from(&[home]).as_deref(), Some("Bearer hf_home"));
        assert_eq!(from(&[home, xdg]).as_deref(), Some("Bearer hf_xdg"));
        assert_eq!(from(&[home, xdg, ("HF_HOME", "~/hf")]).as_deref(), Some("Bearer hf_hf"));
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/mine")]).as_deref(), Some("Bearer hf_mine"));
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/empty")]), None);
        assert_eq!(from(&[home, ("HF_TOKEN_PATH", "~/missing")]), None);
        assert!(matches!(env(&[("HF_TOKEN_PATH", root)]), Err(SettingsError::TokenFile { .. })));
    }

    #[test]
    fn switches_and_origin() {
        assert!(env(&[("HF_HUB_OFFLINE", "On")]).unwrap().offline);
        assert!(env(&[("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
        assert!(!env(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(env(&[("HF_HUB_USER_AGENT_ORIGIN", "lab")]).unwrap().user_agent.ends_with("; origin/lab"));
        assert!(matches!(env(&[("HF_HUB_USER_AGENT_ORIGIN", "a\nb")]), Err(SettingsError::UserAgent { .. })));
    }
}
