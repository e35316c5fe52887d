//! Workers: what their schedules mean, and that they are supervised as actors are.

mod faults;
mod schedules;
mod threads;
mod words;

use std::time::Duration;

use dotmac_supervision::{
    Board, Cause, ComponentHandle, Schedule, State, SupervisionTree, SupervisorHandle,
    WorkerHandle, WorkerSpec,
};

use crate::support::*;

pub(crate) const HOURLY: Schedule = Schedule::Every(Duration::from_secs(3600));
pub(crate) const OFTEN: Schedule = Schedule::Every(ms(5));

/// A tree of one required worker.
pub(crate) fn lone_worker(spec: WorkerSpec) -> (SupervisorHandle, WorkerHandle) {
    let mut tree = SupervisionTree::new(policy()).unwrap();
    let worker = tree.add_worker(spec.required()).unwrap();
    (tree.start(), worker)
}

pub(crate) fn count(handle: &ComponentHandle, cause: Cause) -> u64 {
    let restarts = handle.vitals().restarts;
    restarts.iter().find(|(of, _)| *of == cause).unwrap().1
}

pub(crate) fn all_restarts(handle: &ComponentHandle) -> u64 {
    handle.vitals().restarts.iter().map(|(_, n)| n).sum()
}

pub(crate) fn runs(worker: &WorkerHandle) -> u64 {
    worker.vitals().worker.unwrap().runs
}

pub(crate) fn is(name: &'static str, state: State) -> impl Fn(&Board) -> bool {
    move |board| board.component(name).unwrap().state == state
}
