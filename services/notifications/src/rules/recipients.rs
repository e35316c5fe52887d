//! The recipients of a notification, and their channels.

use std::collections::{BTreeMap, BTreeSet};

use dotmac_platform::{
    db::{TenantTx, types::Moment},
    directory::Contact,
    mail::EmailAddress,
};
use uuid::Uuid;

use crate::{
    bodies::NewRecipient,
    channel::Channel,
    error::{NotificationsError, WrongField},
    next_hop::Phone,
    service::{MailRoute, Service},
    store::{deliveries::user_id, push},
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
    let browsers = browsers(tx, service, &users, channels).await?;
    let known = Known {
        contacts: contacts.as_ref(),
        browsers: &browsers,
    };
    let (mut planned, mut wrong, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (place, recipient) in to.iter().enumerate() {
        match of_recipient(service, recipient, channels, &known) {
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
    match service.has(channel) {
        true => Ok(()),
        false => Err(NotificationsError::NotConfigured(channel)),
    }
}

/// The browsers of users that take push messages, if any are to be sent; by user.
async fn browsers(
    tx: &mut TenantTx,
    service: &Service,
    users: &BTreeSet<Uuid>,
    channels: Option<&[Channel]>,
) -> Result<BTreeMap<Uuid, Vec<Uuid>>, NotificationsError> {
    let is_asked = channels.is_none_or(|it| it.contains(&Channel::WebPush));
    let mut browsers = BTreeMap::<_, Vec<_>>::new();
    if users.is_empty() || !is_asked || !service.has(Channel::WebPush) {
        return Ok(browsers);
    }
    let users = users.iter().copied().map(user_id).collect();
    let (rows, now) = (push::of_users(tx, users).await?, Moment::now());
    let good = |it: &push::SubscriptionRow| it.expires_at.is_none_or(|at| at > now);
    for row in rows.into_iter().filter(good) {
        let of_user = browsers.entry(row.user_id.uuid()).or_default();
        of_user.push(row.id.uuid());
    }
    Ok(browsers)
}

/// What is known of users.
struct Known<'a> {
    contacts: Option<&'a BTreeMap<Uuid, Contact>>,
    browsers: &'a BTreeMap<Uuid, Vec<Uuid>>,
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
    known: &Known<'_>,
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
    if let Some(text) = phone {
        return Ok(vec![by_phone(service, text, channels)?]);
    }
    if let Some(text) = url {
        return Ok(vec![by_url(service, text, channels)?]);
    }
    if let Some(text) = email {
        let wrong = || {
            let problem = "is not an e-mail address".to_owned();
            Refused::Field("email", "invalid_email", problem)
        };
        let address = EmailAddress::parse(text).ok_or_else(wrong)?;
        only(channels, Channel::Email, "email")?;
        if service.mail_route() == MailRoute::Nowhere {
            return Err(Refused::Channel(Channel::Email));
        }
        return Ok(vec![by_mail(&address, None, None)]);
    }
    let user = user.unwrap_or_default();
    let contact = known.contacts.map(|it| it.get(&user));
    if matches!(contact, Some(None)) {
        let problem = "is no active user of the tenant".to_owned();
        return Err(Refused::Field("user", "unknown_user", problem));
    }
    let browsers = known.browsers.get(&user).map_or(&[][..], Vec::as_slice);
    of_user(service, user, channels, (contact.flatten(), browsers))
}

fn of_user(
    service: &Service,
    user: Uuid,
    channels: Option<&[Channel]>,
    (contact, browsers): (Option<&Contact>, &[Uuid]),
) -> Result<Vec<Planned>, Refused> {
    let asked = |channel| channels.is_some_and(|it| it.contains(&channel));
    for (channel, problem) in [
        (Channel::Sms, "has no telephone number: give it as `phone`"),
        (Channel::Webhook, "has no URL: give it as `url`"),
    ] {
        if asked(channel) {
            return Err(Refused::Field("user", "no_address", problem.to_owned()));
        }
    }
    if asked(Channel::WebPush) && browsers.is_empty() {
        let problem = "has no browser that takes push messages".to_owned();
        return Err(Refused::Field("user", "no_address", problem));
    }
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
    planned.extend(browsers.iter().map(|browser| Planned {
        channel: Channel::WebPush,
        recipient: browser.to_string(),
        key: browser.to_string(),
        name: contact.and_then(|it| it.name.clone()),
        user: Some(user),
    }));
    Ok(planned)
}

fn by_phone(
    service: &Service,
    text: &str,
    channels: Option<&[Channel]>,
) -> Result<Planned, Refused> {
    only(channels, Channel::Sms, "phone")?;
    if !service.has(Channel::Sms) {
        return Err(Refused::Channel(Channel::Sms));
    }
    let number = Phone::parse(text).ok_or_else(|| {
        let problem = "is no telephone number as +49301234567".to_owned();
        Refused::Field("phone", "invalid_phone", problem)
    })?;
    Ok(to_address(Channel::Sms, number.as_str()))
}

fn by_url(service: &Service, text: &str, channels: Option<&[Channel]>) -> Result<Planned, Refused> {
    only(channels, Channel::Webhook, "url")?;
    if !service.has(Channel::Webhook) {
        return Err(Refused::Channel(Channel::Webhook));
    }
    let checked = service.egress.check_url(text);
    checked.map_err(|error| Refused::Field("url", error.code(), error.to_string()))?;
    let url = url::Url::parse(text)
        .map_err(|error| Refused::Field("url", "invalid_url", error.to_string()))?;
    Ok(to_address(Channel::Webhook, url.as_str()))
}

/// Refuses an address for a call that is to go by other channels.
fn only(
    channels: Option<&[Channel]>,
    channel: Channel,
    field: &'static str,
) -> Result<(), Refused> {
    match channels.is_none_or(|it| it.contains(&channel)) {
        true => Ok(()),
        false => {
            let problem = format!("is reached by the channel `{channel}` alone");
            Err(Refused::Field(field, "channel", problem))
        }
    }
}

fn to_address(channel: Channel, address: &str) -> Planned {
    Planned {
        channel,
        recipient: address.to_owned(),
        key: address.to_owned(),
        name: None,
        user: None,
    }
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
