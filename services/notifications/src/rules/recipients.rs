//! Who a notification goes to, and by which channels.

use std::collections::{BTreeMap, BTreeSet};

use dotmac_platform::{db::TenantTx, directory::Contact, mail::EmailAddress};
use uuid::Uuid;

use crate::{
    bodies::NewRecipient,
    channel::Channel,
    error::{NotificationsError, WrongField},
    service::{MailRoute, Service},
};

/// One recipient by one channel.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) channel: Channel,
    /// As it is sent to: an address, or the id of a user.
    pub(crate) recipient: String,
    pub(crate) key: String,
    pub(crate) name: Option<String>,
    pub(crate) user: Option<Uuid>,
}

/// Every recipient by each of its channels, each once.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] names each recipient that cannot be reached; [`NotificationsError::NotConfigured`].
pub(crate) async fn plan(
    tx: &mut TenantTx,
    service: &Service,
    to: &[NewRecipient],
    channels: Option<&[Channel]>,
) -> Result<Vec<Planned>, NotificationsError> {
    for channel in channels.into_iter().flatten() {
        configured(service, *channel)?;
    }
    let users: BTreeSet<Uuid> = to.iter().filter_map(|it| it.user).collect();
    let contacts = contacts(tx, service, &users).await?;
    let (mut planned, mut wrong, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (place, recipient) in to.iter().enumerate() {
        match of_recipient(service, recipient, channels, contacts.as_ref()) {
            Ok(all) => {
                let fresh = all
                    .into_iter()
                    .filter(|it| seen.insert((it.channel, it.key.clone())));
                planned.extend(fresh);
            }
            Err(Refused::Field(field, code, problem)) => {
                let field = match field {
                    "" => format!("to[{place}]"),
                    field => format!("to[{place}].{field}"),
                };
                wrong.push(WrongField::new(field, code, problem));
            }
            Err(Refused::Channel(channel)) => {
                return Err(NotificationsError::NotConfigured(channel));
            }
        }
    }
    if wrong.is_empty() {
        Ok(planned)
    } else {
        // The first hundred say enough.
        wrong.truncate(100);
        Err(NotificationsError::Wrong(wrong))
    }
}

/// Whether anything can be sent by `channel`.
///
/// # Errors
///
/// [`NotificationsError::NotConfigured`].
fn configured(service: &Service, channel: Channel) -> Result<(), NotificationsError> {
    match channel {
        Channel::InApp => Ok(()),
        Channel::Email if service.mail_route() != MailRoute::Nowhere => Ok(()),
        channel => Err(NotificationsError::NotConfigured(channel)),
    }
}

/// What is known of users, if there is a directory.
pub(crate) async fn contacts(
    tx: &mut TenantTx,
    service: &Service,
    users: &BTreeSet<Uuid>,
) -> Result<Option<BTreeMap<Uuid, Contact>>, NotificationsError> {
    let Some(directory) = service.directory.get() else {
        return Ok(None);
    };
    if users.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    let found = directory
        .contacts(tx, users.iter().copied().collect())
        .await?;
    Ok(Some(found.into_iter().map(|it| (it.user, it)).collect()))
}

enum Refused {
    Field(&'static str, &'static str, String),
    Channel(Channel),
}

fn of_recipient(
    service: &Service,
    recipient: &NewRecipient,
    channels: Option<&[Channel]>,
    contacts: Option<&BTreeMap<Uuid, Contact>>,
) -> Result<Vec<Planned>, Refused> {
    let NewRecipient {
        user,
        email,
        phone,
        url,
    } = recipient;
    let given = [
        user.is_some(),
        email.is_some(),
        phone.is_some(),
        url.is_some(),
    ];
    if given.iter().filter(|it| **it).count() != 1 {
        let problem = "has not exactly one of `user`, `email`, `phone` and `url`";
        return Err(Refused::Field("", "invalid", problem.to_owned()));
    }
    if phone.is_some() {
        return Err(Refused::Channel(Channel::Sms));
    }
    if url.is_some() {
        return Err(Refused::Channel(Channel::Webhook));
    }
    if let Some(text) = email {
        let wrong = || {
            let problem = "is not an e-mail address".to_owned();
            Refused::Field("email", "invalid_email", problem)
        };
        let address = EmailAddress::parse(text).ok_or_else(wrong)?;
        if channels.is_some_and(|it| !it.contains(&Channel::Email)) {
            let problem = "is reached by the channel `email` alone".to_owned();
            return Err(Refused::Field("email", "channel", problem));
        }
        if service.mail_route() == MailRoute::Nowhere {
            return Err(Refused::Channel(Channel::Email));
        }
        return Ok(vec![by_mail(&address, None, None)]);
    }
    let user = user.unwrap_or_default();
    let contact = contacts.map(|it| it.get(&user));
    if matches!(contact, Some(None)) {
        let problem = "is no active user of the tenant".to_owned();
        return Err(Refused::Field("user", "unknown_user", problem));
    }
    of_user(service, user, channels, contact.flatten())
}

fn of_user(
    service: &Service,
    user: Uuid,
    channels: Option<&[Channel]>,
    contact: Option<&Contact>,
) -> Result<Vec<Planned>, Refused> {
    let mut planned = Vec::new();
    if channels.is_none_or(|it| it.contains(&Channel::InApp)) {
        planned.push(Planned {
            channel: Channel::InApp,
            recipient: user.to_string(),
            key: user.to_string(),
            name: contact.and_then(|it| it.name.clone()),
            user: Some(user),
        });
    }
    let is_asked = channels.is_some_and(|it| it.contains(&Channel::Email));
    let is_possible = channels.is_none() && service.mail_route() != MailRoute::Nowhere;
    match contact.and_then(|it| it.email.as_ref().map(|email| (email, it))) {
        Some((email, contact)) if is_asked || is_possible => {
            planned.push(by_mail(email, contact.name.clone(), Some(user)));
        }
        None if is_asked => {
            let problem = "has no e-mail address".to_owned();
            return Err(Refused::Field("user", "no_address", problem));
        }
        _ => {}
    }
    Ok(planned)
}

pub(crate) fn by_mail(address: &EmailAddress, name: Option<String>, user: Option<Uuid>) -> Planned {
    Planned {
        channel: Channel::Email,
        recipient: address.as_str().to_owned(),
        key: address.normal().to_owned(),
        name,
        user,
    }
}
