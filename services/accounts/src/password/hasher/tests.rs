//! The queue as sign-ins meet it.

use std::{net::Ipv4Addr, sync::mpsc};

use super::{queue::MOST_WAITING, *};

fn hasher() -> Hasher {
    Hasher::new(
        HashParams { m: 64, t: 2, p: 1 },
        Peppers::fixed(None),
        None,
        1,
    )
}

#[tokio::test]
async fn right_wrong_and_unknown_passwords_differ_only_by_the_answer() {
    let hasher = hasher();
    let asker = Asker::default();
    let stored = hasher.hash(asker, "a".into()).await.expect("hashed");
    let verify = |password: &str, stored| hasher.verify(asker, password.into(), stored);
    assert_eq!(
        verify("a", Some(stored.clone())).await.expect("checked"),
        Verdict::Right
    );
    assert_eq!(
        verify("b", Some(stored)).await.expect("checked"),
        Verdict::Wrong
    );
    assert_eq!(verify("a", None).await.expect("checked"), Verdict::Wrong);
}

#[tokio::test]
async fn a_full_queue_is_busy_and_one_network_does_not_fill_it() {
    let hasher = hasher();
    let (go, gone) = mpsc::channel::<()>();
    let (begun, beginning) = oneshot::channel();
    let holder = hasher.clone();
    let held = tokio::spawn(async move {
        let hold = move || {
            begun.send(()).ok();
            gone.recv().ok();
        };
        holder.check(Asker::default(), hold).await
    });
    beginning.await.expect("begun");

    let asker = |last| Asker {
        network: Some(Ipv4Addr::new(192, 0, 2, last).into()),
        is_known: false,
    };
    let waiting = |asker| {
        let hasher = hasher.clone();
        let mut check = Box::pin(async move { hasher.check(asker, || ()).await });
        // Polled once, so that it stands in the queue.
        let polled = futures_util::FutureExt::now_or_never(&mut check);
        (polled.is_some(), check)
    };
    let first: Vec<_> = (0..2).map(|_| waiting(asker(1))).collect();
    assert!(first.iter().all(|(is_refused, _)| !is_refused));
    assert!(waiting(asker(1)).0, "a third of one network");
    let known = Asker {
        is_known: true,
        ..asker(1)
    };
    assert!(!waiting(known).0, "a known device of that network");
    let others: Vec<_> = (2..200).map(|last| waiting(asker(last))).collect();
    let refused = others.iter().filter(|(is_refused, _)| *is_refused).count();
    assert_eq!(others.len() - refused, MOST_WAITING - 3);
    // Full of strangers, it takes known devices in their place, and the first of them goes first.
    let known: Vec<_> = (0..3).map(|_| waiting(known)).collect();
    assert!(known.iter().all(|(is_refused, _)| !is_refused));
    {
        let waits = hasher.0.queue();
        assert_eq!((waits.len(), waits.known.len()), (MOST_WAITING, 4));
        assert!(waits.known.iter().is_sorted_by_key(|job| job.since));
    }
    go.send(()).expect("it waits");
    held.await.expect("joined").expect("done");
}

#[test]
fn known_jobs_go_first_but_every_fourth_is_one_of_the_others() {
    let job = |last| Job {
        network: Some(Ipv4Addr::new(192, 0, 2, last).into()),
        since: Instant::now(),
        run: Box::new(|_| ()),
    };
    let mut queue = Queue::default();
    for last in 1..=7 {
        assert!(queue.push(job(last), true));
    }
    for last in 101..=103 {
        assert!(queue.push(job(last), false));
    }
    let taken: Vec<_> = std::iter::from_fn(|| queue.pop())
        .filter_map(|job| job.network)
        .collect();
    let expected = [1, 2, 3, 101, 4, 5, 6, 102, 7, 103];
    let expected: [IpAddr; 10] = expected.map(|last| Ipv4Addr::new(192, 0, 2, last).into());
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn a_job_that_has_waited_too_long_is_not_begun_and_others_are_at_low_priority() {
    let hasher = hasher();
    let Some(since) = Instant::now().checked_sub(LONGEST_WAIT + Duration::from_secs(1)) else {
        return; // the machine has just started
    };
    let (begun, beginning) = oneshot::channel();
    let late = Job {
        network: None,
        since,
        run: Box::new(move |_| {
            begun.send(()).ok();
        }),
    };
    hasher.0.add(late, true).expect("room");
    hasher.start_thread();
    assert!(beginning.await.is_err(), "it was begun");
    let niceness = || rustix::process::nice(0).expect("its own");
    let of_thread = hasher.check(Asker::default(), niceness).await;
    let expected = (niceness() + NICENESS).min(19);
    assert_eq!(of_thread.expect("done"), expected);
}

/// Waits for all threads to have ended.
async fn until_no_thread(hasher: &Hasher) {
    let began = Instant::now();
    while hasher.0.queue().threads > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "threads stay");
        tokio::time::sleep(IDLE).await;
    }
}

#[tokio::test]
async fn a_thread_ends_without_work_or_by_a_panic_and_the_next_job_has_another() {
    let hasher = hasher();
    let work = async || hasher.check(Asker::default(), || 1).await;
    assert_eq!(work().await.expect("done"), 1);
    assert_eq!(hasher.0.queue().threads, 1);
    until_no_thread(&hasher).await;
    let panicked = hasher.check(Asker::default(), || panic!("on purpose"));
    assert!(matches!(panicked.await, Err(AccountsError::Busy)));
    until_no_thread(&hasher).await;
    assert_eq!(work().await.expect("done"), 1);
}

#[test]
fn a_signed_in_caller_has_two_places() {
    let hasher = hasher();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let first = hasher.place_of(one);
    let second = hasher.place_of(one);
    assert!(first.is_ok() && second.is_ok() && hasher.place_of(one).is_err());
    assert!(hasher.place_of(other).is_ok());
    drop(first);
    assert!(hasher.place_of(one).is_ok());
}
