//! HTTP methods and header names, in the HTTP library's own types.

use actix_web::http::Method;
use actix_web::http::header::HeaderName;

use crate::settings::{Invalid, Setting};

impl Setting for Method {
    const EXAMPLE: &'static str = "GET";

    fn expected() -> String {
        "an HTTP method".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        // Methods are case-sensitive: `get` would be allowed and never match.
        if text == "*" || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(Invalid::because(
                "methods are named one by one, in capitals",
            ));
        }
        text.parse().map_err(|_| Invalid::plain())
    }
}

impl Setting for HeaderName {
    const EXAMPLE: &'static str = "content-type";

    fn expected() -> String {
        "the name of an HTTP header".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Err(Invalid::because("headers are named one by one"));
        }
        text.parse().map_err(|_| Invalid::plain())
    }
}
