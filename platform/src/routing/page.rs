//! Lists in pages: `limit`, an opaque `cursor`, and `{"items": […], "next_cursor": …}`; with `count=true` also `total`.

mod cursor;

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, RefOr, Type, path::ParameterIn, schema::Schema},
};

pub(crate) use cursor::CursorKey;
pub use cursor::CursorScope;
pub(super) use cursor::INVALID;

use super::{Argument, InvalidRequest, Operation, Reply, query};
use crate::{http::Problem, supervised::provided};

/// Items of a page unless the client asks for another number.
const LIMIT: u32 = 50;

/// The most that a client can ask for.
const MOST: u32 = 200;

/// The most items that `count=true` counts.
const COUNTED: u32 = 1000;

/// The query parameters `limit`, `cursor` and `count`.
#[derive(Clone)]
pub struct Paging {
    limit: u32,
    is_counted: bool,
    /// The parameter and its value.
    cursor: Option<(&'static str, String)>,
    key: CursorKey,
}

#[derive(Deserialize, IntoParams)]
struct Asked {
    /// How many items, at most 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Whether to count the items of all pages: `total`.
    #[param(value_type = Option<bool>, default = false)]
    count: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// The items, in their order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; `null` on the last one.
    pub next_cursor: Option<String>,
    /// The number of items of all pages, if the client has asked for it.
    #[serde(flatten)]
    pub total: Option<Total>,
}

/// The number of items of all pages of a list, which is counted up to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// The number, or 1000 if there are more.
    pub total: u32,
    /// Whether there are no more than `total`.
    pub total_is_exact: bool,
}

impl Total {
    fn of(items: usize) -> Self {
        let most = usize::try_from(COUNTED).unwrap_or(usize::MAX);
        Self {
            total: u32::try_from(items.min(most)).unwrap_or(COUNTED),
            total_is_exact: items <= most,
        }
    }
}

/// Which rows of a list a page needs; `K` is their sort key. Made by [`Paging::window`], read by [`rows!`](crate::rows).
#[derive(Clone, Debug)]
pub struct Window<K> {
    after: Option<K>,
    limit: i64,
    is_counted: bool,
}

/// Rows for a page: one more than it has, if there is a next page.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The number of rows of all pages, if the client has asked for it.
    pub total: Option<Total>,
}

impl<T> Rows<T> {
    /// What `show` makes of each row.
    #[must_use]
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Rows<U> {
        Rows {
            rows: self.rows.into_iter().map(show).collect(),
            total: self.total,
        }
    }
}

/// The [`Rows`](crate::routing::Rows) that a page needs, or the error of the query:
/// `rows!(window, |after, limit| store::page(tx, after, limit))`.
///
/// The query gets the sort key of the row that they follow, and how many to read at most. To count, it runs a second time,
/// so what it moves is cloned in it. It is awaited in the function around it.
#[macro_export]
macro_rules! rows {
    ($window:expr, |$after:ident, $limit:ident| $query:expr) => {{
        let mut reading = $crate::routing::Reading::of($window);
        loop {
            let Some(($after, $limit)) = reading.wanted() else {
                break Ok(reading.rows());
            };
            match $query.await {
                Ok(rows) => reading.add(rows),
                Err(error) => break Err(error),
            }
        }
    }};
}

/// What [`rows!`](crate::rows) has read so far.
#[doc(hidden)]
pub struct Reading<K, T> {
    window: Window<K>,
    rows: Option<Vec<T>>,
    total: Option<Total>,
}

impl<K: Clone, T> Reading<K, T> {
    #[must_use]
    pub const fn of(window: Window<K>) -> Self {
        Self {
            window,
            rows: None,
            total: None,
        }
    }

    /// What to read next, if anything: the page, then all rows to count them, unless the page has them all.
    pub fn wanted(&mut self) -> Option<(Option<K>, i64)> {
        let Some(rows) = &self.rows else {
            return Some((self.window.after.clone(), self.window.limit));
        };
        if !self.window.is_counted || self.total.is_some() {
            return None;
        }
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        if self.window.after.is_none() && read < self.window.limit {
            self.total = Some(Total::of(rows.len()));
            return None;
        }
        Some((None, i64::from(COUNTED) + 1))
    }

    pub fn add(&mut self, rows: Vec<T>) {
        match &self.rows {
            None => self.rows = Some(rows),
            Some(_) => self.total = Some(Total::of(rows.len())),
        }
    }

    pub fn rows(self) -> Rows<T> {
        Rows {
            rows: self.rows.unwrap_or_default(),
            total: self.total,
        }
    }
}

impl<T> Page<T> {
    /// A list that is so short that it has one page.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self {
            items,
            next_cursor: None,
            total: None,
        }
    }

    /// The same page of what `show` makes of each item: rows, as they are answered.
    #[must_use]
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(show).collect(),
            next_cursor: self.next_cursor,
            total: self.total,
        }
    }
}

impl Paging {
    /// The rows that the page needs of the list that `scope` says.
    ///
    /// # Errors
    ///
    /// 400 `invalid_cursor` for a cursor that was not made for `scope`.
    pub fn window<K: DeserializeOwned>(
        &self,
        scope: &CursorScope<'_>,
    ) -> Result<Window<K>, InvalidRequest> {
        Ok(self.window_after(self.after(scope)?))
    }

    /// The rows that a page needs that begins after `after`.
    #[must_use]
    pub fn window_after<K>(&self, after: Option<K>) -> Window<K> {
        Window {
            after,
            // The one more shows whether there is a next page.
            limit: i64::from(self.limit) + 1,
            is_counted: self.is_counted,
        }
    }

    /// The sort key after which the page begins; `None` for the first page.
    ///
    /// # Errors
    ///
    /// 400 `invalid_cursor` for one that was not made for `scope`.
    pub fn after<K: DeserializeOwned>(
        &self,
        scope: &CursorScope<'_>,
    ) -> Result<Option<K>, InvalidRequest> {
        let Some((parameter, cursor)) = &self.cursor else {
            return Ok(None);
        };
        match self.key.open(scope, cursor) {
            Some(key) => Ok(Some(key)),
            None => Err(InvalidRequest::cursor(parameter)),
        }
    }

    /// The same with the cursor that another parameter has.
    #[must_use]
    pub fn with_cursor(self, parameter: &'static str, cursor: String) -> Self {
        Self {
            cursor: Some((parameter, cursor)),
            ..self
        }
    }

    /// The page of the rows that its [`window`](Self::window) has read; `key` is the sort key of an item.
    pub fn page<T, K: Serialize>(
        &self,
        scope: &CursorScope<'_>,
        read: Rows<T>,
        key: impl Fn(&T) -> K,
    ) -> Page<T> {
        let Rows { mut rows, total } = read;
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let is_last = rows.len() <= most;
        rows.truncate(most);
        let last = rows.last().filter(|_| !is_last);
        Page {
            next_cursor: last.and_then(|item| self.key.seal(scope, &key(item))),
            items: rows,
            total,
        }
    }
}

impl Paging {
    /// The page of a list that is read whole, since it has few items. `all` is in the order of `key`, the smallest first, which no
    /// two items have in common.
    ///
    /// # Errors
    ///
    /// 400 `invalid_cursor`.
    pub fn page_of_all<T, K: Serialize + DeserializeOwned + PartialOrd>(
        &self,
        scope: &CursorScope<'_>,
        mut all: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, InvalidRequest> {
        let total = self.is_counted.then(|| Total::of(all.len()));
        if let Some(after) = self.after::<K>(scope)? {
            all.retain(|item| key(item) > after);
        }
        Ok(self.page(scope, Rows { rows: all, total }, key))
    }
}

impl FromRequest for Paging {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(paging(request))
    }
}

fn paging(request: &HttpRequest) -> Result<Paging, Problem> {
    let Asked {
        limit,
        cursor,
        count,
    } = query::read(request.query_string())?;
    let limit = limit.map_or(Some(LIMIT), |text| text.parse().ok());
    let limit = limit.filter(|limit| (1..=MOST).contains(limit));
    let refused = |field: &'static str, right: String| {
        let problem = query::INVALID.problem();
        problem.field_error(field, right)
    };
    let is_counted = match count.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(refused("count", "is `true` or `false`".to_owned())),
    };
    let whole_number = || refused("limit", format!("is a whole number from 1 to {MOST}"));
    Ok(Paging {
        limit: limit.ok_or_else(whole_number)?,
        is_counted,
        cursor: cursor.map(|cursor| ("cursor", cursor)),
        key: provided(request)?,
    })
}

impl Argument for Paging {
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

impl<T: Serialize + ToSchema + 'static> Reply for Page<T> {
    fn describe(operation: &mut Operation) {
        operation.answer_with(StatusCode::OK, "One page of the list.", |documentation| {
            page_schema(documentation.schema::<T>())
        });
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self)
    }
}

fn page_schema(item: RefOr<Schema>) -> RefOr<Schema> {
    let cursor = ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([
            Type::String,
            Type::Null,
        ]))
        .description(Some(
            "The `cursor` of the next page; `null` on the last one.",
        ));
    let total = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .maximum(Some(COUNTED))
        .description(Some(
            "With `count=true`: the number of items of all pages, or 1000 if there are more.",
        ));
    let is_exact = ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .description(Some(
            "With `count=true`: whether there are no more than `total`.",
        ));
    ObjectBuilder::new()
        .property("items", ArrayBuilder::new().items(item))
        .required("items")
        .property("next_cursor", cursor)
        .required("next_cursor")
        .property("total", total)
        .property("total_is_exact", is_exact)
        .into()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests;
