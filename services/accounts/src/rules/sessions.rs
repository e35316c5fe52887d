//! Sessions: begun at a sign-in, listed for their owner, ended by the owner, an administrator or a rule.

use std::time::Duration;

use dotmac_platform::{
    audit::Audited,
    db::{
        Connection, TenantId, Tx,
        types::{Json, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{refresh, tenant_policy};
use crate::{
    AccountsError, AccountsSettings,
    audit::{Act, Resource, SESSION_ENDED, SESSIONS_ENDED, TENANT_SWITCH},
    changes::{Change, Changes},
    events::{self, SessionRevoked},
    jwt::Claims,
    keys::Keys,
    secret_text::{self, Prefix},
    store::{
        ACTIVE,
        sessions::{self as store, COOKIE, Client, SessionId, SessionRow, TOKEN, Which},
        tenants,
        users::{self, Hold, UserId},
    },
};

/// Sessions that one sign-in reads: more than the most that may be set.
const MOST_READ: i64 = 1100;

/// Sessions that one sign-in ends. After the most that may be had was set lower, several sign-ins come down to it.
const MOST_ENDED: usize = 20;

/// How a client wants to hold its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Cookie,
    Token,
}

/// Whose session is begun, and how its user was authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) acr: i32,
    pub(crate) amr: String,
    /// When the user was authenticated.
    pub(crate) auth_time: Moment,
    pub(crate) client: Client,
    pub(crate) mode: Mode,
    /// When it ends at the latest; as long as sessions last, if it takes the place of none.
    pub(crate) expires_at: Option<Moment>,
}

/// A session with what its client is given.
pub(crate) struct Issued {
    pub(crate) session: SessionRow,
    pub(crate) secret: Secret,
}

/// What a client proves its session by.
pub(crate) enum Secret {
    Cookie(SecretString),
    Tokens(Tokens),
}

/// An access token and the refresh token that gives the next one.
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    /// How long it is good.
    pub(crate) expires_in: Duration,
    pub(crate) refresh: SecretString,
}

/// Begins a session of a user whose row is held. If there are as many as there may be, those that were idle the longest end.
pub(crate) async fn begin(
    tx: &mut Tx,
    keys: &Keys,
    settings: &AccountsSettings,
    changes: &Changes,
    beginning: Beginning,
) -> Result<Issued, AccountsError> {
    let most = usize::try_from(settings.max_sessions).unwrap_or(usize::MAX);
    let live = store::of_user(tx, beginning.user, MOST_READ).await?;
    let now = Moment::now();
    let expires_at = beginning
        .expires_at
        .unwrap_or(now + settings.session_absolute);
    let (kind, idle, cookie) = match beginning.mode {
        Mode::Cookie => (
            COOKIE,
            settings.session_idle,
            Some(secret_text::mint(Prefix::Session)?),
        ),
        Mode::Token => (TOKEN, settings.refresh_idle, None),
    };
    let session = SessionRow {
        id: SessionId::new(),
        tenant_id: beginning.tenant,
        user_id: beginning.user,
        kind: kind.to_owned(),
        token_hash: cookie.as_ref().map(|cookie| cookie.hash.clone()),
        acr: beginning.acr,
        amr: beginning.amr,
        auth_time: beginning.auth_time,
        client: Json(beginning.client),
        created_at: now,
        last_seen_at: now,
        idle_until: (now + idle).min(expires_at),
        expires_at,
        ended_at: None,
        end_reason: None,
    };
    store::insert(tx, &session).await?;
    let secret = match cookie {
        Some(cookie) => Secret::Cookie(cookie.text),
        None => {
            let row = refresh::first(&session)?;
            store::insert_refresh(tx, &row).await?;
            Secret::Tokens(tokens(keys, settings, &session, &row)?)
        }
    };
    // Last: each is written down under a lock that all instances share.
    let too_many = live.iter().skip(most.saturating_sub(1));
    for idle in too_many.rev().take(MOST_ENDED) {
        end(tx, changes, idle, "too_many_sessions").await?;
    }
    Ok(Issued { session, secret })
}

/// The tokens of the present generation.
pub(super) fn tokens(
    keys: &Keys,
    settings: &AccountsSettings,
    session: &SessionRow,
    refresh: &store::RefreshRow,
) -> Result<Tokens, AccountsError> {
    let now = chrono::Utc::now().timestamp();
    let end: chrono::DateTime<chrono::Utc> = session.expires_at.into();
    let life = i64::try_from(settings.access_ttl.as_secs()).unwrap_or(i64::MAX);
    let exp = now.saturating_add(life).min(end.timestamp());
    let auth_time: chrono::DateTime<chrono::Utc> = session.auth_time.into();
    let claims = Claims {
        iss: settings.issuer(),
        aud: settings.audience.clone(),
        sub: session.user_id.uuid(),
        client_id: settings.audience.clone(),
        iat: now,
        nbf: now,
        exp,
        jti: Uuid::now_v7(),
        sid: session.id.uuid(),
        tid: session.tenant_id.uuid(),
        generation: refresh.generation,
        auth_time: auth_time.timestamp(),
        acr: session.acr.to_string(),
        amr: session.amr.split(' ').map(str::to_owned).collect(),
    };
    let token = refresh::token(keys, session.id, refresh.generation, &refresh.salt)?;
    Ok(Tokens {
        access: SecretString::from(keys.sign(&claims)?),
        expires_in: Duration::from_secs(u64::try_from(exp - now).unwrap_or_default()),
        refresh: SecretString::from(token.expose_secret()),
    })
}

/// Ends one session; whether it had not ended before.
pub(crate) async fn end(
    tx: &mut Tx,
    changes: &Changes,
    session: &SessionRow,
    reason: &'static str,
) -> Result<bool, AccountsError> {
    let id = session.id;
    let has_ended = store::end(tx, Which::One(id), reason).await? > 0;
    if has_ended {
        changes.record(tx, Change::Session(id)).await?;
        let act = Act::done(SESSION_ENDED, Resource::Session, id.uuid());
        let act = act.detail("user", session.user_id.to_string());
        act.detail("reason", reason)
            .record_in(tx, session.tenant_id)?
            .of(());
        let revoked = SessionRevoked {
            user: session.user_id,
            session: Some(id),
            reason,
        };
        events::emit_in(tx, session.tenant_id, &revoked)?;
    }
    Ok(has_ended)
}

/// Ends the session of that id, if there is one.
pub(crate) async fn end_by_id(
    tx: &mut Tx,
    changes: &Changes,
    id: SessionId,
    reason: &'static str,
) -> Result<(), AccountsError> {
    match store::find(tx, store::By::Id(id)).await? {
        Some(found) => end(tx, changes, &found.session, reason).await.map(drop),
        None => Ok(()),
    }
}

/// Goes on in another tenant that the user is a member of: a new session takes the place of the old one, which was
/// authenticated as strongly and at the same time.
///
/// # Errors
///
/// [`AccountsError::NotFound`] for every other tenant; what the session [lacks](tenant_policy::Lack) for its policy.
pub(crate) async fn switch(
    tx: &mut Tx,
    keys: &Keys,
    settings: &AccountsSettings,
    changes: &Changes,
    id: SessionId,
    tenant: TenantId,
) -> Result<Audited<Issued>, AccountsError> {
    let session = live(tx, id).await?;
    let found = tenants::find(tx, tenant).await?;
    let found = found.filter(|found| found.status == ACTIVE);
    let found = found.ok_or(AccountsError::NotFound)?;
    if !users::is_member(tx, tenant, session.user_id).await? {
        return Err(AccountsError::NotFound);
    }
    if let Some(lack) = tenant_policy::lack(tx, &session, found.mfa_required).await? {
        return Err(lack.into());
    }
    let authentication = (session.acr, session.amr.clone(), session.auth_time);
    let switched = Successor {
        tenant,
        authentication,
        reason: "switched_tenant",
    };
    let former = session.tenant_id;
    let issued = replace(tx, keys, settings, changes, session, switched).await?;
    let act = Act::on_user(TENANT_SWITCH, issued.session.user_id);
    let act = act.detail("session", issued.session.id.to_string());
    let recorded = act
        .detail("from", former.to_string())
        .record_in(tx, tenant)?;
    Ok(recorded.of(issued))
}

/// The live session of that id. Its user is held, so that all that is read from now on stays until another session is begun.
///
/// # Errors
///
/// [`AccountsError::SessionEnded`].
pub(super) async fn live(tx: &mut Tx, id: SessionId) -> Result<SessionRow, AccountsError> {
    let read = async |tx: &mut Tx| {
        let found = store::find(tx, store::By::Id(id)).await?;
        let live = found.filter(|found| found.is_live(Moment::now()));
        Ok::<_, AccountsError>(live.ok_or(AccountsError::SessionEnded)?.session)
    };
    let user = read(tx).await?.user_id;
    users::hold(tx, user, Hold::Shared).await?;
    read(tx).await
}

/// What is different in a session that takes the place of another.
pub(super) struct Successor {
    pub(super) tenant: TenantId,
    /// Its acr, amr and time.
    pub(super) authentication: (i32, String, Moment),
    /// Why the former one ends.
    pub(super) reason: &'static str,
}

/// Replaces a live session by another one that ends at the same time at the latest: only a sign-in starts a new period.
///
/// # Errors
///
/// [`AccountsError::SessionEnded`] if another request was faster.
pub(super) async fn replace(
    tx: &mut Tx,
    keys: &Keys,
    settings: &AccountsSettings,
    changes: &Changes,
    session: SessionRow,
    successor: Successor,
) -> Result<Issued, AccountsError> {
    if !end(tx, changes, &session, successor.reason).await? {
        return Err(AccountsError::SessionEnded);
    }
    let (acr, amr, auth_time) = successor.authentication;
    let beginning = Beginning {
        user: session.user_id,
        tenant: successor.tenant,
        acr,
        amr,
        auth_time,
        client: session.client.0,
        mode: if session.kind == COOKIE {
            Mode::Cookie
        } else {
            Mode::Token
        },
        expires_at: Some(session.expires_at),
    };
    begin(tx, keys, settings, changes, beginning).await
}

/// Ends all sessions of a user, or all but one; how many that were.
pub(crate) async fn end_all(
    tx: &mut Tx,
    changes: &Changes,
    user: UserId,
    kept: Option<SessionId>,
    reason: &'static str,
) -> Result<Audited<usize>, AccountsError> {
    let which = match kept {
        Some(kept) => Which::OfUserButOne(user, kept),
        None => Which::OfUser(user),
    };
    // Sign-ins that are under way are waited for: what they begin is ended as well.
    users::hold(tx, user, Hold::Alone).await?;
    let ended = store::end(tx, which, reason).await?;
    // Also without a session: keys of the user may be remembered.
    changes.record(tx, Change::User(user)).await?;
    if ended > 0 {
        let revoked = SessionRevoked {
            user,
            session: None,
            reason,
        };
        events::emit_of_user(tx, user, &revoked).await?;
    }
    let act = Act::on_user(SESSIONS_ENDED, user).detail("reason", reason);
    let act = act.detail("sessions", ended.to_string());
    Ok(act.record_of(tx, user).await?.of(ended))
}

/// A session of `user` that has not ended; another's is not found.
///
/// # Errors
///
/// [`AccountsError::NotFound`].
pub(crate) async fn find_own(
    c: &mut Connection,
    user: UserId,
    id: SessionId,
) -> Result<SessionRow, AccountsError> {
    let found = store::find(c, store::By::Id(id)).await?;
    let own =
        found.filter(|found| found.session.user_id == user && found.session.ended_at.is_none());
    Ok(own.ok_or(AccountsError::NotFound)?.session)
}
