//! The page that links of mails lead to. To open it uses nothing up; its button does.

use dotmac_platform::{
    prelude::*,
    routing::{Asset, AssetFile, FileKind, RateLimit},
};

use super::MINUTE;
use crate::{
    AccountsError,
    problems::{OF_LIST, OF_READING},
};

/// The pages that links lead to: all are one, which knows by its address what it is for.
const PAGES: [&str; 5] = ["enrol", "reset", "sign-in", "undo", "verify"];

pub(super) fn declare(routes: &mut Routes) {
    let often = RateLimit::per_network(600, MINUTE);
    routes
        .get("/{page}", link_page)
        .problems(OF_READING)
        .summary("The page that the link of a mail leads to")
        .rate_limit(often);
    routes
        .get("/assets/link.js", link_script)
        .problems(OF_LIST)
        .summary("The script of that page")
        .rate_limit(often);
}

/// The page.
struct LinkPage;

impl FileKind for LinkPage {
    const CONTENT_TYPE: &'static str = "text/html; charset=utf-8";
    const DESCRIPTION: &'static str = "The page.";
}

impl AssetFile for LinkPage {
    const BODY: &'static str = include_str!("../pages/link.html");
    const POLICY: &'static str = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'";
}

/// Its script.
struct LinkScript;

impl FileKind for LinkScript {
    const CONTENT_TYPE: &'static str = "text/javascript; charset=utf-8";
    const DESCRIPTION: &'static str = "The script.";
}

impl AssetFile for LinkScript {
    const BODY: &'static str = include_str!("../pages/link.js");
}

async fn link_page(_: Public, page: Path<String>) -> Result<Asset<LinkPage>, AccountsError> {
    if PAGES.contains(&page.as_str()) {
        Ok(Asset::new())
    } else {
        Err(AccountsError::NotFound)
    }
}

async fn link_script(_: Public) -> Asset<LinkScript> {
    Asset::new()
}
