//! All that the service keeps about the caller.

use dotmac_platform::{
    audit::AcrossActs as _,
    db::{AcrossTx, types::Id},
    prelude::*,
};

use super::EXPORTS;
use crate::{
    AccountsError,
    problems::OF_OWN,
    rules::{
        export::{self as rules, UserExport},
        mfa,
    },
    service::{self, Service},
};

/// Below `/auth`.
pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/me/export", export_me)
        .problems(OF_OWN)
        .summary("What is kept about you, as one object")
        .description(
            "Requires an authentication within the last 15 minutes, with the second factor if there is one. Contains no secret.",
        )
        .rate_limit(EXPORTS);
}

async fn export_me(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<UserExport>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    service::authenticated_now(&who, mfa::needed(&on, user).await?)?;
    let exported = on
        .asked_by(&who)
        .act_across("export me", async move |mut tx: AcrossTx<'_>| {
            rules::export(&mut tx, user).await
        });
    Ok(Json(exported.await?))
}
