//! Idempotency keys on both back ends: one claim at a time, and an answer together with its effect.

use std::time::Duration;

use dotmac_platform::db::{
    Db, DbError, TenantDb, TenantId, TenantScope, Tx,
    idempotency::{Claim, Claimed, KeptAnswer, KeyedRequest, claim, delete_expired},
};

use crate::rig::{Rig, count, insert, on_both};

const LEASE: Duration = Duration::from_secs(60);

fn request(key: &str) -> KeyedRequest {
    KeyedRequest {
        route: "POST /api/v1/things".to_owned(),
        key: key.to_owned(),
        fingerprint: vec![7; 32],
    }
}

fn answer() -> KeptAnswer {
    KeptAnswer {
        status: Some(201),
        location: Some("/api/v1/things/1".to_owned()),
        etag: Some("\"1\"".to_owned()),
        body: Some(b"{}".to_vec()),
    }
}

fn tenant(rig: &Rig) -> TenantDb {
    rig.db
        .tenant(&TenantScope::system(TenantId::new(), "a test"))
}

async fn mine(db: &TenantDb, key: &str, lease: Duration) -> Claim {
    match claim(db, request(key), lease).await.unwrap() {
        Claimed::Mine(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// Inserts row `id` and keeps the answer, in one transaction.
async fn carry_out(db: &TenantDb, claim: &Claim, id: i64) -> Result<(), DbError> {
    let claim = claim.clone();
    db.transaction("carry out", async move |tx| {
        insert(tx, id).await?;
        tx.before_commit("idempotency", async move |tx: &mut Tx| {
            claim.keep(tx, answer()).await
        });
        Ok(())
    })
    .await
}

async fn expire(db: &Db) -> usize {
    db.transaction("expire", async |tx| delete_expired(tx, 2).await)
        .await
        .unwrap()
}

#[actix_web::test]
async fn a_key_is_claimed_once_and_then_has_its_answer() {
    on_both(
        |_| {},
        async |rig| {
            let db = tenant(rig);
            let held = mine(&db, "a", LEASE).await;
            let again = claim(&db, request("a"), LEASE).await.unwrap();
            assert!(matches!(again, Claimed::InProgress), "{again:?}");
            let other = KeyedRequest {
                fingerprint: vec![8; 32],
                ..request("a")
            };
            let mismatch = claim(&db, other.clone(), LEASE).await.unwrap();
            assert!(matches!(mismatch, Claimed::Mismatch), "{mismatch:?}");

            carry_out(&db, &held, 1).await.unwrap();
            held.release(&db).await.unwrap();
            let repeat = claim(&db, request("a"), LEASE).await.unwrap();
            assert!(
                matches!(&repeat, Claimed::Answered(kept) if *kept == answer()),
                "{repeat:?}"
            );
            let mismatch = claim(&db, other, LEASE).await.unwrap();
            assert!(matches!(mismatch, Claimed::Mismatch), "{mismatch:?}");
            // Neither another tenant's key nor that of another route is this one.
            mine(&tenant(rig), "a", LEASE).await;
            let elsewhere = KeyedRequest {
                route: "POST /api/v1/others".to_owned(),
                ..request("a")
            };
            let elsewhere = claim(&db, elsewhere, LEASE).await.unwrap();
            assert!(matches!(elsewhere, Claimed::Mine(_)), "{elsewhere:?}");
        },
    )
    .await;
}

#[actix_web::test]
async fn a_claim_that_was_released_or_has_ended_is_free_and_its_late_holder_changes_nothing() {
    on_both(
        |_| {},
        async |rig| {
            let db = tenant(rig);
            let failed = mine(&db, "released", LEASE).await;
            failed.release(&db).await.unwrap();
            mine(&db, "released", LEASE).await;

            let late = mine(&db, "ended", Duration::ZERO).await;
            let successor = mine(&db, "ended", LEASE).await;
            let refused = carry_out(&db, &late, 1).await.unwrap_err();
            assert!(matches!(refused, DbError::Conflict(_)), "{refused:?}");
            late.release(&db).await.unwrap();
            assert_eq!(count(&rig.db).await, 0, "its effect is rolled back");
            carry_out(&db, &successor, 2).await.unwrap();
            let repeat = claim(&db, request("ended"), LEASE).await.unwrap();
            assert!(matches!(repeat, Claimed::Answered(_)), "{repeat:?}");
            assert_eq!(count(&rig.db).await, 1);
        },
    )
    .await;
}

#[actix_web::test]
async fn of_many_requests_at_once_one_gets_the_claim() {
    on_both(
        |config| config.pool_timeout = Duration::from_secs(60),
        async |rig| {
            let db = tenant(rig);
            let claims = (0..20).map(|_| claim(&db, request("a"), LEASE));
            let claimed = futures_util::future::try_join_all(claims).await.unwrap();
            let is_mine = |it: &&Claimed| matches!(it, Claimed::Mine(_));
            assert_eq!(claimed.iter().filter(is_mine).count(), 1, "{claimed:?}");
        },
    )
    .await;
}

#[actix_web::test]
async fn an_effect_that_is_rolled_back_leaves_no_answer() {
    on_both(
        |_| {},
        async |rig| {
            let db = tenant(rig);
            let held = mine(&db, "a", LEASE).await;
            carry_out(&db, &held, 1).await.unwrap();
            let other = mine(&db, "b", LEASE).await;
            // The same row again: the transaction fails as a whole.
            carry_out(&db, &other, 1).await.unwrap_err();
            let again = claim(&db, request("b"), LEASE).await.unwrap();
            assert!(matches!(again, Claimed::InProgress), "{again:?}");
        },
    )
    .await;
}

#[actix_web::test]
async fn expired_keys_are_deleted_a_batch_at_a_time_and_others_stay() {
    on_both(
        |_| {},
        async |rig| {
            let db = tenant(rig);
            for key in ["a", "b", "c"] {
                mine(&db, key, LEASE).await;
            }
            assert_eq!(expire(&rig.db).await, 0);
            rig.run("UPDATE idempotency_key SET expires_at = '2020-01-01 00:00:00.000000'")
                .await;
            mine(&db, "c", LEASE).await;
            mine(&db, "d", LEASE).await;
            assert_eq!((expire(&rig.db).await, expire(&rig.db).await), (2, 0));
        },
    )
    .await;
}
