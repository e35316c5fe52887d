//! `sort=-created_at`: the order of a list, by the columns that it names and no others.

use std::{
    fmt,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use serde::Deserialize;
use utoipa::openapi::{
    ObjectBuilder, Required, Type,
    path::{ParameterBuilder, ParameterIn},
};

use super::{Argument, Operation, query};
use crate::http::Problem;

/// Columns that a list can be sorted by.
///
/// ```
/// use dotmac_platform::routing::{Sort, SortColumn};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum NoteColumn {
///     CreatedAt,
///     Text,
/// }
///
/// impl SortColumn for NoteColumn {
///     const COLUMNS: &'static [(&'static str, Self)] =
///         &[("created_at", Self::CreatedAt), ("text", Self::Text)];
///     const DEFAULT: Sort<Self> = Sort::descending(Self::CreatedAt);
/// }
/// ```
pub trait SortColumn: Copy + PartialEq + 'static {
    /// Each column with the name that clients give.
    const COLUMNS: &'static [(&'static str, Self)];
    /// The order of a list whose client does not name one.
    const DEFAULT: Sort<Self>;
}

/// The query parameter `sort`: a column, with `-` before it for the descending order. Any other text is answered 400
/// `invalid_query`.
///
/// Its text, [`to_string`](ToString::to_string), goes into [`CursorScope`](super::CursorScope): a cursor is good for one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<C> {
    /// What is sorted by.
    pub column: C,
    /// The largest first.
    pub is_descending: bool,
}

#[derive(Deserialize)]
struct Asked {
    sort: Option<String>,
}

impl<C> Sort<C> {
    /// The smallest first.
    pub const fn ascending(column: C) -> Self {
        Self {
            column,
            is_descending: false,
        }
    }

    /// The largest first.
    pub const fn descending(column: C) -> Self {
        Self {
            column,
            is_descending: true,
        }
    }
}

impl<C: SortColumn> Sort<C> {
    fn read(text: &str) -> Option<Self> {
        let (name, is_descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let (_, column) = C::COLUMNS.iter().find(|(column, _)| *column == name)?;
        Some(Self {
            column: *column,
            is_descending,
        })
    }

    /// Every order, as clients write it.
    fn all() -> Vec<String> {
        let names = C::COLUMNS.iter().map(|(name, _)| *name);
        names
            .flat_map(|name| [name.to_owned(), format!("-{name}")])
            .collect()
    }
}

impl<C: SortColumn> fmt::Display for Sort<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = C::COLUMNS.iter().find(|(_, column)| *column == self.column);
        let (name, _) = column.ok_or(fmt::Error)?;
        write!(f, "{}{name}", if self.is_descending { "-" } else { "" })
    }
}

impl<C: SortColumn> FromRequest for Sort<C> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let asked = query::read::<Asked>(request.query_string());
        ready(asked.and_then(|asked| match &asked.sort {
            None => Ok(C::DEFAULT),
            Some(text) => Self::read(text).ok_or_else(|| {
                let known = format!("is one of {}", Self::all().join(", "));
                query::INVALID.problem().field_error("sort", known)
            }),
        }))
    }
}

impl<C: SortColumn> Argument for Sort<C> {
    fn describe(operation: &mut Operation) {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::all()))
            .default(Some(C::DEFAULT.to_string().into()));
        operation.parameter(
            ParameterBuilder::new()
                .name("sort")
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(
                    "The order; `-` before a column has the largest first.",
                ))
                .schema(Some(schema))
                .build(),
        );
        operation.problem(query::INVALID);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Column {
        CreatedAt,
        Name,
    }

    impl SortColumn for Column {
        const COLUMNS: &'static [(&'static str, Self)] =
            &[("created_at", Self::CreatedAt), ("name", Self::Name)];
        const DEFAULT: Sort<Self> = Sort::descending(Self::CreatedAt);
    }

    fn of(query: &str) -> Option<Sort<Column>> {
        let request = TestRequest::with_uri(&format!("/notes{query}")).to_http_request();
        Sort::from_request(&request, &mut Payload::None)
            .into_inner()
            .ok()
    }

    #[test]
    fn columns_that_are_listed_can_be_sorted_by_in_both_directions() {
        assert_eq!(of(""), Some(Sort::descending(Column::CreatedAt)));
        assert_eq!(
            of("?sort=created_at"),
            Some(Sort::ascending(Column::CreatedAt))
        );
        assert_eq!(
            of("?limit=3&sort=-name"),
            Some(Sort::descending(Column::Name))
        );
        for wrong in [
            "tenant_id",
            "",
            "-",
            "--name",
            "+name",
            "Name",
            "name,created_at",
            "name desc",
        ] {
            assert_eq!(
                of(&format!("?sort={}", wrong.replace(' ', "%20"))),
                None,
                "{wrong}"
            );
        }
    }

    #[test]
    fn its_text_is_what_clients_write() {
        for text in ["created_at", "-created_at", "name", "-name"] {
            let sort = Sort::<Column>::read(text);
            assert_eq!(sort.map(|sort| sort.to_string()).as_deref(), Some(text));
        }
    }
}
