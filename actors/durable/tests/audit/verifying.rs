//! What was done to the log shows.

use std::time::Duration;

use dotmac_db::types::Moment;
use dotmac_durable::audit::{
    CHECKPOINT_EVERY, Fault, MIN_RETENTION, RETENTION, maintain, seal_some, sealer, status,
    verifier,
};

use crate::rig::{
    Rig, another_scope, give_keys, master, no_keys, on_both, scope, until_sealed, until_signed,
};

const NONE: &str = "DELETE FROM audit_checkpoint";

#[actix::test]
async fn whatever_is_changed_taken_away_or_put_in_breaks_the_chain_there() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let third = "(SELECT entry_id FROM audit_link WHERE number = 3)";
        let changes = [
            (
                format!("UPDATE audit_entry SET actor = 'user:another' WHERE id = {third}"),
                3,
                Fault::Changed,
            ),
            (
                format!("UPDATE audit_entry SET outcome = 'denied' WHERE id = {third}"),
                3,
                Fault::Changed,
            ),
            (
                format!("UPDATE audit_entry SET details = '{{}}' WHERE id = {third}"),
                3,
                Fault::Changed,
            ),
            (
                format!("UPDATE audit_entry SET reason = '' WHERE id = {third}"),
                3,
                Fault::Changed,
            ),
            (
                format!("UPDATE audit_entry SET trace_id = '1' WHERE id = {third}"),
                3,
                Fault::Changed,
            ),
            (
                format!("DELETE FROM audit_entry WHERE id = {third}"),
                3,
                Fault::EntryMissing,
            ),
            (
                "UPDATE audit_search SET actor = 'user:another' WHERE number = 3".to_owned(),
                3,
                Fault::Search,
            ),
            (
                "DELETE FROM audit_search WHERE number = 5".to_owned(),
                5,
                Fault::Search,
            ),
            (
                "DELETE FROM audit_link WHERE number = 3".to_owned(),
                3,
                Fault::LinkMissing,
            ),
            (
                "DELETE FROM audit_link WHERE number = 1".to_owned(),
                1,
                Fault::LinkMissing,
            ),
            (
                "DELETE FROM audit_link WHERE number = 5".to_owned(),
                5,
                Fault::EndMissing,
            ),
            (
                "UPDATE audit_chain SET number = 4".to_owned(),
                4,
                Fault::Checkpoint,
            ),
            (
                "UPDATE audit_chain SET start = 3".to_owned(),
                1,
                Fault::BeginningMissing,
            ),
            // The checkpoint is that of the last link.
            (
                "UPDATE audit_checkpoint SET hash = (SELECT hash FROM audit_link WHERE number = 1)"
                    .to_owned(),
                5,
                Fault::Checkpoint,
            ),
            (
                "UPDATE audit_checkpoint SET signature = NULL, key_id = NULL".to_owned(),
                6,
                Fault::Register,
            ),
            (
                "UPDATE audit_checkpoint SET number = 6".to_owned(),
                6,
                Fault::EndMissing,
            ),
            (
                "UPDATE audit_checkpoint SET at = '2026-01-01 00:00:00.000000'".to_owned(),
                5,
                Fault::Signature,
            ),
            (
                "UPDATE audit_checkpoint SET signature = NULL, key_id = NULL, at = '2020-01-01 00:00:00.000000'"
                    .to_owned(),
                6,
                Fault::Register,
            ),
            (NONE.to_owned(), 6, Fault::Register),
            ("DELETE FROM audit_chain".to_owned(), 6, Fault::Register),
            ("DELETE FROM audit_key".to_owned(), 5, Fault::Signature),
            (
                "UPDATE audit_sealer SET register = NULL".to_owned(),
                6,
                Fault::Register,
            ),
            (
                "UPDATE audit_sealer SET xid = 0, position = 0".to_owned(),
                6,
                Fault::Register,
            ),
        ];
        for (statement, number, fault) in changes {
            for table in ["link", "entry", "chain", "checkpoint", "key"] {
                rig.execute(format!("DELETE FROM audit_{table}")).await;
            }
            rig.execute("UPDATE audit_sealer SET register = NULL".to_owned())
                .await;
            rig.act(&scope(), 1..6).await;
            assert_eq!(rig.seal().await, 5);
            let found = rig.verified(scope().tenant()).await;
            assert_eq!(
                (found.first, found.last, found.signed, found.broken),
                (1, 5, Some(5), None)
            );
            assert_eq!(rig.tamper(&statement).await, 1, "{statement}");
            let found = rig.verified(scope().tenant()).await;
            let broken = found.broken.unwrap();
            assert_eq!(
                (broken.number, broken.fault),
                (number, fault),
                "{statement}"
            );
        }
        rig.supervisor.halt().await;
    })
    .await;
}

const FORGE: [&str; 5] = [
    "DELETE FROM audit_link",
    "DELETE FROM audit_chain",
    NONE,
    "UPDATE audit_entry SET actor = 'user:another'",
    "UPDATE audit_sealer SET xid = 0, position = 0",
];

/// A writer of the whole database, who lacks the master key, changes all of it while the sealer has that key.
#[actix::test]
async fn a_chain_that_is_begun_again_is_not_signed() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..6).await;
        rig.seal().await;
        let before = rig.verified(scope().tenant()).await;
        for statement in FORGE {
            rig.tamper(statement).await;
        }
        let done = seal_some(&rig.system(), Some(&master())).await.unwrap();
        assert!(done.is_register_wrong, "{done:?}");
        assert_eq!((done.entries, done.signed), (5, None));
        let found = rig.verified(scope().tenant()).await;
        assert_eq!(found.broken.unwrap().fault, Fault::Register);
        assert_eq!(found.signed, None);
        assert_ne!(found.hash, before.hash);

        // With the signing key gone as well, the register still names it.
        rig.tamper("DELETE FROM audit_key").await;
        rig.tamper("UPDATE audit_chain SET checked_at = '2026-01-01 00:00:00.000000'")
            .await;
        let done = seal_some(&rig.system(), Some(&master())).await.unwrap();
        assert!(done.is_register_wrong, "{done:?}");
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM audit_key").await,
            0
        );

        // What is remembered, or was handed out, misses it.
        let verification = rig.verification(scope().tenant()).await;
        let verification = verification.known(Some((before.last, before.hash)));
        let found = verification.run(&rig.system(), || {}).await.unwrap();
        assert_eq!(found.broken.unwrap().fault, Fault::Checkpoint);
        rig.supervisor.halt().await;
    })
    .await;
}

/// The same while the workers of a program run, and are started again.
#[actix::test]
async fn a_running_sealer_signs_no_forged_history() {
    on_both(async |target| {
        let workers = |db: &dotmac_db::ModuleDb| {
            vec![
                sealer("sealer", db, Some(master())),
                verifier("verifier", db, Some(master()), Duration::from_millis(50)),
            ]
        };
        let is_broken = |name: &'static str| {
            move |board: &dotmac_supervision::Board| {
                let reason = board.component(name).and_then(|it| it.reason);
                reason.is_some_and(|it| it.as_str() == "audit_chain_broken")
            }
        };
        let rig = Rig::start(&target, workers).await;
        rig.act(&scope(), 1..6).await;
        until_signed(&rig, 1).await;
        for statement in FORGE {
            rig.tamper(statement).await;
        }
        rig.until(is_broken("sealer")).await;
        rig.supervisor.halt().await;

        let rig = Rig::start(&target, workers).await;
        rig.until(is_broken("verifier")).await;
        let found = rig.verified(scope().tenant()).await;
        assert_eq!(
            (found.signed, found.broken.map(|it| it.fault)),
            (None, Some(Fault::Register))
        );
        rig.supervisor.halt().await;
    })
    .await;
}

/// What is behind the last signature is computed again before it is signed, and one chain that is broken is none of the
/// others.
#[actix::test]
async fn what_was_changed_before_it_was_signed_is_not_signed() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..3).await;
        rig.act(&another_scope(), 3..5).await;
        rig.seal().await;
        rig.act(&scope(), 5..8).await;
        rig.act(&another_scope(), 8..9).await;
        rig.seal().await;
        rig.tamper("UPDATE audit_entry SET actor = 'user:another' WHERE resource_id = '6'")
            .await;
        rig.tamper("UPDATE audit_chain SET checked_at = '2026-01-01 00:00:00.000000'")
            .await;
        let done = seal_some(&rig.system(), Some(&master())).await.unwrap();
        let broken: Vec<_> = done
            .broken
            .iter()
            .map(|(tenant, it)| (*tenant, it.number, it.fault))
            .collect();
        assert_eq!(broken, [(scope().tenant(), 4, Fault::Changed)]);
        assert_eq!(done.signed, Some(Ok(())));
        let found = rig.verified(scope().tenant()).await;
        assert_eq!(
            (found.signed, found.broken.map(|it| it.fault)),
            (Some(2), Some(Fault::Changed))
        );
        let found = rig.verified(another_scope().tenant()).await;
        assert_eq!((found.signed, found.broken), (Some(3), None));
        rig.supervisor.halt().await;
    })
    .await;
}

/// Entries that the sealer passes over are missed.
#[actix::test]
async fn a_sealer_that_is_set_ahead_reports_it_and_skipped_entries_are_found() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..3).await;
        rig.seal().await;
        rig.tamper("UPDATE audit_sealer SET xid = xid + 1000000, position = position + 1000000")
            .await;
        rig.act(&scope(), 3..5).await;
        let done = seal_some(&rig.system(), Some(&master())).await.unwrap();
        assert_eq!((done.entries, done.is_ahead), (0, true));
        let waiting = rig.system().read("measure", async |c| status(c).await);
        assert_eq!(waiting.await.unwrap().waiting, 2);
        let found = rig.verified(scope().tenant()).await;
        let broken = found.broken.unwrap();
        assert_eq!((broken.number, broken.fault), (3, Fault::EntryNotLinked));
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn without_a_master_key_checkpoints_are_not_signed_and_with_one_they_must_be() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..3).await;
        let done = seal_some(&rig.system(), None).await.unwrap();
        assert_eq!((done.entries, done.signed), (2, Some(Ok(()))));
        let found = rig.verified(scope().tenant()).await;
        assert_eq!((found.last, found.signed, found.broken), (2, None, None));
        // Another tenant's is the first that is signed.
        rig.act(&another_scope(), 3..4).await;
        rig.seal().await;
        assert_eq!(rig.verified(another_scope().tenant()).await.signed, Some(1));
        assert_eq!(rig.verified(scope().tenant()).await.broken, None);
        // An instance without the key makes no more checkpoints.
        rig.tamper("UPDATE audit_chain SET checked_at = '2026-01-01 00:00:00.000000'")
            .await;
        rig.act(&scope(), 4..5).await;
        let done = seal_some(&rig.system(), None).await.unwrap();
        assert!(matches!(done.signed, Some(Err(_))), "{done:?}");
        let without = rig.keys(None).await;
        let verification =
            dotmac_durable::audit::Verification::new(another_scope().tenant(), without);
        let found = verification.run(&rig.system(), || {}).await.unwrap();
        assert!(found.is_unchecked && found.broken.is_none(), "{found:?}");
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM audit_checkpoint")
                .await,
            2
        );
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_verifier_that_gets_its_key_after_its_start_verifies_again_soon() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..3).await;
        rig.seal().await;
        let keys = no_keys();
        let life = Rig::start(&target, |db| {
            let once = Duration::from_secs(3600);
            vec![verifier("verifier", db, Some(keys.clone()), once)]
        })
        .await;
        let reason = |board: &dotmac_supervision::Board| {
            let verifier = board.component("verifier").and_then(|it| it.reason);
            verifier.map(|it| it.as_str())
        };
        life.until(|board| reason(board) == Some("audit_not_signed"))
            .await;
        give_keys(&keys);
        life.until(|board| reason(board).is_none()).await;
        life.supervisor.halt().await;
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_part_is_verified_by_its_time() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        // SQLite's clock counts milliseconds, and this one microseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let between = Moment::now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        rig.act(&scope(), 4..6).await;
        rig.seal().await;
        let part = async |from, to| {
            let verification = rig.verification(scope().tenant()).await.between(from, to);
            let found = verification.run(&rig.system(), || {}).await.unwrap();
            assert_eq!(found.broken, None);
            (found.first, found.last)
        };
        assert_eq!(part(Some(between), None).await, (4, 5));
        assert_eq!(part(None, Some(between)).await, (1, 3));
        assert_eq!(part(None, None).await, (1, 5));
        let (from, to) = part(Some(Moment::now() + CHECKPOINT_EVERY), None).await;
        assert!(to < from, "nothing");
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn what_is_old_is_taken_away_up_to_a_checkpoint_and_the_rest_is_still_right() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        rig.seal().await;
        rig.act(&scope(), 4..6).await;
        rig.seal().await;
        assert_eq!(
            maintain(&rig.system(), Moment::now(), RETENTION)
                .await
                .unwrap(),
            0
        );
        // At least 90 days, even if less is configured.
        let soon = Moment::now() + MIN_RETENTION - Duration::from_secs(3600);
        assert_eq!(
            maintain(&rig.system(), soon, Duration::ZERO).await.unwrap(),
            0
        );
        let later = Moment::now() + RETENTION + Duration::from_secs(3600);
        assert_eq!(maintain(&rig.system(), later, RETENTION).await.unwrap(), 3);
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM audit_entry")
                .await,
            2
        );
        let verification = rig.verification(scope().tenant()).await;
        let found = verification
            .clone()
            .at(later)
            .run(&rig.system(), || {})
            .await
            .unwrap();
        assert_eq!((found.first, found.last, found.broken), (4, 5, None));
        // As of now they were taken away too early, and not by retention.
        let found = verification.run(&rig.system(), || {}).await.unwrap();
        assert_eq!(found.broken.unwrap().fault, Fault::BeginningMissing);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn two_instances_make_one_chain_without_a_fork_within_a_second_or_so() {
    on_both(async |target| {
        let workers = |db: &dotmac_db::ModuleDb| {
            vec![
                sealer("sealer", db, Some(master())),
                verifier("verifier", db, Some(master()), Duration::from_millis(50)),
            ]
        };
        let one = Rig::start(&target, workers).await;
        let other = Rig::start(&target, workers).await;
        let (first, second) = (scope(), scope());
        futures_util::join!(one.act(&first, 0..60), other.act(&second, 60..120));
        until_sealed(&one, 120).await;
        let sql = "SELECT count(DISTINCT number) AS number FROM audit_link";
        assert_eq!(other.number(sql).await, 120);
        for rig in [&one, &other] {
            rig.until(|board| {
                board
                    .component("verifier")
                    .is_some_and(|it| it.reason.is_none())
            })
            .await;
        }
        one.tamper("DELETE FROM audit_entry WHERE resource_id = '60'")
            .await;
        for rig in [&one, &other] {
            let is_broken = |board: &dotmac_supervision::Board| {
                let verifier = board.component("verifier").and_then(|it| it.reason);
                verifier.is_some_and(|it| it.as_str() == "audit_chain_broken")
            };
            rig.until(is_broken).await;
            rig.supervisor.halt().await;
        }
    })
    .await;
}
