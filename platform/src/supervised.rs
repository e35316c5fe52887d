//! Arguments of handlers: supervised actors.

use std::{
    future::{Ready, ready},
    ops::Deref,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use dotmac_supervision::{ActorHandle, SupervisedActor};

use crate::http::Problem;

/// A supervised actor, as handlers and other actors hold it. Derefs to [`ActorHandle`].
pub struct Supervised<A: SupervisedActor>(pub(crate) ActorHandle<A>);

impl<A: SupervisedActor> Clone for Supervised<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: SupervisedActor> Deref for Supervised<A> {
    type Target = ActorHandle<A>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<A: SupervisedActor> FromRequest for Supervised<A> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(provided(request))
    }
}

/// A value that the program gives its handlers.
pub(crate) fn provided<T: Clone + 'static>(request: &HttpRequest) -> Result<T, Problem> {
    request.app_data::<T>().cloned().ok_or_else(|| {
        let wanted = std::any::type_name::<T>();
        Problem::internal(format!(
            "a handler takes `{wanted}`, which this program does not provide"
        ))
    })
}
