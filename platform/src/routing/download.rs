//! A file as an answer, written while it is sent.

use std::marker::PhantomData;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, ContentDisposition, DispositionParam, DispositionType},
    },
    web::Bytes,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream::LocalBoxStream};

use super::{Operation, Reply};
use crate::http::Problem;

/// A kind of files that are made for a request.
pub trait FileKind: 'static {
    /// Its media type.
    const CONTENT_TYPE: &'static str;
    /// What is in it, in a sentence.
    const DESCRIPTION: &'static str;
}

/// 200: a file of kind `K`, to be saved under a name, in pieces as they are made. Nothing keeps it.
///
/// The head of the answer is sent before the pieces are made: one that fails ends the connection, so the client sees that
/// the file is not whole, and the log has why.
pub struct Download<K> {
    name: String,
    pieces: LocalBoxStream<'static, Result<Bytes, Problem>>,
    kind: PhantomData<K>,
}

impl<K: FileKind> Download<K> {
    /// The file `name`, which consists of `pieces`.
    pub fn new<E: Into<Problem> + 'static>(
        name: impl Into<String>,
        pieces: impl Stream<Item = Result<String, E>> + 'static,
    ) -> Self {
        let pieces = pieces.map_ok(Bytes::from).map_err(Into::into);
        Self {
            name: name.into(),
            pieces: pieces.boxed_local(),
            kind: PhantomData,
        }
    }
}

impl<K: FileKind> Reply for Download<K> {
    fn describe(operation: &mut Operation) {
        operation.file_answer(StatusCode::OK, K::CONTENT_TYPE, K::DESCRIPTION);
        operation.answer_header(
            StatusCode::OK,
            "Content-Disposition",
            "The name to save it under.",
        );
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        let disposition = ContentDisposition {
            disposition: DispositionType::Attachment,
            parameters: vec![DispositionParam::Filename(self.name)],
        };
        HttpResponse::Ok()
            .content_type(K::CONTENT_TYPE)
            .insert_header(disposition)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .streaming(self.pieces)
    }
}
