//! What is known of one operation before it is called: its documentation, and what it needs of the program.

use std::{any::TypeId, collections::BTreeMap};

use actix_web::http::StatusCode;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, Header, PathItem, Ref, RefOr, Required, Response, ResponseBuilder,
        extensions::ExtensionsBuilder,
        path::{HttpMethod, OperationBuilder, Parameter, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::Schema,
        security::SecurityRequirement,
    },
};

use super::{ProblemType, argument};
use crate::{
    access::{CredentialScheme, Guard, PermissionSpec},
    http::ProblemBody,
};

/// Collects what the types of a handler say: see [`Argument::describe`](super::Argument::describe) and
/// [`Reply::describe`](super::Reply::describe).
///
/// A route is described at the start, for what requests are served by, and again with its documentation when the document is
/// asked for: the schemas of all routes take some 30 KiB a route, and a good part of the time to start.
#[derive(Default)]
pub struct Operation {
    is_public: bool,
    permission: Option<PermissionSpec>,
    /// Names of the parameters in the query.
    query: Vec<String>,
    pub(super) needs: Vec<Needed>,
    /// Something is made by it.
    creates: bool,
    /// The handler reads the body as it arrives.
    pub(super) streams_body: bool,
    /// The handler takes the claim on an idempotency key.
    pub(super) takes_claim: bool,
    /// The handler takes the request itself, and with it any parameters in the query.
    pub(super) reads_request: bool,
    documentation: Option<Documentation>,
}

/// What the document says of an operation.
#[derive(Default)]
pub(super) struct Documentation {
    parameters: Vec<Parameter>,
    /// Schemas of the path's segments, in their order.
    segments: Vec<RefOr<Schema>>,
    body: Option<RequestBody>,
    answers: BTreeMap<u16, Response>,
    problems: BTreeMap<u16, Vec<ProblemType>>,
    /// Those of the handler's own error.
    of_error: Vec<ProblemType>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// A value of the program that a handler takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
}

impl Operation {
    /// One that keeps what the document says as well.
    pub(super) fn documented() -> Self {
        Self {
            documentation: Some(Documentation::default()),
            ..Self::default()
        }
    }

    pub(super) fn guard<G: Guard>(&mut self) {
        self.is_public = G::IS_PUBLIC;
        self.permission = G::PERMISSION;
        if !G::IS_PUBLIC {
            self.problem(ProblemType::new(
                401,
                "unauthenticated",
                "credentials are missing or not valid",
            ));
        }
        if G::PERMISSION.is_some() {
            self.problem(ProblemType::new(
                403,
                "forbidden",
                "the caller lacks the permission",
            ));
        }
    }

    /// Whether any client may call.
    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }

    /// The permission that the guard asks for.
    pub(crate) fn permission(&self) -> Option<PermissionSpec> {
        self.permission
    }

    /// The handler takes a value that the program has to provide.
    pub fn needs<T: 'static>(&mut self) {
        self.needs.push(Needed {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
        });
    }

    /// Makes something, and answers so.
    pub fn creates(&mut self) {
        self.creates = true;
    }

    /// Whether requests may bring an idempotency key: they make something, for a caller that is known, and have a
    /// body that is read before its handler is called.
    pub(super) fn can_take_key(&self) -> bool {
        self.creates && !self.is_public && !self.streams_body
    }

    /// Takes a parameter in the query, a header or a cookie. A request with a parameter in its query that no argument takes is
    /// refused.
    pub fn parameter(&mut self, parameter: Parameter) {
        if matches!(parameter.parameter_in, ParameterIn::Query) {
            self.query.push(parameter.name.clone());
        }
        if let Some(documentation) = &mut self.documentation {
            documentation.parameters.push(parameter);
        }
    }

    /// Takes segments of the path, of types with these schemas.
    pub(super) fn segments(&mut self, schemas: fn() -> Vec<RefOr<Schema>>) {
        if let Some(documentation) = &mut self.documentation {
            documentation.segments = schemas();
        }
    }

    /// The names of all parameters in the query; `None` if any may be there.
    pub(super) fn query_parameters(&self) -> Option<Vec<String>> {
        (!self.reads_request).then(|| self.query.clone())
    }

    /// Takes a body of type `T` in this media type.
    pub fn body<T: ToSchema>(&mut self, content_type: &str) {
        let Some(documentation) = &mut self.documentation else {
            return;
        };
        let content = ContentBuilder::new().schema(Some(documentation.schema::<T>()));
        let body = RequestBodyBuilder::new().content(content_type, content.build());
        documentation.body = Some(body.required(Some(Required::True)).build());
    }

    /// Answers with `status` and a JSON body of type `T`.
    pub fn answer<T: ToSchema>(&mut self, status: StatusCode, description: &str) {
        self.answer_with(status, description, |documentation| {
            documentation.schema::<T>()
        });
    }

    /// Answers with `status` and a JSON body of that schema.
    pub(super) fn answer_with(
        &mut self,
        status: StatusCode,
        description: &str,
        schema: impl FnOnce(&mut Documentation) -> RefOr<Schema>,
    ) {
        if let Some(documentation) = &mut self.documentation {
            let schema = schema(documentation);
            documentation.answer(status, description, Some(("application/json", schema)));
        }
    }

    /// Answers with `status` and no body.
    pub fn empty_answer(&mut self, status: StatusCode, description: &str) {
        if let Some(documentation) = &mut self.documentation {
            documentation.answer(status, description, None);
        }
    }

    /// Answers with `status` and plain text.
    pub fn text_answer(&mut self, status: StatusCode, description: &str) {
        self.file_answer(status, "text/plain", description);
    }

    /// Answers with `status` and a file of that media type.
    pub fn file_answer(&mut self, status: StatusCode, content_type: &str, description: &str) {
        if let Some(documentation) = &mut self.documentation {
            let schema = <String as PartialSchema>::schema();
            documentation.answer(status, description, Some((content_type, schema)));
        }
    }

    /// Adds a header to the answer with `status`, which must have been described before.
    pub fn answer_header(&mut self, status: StatusCode, name: &str, description: &str) {
        let documentation = self.documentation.as_mut();
        if let Some(answer) = documentation.and_then(|it| it.answers.get_mut(&status.as_u16())) {
            let mut header = Header::default();
            header.description = Some(description.to_owned());
            answer.headers.insert(name.to_owned(), RefOr::T(header));
        }
    }

    /// May answer with this problem of the handler's error, unless its route says [otherwise](super::Route::problems).
    pub(super) fn problem_of_error(&mut self, problem: ProblemType) {
        if let Some(documentation) = &mut self.documentation {
            documentation.of_error.push(problem);
        }
    }

    /// Takes those problems of the handler's error that its route answers with: all of them, or the `named`.
    pub(super) fn take_problems_of_error(&mut self, named: Option<&[ProblemType]>) {
        let documentation = self.documentation.as_mut();
        let of_error = documentation.map(|it| std::mem::take(&mut it.of_error));
        for problem in of_error.unwrap_or_default() {
            if named.is_none_or(|named| named.contains(&problem)) {
                self.problem(problem);
            }
        }
    }

    /// May answer with this problem.
    pub fn problem(&mut self, problem: ProblemType) {
        if let Some(documentation) = &mut self.documentation {
            let of_status = documentation.problems.entry(problem.status).or_default();
            // The guard and the error of a handler may say the same in other words.
            if of_status.iter().all(|known| known.code != problem.code) {
                of_status.push(problem);
            }
        }
    }

    /// It as the document has it, at `path`.
    pub(super) fn into_documented(self, path: &str) -> Documented {
        let mut documentation = self.documentation.unwrap_or_default();
        let in_path = argument::path_parameters(path, &documentation.segments);
        documentation.parameters.splice(0..0, in_path);
        Documented {
            is_public: self.is_public,
            permission: self.permission,
            documentation,
        }
    }
}

impl Documentation {
    fn answer(
        &mut self,
        status: StatusCode,
        description: &str,
        content: Option<(&str, RefOr<Schema>)>,
    ) {
        let mut response = ResponseBuilder::new().description(description);
        if let Some((content_type, schema)) = content {
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response = response.content(content_type, content);
        }
        self.answers.insert(status.as_u16(), response.build());
    }

    /// The schema of `T`: by reference, with `T` and what it refers to among the document's components.
    pub(super) fn schema<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        let name = T::name().into_owned();
        let schema = <T as PartialSchema>::schema();
        if matches!(schema, RefOr::Ref(_)) || !is_component(&name) {
            return schema;
        }
        self.schemas.push((name.clone(), schema));
        RefOr::Ref(Ref::from_schema_name(name))
    }

    /// The body. JSON with `PATCH` is a merge patch, and may be sent as one (RFC 7396).
    fn body_of(&self, method: &HttpMethod) -> Option<RequestBody> {
        let mut body = self.body.clone()?;
        if let (HttpMethod::Patch, Some(content)) = (method, body.content.get("application/json")) {
            let content = content.clone();
            body.content
                .insert("application/merge-patch+json".to_owned(), content);
        }
        Some(body)
    }
}

/// An operation for the document.
pub(super) struct Documented {
    is_public: bool,
    permission: Option<PermissionSpec>,
    documentation: Documentation,
}

impl Documented {
    /// The schemas of its bodies and of what these refer to, by name.
    pub(super) fn schemas(&self) -> &[(String, RefOr<Schema>)] {
        &self.documentation.schemas
    }

    /// The operation as its path has it. A caller of a guarded one brings credentials in one of the ways of `schemes`.
    pub(super) fn item(
        &self,
        method: HttpMethod,
        about: &About<'_>,
        schemes: &[CredentialScheme],
    ) -> PathItem {
        let documentation = &self.documentation;
        let mut operation = OperationBuilder::new()
            .operation_id(Some(about.id))
            .tag(about.tag)
            .summary(about.summary)
            .description(about.description)
            .request_body(documentation.body_of(&method))
            .parameters(Some(documentation.parameters.clone()));
        for (status, answer) in &documentation.answers {
            operation = operation.response(status.to_string(), answer.clone());
        }
        for (status, problems) in &documentation.problems {
            operation = operation.response(status.to_string(), problem_response(problems));
        }
        let security: Vec<_> = if self.is_public {
            vec![SecurityRequirement::default()]
        } else {
            schemes.iter().map(CredentialScheme::requirement).collect()
        };
        operation = operation.securities(Some(security));
        if let Some(permission) = self.permission {
            let extensions = ExtensionsBuilder::new()
                .add("x-permission", permission.name)
                .build();
            operation = operation.extensions(Some(extensions));
        }
        PathItem::new(method, operation.build())
    }
}

/// The documentation of an operation, besides its types.
pub(super) struct About<'a> {
    pub(super) id: &'a str,
    pub(super) tag: &'a str,
    pub(super) summary: Option<&'a str>,
    pub(super) description: Option<&'a str>,
}

/// One response for all problems of a status, with the first as its example.
fn problem_response(problems: &[ProblemType]) -> Response {
    let description = problems
        .iter()
        .map(|problem| format!("`{}`: {}.", problem.code, problem.description));
    let schema = Ref::from_schema_name(<ProblemBody<'_> as ToSchema>::name());
    let example = problems.first().map(|it| it.problem().body(None));
    let example = example.and_then(|body| serde_json::from_slice(&body).ok());
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .example(example)
        .build();
    ResponseBuilder::new()
        .description(description.collect::<Vec<_>>().join(" "))
        .content("application/problem+json", content)
        .build()
}

/// Whether a type is a named struct for readers of the document; not `Vec` or `String`.
fn is_component(name: &str) -> bool {
    const INLINE: [&str; 8] = [
        "String", "str", "Vec", "Option", "HashMap", "BTreeMap", "Uuid", "Value",
    ];
    name.starts_with(|first: char| first.is_ascii_uppercase()) && !INLINE.contains(&name)
}
