//! A verifier goes on where its last life was, and no further than that is to be believed.

use std::time::Duration;

use dotmac_db::{ModuleDb, TenantId, types::Moment};
use dotmac_durable::audit::{SYSTEM, verifier};
use dotmac_supervision::{Board, WorkerSpec};
use serde_json::json;

use crate::{
    rig::{Rig, another_scope, master, on_both, scope},
    support::eventually,
};

const KEPT: &str = "SELECT count(*) AS number FROM audit_verifier";

/// Within the chain of [`another_scope`], and signed.
const BEHIND: &str = "SELECT count(*) AS number FROM audit_verifier WHERE signature IS NOT NULL \
     AND place LIKE '%00000000-0000-0000-0000-000000000002%'";

/// A verifier that makes one round.
fn once(db: &ModuleDb) -> Vec<WorkerSpec> {
    vec![verifier(
        "verifier",
        db,
        Some(master()),
        Duration::from_secs(3600),
    )]
}

/// The same without a master key.
fn once_unsigned(db: &ModuleDb) -> Vec<WorkerSpec> {
    vec![verifier("verifier", db, None, Duration::from_secs(3600))]
}

async fn until_round_done(rig: &Rig) {
    rig.until(|board| {
        board
            .component("verifier")
            .is_some_and(|it| it.state.serves())
    })
    .await;
    until_taken_back(rig).await;
}

async fn until_taken_back(rig: &Rig) {
    eventually("the place to be taken back", || async {
        (rig.number(KEPT).await == 0).then_some(())
    })
    .await;
}

fn is_broken(board: &Board) -> bool {
    let found = board.component("verifier").and_then(|it| it.reason);
    found.is_some_and(|it| it.as_str() == "audit_chain_broken")
}

/// Says, as the verifier does without a key, that the chains up to that of a tenant are verified.
async fn pretend(rig: &Rig, tenant: TenantId, at: Moment) {
    let place = json!({
        "verifier": "verifier",
        "at": at,
        "progress": { "tenant": tenant, "place": null },
    });
    let sql = format!("INSERT INTO audit_verifier (name, place) VALUES ('verifier', '{place}')");
    rig.execute("DELETE FROM audit_verifier".to_owned()).await;
    rig.execute(sql).await;
}

#[actix::test]
async fn a_round_that_a_stop_interrupts_goes_on_in_the_next_life_and_the_one_after_begins_again() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        rig.enter(&another_scope(), 0..12_000).await;
        rig.seal().await;
        // It is stopped in the middle: sooner, if it was done.
        let mut time = Duration::from_millis(400);
        loop {
            let life = Rig::start(&target, once).await;
            tokio::time::sleep(time).await;
            life.supervisor.halt().await;
            if rig.number(KEPT).await == 1 {
                break;
            }
            time /= 2;
            assert!(time > Duration::from_millis(1), "it is never interrupted");
        }
        // The first chain is behind it, unless it was stopped at once.
        let is_behind = rig.number(BEHIND).await == 1;
        let first = scope().tenant();
        let change = format!("UPDATE audit_entry SET actor = 'user:another' WHERE resource_id = '2' AND tenant_id = '{first}'");
        assert_eq!(rig.tamper(&change).await, 1);
        if is_behind {
            let life = Rig::start(&target, once).await;
            until_round_done(&life).await;
            assert!(!is_broken(&life.supervisor.board()));
            life.supervisor.halt().await;
        }
        let life = Rig::start(&target, once).await;
        life.until(is_broken).await;
        until_taken_back(&rig).await;
        life.supervisor.halt().await;
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_place_is_believed_only_if_it_is_signed_where_there_is_a_key_and_not_old() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        let now = Moment::now();
        // Nothing is signed yet, and so is no place.
        pretend(&rig, another_scope().tenant(), now).await;
        dotmac_durable::audit::seal_some(&rig.system(), None)
            .await
            .unwrap();
        rig.tamper("UPDATE audit_entry SET actor = 'user:another' WHERE resource_id = '2'")
            .await;
        let life = Rig::start(&target, once_unsigned).await;
        until_round_done(&life).await;
        assert!(!is_broken(&life.supervisor.board()));
        life.supervisor.halt().await;
        // Behind the first chain, but too old, or to come.
        let day = Duration::from_secs(25 * 60 * 60);
        for at in [now - day, now + day] {
            pretend(&rig, another_scope().tenant(), at).await;
            let life = Rig::start(&target, once_unsigned).await;
            life.until(is_broken).await;
            life.supervisor.halt().await;
        }
        // There is a key now.
        rig.act(&another_scope(), 5..6).await;
        rig.seal().await;
        pretend(&rig, another_scope().tenant(), now).await;
        let life = Rig::start(&target, once).await;
        life.until(is_broken).await;
        life.supervisor.halt().await;
        // The system's chain is the first.
        assert!(SYSTEM < scope().tenant());
        rig.supervisor.halt().await;
    })
    .await;
}
