//! The audit log's part of the manifest, and its effects.

use std::{convert::Infallible, time::Duration};

use dotmac_supervision::{Schedule, WorkerSpec};

use super::{Assembly, Empty, Manifest, assembled, module};
use crate::audit::{AuditedAct, KeptLog};

const ADD: AuditedAct = AuditedAct::new("room_add", "A room was added.");
const DELETE: AuditedAct = AuditedAct::new("room_delete", "A room was deleted.");

module!(
    Rooms,
    "rooms",
    Manifest::new("").audits(&[DELETE, ADD]),
    |on| {
        on.keep_audit_log(KeptLog {
            retention: Duration::from_secs(100 * 24 * 3600),
            ..KeptLog::default()
        });
        assert!(on.audit_sealer().is_some());
        Ok(())
    }
);
module!(Floors, "floors", Manifest::new("").audits(&[ADD]), |_| Ok(
    ()
));
module!(Silent, "silent", Manifest::new(""), |on| {
    assert!(on.audit_sealer().is_none());
    assert!(on.audit_catalogue().is_empty());
    Ok(())
});

#[test]
fn acts_of_all_modules_are_known_by_name() {
    let Ok(assembly) = assembled::<Rooms, Floors>(&[]) else {
        unreachable!("it can be put together")
    };
    let acts = assembly.audit.catalogue.acts().iter();
    let acts: Vec<_> = acts.map(|(module, act)| (act.name(), *module)).collect();
    let expected = [
        ("component_restart", "admin"),
        ("log_level_change", "admin"),
        ("readiness_off", "admin"),
        ("readiness_on", "admin"),
        ("room_add", "floors"),
        ("room_add", "rooms"),
        ("room_delete", "rooms"),
    ];
    assert_eq!(acts, expected);
    let kept = assembly.audit.kept.map(|kept| kept.retention.as_secs());
    assert_eq!(kept, Some(100 * 24 * 3600));
}

#[test]
fn what_links_and_verifies_is_there_where_acts_are_recorded() {
    // Another component of the name is refused.
    let has = |assembly: Result<Assembly, String>, name| {
        let Ok(mut assembly) = assembly else {
            return false;
        };
        let run = async |_| Ok::<_, Infallible>(());
        let spec = WorkerSpec::new(name, Schedule::Continuous, run);
        assembly.tree.add_worker(spec).is_err()
    };
    for name in ["audit_sealer", "audit_verifier", "audit_retention"] {
        assert!(has(assembled::<Rooms, Empty>(&[]), name));
        assert!(!has(assembled::<Empty, Silent>(&[]), name));
        let off = [("DOTMAC_ROOMS_ENABLED", "false")];
        assert!(!has(assembled::<Rooms, Empty>(&off), name));
    }
}
