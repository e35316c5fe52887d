//! What follows a factor that was right: the second step of a sign-in, or a session.

use dotmac_platform::{
    audit::Audited,
    db::{
        TenantId, Tx,
        types::{Id, Moment},
    },
};
use secrecy::SecretString;

use super::{
    mfa, passwords,
    sessions::{self, Beginning, Issued, Mode},
};
use crate::{
    AccountsError,
    audit::{Act, LOGIN_FIRST_FACTOR, LOGIN_SUCCESS},
    keys::Keys,
    secret_text::{self, Prefix},
    service::Service,
    store::{
        devices::{self, DeviceRow},
        factors,
        flows::FlowData,
        sessions::Client,
        users::{self, UserId, UserRow},
    },
};

/// Devices of one user that are known; the one that was seen the longest ago is forgotten for a further one.
const MOST_DEVICES: usize = 20;

/// A user who has signed in.
pub(crate) struct SignedIn {
    pub(crate) issued: Issued,
    pub(crate) user: UserRow,
    /// The cookie of a device that is new.
    pub(crate) device: Option<SecretString>,
}

/// What a right password leads to.
pub(crate) enum FirstStep {
    Done(Box<SignedIn>),
    /// The user has a second factor.
    SecondFactor(SecondStep),
}

/// How a sign-in goes on by a second factor.
pub(crate) struct SecondStep {
    /// The text by which it does.
    pub(crate) flow: SecretString,
    /// What may be shown.
    pub(crate) methods: Vec<&'static str>,
}

/// What a session is made of.
pub(crate) struct Wanted {
    pub(crate) client: Client,
    pub(crate) mode: Mode,
    /// The cookie of a device that signed in before.
    pub(crate) device: Option<String>,
}

/// A user who has shown a factor, or more. The row is held, and the transaction acts for the user.
pub(super) struct Shown {
    pub(super) user: UserRow,
    /// The factors, as a session has them (RFC 8176).
    pub(super) amr: String,
    /// The known device of the client.
    pub(super) device: Option<Id<devices::Device>>,
    pub(super) client: Client,
    pub(super) mode: Mode,
}

/// Begins a session after the first factor, or has the sign-in wait for the second one of the user.
///
/// # Errors
///
/// [`AccountsError::InvalidCredentials`] for a user who is in no tenant.
pub(super) async fn go_on(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    first: Shown,
) -> Result<Audited<FirstStep>, AccountsError> {
    let held = factors::held(tx, first.user.id).await?;
    if !held.any() {
        let done = begin(tx, service, keys, first, 1).await?;
        return Ok(done.map(|signed_in| FirstStep::Done(Box::new(signed_in))));
    }
    let user = first.user.id;
    let tenant = home(tx, user).await?;
    let act = Act::on_user(LOGIN_FIRST_FACTOR, user);
    let act = act.seen(service.keys.sealer(), user, &first.client);
    let recorded = act.detail("amr", first.amr.clone()).record_in(tx, tenant)?;
    let data = FlowData {
        kind: mfa::kind(first.mode).to_owned(),
        client: first.client,
        device: first.device.map(Id::uuid),
        password_epoch: passwords::epoch(users::password(tx, user).await?.as_ref()),
        first: first.amr,
    };
    let flow = mfa::begin(tx, user, data).await?;
    let methods = mfa::methods(held, factors::codes_left(tx, user).await?);
    Ok(recorded.of(FirstStep::SecondFactor(SecondStep { flow, methods })))
}

/// Begins the session of a user who has shown all that is needed.
///
/// # Errors
///
/// As [`go_on`].
pub(super) async fn begin(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    shown: Shown,
    acr: i32,
) -> Result<Audited<SignedIn>, AccountsError> {
    let Shown {
        user,
        amr,
        device,
        client,
        mode,
    } = shown;
    let tenant = home(tx, user.id).await?;
    let act = Act::on_user(LOGIN_SUCCESS, user.id);
    let act = act.seen(service.keys.sealer(), user.id, &client);
    let act = act.detail("amr", amr.clone());
    let beginning = Beginning {
        user: user.id,
        tenant,
        acr,
        amr,
        auth_time: Moment::now(),
        client,
        mode,
        expires_at: None,
    };
    let (settings, changes) = (&service.settings, &service.changes);
    let issued = sessions::begin(tx, keys, settings, changes, beginning).await?;
    let device = known_device(tx, &user, device, mode).await?;
    let act = act.detail("session", issued.session.id.to_string());
    let recorded = act.record_in(tx, tenant)?;
    Ok(recorded.of(SignedIn {
        issued,
        user,
        device,
    }))
}

/// The tenant that a sign-in leads to.
async fn home(tx: &mut Tx, user: UserId) -> Result<TenantId, AccountsError> {
    let tenants = users::tenants(tx, user).await?;
    tenants
        .first()
        .copied()
        .ok_or(AccountsError::InvalidCredentials)
}

/// Makes the device known; its cookie, if it is a browser that was not.
async fn known_device(
    tx: &mut Tx,
    user: &UserRow,
    known: Option<Id<devices::Device>>,
    mode: Mode,
) -> Result<Option<SecretString>, AccountsError> {
    if let Some(id) = known {
        devices::touch(tx, id).await?;
        return Ok(None);
    }
    if mode == Mode::Token {
        return Ok(None);
    }
    let minted = secret_text::mint(Prefix::Device)?;
    let now = Moment::now();
    let row = DeviceRow {
        id: Id::new(),
        user_id: user.id,
        secret_hash: minted.hash,
        first_seen: now,
        last_seen: now,
    };
    devices::insert(tx, &row).await?;
    for forgotten in devices::of_user(tx, user.id)
        .await?
        .iter()
        .skip(MOST_DEVICES)
    {
        devices::delete(tx, *forgotten).await?;
    }
    Ok(Some(minted.text))
}
