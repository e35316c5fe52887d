//! Sessions, and the refresh state of those that have tokens.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, OptionalExtension, TenantId, Tx, on,
        types::{Id, Json, Moment},
    },
    routing::{Sort, SortColumn},
};
use serde::{Deserialize, Serialize};

use super::{
    schema::{memberships, session_refresh, sessions, tenants, users},
    users::UserId,
    version_at,
};

/// A mark for ids.
pub(crate) enum Session {}

pub(crate) type SessionId = Id<Session>;

/// The kind of a browser's session.
pub(crate) const COOKIE: &str = "cookie";

/// The kind of a session with access and refresh tokens.
pub(crate) const TOKEN: &str = "token";

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: UserId,
    pub(crate) kind: String,
    pub(crate) token_hash: Option<Vec<u8>>,
    pub(crate) acr: i32,
    /// Methods by which the user was authenticated, with blanks between (RFC 8176): `pwd otp`.
    pub(crate) amr: String,
    pub(crate) auth_time: Moment,
    pub(crate) client: Json<Client>,
    pub(crate) created_at: Moment,
    pub(crate) last_seen_at: Moment,
    pub(crate) idle_until: Moment,
    pub(crate) expires_at: Moment,
    pub(crate) ended_at: Option<Moment>,
    pub(crate) end_reason: Option<String>,
}

impl SessionRow {
    /// Grows with each use that is noted.
    pub(crate) fn version(&self) -> i64 {
        version_at(self.last_seen_at)
    }
}

/// The sort keys of a user's own sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SessionColumn {
    LastSeenAt,
    CreatedAt,
}

impl SortColumn for SessionColumn {
    const COLUMNS: &'static [(&'static str, Self)] = &[
        ("last_seen_at", Self::LastSeenAt),
        ("created_at", Self::CreatedAt),
    ];
    const DEFAULT: Sort<Self> = Sort::descending(Self::LastSeenAt);
}

/// What is known of the client of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) device_name: Option<String>,
    /// Its network, not its address.
    pub(crate) network: Option<String>,
    pub(crate) user_agent: Option<String>,
}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = session_refresh)]
pub(crate) struct RefreshRow {
    pub(crate) session_id: SessionId,
    pub(crate) tenant_id: TenantId,
    pub(crate) salt: Vec<u8>,
    pub(crate) generation: i64,
    /// The highest generation of which an access token was seen, or a refresh.
    pub(crate) confirmed_gen: i64,
    pub(crate) rotated_at: Moment,
    /// How often the present generation was given out again after the grace.
    pub(crate) lost_replays: i32,
}

/// A session with what else decides whether it counts.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) session: SessionRow,
    pub(crate) user_status: String,
    pub(crate) user_deleted: Option<Moment>,
    pub(crate) member_status: String,
    pub(crate) tenant_status: String,
    /// Whether the members of the tenant need a second factor.
    pub(crate) mfa_required: bool,
    /// The highest generation of its tokens that was seen; `None` without tokens.
    pub(crate) confirmed_gen: Option<i64>,
}

impl Found {
    /// Whether it counts at `now`.
    pub(crate) fn is_live(&self, now: Moment) -> bool {
        let active = super::ACTIVE;
        self.session.ended_at.is_none()
            && self.session.idle_until > now
            && self.session.expires_at > now
            && self.user_status == active
            && self.user_deleted.is_none()
            && self.member_status == active
            && self.tenant_status == active
    }
}

type FoundRow = (
    SessionRow,
    (String, Option<Moment>),
    String,
    (String, bool),
    Option<i64>,
);

fn found((session, user, member_status, tenant, confirmed_gen): FoundRow) -> Found {
    let ((user_status, user_deleted), (tenant_status, mfa_required)) = (user, tenant);
    Found {
        session,
        user_status,
        user_deleted,
        member_status,
        tenant_status,
        mfa_required,
        confirmed_gen,
    }
}

/// How a session is looked for.
#[derive(Clone, Debug)]
pub(crate) enum By {
    Id(SessionId),
    TokenHash(Vec<u8>),
}

pub(crate) async fn find(tx: &mut Connection, by: By) -> Result<Option<Found>, DbError> {
    let row: Result<FoundRow, DbError> = on!(tx, |c| {
        let membership = memberships::tenant_id
            .eq(sessions::tenant_id)
            .and(memberships::user_id.eq(sessions::user_id));
        let query = sessions::table
            .inner_join(users::table.on(users::id.eq(sessions::user_id)))
            .inner_join(tenants::table.on(tenants::id.eq(sessions::tenant_id)))
            .inner_join(memberships::table.on(membership))
            .left_join(session_refresh::table.on(session_refresh::session_id.eq(sessions::id)))
            .select((
                SessionRow::as_select(),
                (users::status, users::deleted_at),
                memberships::status,
                (tenants::status, tenants::mfa_required),
                session_refresh::confirmed_gen.nullable(),
            ))
            .into_boxed();
        let query = match by {
            By::Id(id) => query.filter(sessions::id.eq(id)),
            By::TokenHash(hash) => query.filter(sessions::token_hash.eq(Some(hash))),
        };
        query.first(c).await
    });
    Ok(row.optional()?.map(found))
}

pub(crate) async fn insert(tx: &mut Tx, row: &SessionRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(sessions::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn insert_refresh(tx: &mut Tx, row: &RefreshRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(session_refresh::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn refresh_of(
    tx: &mut Connection,
    id: SessionId,
) -> Result<Option<RefreshRow>, DbError> {
    let query = session_refresh::table.filter(session_refresh::session_id.eq(id));
    on!(tx, |c| query.select(RefreshRow::as_select()).first(c).await).optional()
}

/// Goes from generation `from` to the next; 0 if another request did before.
pub(crate) async fn rotate(tx: &mut Tx, id: SessionId, from: i64) -> Result<usize, DbError> {
    let this_one = session_refresh::session_id
        .eq(id)
        .and(session_refresh::generation.eq(from));
    let update = diesel::update(session_refresh::table.filter(this_one)).set((
        session_refresh::generation.eq(from + 1),
        session_refresh::confirmed_gen.eq(from),
        session_refresh::rotated_at.eq(Moment::now()),
        session_refresh::lost_replays.eq(0),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Counts that the answer with generation `of` seems to have been lost; 0 if that was counted `most` times, or if a token of the
/// generation was seen.
pub(crate) async fn count_lost(
    tx: &mut Tx,
    id: SessionId,
    of: i64,
    most: i32,
) -> Result<usize, DbError> {
    let this_one = session_refresh::session_id
        .eq(id)
        .and(session_refresh::generation.eq(of))
        .and(session_refresh::confirmed_gen.lt(of))
        .and(session_refresh::lost_replays.lt(most));
    let update = diesel::update(session_refresh::table.filter(this_one))
        .set(session_refresh::lost_replays.eq(session_refresh::lost_replays + 1));
    on!(tx, |c| update.execute(c).await)
}

/// An access token of the generation was seen, so its refresh token has arrived as well.
pub(crate) async fn confirm(tx: &mut Tx, id: SessionId, generation: i64) -> Result<usize, DbError> {
    let this_one = session_refresh::session_id
        .eq(id)
        .and(session_refresh::confirmed_gen.lt(generation));
    let update = diesel::update(session_refresh::table.filter(this_one))
        .set(session_refresh::confirmed_gen.eq(generation));
    on!(tx, |c| update.execute(c).await)
}

/// The session was used: it stays until `idle_until` without a further use.
pub(crate) async fn touch(
    tx: &mut Tx,
    id: SessionId,
    idle_until: Moment,
) -> Result<usize, DbError> {
    let this_one = sessions::id.eq(id).and(sessions::ended_at.is_null());
    let update = diesel::update(sessions::table.filter(this_one)).set((
        sessions::last_seen_at.eq(Moment::now()),
        sessions::idle_until.eq(idle_until),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// From now on the session is worth no more than a password.
pub(crate) async fn weaken(tx: &mut Tx, id: SessionId) -> Result<usize, DbError> {
    let update = diesel::update(sessions::table.filter(sessions::id.eq(id)))
        .set((sessions::acr.eq(1), sessions::amr.eq("pwd")));
    on!(tx, |c| update.execute(c).await)
}

/// What is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    One(SessionId),
    OfUser(UserId),
    OfUserButOne(UserId, SessionId),
}

/// Ends sessions that have not ended; how many that were.
pub(crate) async fn end(tx: &mut Tx, which: Which, reason: &'static str) -> Result<usize, DbError> {
    let change = (
        sessions::ended_at.eq(Some(Moment::now())),
        sessions::end_reason.eq(Some(reason)),
    );
    match which {
        Which::One(id) => {
            let those = sessions::id.eq(id).and(sessions::ended_at.is_null());
            let update = diesel::update(sessions::table.filter(those)).set(change);
            on!(tx, |c| update.execute(c).await)
        }
        Which::OfUser(id) => {
            let those = sessions::user_id.eq(id).and(sessions::ended_at.is_null());
            let update = diesel::update(sessions::table.filter(those)).set(change);
            on!(tx, |c| update.execute(c).await)
        }
        Which::OfUserButOne(id, kept) => {
            let those = sessions::user_id
                .eq(id)
                .and(sessions::ended_at.is_null())
                .and(sessions::id.ne(kept));
            let update = diesel::update(sessions::table.filter(those)).set(change);
            on!(tx, |c| update.execute(c).await)
        }
    }
}

/// The live sessions of the user in all tenants, the one that was used last first.
pub(crate) async fn of_user(
    tx: &mut Connection,
    id: UserId,
    limit: i64,
) -> Result<Vec<SessionRow>, DbError> {
    let now = Moment::now();
    let query = sessions::table
        .filter(sessions::user_id.eq(id).and(sessions::ended_at.is_null()))
        .filter(
            sessions::idle_until
                .gt(now)
                .and(sessions::expires_at.gt(now)),
        )
        .order((sessions::last_seen_at.desc(), sessions::id.desc()))
        .limit(limit);
    on!(tx, |c| query.select(SessionRow::as_select()).load(c).await)
}

/// Deletes sessions that were over before `time`, at most `limit`; how many that were.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment, limit: i64) -> Result<usize, DbError> {
    // Two queries, each by an index: one for both would read all sessions.
    let expired = sessions::table
        .filter(sessions::expires_at.lt(time))
        .limit(limit)
        .select(sessions::id);
    let mut over: Vec<SessionId> = on!(tx, |c| expired.load(c).await)?;
    let left = limit.saturating_sub(i64::try_from(over.len()).unwrap_or(limit));
    let ended = sessions::table
        .filter(
            sessions::ended_at
                .lt(time)
                .and(sessions::expires_at.ge(time)),
        )
        .limit(left)
        .select(sessions::id);
    over.append(&mut on!(tx, |c| ended.load(c).await)?);
    on!(tx, |c| diesel::delete(
        sessions::table.filter(sessions::id.eq_any(over))
    )
    .execute(c)
    .await)
}
