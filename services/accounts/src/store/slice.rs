//! One page of a table: the order of its rows, the row that it follows, and how many rows it has at most.

use dotmac_platform::routing::{Sort, SortColumn};

/// The sort key of tables whose ids sort by the time of creation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ByCreation {
    CreatedAt,
}

impl SortColumn for ByCreation {
    const COLUMNS: &'static [(&'static str, Self)] = &[("created_at", Self::CreatedAt)];
    const DEFAULT: Sort<Self> = Sort::ascending(Self::CreatedAt);
}

/// Which rows a page has; `K` is the sort key of a row.
pub(crate) struct Slice<K> {
    pub(crate) is_descending: bool,
    /// The sort key of the last row of the page before.
    pub(crate) after: Option<K>,
    pub(crate) limit: i64,
}

impl<K> Slice<K> {
    /// At most `limit` rows behind `after`, in the order of `sort`.
    pub(crate) fn new<C>(sort: Sort<C>, after: Option<K>, limit: i64) -> Self {
        Self {
            is_descending: sort.is_descending,
            after,
            limit,
        }
    }
}

/// Those rows of a boxed query that a [`Slice`] has, whose sort key is the column `$id`.
macro_rules! sliced {
    ($query:expr, $id:expr, $slice:expr) => {{
        let slice = $slice;
        let query = $query.limit(slice.limit);
        let query = match (slice.is_descending, slice.after) {
            (true, Some(after)) => query.filter($id.lt(after)),
            (false, Some(after)) => query.filter($id.gt(after)),
            (_, None) => query,
        };
        match slice.is_descending {
            true => query.order($id.desc()),
            false => query.order($id.asc()),
        }
    }};
}

pub(super) use sliced;
