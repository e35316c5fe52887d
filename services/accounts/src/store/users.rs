//! Users, their passwords, and their memberships in tenants.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, Querying as _, TenantId, TenantTx, Tx, on,
    types::{Id, Moment},
};

use super::{
    ACTIVE,
    one_time::UNDO,
    schema::{
        devices, memberships, one_time_tokens, passkeys, passwords, recovery_codes, sign_in_flows,
        totp_factors, users,
    },
};
use crate::names::Identifier;

/// A person with an account; a mark for ids.
pub(crate) enum User {}

pub(crate) type UserId = Id<User>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = users)]
pub(crate) struct UserRow {
    pub(crate) id: UserId,
    pub(crate) email: Option<String>,
    pub(crate) email_normal: Option<String>,
    pub(crate) email_verified_at: Option<Moment>,
    pub(crate) username: Option<String>,
    pub(crate) username_normal: Option<String>,
    pub(crate) full_name: Option<String>,
    pub(crate) locale: Option<String>,
    pub(crate) status: String,
    pub(crate) managed_by: Option<TenantId>,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
    pub(crate) deleted_at: Option<Moment>,
}

impl UserRow {
    pub(crate) fn is_active(&self) -> bool {
        self.status == ACTIVE && self.deleted_at.is_none()
    }
}

/// What can be changed of a user's profile; a field that is `None` stays, one that is `Some(None)` is cleared.
#[derive(AsChangeset, Clone, Debug, Default)]
#[diesel(table_name = users)]
pub(crate) struct ProfileChange {
    pub(crate) username: Option<Option<String>>,
    pub(crate) username_normal: Option<Option<String>>,
    pub(crate) full_name: Option<Option<String>>,
    pub(crate) locale: Option<Option<String>>,
}

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = passwords)]
pub(crate) struct PasswordRow {
    pub(crate) user_id: UserId,
    pub(crate) phc: String,
    pub(crate) changed_at: Moment,
    /// The administrator who set it, or made the link that it was set by. A change by the user keeps that: the administrator may
    /// have signed in before the user.
    pub(crate) set_by: Option<UserId>,
    /// Whether it is too short to be the only factor.
    pub(crate) is_short: bool,
}

pub(crate) async fn insert(tx: &mut Tx, row: &UserRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(users::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut Connection, id: UserId) -> Result<Option<UserRow>, DbError> {
    let query = users::table.filter(users::id.eq(id));
    on!(tx, |c| query.select(UserRow::as_select()).first(c).await).optional()
}

/// The tenant that manages the account.
pub(crate) async fn managing_tenant(
    tx: &mut Connection,
    id: UserId,
) -> Result<Option<TenantId>, DbError> {
    let query = users::table
        .filter(users::id.eq(id))
        .select(users::managed_by);
    let found: Option<Option<TenantId>> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(found.flatten())
}

/// The user who signs in by `identifier`.
pub(crate) async fn find_by(
    tx: &mut Connection,
    identifier: &Identifier,
) -> Result<Option<UserRow>, DbError> {
    match identifier {
        Identifier::Email(email) => {
            let query = users::table.filter(users::email_normal.eq(email.clone()));
            on!(tx, |c| query.select(UserRow::as_select()).first(c).await).optional()
        }
        Identifier::Username(name) => {
            let query = users::table.filter(users::username_normal.eq(name.clone()));
            on!(tx, |c| query.select(UserRow::as_select()).first(c).await).optional()
        }
        Identifier::Other(_) => Ok(None),
    }
}

/// A member of the tenant.
pub(crate) async fn find_member(tx: &mut TenantTx, id: UserId) -> Result<Option<UserRow>, DbError> {
    let of_tenant = memberships::tenant_id
        .eq(tx.tenant())
        .and(memberships::user_id.eq(users::id));
    let query = users::table
        .inner_join(memberships::table.on(of_tenant))
        .filter(users::id.eq(id).and(users::deleted_at.is_null()));
    on!(tx, |c| query.select(UserRow::as_select()).first(c).await).optional()
}

/// Those of `ids` that are active members of the tenant.
pub(crate) async fn active_members(
    tx: &mut TenantTx,
    ids: Vec<UserId>,
) -> Result<Vec<UserRow>, DbError> {
    let of_tenant = memberships::tenant_id
        .eq(tx.tenant())
        .and(memberships::user_id.eq(users::id));
    let is_active = users::status
        .eq(ACTIVE)
        .and(memberships::status.eq(ACTIVE))
        .and(users::deleted_at.is_null());
    let query = users::table
        .inner_join(memberships::table.on(of_tenant))
        .filter(users::id.eq_any(ids).and(is_active));
    on!(tx, |c| query.select(UserRow::as_select()).load(c).await)
}

/// The next users of all tenants behind `after`, in the order of their ids, for the command line.
pub(crate) async fn all(
    tx: &mut Connection,
    after: UserId,
    limit: i64,
) -> Result<Vec<UserRow>, DbError> {
    let query = users::table.filter(users::deleted_at.is_null().and(users::id.gt(after)));
    let query = query.order(users::id.asc()).limit(limit);
    on!(tx, |c| query.select(UserRow::as_select()).load(c).await)
}

/// How a user's row is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// To begin a session.
    Shared,
    /// To end all of them.
    Alone,
}

/// Holds the user's row until the transaction ends. A session is begun while it is shared, and all sessions are ended while
/// it is held alone, so none is begun unseen meanwhile. SQLite has one writer.
pub(crate) async fn hold(tx: &mut Tx, id: UserId, how: Hold) -> Result<(), DbError> {
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let row = users::table.filter(users::id.eq(id)).select(users::id);
    let held: QueryResult<Vec<UserId>> = match how {
        Hold::Shared => row.for_share().load(&mut **c).await,
        Hold::Alone => row.for_no_key_update().load(&mut **c).await,
    };
    tx.classified(held).map(drop)
}

/// Holds the membership until the transaction ends: what the member may do is changed by one at a time.
pub(crate) async fn hold_member(tx: &mut TenantTx, id: UserId) -> Result<(), DbError> {
    let this_one = memberships::tenant_id
        .eq(tx.tenant())
        .and(memberships::user_id.eq(id));
    let Connection::Postgres(c) = tx.connection() else {
        return Ok(());
    };
    let row = memberships::table.filter(this_one);
    let row = row.select(memberships::user_id).for_no_key_update();
    let held: QueryResult<Vec<UserId>> = row.load(&mut **c).await;
    tx.classified(held).map(drop)
}

/// Changes the profile in the version that was seen; 0 if it has another one.
pub(crate) async fn change_profile(
    tx: &mut Tx,
    seen: &UserRow,
    change: ProfileChange,
) -> Result<usize, DbError> {
    let this_one = users::id.eq(seen.id).and(users::version.eq(seen.version));
    let now = (
        users::version.eq(users::version + 1),
        users::updated_at.eq(Moment::now()),
    );
    let update = diesel::update(users::table.filter(this_one)).set((change, now));
    on!(tx, |c| update.execute(c).await)
}

pub(crate) async fn set_status(
    tx: &mut Tx,
    id: UserId,
    status: &'static str,
) -> Result<usize, DbError> {
    let update = diesel::update(users::table.filter(users::id.eq(id))).set((
        users::status.eq(status),
        users::version.eq(users::version + 1),
        users::updated_at.eq(Moment::now()),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// The user has proved to receive mail at the address.
pub(crate) async fn set_verified(tx: &mut Tx, id: UserId) -> Result<usize, DbError> {
    let update = diesel::update(users::table.filter(users::id.eq(id))).set((
        users::email_verified_at.eq(Some(Moment::now())),
        users::version.eq(users::version + 1),
        users::updated_at.eq(Moment::now()),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Gives the account another address, which the user has proved.
pub(crate) async fn set_address(
    tx: &mut Tx,
    id: UserId,
    address: String,
    normal: String,
) -> Result<usize, DbError> {
    let update = diesel::update(users::table.filter(users::id.eq(id))).set((
        users::email.eq(Some(address)),
        users::email_normal.eq(Some(normal)),
        users::email_verified_at.eq(Some(Moment::now())),
        users::version.eq(users::version + 1),
        users::updated_at.eq(Moment::now()),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Takes the password away.
pub(crate) async fn delete_password(tx: &mut Tx, id: UserId) -> Result<usize, DbError> {
    on!(tx, |c| diesel::delete(
        passwords::table.filter(passwords::user_id.eq(id))
    )
    .execute(c)
    .await)
}

/// Marks the user as deleted, in the version that was seen; 0 if it has another one. The name and the address stay taken
/// until the row is purged.
pub(crate) async fn set_deleted(tx: &mut Tx, seen: &UserRow) -> Result<usize, DbError> {
    let this_one = users::id.eq(seen.id).and(users::version.eq(seen.version));
    let now = Moment::now();
    let update = diesel::update(users::table.filter(this_one)).set((
        users::deleted_at.eq(Some(now)),
        users::version.eq(users::version + 1),
        users::updated_at.eq(now),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes all that lets the user in, or tells the user's devices.
pub(crate) async fn delete_credentials(tx: &mut Tx, id: UserId) -> Result<(), DbError> {
    macro_rules! delete {
        ($($table:ident),+) => {
            $(on!(tx, |c| diesel::delete($table::table.filter($table::user_id.eq(id)))
                .execute(c)
                .await)?;)+
        };
    }
    delete!(
        passwords,
        totp_factors,
        recovery_codes,
        passkeys,
        devices,
        one_time_tokens,
        sign_in_flows
    );
    Ok(())
}

pub(crate) async fn password(
    tx: &mut Connection,
    id: UserId,
) -> Result<Option<PasswordRow>, DbError> {
    let query = passwords::table.filter(passwords::user_id.eq(id));
    on!(tx, |c| query
        .select(PasswordRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// The administrators who can sign in as the user by what they know or may have registered: who set the password, or had set it
/// when a passkey was registered, or when the address was changed, which a link undoes.
pub(crate) async fn makers(c: &mut Connection, id: UserId) -> Result<BTreeSet<UserId>, DbError> {
    let passwords: Vec<Option<UserId>> = on!(c, |c| passwords::table
        .filter(passwords::user_id.eq(id))
        .select(passwords::set_by)
        .load(c)
        .await)?;
    let passkeys: Vec<Option<UserId>> = on!(c, |c| passkeys::table
        .filter(passkeys::user_id.eq(id))
        .select(passkeys::vouched_by)
        .load(c)
        .await)?;
    let links: Vec<Option<UserId>> = on!(c, |c| one_time_tokens::table
        .filter(one_time_tokens::user_id.eq(id))
        .filter(one_time_tokens::purpose.eq(UNDO))
        .filter(one_time_tokens::used_at.is_null())
        .filter(one_time_tokens::expires_at.gt(Moment::now()))
        .select(one_time_tokens::made_by)
        .load(c)
        .await)?;
    let all = passwords.into_iter().chain(passkeys).chain(links);
    Ok(all.flatten().collect())
}

pub(crate) async fn set_password(tx: &mut Tx, row: PasswordRow) -> Result<(), DbError> {
    let change = (
        passwords::phc.eq(row.phc.clone()),
        passwords::changed_at.eq(row.changed_at),
        passwords::set_by.eq(row.set_by),
        passwords::is_short.eq(row.is_short),
    );
    let upsert = diesel::insert_into(passwords::table)
        .values(row)
        .on_conflict(passwords::user_id)
        .do_update()
        .set(change);
    on!(tx, |c| upsert.execute(c).await).map(drop)
}

/// Replaces the hash of a password that did not change, unless it did meanwhile.
pub(crate) async fn renew_hash(
    tx: &mut Tx,
    seen: &PasswordRow,
    phc: String,
) -> Result<usize, DbError> {
    let this_one = passwords::user_id
        .eq(seen.user_id)
        .and(passwords::phc.eq(seen.phc.clone()));
    let update = diesel::update(passwords::table.filter(this_one)).set(passwords::phc.eq(phc));
    on!(tx, |c| update.execute(c).await)
}

/// Makes the user a member of the tenant, if it is none.
pub(crate) async fn join(tx: &mut Tx, tenant: TenantId, id: UserId) -> Result<usize, DbError> {
    let row = (
        memberships::tenant_id.eq(tenant),
        memberships::user_id.eq(id),
        memberships::status.eq(ACTIVE),
        memberships::joined_at.eq(Moment::now()),
    );
    let insert = diesel::insert_into(memberships::table)
        .values(row)
        .on_conflict_do_nothing();
    on!(tx, |c| insert.execute(c).await)
}

/// Ends the membership, and with it the user's roles, sessions and keys in the tenant.
pub(crate) async fn leave(tx: &mut TenantTx, id: UserId) -> Result<usize, DbError> {
    let this_one = memberships::tenant_id
        .eq(tx.tenant())
        .and(memberships::user_id.eq(id));
    on!(tx, |c| diesel::delete(memberships::table.filter(this_one))
        .execute(c)
        .await)
}

/// The tenants that the user is an active member of, the oldest membership first.
pub(crate) async fn tenants(tx: &mut Connection, id: UserId) -> Result<Vec<TenantId>, DbError> {
    let query = memberships::table
        .filter(
            memberships::user_id
                .eq(id)
                .and(memberships::status.eq(ACTIVE)),
        )
        .order((memberships::joined_at.asc(), memberships::tenant_id.asc()))
        .limit(200)
        .select(memberships::tenant_id);
    on!(tx, |c| query.load(c).await)
}

/// The memberships of the user, with their status and time, the oldest first; at most 200.
pub(crate) async fn memberships(
    tx: &mut Connection,
    id: UserId,
) -> Result<Vec<(TenantId, String, Moment)>, DbError> {
    let query = memberships::table
        .filter(memberships::user_id.eq(id))
        .order((memberships::joined_at.asc(), memberships::tenant_id.asc()))
        .limit(200)
        .select((
            memberships::tenant_id,
            memberships::status,
            memberships::joined_at,
        ));
    on!(tx, |c| query.load(c).await)
}

/// Whether the user is an active member of the tenant.
pub(crate) async fn is_member(
    tx: &mut Connection,
    tenant: TenantId,
    id: UserId,
) -> Result<bool, DbError> {
    let this_one = memberships::tenant_id
        .eq(tenant)
        .and(memberships::user_id.eq(id))
        .and(memberships::status.eq(ACTIVE));
    let query = memberships::table
        .filter(this_one)
        .select(memberships::user_id);
    let found: Option<UserId> = on!(tx, |c| query.first(c).await).optional()?;
    Ok(found.is_some())
}
