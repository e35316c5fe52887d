//! What the service keeps about one user, as one object, without a secret: for the user, and for an operator.

use dotmac_platform::{
    audit::Audited,
    db::{AcrossTx, TenantId, TenantScope, types::Moment},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    AccountsError,
    audit::{Act, USER_EXPORTED},
    store::{
        api_keys::{self, ApiKeyRow},
        bindings::{self, Holder},
        devices, factors, grants, passkeys,
        passkeys::PasskeyRow,
        sessions::{self, SessionRow},
        tenants,
        users::{self, UserId, UserRow},
    },
};

/// Sessions of a user that an export has: more than there may be.
const MOST_SESSIONS: i64 = 1000;

/// What the service keeps about a user.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserExport {
    exported_at: Moment,
    user: ExportedUser,
    memberships: Vec<ExportedMembership>,
    /// Those that have not ended.
    sessions: Vec<ExportedSession>,
    /// Browsers that have signed in.
    devices: Vec<ExportedDevice>,
    factors: ExportedFactors,
    /// Personal API keys of all tenants, without their text.
    api_keys: Vec<ExportedKey>,
}

/// The account.
#[derive(Serialize, ToSchema)]
struct ExportedUser {
    id: Uuid,
    email: Option<String>,
    email_verified_at: Option<Moment>,
    username: Option<String>,
    full_name: Option<String>,
    locale: Option<String>,
    status: String,
    has_password: bool,
    password_changed_at: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
}

/// A membership in a tenant.
#[derive(Serialize, ToSchema)]
struct ExportedMembership {
    tenant_id: Uuid,
    slug: Option<String>,
    name: Option<String>,
    status: String,
    joined_at: Moment,
    /// Names of roles.
    roles: Vec<String>,
    /// Permissions without a role.
    grants: Vec<String>,
}

/// A session.
#[derive(Serialize, ToSchema)]
struct ExportedSession {
    id: Uuid,
    tenant_id: Uuid,
    kind: String,
    acr: i32,
    amr: String,
    device_name: Option<String>,
    network: Option<String>,
    user_agent: Option<String>,
    authenticated_at: Moment,
    created_at: Moment,
    last_seen_at: Moment,
    expires_at: Moment,
}

/// A browser that has signed in.
#[derive(Serialize, ToSchema)]
struct ExportedDevice {
    first_seen_at: Moment,
    last_seen_at: Moment,
}

/// The second factors.
#[derive(Serialize, ToSchema)]
struct ExportedFactors {
    /// When the authenticator app was confirmed.
    totp_confirmed_at: Option<Moment>,
    totp_label: Option<String>,
    passkeys: Vec<ExportedPasskey>,
    recovery_codes_left: i64,
}

/// A passkey.
#[derive(Serialize, ToSchema)]
struct ExportedPasskey {
    id: Uuid,
    label: Option<String>,
    aaguid: String,
    created_at: Moment,
    last_used_at: Option<Moment>,
}

/// A personal API key.
#[derive(Serialize, ToSchema)]
struct ExportedKey {
    id: Uuid,
    tenant_id: Uuid,
    name: String,
    scopes: Vec<String>,
    cidrs: Vec<String>,
    created_at: Moment,
    expires_at: Option<Moment>,
    last_used_at: Option<Moment>,
}

impl From<SessionRow> for ExportedSession {
    fn from(row: SessionRow) -> Self {
        let client = row.client.0;
        Self {
            id: row.id.uuid(),
            tenant_id: row.tenant_id.uuid(),
            kind: row.kind,
            acr: row.acr,
            amr: row.amr,
            device_name: client.device_name,
            network: client.network,
            user_agent: client.user_agent,
            authenticated_at: row.auth_time,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.idle_until.min(row.expires_at),
        }
    }
}

impl From<PasskeyRow> for ExportedPasskey {
    fn from(row: PasskeyRow) -> Self {
        Self {
            id: row.id.uuid(),
            label: row.label,
            aaguid: row.aaguid,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

impl From<ApiKeyRow> for ExportedKey {
    fn from(row: ApiKeyRow) -> Self {
        let rules = row.rules.0;
        Self {
            id: row.id.uuid(),
            tenant_id: row.tenant_id.uuid(),
            name: row.name,
            scopes: rules.scopes,
            cidrs: rules.cidrs.iter().map(ToString::to_string).collect(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at.max(row.next_last_used_at),
        }
    }
}

/// Reads what there is about the user, and records that.
///
/// # Errors
///
/// [`AccountsError::NotFound`].
pub(crate) async fn export(
    tx: &mut AcrossTx<'_>,
    id: UserId,
) -> Result<Audited<UserExport>, AccountsError> {
    let system = tx.system().await?;
    let user = users::find(system, id)
        .await?
        .filter(|user| user.deleted_at.is_none())
        .ok_or(AccountsError::NotFound)?;
    let password = users::password(system, id).await?;
    let live = sessions::of_user(system, id, MOST_SESSIONS).await?;
    let seen = devices::times_of(system, id).await?;
    let totp = factors::totp_of(system, id).await?;
    let totp = totp.filter(|totp| totp.confirmed_at.is_some());
    let factors = ExportedFactors {
        totp_confirmed_at: totp.as_ref().and_then(|totp| totp.confirmed_at),
        totp_label: totp.and_then(|totp| totp.label),
        passkeys: passkeys::of_user(system, id)
            .await?
            .into_iter()
            .map(ExportedPasskey::from)
            .collect(),
        recovery_codes_left: factors::codes_left(system, id).await?,
    };
    let keys = api_keys::personal(system, id).await?;
    let of_tenants = users::memberships(system, id).await?;
    let recorded = Act::on_user(USER_EXPORTED, id)
        .record_of(system, id)
        .await?;
    let mut memberships = Vec::new();
    for membership in of_tenants {
        memberships.push(exported_membership(tx, id, membership).await?);
    }
    let devices = seen
        .into_iter()
        .map(|(first_seen_at, last_seen_at)| ExportedDevice {
            first_seen_at,
            last_seen_at,
        });
    let changed_at = password.map(|password| password.changed_at);
    Ok(recorded.of(UserExport {
        exported_at: Moment::now(),
        user: exported_user(user, changed_at),
        memberships,
        sessions: live.into_iter().map(ExportedSession::from).collect(),
        devices: devices.collect(),
        factors,
        api_keys: keys.into_iter().map(ExportedKey::from).collect(),
    }))
}

fn exported_user(row: UserRow, password_changed_at: Option<Moment>) -> ExportedUser {
    ExportedUser {
        id: row.id.uuid(),
        email: row.email,
        email_verified_at: row.email_verified_at,
        username: row.username,
        full_name: row.full_name,
        locale: row.locale,
        status: row.status,
        has_password: password_changed_at.is_some(),
        password_changed_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

async fn exported_membership(
    tx: &mut AcrossTx<'_>,
    user: UserId,
    (id, status, joined_at): (TenantId, String, Moment),
) -> Result<ExportedMembership, AccountsError> {
    let found = tenants::find(tx.system().await?, id).await?;
    let scope = TenantScope::system(id, "export a user");
    let own = tx.tenant(&scope).await?;
    let holder = Holder::User(user);
    let roles = bindings::role_names(own, holder).await?;
    let grants = grants::now_of(own, holder).await?;
    let (slug, name) = found.map(|it| (it.slug, it.name)).unzip();
    Ok(ExportedMembership {
        tenant_id: id.uuid(),
        slug,
        name,
        status,
        joined_at,
        roles,
        grants: grants.into_iter().map(|grant| grant.permission).collect(),
    })
}
