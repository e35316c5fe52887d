//! What workers share are threads: one that blocks its own holds up no other, and idle ones need none.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
};

use dotmac_supervision::{
    Cause, ChildSpec, Exhausted, Policy, Published, Reason, Schedule, Serving, State,
    SupervisionTree, WorkerContext, WorkerSpec,
};

use super::*;
use crate::support::*;

/// A worker whose first life blocks its thread until the sender is dropped.
fn blocks_once(name: &'static str) -> (WorkerSpec, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let spec = WorkerSpec::new(name, HOURLY, move |context: WorkerContext| {
        let held = Arc::clone(&held);
        async move {
            tokio::time::sleep(ms(20)).await;
            if context.lifeline().generation() == 1 {
                held.lock().unwrap().recv().ok();
            }
            Ok::<_, Infallible>(())
        }
    });
    (spec, release)
}

/// A worker that counts how often it was woken by a timer.
fn ticks(name: &'static str) -> (WorkerSpec, Arc<AtomicU64>) {
    let ticks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ticks);
    let spec = WorkerSpec::new(name, Schedule::Continuous, move |context: WorkerContext| {
        let count = Arc::clone(&count);
        async move {
            while !context.is_stopping() {
                tokio::time::sleep(ms(5)).await;
                count.fetch_add(1, SeqCst);
            }
            Ok::<_, Infallible>(())
        }
    });
    (spec, ticks)
}

#[test]
fn a_worker_that_blocks_its_thread_is_named_and_replaced_and_the_others_go_on() {
    run(async {
        // More than there are threads, so that nothing is left for the others but new ones.
        let names = ["blocks 1", "blocks 2", "blocks 3", "blocks 4", "blocks 5"];
        let policy = Policy {
            hang_after: ms(1500),
            ..impatient()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let (mut blockers, mut releases) = (Vec::new(), Vec::new());
        for name in names {
            let (spec, release) = blocks_once(name);
            blockers.push(
                tree.add_worker(spec.when_exhausted(Exhausted::Fail))
                    .unwrap(),
            );
            releases.push(release);
        }
        let (spec, ticks) = ticks("ticks");
        let ticking = tree.add_worker(spec).unwrap();
        let supervisor = tree.start();
        let blocked = || {
            let held = blockers.iter().map(|it| it.vitals().heartbeat_age);
            held.flatten().filter(|held| *held >= ms(300)).count()
        };
        until("all to block", || blocked() == names.len()).await;
        let before = ticks.load(SeqCst);
        until("the others to go on", || ticks.load(SeqCst) >= before + 20).await;
        // While all of them are still blocked, and before any has been given up.
        assert_eq!(blocked(), names.len());
        assert_eq!(supervisor.board().leaked_threads, 0);

        for (name, blocker) in names.iter().zip(&blockers) {
            in_life(&supervisor, name, 2).await;
            assert_eq!((count(blocker, Cause::Hang), all_restarts(blocker)), (1, 1));
            assert!(logged(&[&format!(
                "restarting worker `{name}`: it has blocked its thread for"
            )]));
            assert!(logged(&[
                "ERROR",
                &format!("gave up a thread of worker `{name}`")
            ]));
        }
        let lost = |board: &Board| board.leaked_threads == names.len();
        board(&supervisor, "their threads given up", lost).await;
        assert_eq!(all_restarts(&ticking), 0, "the others were not disturbed");
        drop(releases);
        board(&supervisor, "the threads reaped", |board| {
            board.leaked_threads == 0
        })
        .await;
        assert_eq!(generation(&supervisor, "blocks 1"), 2);
        let before = ticks.load(SeqCst);
        until("all to be as ever", || ticks.load(SeqCst) >= before + 20).await;
        supervisor.halt().await;
    });
}

#[test]
fn what_a_blocked_worker_says_when_it_wakes_up_is_not_heard() {
    run(async {
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (slot, woke) = (Published::<u64>::new(), Arc::new(AtomicBool::new(false)));
        let (offered, awake) = (slot.clone(), Arc::clone(&woke));
        let spec = WorkerSpec::new(
            "late",
            Schedule::Continuous,
            move |context: WorkerContext| {
                let (held, offered, awake) =
                    (Arc::clone(&held), offered.clone(), Arc::clone(&awake));
                async move {
                    let life = context.lifeline().clone();
                    life.publish(&offered, Arc::new(life.generation()));
                    if life.generation() == 1 {
                        held.lock().unwrap().recv().ok();
                        assert!(!life.is_current() && context.is_stopping());
                        life.publish(&offered, Arc::new(99));
                        life.degraded(Reason::UNREACHABLE, Serving::default());
                        awake.store(true, SeqCst);
                        // It does not come back from here.
                        tokio::time::sleep(ms(1)).await;
                        unreachable!("a life that is over goes on");
                    }
                    context.stopping().await;
                    Ok::<_, Infallible>(())
                }
            },
        );
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        let late = tree.add_worker(spec.publishes(&slot)).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "late", 2).await;
        assert_eq!(slot.get().as_deref(), Some(&2));
        drop(release);
        until("it to wake up", || woke.load(SeqCst)).await;
        board(&supervisor, "the thread reaped", |board| {
            board.leaked_threads == 0
        })
        .await;
        assert_eq!(slot.get().as_deref(), Some(&2));
        let component = supervisor.board().component("late").unwrap().clone();
        assert_eq!((component.state, component.generation), (State::Ready, 2));
        assert_eq!((count(&late, Cause::Hang), all_restarts(&late)), (1, 1));
        supervisor.halt().await;
    });
}

#[test]
fn a_worker_that_blocks_in_each_life_fails_alone() {
    run(async {
        let policy = Policy {
            max_leaked_threads: 1,
            ..impatient()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let spec = WorkerSpec::new("stuck", HOURLY, move |_| {
            let held = Arc::clone(&held);
            async move {
                held.lock().unwrap().recv().ok();
                Ok::<_, Infallible>(())
            }
        });
        tree.add_worker(spec.when_exhausted(Exhausted::Fail))
            .unwrap();
        let (spec, ticks) = ticks("ticks");
        tree.add_worker(spec.required()).unwrap();
        let supervisor = tree.start();
        let board = board(&supervisor, "failed", is("stuck", State::Failed)).await;
        assert_eq!(board.component("stuck").unwrap().reason, Some(Reason::HUNG));
        assert_eq!(board.leaked_threads, 2);
        let before = ticks.load(SeqCst);
        until("the other to go on", || ticks.load(SeqCst) >= before + 20).await;
        drop(release);
        supervisor.halt().await;
    });
}

#[test]
fn a_stall_of_the_supervisor_counts_against_no_worker() {
    run(async {
        let spec = WorkerSpec::new("slow", HOURLY, |_| async {
            tokio::time::sleep(ms(1500)).await;
            Ok::<_, Infallible>(())
        });
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        let spec = spec.run_limit(ms(1800)).progress_within(ms(1800));
        let slow = tree.add_worker(spec).unwrap();
        let supervisor = tree.start();
        ready(&supervisor).await;
        // This thread is the supervisor's: by its clock, the run is far beyond its limits when it is over.
        block(ms(3000));
        until("the run", || runs(&slow) == 1).await;
        assert_eq!(all_restarts(&slow), 0);
        supervisor.halt().await;
    });
}

/// Threads by name, and how often they gave up their processor by themselves: once for each time that
/// they were woken.
fn threads() -> BTreeMap<String, (String, u64)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let read = |task: fs::DirEntry| {
        let of = |file| fs::read_to_string(task.path().join(file)).ok();
        let switches = of("status")?.lines().find_map(|line| {
            line.strip_prefix("voluntary_ctxt_switches:")?
                .trim()
                .parse()
                .ok()
        })?;
        let id = task.file_name().into_string().ok()?;
        Some((id, (of("comm")?.trim().to_owned(), switches)))
    };
    tasks.filter_map(|task| read(task.ok()?)).collect()
}

fn of_workers() -> BTreeMap<String, u64> {
    let named = threads()
        .into_iter()
        .filter(|(_, (name, _))| name == "dotmac-workers");
    named.map(|(id, (_, switches))| (id, switches)).collect()
}

#[test]
fn thirty_idle_workers_share_four_threads_and_wake_none() {
    if in_own_process("workers::threads::thirty_idle_workers_share_four_threads_and_wake_none")
        .is_some()
    {
        return;
    }
    run(async {
        // As the daemon has it: a heartbeat a second.
        let mut tree = SupervisionTree::new(Policy::default()).unwrap();
        // One that needs no thread of theirs, so that the rest of the process is the same before.
        tree.add(ChildSpec::new("core", Probe::new).required())
            .unwrap();
        let names: Vec<&'static str> = (0..30).map(|n| &*format!("worker {n}").leak()).collect();
        for (n, name) in names.iter().enumerate() {
            let spec = match n % 2 {
                0 => WorkerSpec::new(name, HOURLY, |_| async { Ok::<_, Infallible>(()) }),
                _ => WorkerSpec::new(
                    name,
                    Schedule::Continuous,
                    |context: WorkerContext| async move {
                        context.stopping().await;
                        Ok::<_, Infallible>(())
                    },
                ),
            };
            tree.add_worker(spec).unwrap();
        }
        let supervisor = tree.start();
        ready(&supervisor).await;
        assert!(of_workers().len() <= 4, "{:?}", threads());
        tokio::time::sleep(ms(200)).await;
        let before = of_workers();
        tokio::time::sleep(ms(2000)).await;
        let after = of_workers();
        let woken = |(id, switches): (&String, &u64)| switches - before.get(id).unwrap_or(&0);
        let wake_ups: u64 = after.iter().map(woken).sum();
        assert!(
            wake_ups <= 20,
            "{wake_ups} in two seconds: {before:?}, {after:?}"
        );
        supervisor.halt().await;
    });
}

/// A worker that spawns tasks which block the threads of the runtime itself, in the lives that `blocks`
/// says, until the sender is dropped.
fn blocks_by_what_it_spawns(
    name: &'static str,
    blocks: impl Fn(u64) -> bool + Send + Sync + 'static,
) -> (WorkerSpec, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let spec = WorkerSpec::new(name, Schedule::Continuous, move |context: WorkerContext| {
        let blocks = blocks(context.lifeline().generation());
        let held = Arc::clone(&held);
        async move {
            tokio::time::sleep(ms(100)).await;
            if blocks {
                for _ in 0..4 {
                    let held = Arc::clone(&held);
                    tokio::spawn(async move { held.lock().unwrap().recv().ok() });
                }
            }
            context.stopping().await;
            Ok::<_, Infallible>(())
        }
    });
    (spec, release)
}

#[test]
fn workers_move_when_what_one_of_them_spawned_blocks_their_runtime() {
    run(async {
        let mut tree = SupervisionTree::new(impatient()).unwrap();
        let (spec, release) = blocks_by_what_it_spawns("spawns", |generation| generation == 1);
        tree.add_worker(spec).unwrap();
        let (spec, ticks) = ticks("ticks");
        let ticking = tree.add_worker(spec).unwrap();
        let supervisor = tree.start();
        in_life(&supervisor, "ticks", 2).await;
        in_life(&supervisor, "spawns", 2).await;
        assert_eq!(
            (count(&ticking, Cause::Stalled), all_restarts(&ticking)),
            (1, 1)
        );
        assert!(logged(&[
            "ERROR",
            "the runtime of the workers makes no progress"
        ]));
        let before = ticks.load(SeqCst);
        until("it to tick again", || ticks.load(SeqCst) >= before + 20).await;
        drop(release);
        supervisor.halt().await;
    });
}

#[test]
fn a_runtime_that_is_blocked_again_and_again_is_not_replaced_for_ever() {
    if in_own_process(
        "workers::threads::a_runtime_that_is_blocked_again_and_again_is_not_replaced_for_ever",
    )
    .is_some()
    {
        return;
    }
    run(async {
        let policy = Policy {
            max_leaked_threads: 2,
            ..impatient()
        };
        let mut tree = SupervisionTree::new(policy).unwrap();
        let (spec, release) = blocks_by_what_it_spawns("spawns", |_| true);
        tree.add_worker(spec.when_exhausted(Exhausted::Fail))
            .unwrap();
        let supervisor = tree.start();
        let board = board(&supervisor, "failed", is("spawns", State::Failed)).await;
        assert_eq!(
            board.component("spawns").unwrap().reason,
            Some(Reason::HUNG)
        );
        // Two abandoned runtimes and one that is no longer needed, each with two threads and those that poll.
        assert!(of_workers().len() <= 12, "{:?}", threads());
        drop(release);
        supervisor.halt().await;
        until("the threads of those left behind to end", || {
            of_workers().len() <= 6
        })
        .await;
    });
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn an_idle_worker_costs_less_than_ten_kilobytes() {
    if in_own_process("workers::threads::an_idle_worker_costs_less_than_ten_kilobytes").is_some() {
        return;
    }
    const MANY: usize = 1000;
    run(async {
        let idle = |name: &'static str| {
            WorkerSpec::new(name, HOURLY, |_| async { Ok::<_, Infallible>(()) })
        };
        // What the first one costs, all share.
        let mut tree = SupervisionTree::new(Policy::default()).unwrap();
        tree.add_worker(idle("first")).unwrap();
        let first = tree.start();
        ready(&first).await;
        let before = resident();
        let mut tree = SupervisionTree::new(Policy::default()).unwrap();
        for n in 0..MANY {
            tree.add_worker(idle(format!("worker {n}").leak())).unwrap();
        }
        let supervisor = tree.start();
        ready(&supervisor).await;
        let each = resident().saturating_sub(before) / MANY;
        assert!(each < 10_000, "{each} bytes");
        supervisor.halt().await;
        first.halt().await;
    });
}
