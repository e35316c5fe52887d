//! What relays report of mails that they had accepted: bounces, complaints, delays.

use std::time::Duration;

use dotmac_platform::{prelude::*, routing::SignedBody};
use secrecy::ExposeSecret as _;

use crate::{
    bodies::{NewReport, ReportBody},
    error::NotificationsError,
    rules::report,
    service::Service,
};

/// Reports of one relay: as many as it may send mails.
const REPORTS: RateLimit = RateLimit::per_network(6000, Duration::from_secs(60));

/// The largest report.
const BODY: usize = 16 * 1024;

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/reports", take_report)
        .summary("Report what became of a mail that the relay had accepted")
        .description(
            "Signed as Standard Webhooks 1.x have it, with the secret `DOTMAC_NOTIFICATIONS_REPORT_SECRET`. A `bounced` that is \
             permanent and a `complained` suppress the recipient. A report with an id that was taken before changes nothing.",
        )
        .rate_limit(REPORTS)
        .body_limit(BODY);
}

async fn take_report(
    _: Public,
    on: Use<Service>,
    body: SignedBody<NewReport>,
) -> Result<Json<ReportBody>, NotificationsError> {
    let secret = on.report_secret();
    let secret = secret.ok_or(NotificationsError::NoReports)?;
    let message = body.open(secret.expose_secret())?;
    let taken = report::take_call((&on.db, &on.open_db), message.id, message.value).await?;
    Ok(Json(taken.into()))
}
