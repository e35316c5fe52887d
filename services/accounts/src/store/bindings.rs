//! Which principal has which role, and what follows for its permissions.

use std::collections::BTreeSet;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Moment, sql},
};

use super::{
    grants,
    held::{HeldFilter, held_rows, lasts, of_holder},
    one_time::UNDO,
    roles::{ALLOW, RoleGrants, RoleId, split},
    schema::{role_bindings, role_permissions, roles, users},
    service_accounts::ServiceAccountId,
    slice::{Slice, sliced},
    users::UserId,
};

/// A mark for ids.
pub(crate) enum Binding {}

pub(crate) type BindingId = Id<Binding>;

/// A principal that can hold roles and permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    User(UserId),
    Service(ServiceAccountId),
}

impl Holder {
    pub(crate) const fn user(self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(id),
            Self::Service(_) => None,
        }
    }

    pub(crate) const fn service(self) -> Option<ServiceAccountId> {
        match self {
            Self::User(_) => None,
            Self::Service(id) => Some(id),
        }
    }

    pub(crate) const fn uuid(self) -> uuid::Uuid {
        match self {
            Self::User(id) => id.uuid(),
            Self::Service(id) => id.uuid(),
        }
    }

    /// `user` or `service`.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Service(_) => "service",
        }
    }
}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = role_bindings)]
pub(crate) struct BindingRow {
    pub(crate) id: BindingId,
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: Option<UserId>,
    pub(crate) service_account_id: Option<ServiceAccountId>,
    pub(crate) role_id: RoleId,
    pub(crate) granted_by: String,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
}

held_rows!(role_bindings, BindingRow, BindingId, role_id: RoleId);

/// What a holder of some role has: all its roles, the permissions that it has without one, and the administrator who
/// may know its password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Combination {
    /// Its roles for good.
    pub(crate) lasting: Vec<RoleId>,
    /// Its roles for a time.
    pub(crate) temporary: Vec<RoleId>,
    pub(crate) permissions: Vec<String>,
    /// The [administrators](users::makers) who can sign in as the user, if the tenant manages the account.
    pub(crate) makers: Vec<UserId>,
}

impl Combination {
    /// All its roles.
    pub(crate) fn roles(&self) -> impl Iterator<Item = RoleId> + '_ {
        self.lasting.iter().chain(&self.temporary).copied()
    }
}

#[derive(QueryableByName)]
struct CombinationRow {
    #[diesel(sql_type = Nullable<Text>)]
    lasting: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    temporary: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    permissions: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    makers: Option<String>,
}

impl CombinationRow {
    fn read(self) -> Combination {
        Combination {
            lasting: ids(self.lasting.as_deref()),
            temporary: ids(self.temporary.as_deref()),
            permissions: self
                .permissions
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            makers: ids(self.makers.as_deref()),
        }
    }
}

/// Ids with blanks between.
fn ids<T>(text: Option<&str>) -> Vec<Id<T>> {
    let ids = text.unwrap_or_default().split_whitespace();
    ids.filter_map(|id| id.parse().ok()).collect()
}

/// The combinations that the present holders of the role have, each once, at most `limit`. One query, however many holders there
/// are: most of them have the same.
pub(crate) async fn combinations(
    tx: &mut TenantTx,
    role: RoleId,
    limit: i64,
) -> Result<Vec<Combination>, DbError> {
    // Neither an id nor the name of a permission has a blank.
    let of = |holder: &str, makers: &str| {
        let roles = |lasts: &str| {
            format!(
                "(SELECT string_agg(CAST(b.role_id AS TEXT), ' ' ORDER BY b.role_id) FROM role_bindings b \
                 WHERE b.tenant_id = held.tenant_id AND b.{holder} = held.{holder} AND b.expires_at {lasts})"
            )
        };
        let (lasting, temporary) = (roles("IS NULL"), roles("> $1"));
        format!(
            "SELECT {lasting} AS lasting, {temporary} AS temporary, \
             (SELECT string_agg(g.permission, ' ' ORDER BY g.permission) FROM grants g \
             WHERE g.tenant_id = held.tenant_id AND g.{holder} = held.{holder} \
             AND (g.expires_at IS NULL OR g.expires_at > $1)) AS permissions, {makers} AS makers \
             FROM role_bindings held WHERE held.tenant_id = $2 AND held.role_id = $3 \
             AND held.{holder} IS NOT NULL AND (held.expires_at IS NULL OR held.expires_at > $1)"
        )
    };
    let makers = format!(
        "(SELECT string_agg(made.maker, ' ' ORDER BY made.maker) FROM ( \
         SELECT CAST(set_by AS TEXT) AS maker FROM passwords WHERE user_id = held.user_id \
         UNION SELECT CAST(vouched_by AS TEXT) FROM passkeys WHERE user_id = held.user_id \
         UNION SELECT CAST(made_by AS TEXT) FROM one_time_tokens WHERE user_id = held.user_id \
         AND purpose = '{UNDO}' AND used_at IS NULL AND expires_at > $1) AS made \
         WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = held.user_id AND u.managed_by = held.tenant_id))"
    );
    let (users, accounts) = (
        of("user_id", &makers),
        of("service_account_id", "CAST(NULL AS TEXT)"),
    );
    let query = sql_query(format!(
        "SELECT DISTINCT lasting, temporary, permissions, makers FROM ({users} UNION ALL {accounts}) AS combination LIMIT {limit}"
    ));
    let query = query
        .bind::<Timestamp, _>(Moment::now())
        .bind::<sql::Uuid, _>(tx.tenant())
        .bind::<sql::Uuid, _>(role);
    let rows: Vec<CombinationRow> = on!(tx, |c| query.load(c).await)?;
    Ok(rows.into_iter().map(CombinationRow::read).collect())
}

/// What the roles of `holder` in the tenant give and deny now.
pub(crate) async fn grants_of(tx: &mut TenantTx, holder: Holder) -> Result<RoleGrants, DbError> {
    let tenant = tx.tenant();
    grants_in(tx, tenant, holder).await
}

/// The same in a tenant that authentication has found.
pub(crate) async fn grants_in(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
) -> Result<RoleGrants, DbError> {
    grants_at(tx, tenant, holder, Moment::now()).await
}

/// What those of its roles give and deny, and its direct grants give, that it has until `time` at least.
pub(crate) async fn grants_at(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
    time: Moment,
) -> Result<RoleGrants, DbError> {
    Ok(given(rows_at(tx, tenant, holder, time).await?))
}

/// What `holder` may do in the tenant now; and then, each time that something ends which it has now.
pub(crate) async fn grants_from_now_on(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
) -> Result<(RoleGrants, Vec<RoleGrants>), DbError> {
    let rows = rows_at(tx, tenant, holder, Moment::now()).await?;
    let ends: BTreeSet<Moment> = rows.iter().filter_map(|(.., end)| *end).collect();
    let after = |time: Moment| {
        let lasting = rows
            .iter()
            .filter(|(.., end)| end.is_none_or(|end| end > time));
        given(lasting.cloned().collect())
    };
    let later = ends.into_iter().map(after).collect();
    Ok((given(rows), later))
}

/// What `holder` may do in the tenant now, and when the first of that ends.
pub(crate) async fn grants_with_end(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
) -> Result<(RoleGrants, Option<Moment>), DbError> {
    let rows = rows_at(tx, tenant, holder, Moment::now()).await?;
    let end = rows.iter().filter_map(|(.., end)| *end).min();
    Ok((given(rows), end))
}

/// A permission, its effect, and when that ends.
type Lasting = (String, String, Option<Moment>);

/// What the roles of `holder` give and deny, and its direct grants give, of all that it has until `time` at least.
async fn rows_at(
    tx: &mut Connection,
    tenant: TenantId,
    holder: Holder,
    time: Moment,
) -> Result<Vec<Lasting>, DbError> {
    let mut rows: Vec<Lasting> = on!(tx, |c| {
        let of_role = role_permissions::tenant_id
            .eq(role_bindings::tenant_id)
            .and(role_permissions::role_id.eq(role_bindings::role_id));
        let lasts = role_bindings::expires_at
            .is_null()
            .or(role_bindings::expires_at.ge(time));
        let query = role_bindings::table
            .inner_join(role_permissions::table.on(of_role))
            .filter(role_bindings::tenant_id.eq(tenant))
            .filter(lasts)
            .select((
                role_permissions::permission,
                role_permissions::effect,
                role_bindings::expires_at,
            ))
            .into_boxed();
        of_holder!(query, role_bindings, holder).load(c).await
    })?;
    let direct = grants::lasting_at(tx, tenant, holder, time).await?;
    let direct = direct.into_iter();
    rows.extend(direct.map(|(name, end)| (name, ALLOW.to_owned(), end)));
    Ok(rows)
}

fn given(rows: Vec<Lasting>) -> RoleGrants {
    let rows = rows.into_iter();
    split(rows.map(|(name, effect, _)| (name, effect)).collect())
}

/// The names of the roles that `holder` has in the tenant now, sorted.
pub(crate) async fn role_names(tx: &mut TenantTx, holder: Holder) -> Result<Vec<String>, DbError> {
    let (tenant, now) = (tx.tenant(), Moment::now());
    on!(tx, |c| {
        let of_role = roles::tenant_id
            .eq(role_bindings::tenant_id)
            .and(roles::id.eq(role_bindings::role_id));
        let query = role_bindings::table
            .inner_join(roles::table.on(of_role))
            .filter(role_bindings::tenant_id.eq(tenant))
            .filter(lasts!(role_bindings, now))
            .order(roles::name.asc())
            .select(roles::name)
            .into_boxed();
        of_holder!(query, role_bindings, holder).load(c).await
    })
}

/// The names of the roles that each of the users has in the tenant now, sorted.
pub(crate) async fn role_names_of(
    tx: &mut TenantTx,
    users: Vec<UserId>,
) -> Result<Vec<(UserId, String)>, DbError> {
    let (tenant, now) = (tx.tenant(), Moment::now());
    let named: Vec<(Option<UserId>, String)> = on!(tx, |c| {
        let of_role = roles::tenant_id
            .eq(role_bindings::tenant_id)
            .and(roles::id.eq(role_bindings::role_id));
        let query = role_bindings::table
            .inner_join(roles::table.on(of_role))
            .filter(role_bindings::tenant_id.eq(tenant))
            .filter(role_bindings::user_id.eq_any(users))
            .filter(lasts!(role_bindings, now))
            .order(roles::name.asc())
            .select((role_bindings::user_id, roles::name));
        query.load(c).await
    })?;
    let named = named.into_iter();
    Ok(named
        .filter_map(|(user, name)| Some((user?, name)))
        .collect())
}

/// The active users of the tenant that have the role for good, at most a thousand.
pub(crate) async fn active_holders(
    tx: &mut TenantTx,
    role: RoleId,
) -> Result<Vec<UserId>, DbError> {
    let of_user = role_bindings::user_id.eq(users::id.nullable());
    let query = role_bindings::table
        .inner_join(users::table.on(of_user))
        .filter(role_bindings::tenant_id.eq(tx.tenant()))
        .filter(role_bindings::role_id.eq(role))
        .filter(role_bindings::expires_at.is_null())
        .filter(
            users::status
                .eq(super::ACTIVE)
                .and(users::deleted_at.is_null()),
        )
        .order(users::id.asc())
        .limit(1000)
        .select(users::id);
    on!(tx, |c| query.load(c).await)
}

/// The first active users that have the role `owner` of the tenant for good, at most `limit`.
pub(crate) async fn active_owners(
    c: &mut Connection,
    tenant: TenantId,
    limit: i64,
) -> Result<Vec<UserId>, DbError> {
    let is_owner = roles::tenant_id
        .eq(tenant)
        .and(roles::name.eq("owner"))
        .and(roles::is_system.eq(true));
    let owner = roles::table.filter(is_owner).select(roles::id);
    let Some(owner): Option<RoleId> = on!(c, |c| owner.first(c).await).optional()? else {
        return Ok(Vec::new());
    };
    let of_user = role_bindings::user_id.eq(users::id.nullable());
    let is_active = users::status
        .eq(super::ACTIVE)
        .and(users::deleted_at.is_null());
    let query = role_bindings::table
        .inner_join(users::table.on(of_user))
        .filter(role_bindings::tenant_id.eq(tenant))
        .filter(role_bindings::role_id.eq(owner))
        .filter(role_bindings::expires_at.is_null())
        .filter(is_active)
        .order(users::id.asc())
        .limit(limit)
        .select(users::id);
    on!(c, |c| query.load(c).await)
}

/// Whether `user` has the role in the tenant now.
pub(crate) async fn has_role(
    tx: &mut TenantTx,
    user: UserId,
    role: RoleId,
) -> Result<bool, DbError> {
    let now = Moment::now();
    let query = role_bindings::table
        .filter(role_bindings::tenant_id.eq(tx.tenant()))
        .filter(role_bindings::user_id.eq(user))
        .filter(role_bindings::role_id.eq(role))
        .filter(lasts!(role_bindings, now))
        .count();
    let count: i64 = on!(tx, |c| query.get_result(c).await)?;
    Ok(count > 0)
}
