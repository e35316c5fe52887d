//! What handlers take, and what each says of itself in the documentation.

use std::{
    future::{Ready, ready},
    ops::Deref,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    web::{self, Bytes},
};
use dotmac_db::types::Id;
use dotmac_supervision::SupervisedActor;
use serde::de::DeserializeOwned;
use utoipa::{
    PartialSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, Required, SchemaFormat, Type, path::ParameterIn,
        schema::Schema,
    },
};
use uuid::Uuid;

use super::Operation;
use crate::{
    http::Problem,
    supervised::{Supervised, provided},
};

/// An argument of a handler besides its guard.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument of a handler",
    note = "take `Path`, `Query`, `Valid`, `Use`, `Supervised`, or implement `Argument` for an extractor of your own"
)]
pub trait Argument: FromRequest + 'static {
    /// Writes down what the argument takes of a request, needs of the program, and how it can fail.
    fn describe(operation: &mut Operation);
}

/// A value that the handler's module provides ([`Mount::provide`](crate::module::Mount::provide)), or that a module shares
/// with all ([`Mount::share`](crate::module::Mount::share)). Derefs to it.
///
/// A program in which neither is so does not start.
#[derive(Clone, Debug)]
pub struct Use<T>(pub T);

impl<T> Deref for Use<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone + 'static> FromRequest for Use<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(provided(request).map(Self))
    }
}

impl<T: Clone + 'static> Argument for Use<T> {
    fn describe(operation: &mut Operation) {
        operation.needs::<T>();
    }
}

impl<A: SupervisedActor> Argument for Supervised<A> {
    fn describe(operation: &mut Operation) {
        operation.needs::<Self>();
    }
}

/// The request itself. Its handler judges what is in the query.
impl Argument for HttpRequest {
    fn describe(operation: &mut Operation) {
        operation.reads_request = true;
    }
}

/// The body as it is, up to the limit of the route.
impl Argument for Bytes {
    fn describe(operation: &mut Operation) {
        operation.body::<Vec<u8>>("application/octet-stream");
    }
}

/// The body as it arrives. Without its end it has no fingerprint, so such a route takes no idempotency key.
impl Argument for web::Payload {
    fn describe(operation: &mut Operation) {
        operation.streams_body = true;
        operation.body::<Vec<u8>>("application/octet-stream");
    }
}

impl<T: DeserializeOwned + PathSegments + 'static> Argument for web::Path<T> {
    fn describe(operation: &mut Operation) {
        operation.segments(T::schemas);
        operation.problem(super::ProblemType::new(
            400,
            "invalid_path",
            "a part of the path is not valid",
        ));
    }
}

/// A type that a segment of a path is read as.
pub trait PathSegment {
    /// Its schema.
    fn schema() -> RefOr<Schema>;
}

impl<T: 'static> PathSegment for Id<T> {
    fn schema() -> RefOr<Schema> {
        uuid_schema()
    }
}

impl PathSegment for Uuid {
    fn schema() -> RefOr<Schema> {
        uuid_schema()
    }
}

fn uuid_schema() -> RefOr<Schema> {
    let format = SchemaFormat::KnownFormat(KnownFormat::Uuid);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(format))
        .into()
}

macro_rules! segments {
    ($($segment:ty),+) => {$(
        impl PathSegment for $segment {
            fn schema() -> RefOr<Schema> {
                <Self as PartialSchema>::schema()
            }
        }
    )+};
}

segments!(String, bool, i32, i64, u16, u32, u64);

/// One segment, or several as a tuple.
pub trait PathSegments {
    /// The schema of each, in their order.
    fn schemas() -> Vec<RefOr<Schema>>;
}

impl<T: PathSegment> PathSegments for T {
    fn schemas() -> Vec<RefOr<Schema>> {
        vec![T::schema()]
    }
}

impl<A: PathSegment, B: PathSegment> PathSegments for (A, B) {
    fn schemas() -> Vec<RefOr<Schema>> {
        vec![A::schema(), B::schema()]
    }
}

impl<A: PathSegment, B: PathSegment, C: PathSegment> PathSegments for (A, B, C) {
    fn schemas() -> Vec<RefOr<Schema>> {
        vec![A::schema(), B::schema(), C::schema()]
    }
}

/// Parameters of the path `/{a}/{b}`, named after their places.
pub(super) fn path_parameters(
    path: &str,
    schemas: &[RefOr<Schema>],
) -> Vec<utoipa::openapi::path::Parameter> {
    let names = names_in(path);
    let text = <String as PartialSchema>::schema();
    names
        .enumerate()
        .map(|(place, name)| {
            utoipa::openapi::path::ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(schemas.get(place).unwrap_or(&text).clone()))
                .build()
        })
        .collect()
}

/// The names between braces, without their patterns.
pub(super) fn names_in(path: &str) -> impl Iterator<Item = &str> {
    let braces = path.split('{').skip(1);
    braces.filter_map(|rest| rest.split(['}', ':']).next())
}
