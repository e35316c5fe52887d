//! `Expect: 100-continue`: a client is asked for its body when a handler wants to read it, and not before.
//!
//! actix sends `100 Continue` before it calls the application, also to a client whose body is going to be refused
//! (413, 415, 401, 404). Here the application runs first. If it answers without reading the body, that answer is all
//! that the client gets; if it reads, the client is asked, and the same run goes on.

use std::{
    cell::{Cell, OnceCell},
    future::poll_fn,
    rc::Rc,
    task::Poll,
};

use actix_http::{HttpMessage, Request, Response};
use actix_service::{Service, ServiceFactory, fn_factory, fn_service};
use actix_web::body::BoxBody;
use futures_util::future::{Either, FutureExt, LocalBoxFuture};

/// Whether a handler has begun to read the body of its request. Kept among the request's extensions.
#[derive(Clone, Default)]
pub(super) struct BodyWanted(Rc<Cell<bool>>);

impl BodyWanted {
    /// The client may send the body.
    pub(super) fn set(&self) {
        self.0.set(true);
    }
}

/// One worker's application, made once for the two services that call it.
pub(super) struct Expecting<F: ServiceFactory<Request>> {
    factory: F,
    app: OnceCell<Rc<F::Service>>,
}

type Outcome<F> =
    Result<<F as ServiceFactory<Request>>::Response, <F as ServiceFactory<Request>>::Error>;

/// A request that waits for its body, in the extensions of the one that takes its place.
struct Suspended<O>(LocalBoxFuture<'static, O>);

/// The answer of an application that did not want the body.
pub(super) struct Answer(Response<BoxBody>);

impl From<Answer> for Response<BoxBody> {
    fn from(answer: Answer) -> Self {
        answer.0
    }
}

impl<F> Expecting<F>
where
    F: ServiceFactory<Request, Config = (), InitError = ()> + 'static,
    F::Response: Into<Response<BoxBody>> + 'static,
    F::Error: Into<Response<BoxBody>> + 'static,
{
    pub(super) fn new(factory: F) -> Rc<Self> {
        Rc::new(Self {
            factory,
            app: OnceCell::new(),
        })
    }

    async fn app(self: Rc<Self>) -> Result<Rc<F::Service>, ()> {
        if let Some(app) = self.app.get() {
            return Ok(Rc::clone(app));
        }
        let made = Rc::new(self.factory.new_service(()).await?);
        Ok(Rc::clone(self.app.get_or_init(|| made)))
    }

    /// Calls the application for requests that expect `100 Continue`: gives back a request when the body is wanted,
    /// and else the answer, in the place of an error as actix wants it.
    pub(super) fn expect(
        self: &Rc<Self>,
    ) -> impl ServiceFactory<
        Request,
        Config = (),
        Response = Request,
        Error = Answer,
        InitError = (),
    > + use<F> {
        let this = Rc::clone(self);
        fn_factory(move || {
            Rc::clone(&this).app().map(|app| {
                let app = app?;
                Ok(fn_service(move |request| {
                    until_wanted::<F>(app.as_ref(), request)
                }))
            })
        })
    }

    /// Calls the application for all other requests, and resumes those that waited.
    pub(super) fn service(
        self: &Rc<Self>,
    ) -> impl ServiceFactory<
        Request,
        Config = (),
        Response = F::Response,
        Error = F::Error,
        InitError = (),
    > + use<F> {
        let this = Rc::clone(self);
        fn_factory(move || {
            Rc::clone(&this).app().map(|app| {
                let app = app?;
                Ok(fn_service(move |request: Request| {
                    let suspended = request.extensions_mut().remove::<Suspended<Outcome<F>>>();
                    match suspended {
                        Some(Suspended(call)) => Either::Left(call),
                        None => Either::Right(app.call(request)),
                    }
                }))
            })
        })
    }
}

fn until_wanted<F>(
    app: &F::Service,
    request: Request,
) -> impl Future<Output = Result<Request, Answer>> + use<F>
where
    F: ServiceFactory<Request> + 'static,
    F::Response: Into<Response<BoxBody>> + 'static,
    F::Error: Into<Response<BoxBody>> + 'static,
{
    let wanted = BodyWanted::default();
    request.extensions_mut().insert(wanted.clone());
    let mut call = Some(app.call(request).boxed_local());
    poll_fn(move |context| {
        match call.as_mut().map(|call| call.poll_unpin(context)) {
            Some(Poll::Ready(Ok(response))) => return Poll::Ready(Err(Answer(response.into()))),
            Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(Answer(error.into()))),
            Some(Poll::Pending) if wanted.0.get() => {}
            Some(Poll::Pending) | None => return Poll::Pending,
        }
        let resumed = Request::new();
        if let Some(call) = call.take() {
            resumed
                .extensions_mut()
                .insert(Suspended::<Outcome<F>>(call));
        }
        Poll::Ready(Ok(resumed))
    })
}
