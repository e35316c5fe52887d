//! An authorizer refuses what a permission allows, by the resource of a request.

use actix_web::web::Path;
use futures_util::future::{LocalBoxFuture, ready};
use uuid::Uuid;

use super::{contracts::ByName, *};
use crate::{
    access::{
        AuthError, Authenticated, Authorizer, Can, PermissionSpec, Principal, RequestedResource,
    },
    module::{Assembly, Manifest, Module, Mount, MountError, Registered},
    permissions,
    routing::NoContent,
    settings::{Catalogue, NoSettings, Settings, Sources},
};

permissions! {
    /// Read papers.
    pub(super) ReadPapers = "papers.papers.read";
}

struct Papers;

/// Lets a caller read the papers with its own id.
struct OwnPapers;

impl Authorizer for OwnPapers {
    fn authorize<'r>(
        &'r self,
        principal: &'r Principal,
        action: PermissionSpec,
        resource: RequestedResource<'r>,
    ) -> LocalBoxFuture<'r, Result<(), AuthError>> {
        let is_own = resource.parameter("id") == Some(&*principal.id.to_string())
            && action.name == "papers.papers.read"
            && resource.pattern == "/api/v1/papers/{id}";
        Box::pin(ready(if is_own {
            Ok(())
        } else {
            Err(AuthError::Refused {
                code: "forbidden",
                detail: "another caller owns this paper",
            })
        }))
    }
}

async fn paper(_: Can<ReadPapers>, _: Path<Uuid>) -> NoContent {
    NoContent
}

async fn shelf(_: Authenticated) -> NoContent {
    NoContent
}

impl Module for Papers {
    const NAME: &'static str = "papers";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("Papers of callers.").permissions(PERMISSIONS)
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.authenticator(ByName)?;
        on.authorizer(OwnPapers)?;
        if on.authorizer(OwnPapers).is_ok() {
            return Err(MountError::other("a program has one authorizer"));
        }
        on.routes("/papers", |routes| {
            routes.get("", shelf);
            routes.get("/{id}", paper);
        });
        Ok(())
    }
}

#[actix_web::test]
async fn an_authorizer_refuses_by_the_resource_of_a_request() -> Outcome {
    let mut catalogue = Catalogue::platform();
    let modules = [Registered::add::<Papers>(&mut catalogue, |_| false)?];
    let none: [(&str, &str); 0] = [];
    let settings = Settings::from_sources(&catalogue, &Sources::new(none))
        .map_err(|error| error.to_string())?;
    let assembly = Assembly::for_command(&settings, &modules, None)?;
    let parts = Parts {
        routes: assembly.routes,
        ..parts(&Staged::new(Readiness::Ready))
    };
    let ask = async |path: String| {
        let request = TestRequest::get().uri(&path).insert_header(("x-user", "7"));
        ask_of(config(), parts.clone(), request).await
    };
    let of = |number: u128| format!("/api/v1/papers/{}", Uuid::from_u128(number));
    assert_eq!(ask(of(7)).await?.status(), 204);
    let refused = ask(of(8)).await?;
    assert_eq!((refused.status(), &*refused.code()), (403, "forbidden"));
    // A route without a permission has nothing to decide.
    assert_eq!(ask("/api/v1/papers".to_owned()).await?.status(), 204);
    Ok(())
}
