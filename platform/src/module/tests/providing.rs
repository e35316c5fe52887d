//! Values of one module, and values that modules share.

use std::sync::Arc;

use dotmac_db::ModuleDb;

use super::*;
use crate::{Supervised, egress::Egress};

/// A contract between modules.
trait Greeter: Send + Sync {
    fn greet(&self) -> &'static str;
}

struct Polite;

impl Greeter for Polite {
    fn greet(&self) -> &'static str {
        "good day"
    }
}

type SharedGreeter = Arc<dyn Greeter>;

async fn of_database(_: Public, _: Use<ModuleDb>) -> NoContent {
    NoContent
}

async fn of_quiet(_: Public, _: Supervised<Quiet>) -> NoContent {
    NoContent
}

async fn greeted(_: Public, greeter: Use<SharedGreeter>) -> String {
    greeter.greet().to_owned()
}

#[test]
fn modules_provide_values_and_actors_of_one_type_each_for_itself() {
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        on.provide(on.db());
        on.actor("", Needs::none(), |life, ()| Quiet(life)).add()?;
        on.routes("/alpha", |routes| {
            routes.get("/db", of_database);
            routes.get("/quiet", of_quiet);
        });
        Ok(())
    });
    module!(Beta, "beta", Manifest::new("B."), |on| {
        on.provide(on.db());
        let quiet = on.actor("", Needs::none(), |life, ()| Quiet(life)).add()?;
        let needs = Needs::<Supervised<Quiet>>::actor();
        on.actor("other", needs, move |life, own| {
            assert_eq!(own.name(), quiet.name());
            Other(life)
        })
        .add()?;
        on.routes("/beta", |routes| {
            routes.get("/db", of_database).id("beta_db");
            routes.get("/quiet", of_quiet).id("beta_quiet");
        });
        Ok(())
    });
    assert_eq!(refusal::<Alpha, Beta>(), "nothing is refused");
}

#[test]
fn what_a_module_neither_provides_nor_is_shared_is_named_with_its_route() {
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        on.routes("/numbers", |routes| _ = routes.get("", count));
        Ok(())
    });
    module!(Provides, "beta", Manifest::new("B."), |on| {
        on.provide(7_u64);
        Ok(())
    });
    for why in [refusal::<Alpha, Empty>(), refusal::<Alpha, Provides>()] {
        for part in [
            "module `alpha`",
            "GET /api/v1/numbers",
            "Use<u64>",
            "::count`",
        ] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }
    module!(Shares, "beta", Manifest::new("B."), |on| {
        on.share(7_u64);
        Ok(())
    });
    assert_eq!(refusal::<Alpha, Shares>(), "nothing is refused");

    module!(Needy, "alpha", Manifest::new("A."), |on| {
        let needs = Needs::<Supervised<Quiet>>::actor();
        on.actor("", needs, |life, _| Other(life)).add()?;
        Ok(())
    });
    module!(Owner, "beta", Manifest::new("B."), |on| {
        on.actor("", Needs::none(), |life, ()| Quiet(life)).add()?;
        Ok(())
    });
    let why = refusal::<Owner, Needy>();
    assert!(why.contains("`alpha` needs an actor of type"), "{why}");
}

#[test]
fn a_contract_is_shared_once_and_known_to_the_modules_that_follow() {
    module!(Fulfils, "alpha", Manifest::new("A."), |on| {
        on.share::<SharedGreeter>(Arc::new(Polite));
        Ok(())
    });
    module!(Uses, "beta", Manifest::new("B."), |on| {
        let greeter: SharedGreeter = on.shared()?;
        assert_eq!(greeter.greet(), "good day");
        on.routes("/greetings", |routes| _ = routes.get("", greeted));
        Ok(())
    });
    assert_eq!(refusal::<Fulfils, Uses>(), "nothing is refused");
    let why = refusal::<Uses, Fulfils>();
    assert!(
        why.contains("module `beta`") && why.contains("dyn") && why.contains("mounted before it"),
        "{why}"
    );

    module!(Again, "gamma", Manifest::new("C."), |on| {
        on.share::<SharedGreeter>(Arc::new(Polite));
        Ok(())
    });
    let why = refusal::<Fulfils, Again>();
    assert!(
        why.contains("module `gamma`") && why.contains("shared already, by alpha"),
        "{why}"
    );

    module!(Twice, "alpha", Manifest::new("A."), |on| {
        on.provide(1_u64);
        on.provide(2_u64);
        Ok(())
    });
    let why = refusal::<Twice, Empty>();
    assert!(why.contains("`u64` is provided twice"), "{why}");
}

#[test]
fn files_are_kept_back_for_calls_to_the_outside_by_programs_that_make_any() {
    async fn call(_: Public, _: Use<Egress>) -> NoContent {
        NoContent
    }
    module!(InHandlers, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| _ = routes.get("", call));
        Ok(())
    });
    module!(InMount, "alpha", Manifest::new("A."), |on| {
        on.provide(on.egress());
        Ok(())
    });
    module!(Silent, "alpha", Manifest::new("A."), |_| Ok(()));
    let few = [("DOTMAC_EGRESS_CONCURRENCY", "10")];
    let of = |program: Result<Assembly, String>| program.map(|it| it.egress_descriptors());
    // Two for each call, the lookups, and connections that are kept.
    assert_eq!(of(assembled::<InHandlers, Empty>(&few)), Ok(68));
    assert_eq!(of(assembled::<InMount, Empty>(&few)), Ok(68));
    assert_eq!(of(assembled::<Silent, Empty>(&few)), Ok(0));
}
