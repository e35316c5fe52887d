//! Permissions that a principal has without a role.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Moment},
};

use super::{
    bindings::Holder,
    held::{HeldFilter, held_rows, lasts, of_holder},
    schema::grants,
    service_accounts::ServiceAccountId,
    slice::{Slice, sliced},
    users::UserId,
};

/// A mark for ids.
pub(crate) enum Grant {}

pub(crate) type GrantId = Id<Grant>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = grants)]
pub(crate) struct GrantRow {
    pub(crate) id: GrantId,
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: Option<UserId>,
    pub(crate) service_account_id: Option<ServiceAccountId>,
    /// Its name.
    pub(crate) permission: String,
    pub(crate) granted_by: String,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
}

held_rows!(grants, GrantRow, GrantId, permission: String);

/// The permissions that `holder` has without a role until `time` at least, and when each ends.
pub(super) async fn lasting_at(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
    time: Moment,
) -> Result<Vec<(String, Option<Moment>)>, DbError> {
    let lasts = grants::expires_at.is_null().or(grants::expires_at.ge(time));
    on!(tx, |c| {
        let query = grants::table
            .filter(grants::tenant_id.eq(tenant))
            .filter(lasts)
            .select((grants::permission, grants::expires_at))
            .into_boxed();
        of_holder!(query, grants, holder).load(c).await
    })
}
