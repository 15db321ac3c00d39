//! A query string or form body, decoded. Parameters that nobody asks for are ignored.

use url::form_urlencoded;

use super::refusal::Refusal;
use super::text::is_true;

#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(raw: &[u8]) -> Self {
        Self { pairs: form_urlencoded::parse(raw).into_owned().collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// `name=a&name=b`, also spelt `name[]=a`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let matches = move |key: &str| key.strip_suffix("[]").unwrap_or(key) == name;
        self.pairs.iter().filter(move |(key, _)| matches(key)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let invalid = |_| Refusal::BadRequest(format!("✖ Invalid input: expected number\n  → at {name}"));
        self.get(name).map(|text| text.parse().map_err(invalid)).transpose()
    }

    /// Rows on a page: what was asked, within 1 and `max`.
    pub(crate) fn limit(&self, max: usize) -> Result<usize, Refusal> {
        match self.number("limit")? {
            Some(0) => {
                Err(Refusal::BadRequest("✖ Too small: expected number to be >=1\n  → at limit".to_owned()))
            }
            asked => Ok(asked.unwrap_or(max).min(max)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_lists_and_booleans() {
        let query = Query::parse(b"expand=a&expand%5B%5D=b&expand[]=c&full=True&limit=7&x=caf%C3%A9+1");
        assert_eq!(query.all("expand").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(query.flag("full") && !query.flag("config"));
        assert_eq!(query.get("x"), Some("café 1"));
        assert_eq!((query.limit(5).unwrap(), query.limit(9).unwrap()), (5, 7));
        assert!(Query::parse(b"limit=-1").limit(5).is_err());
        assert!(Query::parse(b"limit=0").limit(5).is_err());
    }
}
