//! Parts of a chain, and what is missed of a whole one.

use std::time::Duration;

use dotmac_db::types::Moment;
use dotmac_durable::audit::{Fault, verifier};

use crate::rig::{Rig, another_scope, master, on_both, scope};

/// Entries that were deleted from the end are missed, whichever part is asked for.
#[actix::test]
async fn a_part_of_a_log_without_its_tail_is_not_valid() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        let between = Moment::now();
        rig.act(&scope(), 4..6).await;
        rig.seal().await;
        let later = Moment::now();
        for table in ["link", "entry"] {
            let of_link = "(SELECT entry_id FROM audit_link WHERE number > 3)";
            let sql = match table {
                "link" => "DELETE FROM audit_link WHERE number > 3".to_owned(),
                _ => format!("DELETE FROM audit_entry WHERE id NOT IN {of_link} AND resource_id IN ('4', '5')"),
            };
            rig.tamper(&sql).await;
        }
        for (from, to) in [
            (Some(between), None),
            (Some(between), Some(later)),
            (None, Some(later)),
            (None, Some(between)),
            (Some(later), None),
            (None, None),
        ] {
            let verification = rig.verification(scope().tenant()).await.between(from, to);
            let found = verification.run(&rig.system(), || {}).await.unwrap();
            let broken = found.broken.map(|it| (it.number, it.fault));
            assert_eq!(broken, Some((4, Fault::EndMissing)), "{from:?} {to:?}");
        }
        rig.supervisor.halt().await;
    })
    .await;
}

/// A whole log that was deleted while no verifier ran is missed by the next one, which remembers nothing.
#[actix::test]
async fn a_log_that_was_deleted_as_a_whole_is_missed_by_a_verifier_that_never_saw_it() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        rig.act(&another_scope(), 4..6).await;
        rig.seal().await;
        for table in ["entry", "link", "chain", "checkpoint"] {
            let tenant = scope().tenant();
            rig.tamper(&format!(
                "DELETE FROM audit_{table} WHERE tenant_id = '{tenant}'"
            ))
            .await;
        }
        rig.supervisor.halt().await;
        let rig = Rig::start(&target, |db| {
            vec![verifier(
                "verifier",
                db,
                Some(master()),
                Duration::from_secs(60),
            )]
        })
        .await;
        rig.until(|board| {
            let reason = board.component("verifier").and_then(|it| it.reason);
            reason.is_some_and(|it| it.as_str() == "audit_chain_broken")
        })
        .await;
        let found = rig.verified(another_scope().tenant()).await;
        assert_eq!(found.broken.map(|it| it.fault), Some(Fault::Register));
        rig.supervisor.halt().await;
    })
    .await;
}

/// A long chain is verified in parts, each of which goes on where the one before has stopped.
#[actix::test]
async fn a_chain_is_verified_in_parts_and_a_change_in_any_of_them_is_found() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for numbers in [1..700, 700..1400, 1400..2100] {
            rig.enter(&scope(), numbers).await;
            rig.seal().await;
        }
        let parts = async || {
            let (mut parts, mut place) = (Vec::new(), None);
            loop {
                let mut part = rig.verification(scope().tenant()).await.most(1000);
                if let Some(place) = place {
                    part = part.from_place(place);
                }
                let found = part.run(&rig.system(), || {}).await.unwrap();
                parts.push((
                    found.first,
                    found.last,
                    found.broken.as_ref().map(|it| it.number),
                ));
                place = found.further;
                if place.is_none() {
                    return parts;
                }
            }
        };
        let found = parts().await;
        assert!(found.len() >= 3, "{found:?}");
        assert_eq!(found[..2], [(1, 1000, None), (1001, 2000, None)]);
        assert!(found.iter().all(|it| it.2.is_none()), "{found:?}");
        assert_eq!(found.last().map(|it| it.1), Some(2099));
        rig.tamper("UPDATE audit_entry SET actor = 'user:another' WHERE resource_id = '1500'")
            .await;
        let found = parts().await;
        assert_eq!(found.last().unwrap().2, Some(1500), "{found:?}");
        rig.supervisor.halt().await;
    })
    .await;
}
