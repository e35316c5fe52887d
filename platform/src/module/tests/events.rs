//! The events of a program: their types, subscribers, and the worker that deletes old ones.

use dotmac_db::{DbError, Tx};
use dotmac_supervision::{Schedule, WorkerSpec};

use super::*;
use crate::events::{self, Event, StoredEvent};

/// Something happened.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Happened;

impl Event for Happened {
    const TYPE: &'static str = "thing.happened.v1";
    fn subject(&self) -> String {
        "things".to_owned()
    }
}

module!(
    Emits,
    "emits",
    Manifest::new("").emits::<Happened>(),
    |_| Ok(())
);
module!(
    AlsoEmits,
    "also",
    Manifest::new("").emits::<Happened>(),
    |_| Ok(())
);
module!(Durable, "durable", Manifest::new(""), |_| Ok(()));
module!(Plain, "plain", Manifest::new(""), |_| Ok(()));
module!(Follows, "follows", Manifest::new(""), |on| {
    let kinds: &[&str] = &["thing.happened.v1"];
    let follow = async |_: &mut Tx, _: StoredEvent| Ok::<_, DbError>(());
    on.subscribe_across_tenants("things", kinds, follow).add()?;
    Ok(())
});

#[test]
fn a_type_of_events_belongs_to_one_module() {
    let why = refusal::<Emits, AlsoEmits>();
    for part in ["`emits`", "`also`", "`thing.happened.v1`"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(refusal::<Durable, Empty>().contains("`durable`"));
}

#[test]
fn old_events_are_taken_away_where_there_are_any() {
    // Another component of the name is refused.
    let has = |assembly: Result<Assembly, String>, name| {
        let Ok(mut assembly) = assembly else {
            return false;
        };
        let run = async |_| Ok::<_, std::convert::Infallible>(());
        let spec = WorkerSpec::new(name, Schedule::Continuous, run);
        assembly.tree.add_worker(spec).is_err()
    };
    assert!(has(assembled::<Emits, Empty>(&[]), "event_retention"));
    assert!(has(assembled::<Follows, Empty>(&[]), "event_retention"));
    assert!(has(assembled::<Follows, Empty>(&[]), "follows.things"));
    assert!(!has(assembled::<Empty, Plain>(&[]), "event_retention"));
}

#[test]
fn the_events_of_a_program_are_documented_from_their_types() {
    let Ok(assembly) = assembled::<Emits, Follows>(&[]) else {
        unreachable!("it can be put together")
    };
    let document = events::document("test", "1.0", &assembly.events);
    let kind = "thing.happened.v1";
    assert_eq!(
        document["channels"][kind]["description"],
        "Something happened."
    );
    assert_eq!(
        document["operations"]["emits.emits.thing.happened.v1"]["action"],
        "send"
    );
    let handles = &document["operations"]["follows.things.handles.thing.happened.v1"];
    assert_eq!(handles["action"], "receive");
    let payload = &document["components"]["messages"][kind]["payload"]["allOf"];
    let data = &payload[1]["properties"]["data"]["$ref"];
    assert_eq!(data, "#/components/schemas/thing.happened.v1");
    for reference in references(&document) {
        let pointer = reference.trim_start_matches('#');
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

/// Every `$ref` of a document.
fn references(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(fields) => {
            let own = fields.get("$ref").and_then(|it| it.as_str());
            let own = own.map(str::to_owned).into_iter();
            own.chain(fields.values().flat_map(references)).collect()
        }
        serde_json::Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
