//! Sign-in by a password. An unknown identifier, a wrong password, a disabled user and a user without a password get the same
//! answer, after the same work.

use dotmac_platform::{
    audit::SystemActs as _,
    db::{Tx, types::Id},
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    mail::notices,
    next_step::{self, FirstStep, Shown},
    passwords,
    sessions::Mode,
    throttle::{self, Limit},
};
use crate::{
    AccountsError,
    audit::{Act, LOGIN_FAIL, LOGIN_LOCK, act_as},
    metrics::{self, Outcome},
    names::{self, Identifier},
    password::{Asker, Verdict},
    secret_text::{self, Prefix},
    service::Service,
    store::{
        devices,
        sessions::Client,
        users::{self, Hold, PasswordRow, UserId, UserRow},
    },
};

/// By what failures from unknown devices are counted, together with the identifier.
pub(super) const SCOPE: &str = "login";

/// By what failures from a known device are counted.
pub(super) fn scope_of(device: Id<devices::Device>) -> String {
    format!("{SCOPE} {device}")
}

/// A try to sign in.
pub(crate) struct Attempt {
    pub(crate) identifier: Identifier,
    pub(crate) password: SecretString,
    /// The cookie of a device that signed in before.
    pub(crate) device: Option<String>,
    pub(crate) asker: Asker,
    pub(crate) client: Client,
    pub(crate) mode: Mode,
}

/// What is known before the password is checked.
struct Candidate {
    user: Option<UserRow>,
    password: Option<PasswordRow>,
    /// The user's device that the client proved to be.
    device: Option<Id<devices::Device>>,
    /// What failures are counted by.
    key: Vec<u8>,
}

impl Candidate {
    /// The user, if a right password lets it in.
    fn allowed(&self) -> Option<&UserRow> {
        self.user.as_ref().filter(|user| user.is_active())
    }
}

/// Checks the password, and begins a session if it is right.
///
/// # Errors
///
/// [`AccountsError::InvalidCredentials`], [`AccountsError::Throttled`], [`AccountsError::Busy`].
pub(crate) async fn sign_in(
    service: &Service,
    attempt: Attempt,
) -> Result<FirstStep, AccountsError> {
    let signed_in = try_to_sign_in(service, attempt).await;
    metrics::signed_in(match &signed_in {
        Ok(FirstStep::SecondFactor(_)) => Outcome::SecondFactor,
        result => Outcome::of(result),
    });
    signed_in
}

async fn try_to_sign_in(service: &Service, attempt: Attempt) -> Result<FirstStep, AccountsError> {
    let keys = service.keys.get().await?;
    let candidate = candidate(service, &attempt).await?;
    let asker = Asker {
        is_known: candidate.device.is_some(),
        ..attempt.asker
    };
    let stored = candidate.allowed().and(candidate.password.as_ref());
    let stored = stored.map(|row| row.phc.clone());
    let given = SecretString::from(names::password(attempt.password.expose_secret()).as_str());
    let refused = Refused {
        user: candidate.user.as_ref().map(|it| it.id),
        key: candidate.key.clone(),
        client: attempt.client.clone(),
    };
    let renewed = match passwords::verify(service, asker, given, stored).await? {
        Verdict::Wrong => return refuse(service, refused).await,
        Verdict::Right => None,
        Verdict::RightAndRenewed(phc) => Some(phc),
    };
    let Candidate {
        user: Some(user),
        password: Some(password),
        device,
        key,
    } = candidate
    else {
        return Err(AccountsError::InvalidCredentials);
    };
    let worked = service.clone();
    let Attempt {
        identifier,
        client,
        mode,
        ..
    } = attempt;
    let began = service.open_db.act("sign in", async move |tx| {
        // A password that is being set meanwhile ends what begins here, or is seen here.
        users::hold(tx, user.id, Hold::Shared).await?;
        // Failures of others meanwhile count against a right guess among many at once.
        throttle::check(tx, key.clone()).await?;
        let user = users::find(tx, user.id).await?.filter(UserRow::is_active);
        let user = user.ok_or(AccountsError::InvalidCredentials)?;
        let still = users::password(tx, user.id).await?;
        if still.is_none_or(|still| still.phc != password.phc) {
            return Err(AccountsError::InvalidCredentials);
        }
        act_as(tx, user.id);
        if let Some(phc) = renewed {
            users::renew_hash(tx, &password, phc).await?;
        }
        throttle::forget(tx, key).await?;
        if device.is_some() {
            // Failures from unknown devices are forgotten: the owner has signed in.
            let strangers = keys.throttle_key(SCOPE, identifier.text())?;
            throttle::forget(tx, strangers).await?;
        }
        let shown = Shown {
            user,
            amr: "pwd".to_owned(),
            device,
            client,
            mode,
        };
        next_step::go_on(tx, &worked, &keys, shown).await
    });
    match began.await {
        // What has changed since the password was checked counts as a failure like any other.
        Err(AccountsError::InvalidCredentials) => refuse(service, refused).await,
        began => began,
    }
}

async fn candidate(service: &Service, attempt: &Attempt) -> Result<Candidate, AccountsError> {
    let keys = service.keys.get().await?;
    let identifier = attempt.identifier.clone();
    let device = attempt.device.as_deref();
    let device = device.and_then(|text| secret_text::read(Prefix::Device, text));
    let found = service.open_db.read("find who signs in", async move |c| {
        let user = users::find_by(c, &identifier).await?;
        // The same queries for an unknown identifier.
        let id = user.as_ref().map(|user| user.id).unwrap_or_default();
        let password = users::password(c, id).await?;
        let known = match device {
            Some(hash) => devices::find(c, id, hash).await?,
            None => None,
        };
        let scope = known.map_or_else(|| SCOPE.to_owned(), scope_of);
        let key = keys.throttle_key(&scope, identifier.text())?;
        let held = throttle::check(c, key.clone()).await;
        let is_notice_due = held.is_err() && throttle::is_notice_due(c, key.clone()).await?;
        let candidate = Candidate {
            user,
            password,
            device: known,
            key,
        };
        Ok::<_, AccountsError>((candidate, held, is_notice_due))
    });
    let (candidate, held, is_notice_due) = found.await?;
    if is_notice_due {
        tell_again(service, &candidate).await?;
    }
    held?;
    Ok(candidate)
}

/// Mails the owner once more that sign-ins are locked.
async fn tell_again(service: &Service, candidate: &Candidate) -> Result<(), AccountsError> {
    let user = candidate.user.as_ref().map_or(NO_USER, |user| user.id);
    let (key, worked) = (candidate.key.clone(), service.clone());
    let told = service
        .open_db
        .transaction("tell of lock", async move |tx| {
            if throttle::take_notice(tx, key).await? {
                notices::locked(tx, &worked, user).await?;
            }
            Ok::<_, AccountsError>(())
        });
    told.await
}

/// What did not let its sender in.
struct Refused {
    user: Option<UserId>,
    /// What failures are counted by.
    key: Vec<u8>,
    client: Client,
}

/// Counts the failure, also for unknown identifiers. If failures of others have throttled the identifier meanwhile, that is the
/// answer, as for the right password.
async fn refuse(
    service: &Service,
    Refused { user, key, client }: Refused,
) -> Result<FirstStep, AccountsError> {
    let stands_for = service.failures.sample(&client.network);
    let user = user.unwrap_or(NO_USER);
    let worked = service.clone();
    let counted = service
        .open_db
        .transaction("count failure", async move |tx| {
            let held = throttle::check(tx, key.clone()).await;
            let failures = throttle::count(tx, key, Limit::SIGN_IN).await?;
            if failures == Some(Limit::SIGN_IN.most) {
                tx.after_commit(metrics::locked_out);
                let act = Act::on_user(LOGIN_LOCK, user).failed("there were too many failures");
                act.record_of(tx, user).await?.of(());
                notices::locked(tx, &worked, user).await?;
            }
            if let Some(stands_for) = stands_for {
                record_failure(tx, &worked, user, &client, stands_for).await?;
            }
            // The count is kept, whatever the answer.
            Ok::<_, AccountsError>(held)
        });
    counted.await??;
    Err(AccountsError::InvalidCredentials)
}

/// Whose account a failure is about that is about none.
pub(super) const NO_USER: UserId = Id::from_uuid(Uuid::nil());

/// Records a sign-in that failed, in the place of `stands_for` of them.
pub(super) async fn record_failure(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
    client: &Client,
    stands_for: u32,
) -> Result<(), AccountsError> {
    let act = Act::on_user(LOGIN_FAIL, user).failed("the credentials are wrong");
    let act = act.seen(service.keys.sealer(), user, client);
    let act = act.detail("stands_for", stands_for.to_string());
    act.record_of(tx, user).await?.of(());
    Ok(())
}
