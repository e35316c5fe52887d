//! Headers for the collector, written as the standard's `OTEL_EXPORTER_OTLP_HEADERS`.

use actix_web::http::header::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::percent_decoded;

/// The headers in `text`, names in lower case; `None` if it is not a list of `name=value` whose values
/// are percent-encoded, with one header at the least. Source of the notation: OpenTelemetry Protocol Exporter, "Specifying headers
/// via environment variables".
pub fn otlp_headers(text: &str) -> Option<Vec<(String, SecretString)>> {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let headers: Vec<_> = items.map(header).collect::<Option<_>>()?;
    (!headers.is_empty()).then_some(headers)
}

fn header(item: &str) -> Option<(String, SecretString)> {
    let (name, value) = item.split_once('=')?;
    let name = HeaderName::try_from(name.trim()).ok()?;
    let value = percent_decoded(value.trim())?;
    HeaderValue::from_str(&value).ok()?;
    Some((name.as_str().to_owned(), value.into()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn values_are_percent_decoded_and_names_are_those_of_headers() {
        let read = |text| {
            otlp_headers(text).map(|headers| {
                let pairs = headers.iter();
                pairs
                    .map(|(name, value)| format!("{name}: {}", value.expose_secret()))
                    .collect::<Vec<_>>()
            })
        };
        let expected = [
            "authorization: Bearer a=b".to_owned(),
            "x-team: a,b".to_owned(),
        ];
        assert_eq!(
            read("Authorization=Bearer%20a=b , x-team=a%2Cb,"),
            Some(expected.to_vec())
        );
        for wrong in ["Bearer sekret", "a b=c", "x=%0Ay", "x=%zz", "=x", ",", ""] {
            assert!(otlp_headers(wrong).is_none(), "{wrong}");
        }
    }
}
