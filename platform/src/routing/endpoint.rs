//! What can be mounted as a handler: an async function whose first argument is a guard.

use std::sync::Arc;

use actix_web::{Error, Handler, HttpRequest, HttpResponse, dev::Payload};
use futures_util::future::LocalBoxFuture;

use super::{
    Argument, Operation, Reply,
    admission::{Admission, RouteRules},
};
use crate::access::Guard;

/// A handler: an async function of a [`Guard`] and up to nine [`Argument`]s, which gives a [`Reply`].
///
/// The arguments are taken in their order, each after the one before: a request that the guard refuses has no
/// other part read.
#[diagnostic::on_unimplemented(
    message = "this is no handler",
    note = "a handler is an async function whose first argument says who may call it \
            (`Public`, `Authenticated` or `Can<P>`), whose other arguments are `Argument`s, and whose result is a `Reply`"
)]
pub trait Endpoint<Arguments>: Clone + Send + Sync + 'static {
    /// Writes down what the types say of the operation.
    fn describe(operation: &mut Operation);

    /// Handles one request by the rules of its route.
    fn call(
        &self,
        request: HttpRequest,
        payload: Payload,
        rules: Arc<RouteRules>,
    ) -> LocalBoxFuture<'static, Result<HttpResponse, Error>>;
}

/// Has the request judged by the guard, takes the arguments out of it, and calls the handler.
macro_rules! handle {
    ($admission:ident, $handler:ident, $guard:ident, $($argument:ident $name:ident),*) => {
        async {
            $admission.enter()?;
            let (request, payload) = (&$admission.request, &mut $admission.payload);
            let guard = $guard::from_request(request, payload).await?;
            if let Some(response) = $admission.claim(guard.principal()).await? {
                return Ok(response);
            }
            $(let $name = $argument::from_request(&$admission.request, &mut $admission.payload)
                .await
                .map_err(Into::into)?;)*
            let reply = $handler.call((guard, $($name,)*)).await;
            Ok::<_, Error>(reply.respond(&$admission.request))
        }
    };
}

macro_rules! endpoint {
    ($($argument:ident $name:ident),*) => {
        impl<F, R, G, $($argument,)*> Endpoint<(G, $($argument,)*)> for F
        where
            F: Handler<(G, $($argument,)*), Output = R> + Send + Sync,
            R: Reply,
            G: Guard,
            $($argument: Argument,)*
        {
            fn describe(operation: &mut Operation) {
                operation.guard::<G>();
                $($argument::describe(operation);)*
                R::describe(operation);
            }

            fn call(
                &self,
                request: HttpRequest,
                payload: Payload,
                rules: Arc<RouteRules>,
            ) -> LocalBoxFuture<'static, Result<HttpResponse, Error>> {
                let handler = self.clone();
                Box::pin(async move {
                    let mut admission = Admission::new(request, payload, rules);
                    let answered = handle!(admission, handler, G, $($argument $name),*).await;
                    Ok(admission.finish(answered).await)
                })
            }
        }
    };
}

endpoint! {}
endpoint! { A a }
endpoint! { A a, B b }
endpoint! { A a, B b, C c }
endpoint! { A a, B b, C c, D d }
endpoint! { A a, B b, C c, D d, E e }
endpoint! { A a, B b, C c, D d, E e, H h }
endpoint! { A a, B b, C c, D d, E e, H h, I i }
endpoint! { A a, B b, C c, D d, E e, H h, I i, J j }
endpoint! { A a, B b, C c, D d, E e, H h, I i, J j, K k }
