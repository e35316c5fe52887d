//! Users of a tenant in pages: as accounts that an administrator looks for, and as members.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{DbError, TenantTx, on, types::Moment},
    routing::{Sort, SortColumn},
};

use super::{
    held::lasts,
    roles::RoleId,
    schema::{memberships, role_bindings, users},
    slice::{Slice, sliced},
    users::{UserId, UserRow},
};

/// Which users of a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserFilter {
    pub(crate) status: Option<String>,
    /// The address in its normal form.
    pub(crate) email: Option<String>,
    /// Those that have the role now.
    pub(crate) role: Option<RoleId>,
}

/// A page of the members of the tenant.
pub(crate) async fn page(
    tx: &mut TenantTx,
    filter: UserFilter,
    slice: Slice<UserId>,
) -> Result<Vec<UserRow>, DbError> {
    let (tenant, now) = (tx.tenant(), Moment::now());
    on!(tx, |c| {
        let of_tenant = memberships::tenant_id
            .eq(tenant)
            .and(memberships::user_id.eq(users::id));
        let mut query = users::table
            .inner_join(memberships::table.on(of_tenant))
            .filter(users::deleted_at.is_null())
            .select(UserRow::as_select())
            .into_boxed();
        if let Some(status) = filter.status {
            query = query.filter(users::status.eq(status));
        }
        if let Some(email) = filter.email {
            query = query.filter(users::email_normal.eq(email));
        }
        if let Some(role) = filter.role {
            let holders = role_bindings::table
                .filter(role_bindings::tenant_id.eq(tenant))
                .filter(role_bindings::role_id.eq(role))
                .filter(role_bindings::user_id.is_not_null())
                .filter(lasts!(role_bindings, now))
                .select(role_bindings::user_id.assume_not_null());
            query = query.filter(users::id.eq_any(holders));
        }
        sliced!(query, users::id, slice).load(c).await
    })
}

/// The sort key of members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MemberColumn {
    JoinedAt,
}

impl SortColumn for MemberColumn {
    const COLUMNS: &'static [(&'static str, Self)] = &[("joined_at", Self::JoinedAt)];
    const DEFAULT: Sort<Self> = Sort::ascending(Self::JoinedAt);
}

/// A page of the members of the tenant, with the status and the time of each membership.
pub(crate) async fn members(
    tx: &mut TenantTx,
    slice: Slice<(Moment, UserId)>,
) -> Result<Vec<(UserRow, String, Moment)>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let of_user = memberships::user_id.eq(users::id);
        let query = memberships::table
            .inner_join(users::table.on(of_user))
            .filter(memberships::tenant_id.eq(tenant))
            .filter(users::deleted_at.is_null())
            .select((
                UserRow::as_select(),
                memberships::status,
                memberships::joined_at,
            ))
            .limit(slice.limit)
            .into_boxed();
        // The first condition is what the index is entered by.
        let query = match (slice.is_descending, slice.after) {
            (_, None) => query,
            (false, Some((at, id))) => query.filter(
                memberships::joined_at.ge(at).and(
                    memberships::joined_at
                        .gt(at)
                        .or(memberships::user_id.gt(id)),
                ),
            ),
            (true, Some((at, id))) => query.filter(
                memberships::joined_at.le(at).and(
                    memberships::joined_at
                        .lt(at)
                        .or(memberships::user_id.lt(id)),
                ),
            ),
        };
        let query = match slice.is_descending {
            true => query.order((memberships::joined_at.desc(), memberships::user_id.desc())),
            false => query.order((memberships::joined_at.asc(), memberships::user_id.asc())),
        };
        query.load(c).await
    })
}
