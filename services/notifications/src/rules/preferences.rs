//! What users want to get.

use std::collections::BTreeSet;

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{TenantTx, types::Moment},
};

use crate::{
    audit::PREFER,
    bodies::{Preference, Preferences},
    channel::{ANY, Channel, TRANSACTIONAL, is_category},
    error::{NotificationsError, WrongField},
    store::{
        deliveries::UserId,
        preferences::{self as store, PreferenceRow},
    },
};

/// What a user has said.
pub(crate) async fn find(
    tx: &mut TenantTx,
    user: UserId,
) -> Result<Preferences, NotificationsError> {
    let rows = store::of_user(tx, user).await?.into_iter();
    let items = rows.map(|it| Preference {
        category: it.category,
        channel: it.channel,
        enabled: it.enabled,
    });
    Ok(Preferences {
        items: items.collect(),
    })
}

/// Puts these in the place of all that the user had said.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] names each that is none.
pub(crate) async fn replace(
    tx: &mut TenantTx,
    user: UserId,
    new: Preferences,
) -> Result<Audited<Preferences>, NotificationsError> {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (place, it) in new.items.iter().enumerate() {
        let mut refuse = |field: &str, problem: &str| {
            let field = format!("items[{place}].{field}");
            wrong.push(WrongField::new(field, "invalid", problem));
        };
        if it.category == TRANSACTIONAL {
            refuse("category", "cannot be switched off");
        } else if it.category != ANY && !is_category(&it.category) {
            refuse("category", "is no category, and not `*`");
        }
        if it.channel != ANY && Channel::read(&it.channel).is_none() {
            refuse("channel", "is no channel, and not `*`");
        }
        if !seen.insert((&it.category, &it.channel)) {
            refuse("category", "is given twice with that channel");
        }
    }
    if !wrong.is_empty() {
        return Err(NotificationsError::Wrong(wrong));
    }
    let (tenant_id, updated_at) = (tx.tenant(), Moment::now());
    let rows = new.items.iter().map(|it| PreferenceRow {
        tenant_id,
        user_id: user,
        category: it.category.clone(),
        channel: it.channel.clone(),
        enabled: it.enabled,
        updated_at,
    });
    store::replace(tx, user, rows.collect()).await?;
    let entry = Entry::new(PREFER.name(), "notifications.preferences", user.to_string());
    let entry = entry.detail("items", new.items.len().to_string());
    let recorded = tx.audit(entry)?;
    Ok(recorded.of(find(tx, user).await?))
}
