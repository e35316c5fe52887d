//! The ways in which requests bring credentials, for the documentation.

use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};

/// A way in which a request brings credentials, for [`Authenticator::schemes`](super::Authenticator::schemes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialScheme {
    name: &'static str,
    place: Place,
    description: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Bearer,
    Header(&'static str),
    Cookie(&'static str),
}

impl CredentialScheme {
    /// `Authorization: Bearer`; its name in the document is `credentials`.
    pub const BEARER: Self = Self::new("credentials", Place::Bearer);

    /// A header of its own; `name` is that of the scheme in the document.
    #[must_use]
    pub const fn header(name: &'static str, header: &'static str) -> Self {
        Self::new(name, Place::Header(header))
    }

    /// A cookie; `name` is that of the scheme in the document.
    #[must_use]
    pub const fn cookie(name: &'static str, cookie: &'static str) -> Self {
        Self::new(name, Place::Cookie(cookie))
    }

    /// With a sentence about it.
    #[must_use]
    pub const fn described(self, description: &'static str) -> Self {
        Self {
            description: Some(description),
            ..self
        }
    }

    const fn new(name: &'static str, place: Place) -> Self {
        Self {
            name,
            place,
            description: None,
        }
    }

    /// Its name in the document.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// What an operation says that takes it.
    pub(crate) fn requirement(&self) -> SecurityRequirement {
        SecurityRequirement::new::<_, [&str; 0], &str>(self.name, [])
    }

    /// What the document says of it.
    pub(crate) fn documented(&self) -> SecurityScheme {
        let key = |name: &str| {
            let mut key = ApiKeyValue::new(name);
            key.description = self.description.map(str::to_owned);
            key
        };
        match self.place {
            Place::Bearer => {
                let mut http = Http::new(HttpAuthScheme::Bearer);
                http.description = self.description.map(str::to_owned);
                SecurityScheme::Http(http)
            }
            Place::Header(name) => SecurityScheme::ApiKey(ApiKey::Header(key(name))),
            Place::Cookie(name) => SecurityScheme::ApiKey(ApiKey::Cookie(key(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemes_are_documented_as_openapi_has_them() -> Result<(), serde_json::Error> {
        let bearer = serde_json::to_value(CredentialScheme::BEARER.documented())?;
        assert_eq!(bearer, json!({ "type": "http", "scheme": "bearer" }));
        let header = CredentialScheme::header("api_key", "X-API-Key").described("A key.");
        assert_eq!(
            serde_json::to_value(header.documented())?,
            json!({ "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key." })
        );
        let cookie = CredentialScheme::cookie("session", "sid");
        assert_eq!(
            serde_json::to_value(cookie.documented())?,
            json!({ "type": "apiKey", "in": "cookie", "name": "sid" })
        );
        assert_eq!(
            serde_json::to_value(cookie.requirement())?,
            json!({ "session": [] })
        );
        Ok(())
    }
}
