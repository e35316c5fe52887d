//! Leases of instances: one holder at a time, and what is due is done once.

use std::{collections::BTreeSet, time::Duration};

use dotmac_platform::db::{Db, Held, Lease};
use futures_util::future::join_all;

use crate::rig::on_both;

const NAME: &str = "sweep";
const LONG: Duration = Duration::from_secs(60);

fn lease(db: &Db, holder: &str, ttl: Duration) -> Lease {
    Lease::new(db.clone(), NAME, holder, ttl)
}

#[actix_web::test]
async fn of_many_that_want_a_lease_one_gets_it() {
    on_both(
        |_| {},
        async |rig| {
            let leases: Vec<_> = (0..20)
                .map(|holder| lease(&rig.db, &holder.to_string(), LONG))
                .collect();
            let taken = join_all(leases.iter().map(Lease::take)).await;
            let held: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
            assert_eq!(held, [Held { fence: 1 }]);
        },
    )
    .await;
}

#[actix_web::test]
async fn a_lease_that_expired_changes_hands_and_its_fence_grows() {
    on_both(
        |_| {},
        async |rig| {
            let (first, second) = (
                lease(&rig.db, "first", Duration::from_millis(300)),
                lease(&rig.db, "second", LONG),
            );
            let held = first.take().await.unwrap().unwrap();
            assert_eq!(second.take().await.unwrap(), None);
            assert_eq!(first.take().await.unwrap(), Some(held), "kept");
            let taken = crate::support::eventually("the end of the lease", || async {
                second.take().await.unwrap()
            })
            .await;
            assert_eq!(taken, Held { fence: 2 });
            assert_eq!(first.take().await.unwrap(), None);
            // It does not know yet that it has lost the lease.
            first.give_back(held, None).await.unwrap();
            assert_eq!(first.take().await.unwrap(), None, "the successor keeps it");
        },
    )
    .await;
}

#[actix_web::test]
async fn what_is_due_is_done_by_one_and_then_not_before_its_time() {
    on_both(
        |_| {},
        async |rig| {
            let (first, second) = (
                lease(&rig.db, "first", LONG),
                lease(&rig.db, "second", LONG),
            );
            let held = first.take_if_due().await.unwrap().unwrap();
            assert_eq!(second.take_if_due().await.unwrap(), None, "it is held");
            first
                .give_back(held, Some(Duration::from_millis(800)))
                .await
                .unwrap();
            let now = [first.take_if_due().await, second.take_if_due().await];
            assert!(
                now.iter().all(|taken| taken.as_ref().unwrap().is_none()),
                "not due: {now:?}"
            );
            let asked = second.take().await.unwrap();
            assert_eq!(
                asked,
                Some(Held { fence: 2 }),
                "asked for, it does not matter"
            );
            second.give_back(Held { fence: 2 }, None).await.unwrap();
            let due = crate::support::eventually("the next time", || async {
                first.take_if_due().await.unwrap()
            })
            .await;
            assert_eq!(due, Held { fence: 3 });
        },
    )
    .await;
}

/// A holder's row can carry the fence: that of a former holder is smaller.
#[actix_web::test]
async fn fences_only_grow() {
    on_both(
        |_| {},
        async |rig| {
            let mut fences = BTreeSet::new();
            for holder in ["a", "b", "a", "c", "b"] {
                let lease = lease(&rig.db, holder, LONG);
                let held = lease.take().await.unwrap().unwrap();
                assert!(fences.iter().all(|former| *former < held.fence));
                fences.insert(held.fence);
                lease.give_back(held, None).await.unwrap();
            }
            assert_eq!(fences.len(), 5);
        },
    )
    .await;
}
