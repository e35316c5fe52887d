//! What users want to get.

use std::collections::BTreeSet;

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{TenantTx, types::Moment},
};

use super::quiet_hours::{is_zone, read, shown};
use crate::{
    audit::PREFER,
    bodies::{Preference, Preferences, QuietHours},
    channel::{ANY, Channel, TRANSACTIONAL, is_category},
    error::{NotificationsError, WrongField},
    store::{
        deliveries::UserId,
        preferences::{self as store, PreferenceRow},
        quiet_hours::{self, QuietHoursRow},
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
    let items = items.collect();
    let quiet_hours = quiet_hours::find(tx, user).await?;
    let quiet_hours = quiet_hours.map(|it| QuietHours {
        from: shown(it.begins_at),
        to: shown(it.ends_at),
        zone: it.zone,
    });
    Ok(Preferences { items, quiet_hours })
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
        if it.channel != ANY && it.channel.parse::<Channel>().is_err() {
            refuse("channel", "is no channel, and not `*`");
        }
        if !seen.insert((&it.category, &it.channel)) {
            refuse("category", "is given twice with that channel");
        }
    }
    let quiet = match &new.quiet_hours {
        Some(it) => quiet_hours_row(tx, user, it)
            .map_err(|field| wrong.push(field))
            .ok(),
        None => None,
    };
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
    let has_quiet_hours = quiet.is_some();
    quiet_hours::replace(tx, user, quiet).await?;
    let entry = Entry::new(PREFER.name(), "notifications.preferences", user.to_string());
    let entry = entry
        .detail("items", new.items.len().to_string())
        .detail("quiet_hours", has_quiet_hours.to_string());
    let recorded = tx.audit(entry)?;
    Ok(recorded.of(find(tx, user).await?))
}

/// The row of quiet hours; the field that is wrong.
fn quiet_hours_row(
    tx: &TenantTx,
    user_id: UserId,
    given: &QuietHours,
) -> Result<QuietHoursRow, WrongField> {
    let wrong = |field: &str, problem: &str| {
        WrongField::new(format!("quiet_hours.{field}"), "invalid", problem)
    };
    let clock = "is no time of day as `22:00`";
    let begins_at = read(&given.from).ok_or_else(|| wrong("from", clock))?;
    let ends_at = read(&given.to).ok_or_else(|| wrong("to", clock))?;
    if begins_at == ends_at {
        return Err(wrong("to", "is when they begin"));
    }
    if !is_zone(&given.zone) {
        return Err(wrong("zone", "is no time zone as `Europe/Berlin`"));
    }
    Ok(QuietHoursRow {
        tenant_id: tx.tenant(),
        user_id,
        zone: given.zone.clone(),
        begins_at,
        ends_at,
        updated_at: Moment::now(),
    })
}
