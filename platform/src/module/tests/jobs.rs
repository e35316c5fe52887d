//! Refusals about jobs, and the component that runs them.

use std::convert::Infallible;

use dotmac_supervision::{Schedule, WorkerSpec};
use serde::{Deserialize, Serialize};

use super::{Assembly, Empty, Manifest, assembled, module, refusal};
use crate::jobs::{Job, JobError, Run};

#[derive(Serialize, Deserialize)]
struct Sweep;

impl Job for Sweep {
    const KIND: &'static str = "rooms.sweep";
    type Output = ();
}

async fn sweep(_: Run<Sweep>) -> Result<(), JobError> {
    Ok(())
}

module!(Sweeps, "sweeps", Manifest::new("").jobs::<Sweep>(), |on| on
    .job(sweep));
module!(Also, "also", Manifest::new("").jobs::<Sweep>(), |on| on
    .job(sweep));
module!(
    Lists,
    "lists",
    Manifest::new("").jobs::<Sweep>(),
    |_| Ok(())
);
module!(Idle, "idle", Manifest::new(""), |_| Ok(()));
module!(Hides, "hides", Manifest::new(""), |on| on.job(sweep));
module!(Twice, "twice", Manifest::new("").jobs::<Sweep>(), |on| {
    on.job(sweep)?;
    on.job(sweep)
});

#[test]
fn a_kind_of_jobs_belongs_to_one_module_which_has_one_handler_for_it() {
    for (why, parts) in [
        (refusal::<Sweeps, Also>(), ["`sweeps`", "`also`"]),
        (refusal::<Lists, Empty>(), ["`lists`", "has no handler"]),
        (
            refusal::<Hides, Empty>(),
            ["`hides`", "lacks `jobs::<J>()`"],
        ),
        (refusal::<Twice, Empty>(), ["`twice`", "two handlers"]),
    ] {
        for part in parts {
            assert!(why.contains(part), "{why}");
        }
    }
}

#[test]
fn what_runs_jobs_is_there_where_there_are_any() {
    // Another component of the name is refused.
    let has = |assembly: Result<Assembly, String>, name| {
        let Ok(mut assembly) = assembly else {
            return false;
        };
        let run = async |_| Ok::<_, Infallible>(());
        let spec = WorkerSpec::new(name, Schedule::Continuous, run);
        assembly.tree.add_worker(spec).is_err()
    };
    for name in ["job_runner", "job_retention"] {
        assert!(has(assembled::<Sweeps, Empty>(&[]), name));
        assert!(!has(assembled::<Empty, Idle>(&[]), name));
    }
}
