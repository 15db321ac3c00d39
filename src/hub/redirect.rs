//! Where a redirect may lead. Pure: judges a `Location`, follows nothing.
//!
//! A file may move within the Hub (renames, small files) or to a known CDN host. Everything else
//! is refused, in particular user info, a fall from https to http, and addresses inside a private
//! network when the endpoint is outside of it.

use reqwest::header::HeaderValue;
use url::Url;

use super::{
    error_kind::{HubErrorKind, Refusal},
    reach::Reach,
    settings::HubSettings,
};
use crate::formats::text::printable;

/// A redirect worth following.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Same origin as the endpoint: the token may go there.
    Hub(Url),
    /// A CDN: no token, no rate limit.
    Cdn(Url),
}

/// Judges the `Location` of an answer from `from`, a URL on the Hub.
pub(crate) fn judge(
    settings: &HubSettings,
    from: &Url,
    location: Option<&HeaderValue>,
) -> Result<Hop, HubErrorKind> {
    let malformed = |detail: String| HubErrorKind::Malformed { part: "Location header", detail };
    let location = location.ok_or_else(|| malformed("a redirect without it".to_owned()))?;
    if location.len() > settings.limits.link {
        return Err(malformed(format!("{} bytes long", location.len())));
    }
    let text = location.to_str().map_err(|_| malformed(printable(location.as_bytes())))?;
    let to = from.join(text).map_err(|error| malformed(error.to_string()))?;

    let refused =
        |why| Err(HubErrorKind::ForeignRedirect { to: to.host_str().unwrap_or_default().to_owned(), why });
    let endpoint = &settings.endpoint;
    if !to.username().is_empty() || to.password().is_some() {
        return refused(Refusal::UserInfo);
    }
    if to.origin() == endpoint.origin() {
        return Ok(Hop::Hub(to));
    }
    if to.scheme() != "https" && (to.scheme() != "http" || endpoint.scheme() == "https") {
        return refused(Refusal::Scheme);
    }
    let (Some(to_host), Some(own_host)) = (to.host(), endpoint.host()) else {
        return refused(Refusal::Scheme);
    };
    let (reach, own_reach) = (Reach::of(&to_host), Reach::of(&own_host));
    if reach > own_reach {
        return refused(Refusal::PrivateAddress);
    }
    let named =
        settings.cdn_hosts.iter().any(|host| to.host_str().is_some_and(|to| to.eq_ignore_ascii_case(host)));
    let local = reach == Reach::Loopback; // then the endpoint is, too
    if named || local { Ok(Hop::Cdn(to)) } else { refused(Refusal::UnknownHost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(endpoint: &str, location: &str) -> Result<Hop, HubErrorKind> {
        let mut settings = HubSettings::new(endpoint).unwrap();
        settings.cdn_hosts.push("10.0.0.9".into());
        let from = settings.endpoint.join("/org/name/resolve/main/a").unwrap();
        judge(&settings, &from, Some(&HeaderValue::from_str(location).unwrap()))
    }

    fn refusal(endpoint: &str, location: &str) -> Refusal {
        match go(endpoint, location) {
            Err(HubErrorKind::ForeignRedirect { why, .. }) => why,
            other => panic!("{location}: {other:?}"),
        }
    }

    #[test]
    fn to_the_hub_and_to_the_cdn() {
        let relative =
            go("https://huggingface.co", "/api/resolve-cache/models/o/n/sha/a?%2Fo=&etag=%22d%22").unwrap();
        let Hop::Hub(url) = relative else { panic!("{relative:?}") };
        assert_eq!(
            url.as_str(),
            "https://huggingface.co/api/resolve-cache/models/o/n/sha/a?%2Fo=&etag=%22d%22"
        );
        // The signature covers the URL as it is: not a byte may change.
        let signed = "https://us.aws.cdn.hf.co/xet-bridge-us/65a/0f?X-Xet-Cas-Uid=public&user_id=public\
                      &response-content-disposition=inline%3B+filename*%3DUTF-8%27%27a&Expires=1764&Policy=eyJ-_~&Signature=a~b_&Key-Pair-Id=K";
        let Hop::Cdn(url) = go("https://huggingface.co", signed).unwrap() else { panic!() };
        assert_eq!(url.as_str(), signed);
    }

    #[test]
    fn loopback_hubs_use_loopback_cdns() {
        assert!(matches!(go("http://127.0.0.1:8000", "http://127.0.0.1:8001/f"), Ok(Hop::Cdn(_))));
        assert!(matches!(go("http://127.0.0.1:8000", "http://127.0.0.1:8000/f"), Ok(Hop::Hub(_))));
        assert!(matches!(go("http://127.0.0.1:8000", "http://localhost:8000/f"), Ok(Hop::Cdn(_))));
        assert!(matches!(go("http://127.0.0.1:8000", "https://us.aws.cdn.hf.co/f"), Ok(Hop::Cdn(_))));
        assert_eq!(refusal("http://127.0.0.1:8000", "http://example.com/f"), Refusal::UnknownHost);
    }

    #[test]
    fn refusals() {
        let hub = "https://huggingface.co";
        assert_eq!(refusal(hub, "https://evil.example/f"), Refusal::UnknownHost);
        assert_eq!(refusal(hub, "https://us.aws.cdn.hf.co.evil.example/f"), Refusal::UnknownHost);
        assert_eq!(refusal(hub, "https://huggingface.co:444/f"), Refusal::UnknownHost);
        assert_eq!(refusal(hub, "//evil.example/f"), Refusal::UnknownHost);
        assert_eq!(refusal(hub, "http://us.aws.cdn.hf.co/f"), Refusal::Scheme);
        assert_eq!(refusal(hub, "http://huggingface.co/f"), Refusal::Scheme);
        assert_eq!(refusal(hub, "file:///etc/passwd"), Refusal::Scheme);
        assert_eq!(refusal(hub, "https://u:p@us.aws.cdn.hf.co/f"), Refusal::UserInfo);
        assert_eq!(refusal(hub, "https://u@huggingface.co/f"), Refusal::UserInfo);
        for private in
            ["127.0.0.1", "localhost", "10.0.0.9", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "0x7f.1"]
        {
            assert_eq!(refusal(hub, &format!("https://{private}/f")), Refusal::PrivateAddress, "{private}");
        }
        // A Hub inside a private network may use its neighbours, if they are named.
        assert!(matches!(go("http://10.0.0.1", "http://10.0.0.9/f"), Ok(Hop::Cdn(_))));
        assert_eq!(refusal("http://10.0.0.1", "http://10.0.0.8/f"), Refusal::UnknownHost);
        assert_eq!(refusal("http://10.0.0.1", "http://127.0.0.1/f"), Refusal::PrivateAddress);
    }

    #[test]
    fn malformed() {
        let settings = HubSettings::new("https://huggingface.co").unwrap();
        let from = settings.endpoint.clone();
        let long = HeaderValue::from_str(&"x".repeat(20_000)).unwrap();
        let binary = HeaderValue::from_bytes(b"/\xff").unwrap();
        for location in [None, Some(&long), Some(&binary), Some(&HeaderValue::from_static("https://"))] {
            let kind = judge(&settings, &from, location).unwrap_err();
            assert!(matches!(kind, HubErrorKind::Malformed { part: "Location header", .. }), "{kind:?}");
        }
    }
}
