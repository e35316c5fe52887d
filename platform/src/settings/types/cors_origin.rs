//! Origins of web pages that may call the API.

use std::fmt;

use url::{Host, Url};

use super::host::is_name;
use crate::settings::{Invalid, Setting};

/// An origin that is allowed: `*`, `https://app.example.com`, or with any port `http://localhost:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOrigin {
    text: String,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Any,
    Exact(url::Origin),
    AnyPort { scheme: String, host: Host<String> },
}

impl CorsOrigin {
    /// The origin as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is `*`.
    pub fn is_any(&self) -> bool {
        self.rule == Rule::Any
    }

    /// Whether `origin`, the value of an `Origin` header, is allowed by this.
    pub fn matches(&self, origin: &str) -> bool {
        match &self.rule {
            Rule::Any => true,
            Rule::Exact(exact) => {
                Url::parse(origin).is_ok_and(|url| url.origin() == *exact && is_origin(&url))
            }
            Rule::AnyPort { scheme, host } => Url::parse(origin).is_ok_and(|url| {
                url.scheme() == scheme
                    && url.host().is_some_and(|it| it.to_owned() == *host)
                    && is_origin(&url)
            }),
        }
    }
}

impl fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Setting for CorsOrigin {
    const EXAMPLE: &'static str = "https://app.example.com";

    fn expected() -> String {
        "`*` or scheme://host[:port], the port may be `*`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let rule =
            if text == "*" {
                Rule::Any
            } else {
                let any_port = text.strip_suffix(":*");
                let url = Url::parse(any_port.unwrap_or(text)).map_err(|_| Invalid::plain())?;
                if !is_origin(&url) || text.ends_with('/') {
                    return Err(Invalid::because(
                        "an origin has a scheme, a host and no path",
                    ));
                }
                if url.host_str().is_some_and(|host| host.contains('*')) {
                    return Err(Invalid::because(
                    "a `*` stands for all origins or for any port, not for a host or a part of one",
                )
                .instead("list each origin, e.g. https://app.example.com,https://www.example.com"));
                }
                if let Some(Host::Domain(name)) = url.host()
                    && !is_name(name.strip_suffix('.').unwrap_or(name))
                {
                    return Err(Invalid::because(
                        "its host is neither a name nor an address",
                    ));
                }
                match (any_port, url.host()) {
                    (None, _) => Rule::Exact(url.origin()),
                    (Some(_), Some(host)) if url.port().is_none() => Rule::AnyPort {
                        scheme: url.scheme().to_owned(),
                        host: host.to_owned(),
                    },
                    _ => return Err(Invalid::plain()),
                }
            };
        Ok(Self {
            text: text.to_owned(),
            rule,
        })
    }
}

/// Whether `url` says nothing beyond scheme, host and port.
fn is_origin(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}
