//! The query parameter `cursor` by itself: for work that is asked for piece by piece, and is no list.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, openapi::path::ParameterIn};

use super::{
    Argument, CursorScope, InvalidRequest, Operation,
    page::{CursorKey, INVALID},
    query,
};
use crate::{http::Problem, supervised::provided};

/// Where the piece before has ended, as the client gives it back: opaque, authenticated, and good for what it was made for
/// alone, as the cursor of a [`Page`](super::Page).
#[derive(Clone)]
pub struct Resume {
    cursor: Option<String>,
    key: CursorKey,
}

#[derive(Deserialize, IntoParams)]
struct Asked {
    /// `next_cursor` of the answer before: it goes on there.
    cursor: Option<String>,
}

impl Resume {
    /// Where it goes on; `None` for the first piece.
    ///
    /// # Errors
    ///
    /// 400 `invalid_cursor` for one that was not made for `scope`.
    pub fn place<K: DeserializeOwned>(
        &self,
        scope: &CursorScope<'_>,
    ) -> Result<Option<K>, InvalidRequest> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        match self.key.open(scope, cursor) {
            Some(place) => Ok(Some(place)),
            None => Err(InvalidRequest::cursor("cursor")),
        }
    }

    /// The cursor with which it goes on at `place`.
    pub fn cursor(&self, scope: &CursorScope<'_>, place: &impl Serialize) -> Option<String> {
        self.key.seal(scope, place)
    }
}

impl FromRequest for Resume {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = || {
            let Asked { cursor } = query::read(request.query_string())?;
            let key = provided(request)?;
            Ok(Self { cursor, key })
        };
        ready(read())
    }
}

impl Argument for Resume {
    fn describe(operation: &mut Operation) {
        let parameters = Asked::into_params(|| Some(ParameterIn::Query));
        parameters
            .into_iter()
            .for_each(|parameter| operation.parameter(parameter));
        operation.problem(query::INVALID);
        operation.problem(INVALID);
        operation.needs::<CursorKey>();
    }
}
