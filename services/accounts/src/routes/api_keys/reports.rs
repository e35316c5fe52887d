//! API keys that were found where they should not be.

use dotmac_platform::{prelude::*, routing::Noted};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    AccountsError,
    problems::OF_LIST,
    routes::{BODY, REPORTS},
    rules::api_keys as rules,
    service::Service,
};

/// Below `/keys`: for scanners and finders of keys.
pub(in crate::routes) fn declare(routes: &mut Routes) {
    routes
        .post("/report", report_key)
        .problems(OF_LIST)
        .summary("Report an API key that was found; it is revoked")
        .rate_limit(REPORTS)
        .body_limit(BODY);
}

/// A key that was found.
#[derive(Deserialize, Validate, ToSchema)]
struct Report {
    #[garde(length(bytes, min = 1, max = 256))]
    key: String,
}

/// The same answer whether it was a key or not.
async fn report_key(
    _: Public,
    on: Use<Service>,
    report: Valid<Report>,
) -> Result<Noted, AccountsError> {
    let key = SecretString::from(report.into_inner().key);
    if !rules::is_well_formed(key.expose_secret()) {
        return Ok(Noted);
    }
    let service = (*on).clone();
    let reported = on.open_db.transaction("report API key", async move |tx| {
        rules::report(tx, &service, key.expose_secret()).await
    });
    reported.await?;
    Ok(Noted)
}
