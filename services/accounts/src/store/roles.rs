//! Roles and the permissions that they give or deny.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Querying as _, TenantId, TenantTx, insert_all, on,
    types::{Id, Moment},
};

use super::{
    schema::{role_permissions, roles},
    slice::{Slice, sliced},
};

/// A mark for ids.
pub(crate) enum Role {}

pub(crate) type RoleId = Id<Role>;

/// Gives a permission.
pub(crate) const ALLOW: &str = "allow";

/// Denies one, regardless of what gives it.
pub(crate) const DENY: &str = "deny";

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = roles)]
pub(crate) struct RoleRow {
    pub(crate) id: RoleId,
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) is_system: bool,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
}

#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = role_permissions)]
struct PermissionRow {
    tenant_id: TenantId,
    role_id: RoleId,
    permission: String,
    effect: &'static str,
}

/// What a role gives and denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoleGrants {
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
}

impl RoleGrants {
    /// Adds what another role gives and denies.
    pub(crate) fn add(&mut self, other: &Self) {
        self.allow.extend_from_slice(&other.allow);
        self.deny.extend_from_slice(&other.deny);
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, row: &RoleRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(roles::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut TenantTx, id: RoleId) -> Result<Option<RoleRow>, DbError> {
    let this_one = roles::tenant_id.eq(tx.tenant()).and(roles::id.eq(id));
    let query = roles::table.filter(this_one);
    on!(tx, |c| query.select(RoleRow::as_select()).first(c).await).optional()
}

pub(crate) async fn find_named(tx: &mut TenantTx, name: &str) -> Result<Option<RoleRow>, DbError> {
    let this_one = roles::tenant_id
        .eq(tx.tenant())
        .and(roles::name.eq(name.to_owned()));
    let query = roles::table.filter(this_one);
    on!(tx, |c| query.select(RoleRow::as_select()).first(c).await).optional()
}

pub(crate) async fn page(
    tx: &mut TenantTx,
    is_system: Option<bool>,
    slice: Slice<RoleId>,
) -> Result<Vec<RoleRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let mut query = roles::table
            .filter(roles::tenant_id.eq(tenant))
            .select(RoleRow::as_select())
            .into_boxed();
        if let Some(is_system) = is_system {
            query = query.filter(roles::is_system.eq(is_system));
        }
        sliced!(query, roles::id, slice).load(c).await
    })
}

pub(crate) async fn count(tx: &mut TenantTx) -> Result<i64, DbError> {
    let query = roles::table
        .filter(roles::tenant_id.eq(tx.tenant()))
        .count();
    on!(tx, |c| query.get_result(c).await)
}

/// Holds the role until the transaction ends.
pub(crate) async fn hold(tx: &mut TenantTx, id: RoleId) -> Result<(), DbError> {
    let this_one = roles::tenant_id.eq(tx.tenant()).and(roles::id.eq(id));
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let row = roles::table.filter(this_one);
    let row = row.select(roles::id).for_no_key_update();
    let held: QueryResult<Vec<RoleId>> = row.load(&mut **c).await;
    tx.classified(held).map(drop)
}

/// Renames the role and raises its version, if it has the version that was seen; 0 if not.
pub(crate) async fn update(
    tx: &mut TenantTx,
    seen: &RoleRow,
    name: String,
    description: String,
) -> Result<usize, DbError> {
    let this_one = roles::tenant_id
        .eq(tx.tenant())
        .and(roles::id.eq(seen.id))
        .and(roles::version.eq(seen.version));
    let update = diesel::update(roles::table.filter(this_one)).set((
        roles::name.eq(name),
        roles::description.eq(description),
        roles::version.eq(roles::version + 1),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes the role in the version that was seen; 0 if it has another one.
pub(crate) async fn delete(tx: &mut TenantTx, seen: &RoleRow) -> Result<usize, DbError> {
    let this_one = roles::tenant_id
        .eq(tx.tenant())
        .and(roles::id.eq(seen.id))
        .and(roles::version.eq(seen.version));
    on!(tx, |c| diesel::delete(roles::table.filter(this_one))
        .execute(c)
        .await)
}

pub(crate) async fn grants(tx: &mut TenantTx, id: RoleId) -> Result<RoleGrants, DbError> {
    let of_role = role_permissions::tenant_id
        .eq(tx.tenant())
        .and(role_permissions::role_id.eq(id));
    let query = role_permissions::table
        .filter(of_role)
        .order(role_permissions::permission.asc())
        .select((role_permissions::permission, role_permissions::effect));
    let rows: Vec<(String, String)> = on!(tx, |c| query.load(c).await)?;
    Ok(split(rows))
}

/// What each of the roles gives and denies, by its id.
pub(crate) async fn grants_of(
    tx: &mut TenantTx,
    ids: Vec<RoleId>,
) -> Result<BTreeMap<RoleId, RoleGrants>, DbError> {
    let of_roles = role_permissions::tenant_id
        .eq(tx.tenant())
        .and(role_permissions::role_id.eq_any(ids));
    let query = role_permissions::table
        .filter(of_roles)
        .order(role_permissions::permission.asc())
        .select((
            role_permissions::role_id,
            role_permissions::permission,
            role_permissions::effect,
        ));
    let rows: Vec<(RoleId, String, String)> = on!(tx, |c| query.load(c).await)?;
    let mut grants: BTreeMap<RoleId, RoleGrants> = BTreeMap::new();
    for (role, permission, effect) in rows {
        let of_role = grants.entry(role).or_default();
        match effect.as_str() {
            ALLOW => of_role.allow.push(permission),
            _ => of_role.deny.push(permission),
        }
    }
    Ok(grants)
}

/// What rows of `role_permissions` give and deny together.
pub(super) fn split(rows: Vec<(String, String)>) -> RoleGrants {
    let (allow, deny): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, effect)| effect == ALLOW);
    let names = |rows: Vec<(String, String)>| rows.into_iter().map(|(name, _)| name).collect();
    RoleGrants {
        allow: names(allow),
        deny: names(deny),
    }
}

/// Gives the role these permissions in place of those it has.
pub(crate) async fn set_grants(
    tx: &mut TenantTx,
    id: RoleId,
    grants: RoleGrants,
) -> Result<(), DbError> {
    let tenant_id = tx.tenant();
    let of_role = role_permissions::tenant_id
        .eq(tenant_id)
        .and(role_permissions::role_id.eq(id));
    on!(tx, |c| diesel::delete(
        role_permissions::table.filter(of_role)
    )
    .execute(c)
    .await)?;
    let row = |permission, effect| PermissionRow {
        tenant_id,
        role_id: id,
        permission,
        effect,
    };
    let allow = grants.allow.into_iter().map(|name| row(name, ALLOW));
    let deny = grants.deny.into_iter().map(|name| row(name, DENY));
    let rows: Vec<PermissionRow> = allow.chain(deny).collect();
    if rows.is_empty() {
        return Ok(());
    }
    insert_all!(tx, role_permissions::table, rows).map(drop)
}
