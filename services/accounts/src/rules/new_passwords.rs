//! What is accepted as a new password of a user, and its hash.

use secrecy::{ExposeSecret, SecretString};

use crate::{
    AccountsError, names,
    password::{Asker, Context, Strength},
    service::Service,
    store::{
        factors,
        tenants::{self, TenantRow},
        users::UserRow,
    },
};

/// Words that an attacker tries first for this user.
fn context(service: &Service, user: &UserRow, tenant: Option<&TenantRow>) -> Context {
    let email = user.email_normal.as_deref().unwrap_or_default();
    let (local, domain) = email.split_once('@').unwrap_or_default();
    let words = [
        local,
        domain.split('.').next().unwrap_or_default(),
        user.username.as_deref().unwrap_or_default(),
        user.full_name.as_deref().unwrap_or_default(),
        tenant
            .map(|tenant| tenant.slug.as_str())
            .unwrap_or_default(),
        tenant
            .map(|tenant| tenant.name.as_str())
            .unwrap_or_default(),
        service.settings.audience.as_str(),
        service.settings.public_url.host_str().unwrap_or_default(),
    ];
    Context(
        words
            .iter()
            .filter(|word| !word.is_empty())
            .map(|word| (*word).to_owned())
            .collect(),
    )
}

/// A new password that is accepted, hashed.
pub(crate) struct NewPassword {
    pub(crate) phc: String,
    /// The field of the request that has it.
    pub(super) field: &'static str,
    pub(super) strength: Strength,
}

impl NewPassword {
    /// Whether it is too short to be the only factor.
    pub(super) fn is_short(&self) -> bool {
        self.strength == Strength::WithFactor
    }
}

/// The hash of a new password, if it is accepted for the user: with a second factor a shorter one is.
///
/// # Errors
///
/// [`AccountsError::Invalid`] says why it is not accepted; [`AccountsError::Busy`].
pub(crate) async fn hash_new(
    service: &Service,
    asker: Asker,
    user: &UserRow,
    field: &'static str,
    password: SecretString,
) -> Result<NewPassword, AccountsError> {
    let (id, tenant) = (user.id, user.managed_by);
    let read = service
        .open_db
        .read("read what passwords are judged by", async move |c| {
            let tenant = match tenant {
                Some(tenant) => tenants::find(c, tenant).await?,
                None => None,
            };
            Ok::<_, AccountsError>((factors::held(c, id).await?, tenant))
        });
    let (held, tenant) = read.await?;
    let context = context(service, user, tenant.as_ref());
    let needed = match held.any() {
        true => Strength::WithFactor,
        false => Strength::Alone,
    };
    let judged = service
        .hasher
        .judge(asker, password.clone(), context, needed);
    let accepted = judged.await?;
    let strength = accepted.map_err(|fault| AccountsError::password(field, fault))?;
    let normal = SecretString::from(names::password(password.expose_secret()).as_str());
    Ok(NewPassword {
        phc: service.hasher.hash(asker, normal).await?,
        field,
        strength,
    })
}
