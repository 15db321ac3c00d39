//! Which models a list shows.

use crate::local_hub::catalogue::{Gated, Repo};
use crate::local_hub::query::Query;
use crate::local_hub::refusal::Refusal;

/// All conditions have to hold.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    search: Option<String>,
    author: Option<&'a str>,
    tags: Vec<String>,
    pipeline_tag: Option<&'a str>,
    gated: Option<bool>,
    parameters: Option<(u64, u64)>,
    /// Conditions on hosted services, of which there are none here.
    impossible: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn parse(query: &'a Query) -> Result<Self, Refusal> {
        let tags = query.all("filter").flat_map(|value| value.split(',')).map(str::to_owned);
        let trained = query.all("trained_dataset").map(|name| match name.strip_prefix("dataset:") {
            Some(_) => name.to_owned(),
            None => format!("dataset:{name}"),
        });
        Ok(Self {
            search: query.get("search").map(str::to_lowercase),
            author: query.get("author"),
            tags: tags.chain(trained).filter(|tag| !tag.is_empty()).collect(),
            pipeline_tag: query.get("pipeline_tag"),
            gated: query.get("gated").map(|text| text == "true"),
            parameters: query.get("num_parameters").map(parameter_range).transpose()?,
            impossible: ["apps", "inference", "inference_provider"]
                .iter()
                .any(|name| query.get(name).is_some()),
        })
    }

    pub(super) fn searches(&self) -> bool {
        self.search.is_some()
    }

    pub(super) fn author(&self) -> Option<&'a str> {
        self.author
    }

    pub(super) fn admits(&self, repo: &Repo) -> bool {
        self.search.as_ref().is_none_or(|text| repo.id.to_lowercase().contains(text))
            && self.author.is_none_or(|author| repo.author() == author)
            && self.admits_kind(repo)
    }

    /// The conditions on anything but the name.
    pub(super) fn admits_kind(&self, repo: &Repo) -> bool {
        let total = repo.parameters.as_ref().map(|parameters| parameters.total);
        !self.impossible
            && self.tags.iter().all(|tag| repo.tags.contains(tag))
            && self.pipeline_tag.is_none_or(|tag| repo.pipeline_tag.as_deref() == Some(tag))
            && self.gated.is_none_or(|gated| gated == (repo.gated != Gated::No))
            && self.parameters.is_none_or(|(min, max)| total.is_some_and(|n| (min..=max).contains(&n)))
    }
}

/// `min:6B,max:128B`, either part optional.
fn parameter_range(text: &str) -> Result<(u64, u64), Refusal> {
    let invalid = || Refusal::BadRequest(format!("Invalid num_parameters: {text}"));
    let mut range = (0, u64::MAX);
    for part in text.split(',') {
        match part.split_once(':') {
            Some(("min", number)) => range.0 = count(number).ok_or_else(invalid)?,
            Some(("max", number)) => range.1 = count(number).ok_or_else(invalid)?,
            _ => return Err(invalid()),
        }
    }
    Ok(range)
}

/// `7000`, `0.5B`
fn count(text: &str) -> Option<u64> {
    let scale = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 1e3,
        'M' => 1e6,
        'B' => 1e9,
        'T' => 1e12,
        _ => return text.parse().ok(),
    };
    let number: f64 = text.get(..text.len() - 1)?.parse().ok()?;
    (number >= 0.0).then_some((number * scale) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_ranges() {
        assert_eq!(parameter_range("min:6B,max:128B").unwrap(), (6_000_000_000, 128_000_000_000));
        assert_eq!(parameter_range("max:0.5M").unwrap(), (0, 500_000));
        assert_eq!(parameter_range("min:7").unwrap(), (7, u64::MAX));
        for text in ["", "6B", "min:", "min:B", "min:-1B", "about:6B"] {
            assert!(parameter_range(text).is_err(), "{text}");
        }
    }
}
