//! What tenants and owners use of their quotas. All changes of one transaction go to the tenant's row before the owner's, so
//! that no two wait for each other.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on, types::Id,
};
use uuid::Uuid;

use super::schema::file_usage;

/// A mark for ids.
pub(crate) enum Owner {}

/// Whose a file is: a user, a service account or a key.
pub(crate) type OwnerId = Id<Owner>;

/// The row of the tenant as a whole.
pub(crate) const WHOLE: OwnerId = Id::from_uuid(Uuid::nil());

/// What a tenant or an owner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = file_usage)]
pub(crate) struct Usage {
    /// Bytes of files, those in the trash among them.
    pub(crate) used: i64,
    /// Bytes that are held for uploads under way.
    pub(crate) reserved: i64,
    pub(crate) files: i64,
}

impl Usage {
    /// What makes `other` of it.
    pub(crate) const fn until(self, other: Self) -> Change {
        Change {
            used: other.used - self.used,
            reserved: other.reserved - self.reserved,
            files: other.files - self.files,
        }
    }
}

/// The columns of a row after a [`Change`].
macro_rules! set {
    ($change:ident) => {
        (
            file_usage::used.eq(file_usage::used + $change.used),
            file_usage::reserved.eq(file_usage::reserved + $change.reserved),
            file_usage::files.eq(file_usage::files + $change.files),
        )
    };
}

/// A change of what is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) used: i64,
    pub(crate) reserved: i64,
    pub(crate) files: i64,
}

/// Changes what is used if it stays within `quota`; whether it does.
pub(crate) async fn grow(
    tx: &mut TenantTx,
    owner: OwnerId,
    change: Change,
    quota: i64,
) -> Result<bool, DbError> {
    if grow_row(tx, owner, change, quota).await? {
        return Ok(true);
    }
    // There may be no row yet.
    make(tx, owner).await?;
    grow_row(tx, owner, change, quota).await
}

async fn grow_row(
    tx: &mut TenantTx,
    owner: OwnerId,
    change: Change,
    quota: i64,
) -> Result<bool, DbError> {
    let room = quota.saturating_sub(change.used.saturating_add(change.reserved));
    let row = file_usage::table
        .find((tx.tenant(), owner))
        .filter((file_usage::used + file_usage::reserved).le(room));
    let changed = on!(tx, |c| diesel::update(row)
        .set(set!(change))
        .execute(c)
        .await)?;
    Ok(changed > 0)
}

/// Changes what is used, without regard to quotas.
pub(crate) async fn change(
    tx: &mut TenantTx,
    owner: OwnerId,
    change: Change,
) -> Result<(), DbError> {
    let row = file_usage::table.find((tx.tenant(), owner));
    on!(tx, |c| diesel::update(row)
        .set(set!(change))
        .execute(c)
        .await)
    .map(drop)
}

/// What the tenant, or an owner, has.
pub(crate) async fn find(tx: &mut TenantTx, owner: OwnerId) -> Result<Usage, DbError> {
    let row = file_usage::table.find((tx.tenant(), owner));
    let found = on!(tx, |c| row.select(Usage::as_select()).first(c).await).optional();
    Ok(found?.unwrap_or_default())
}

/// Everything that is used, of all tenants.
pub(crate) async fn all(c: &mut Connection) -> Result<Vec<(TenantId, OwnerId, Usage)>, DbError> {
    on!(c, |c| file_usage::table
        .select((
            file_usage::tenant_id,
            file_usage::owner_id,
            Usage::as_select()
        ))
        .order((file_usage::tenant_id, file_usage::owner_id))
        .load(c)
        .await)
}

async fn make(tx: &mut TenantTx, owner: OwnerId) -> Result<(), DbError> {
    let row = (
        file_usage::tenant_id.eq(tx.tenant()),
        file_usage::owner_id.eq(owner),
        file_usage::used.eq(0_i64),
        file_usage::reserved.eq(0_i64),
        file_usage::files.eq(0_i64),
    );
    let insert = diesel::insert_into(file_usage::table)
        .values(row)
        .on_conflict_do_nothing();
    on!(tx, |c| insert.execute(c).await).map(drop)
}
