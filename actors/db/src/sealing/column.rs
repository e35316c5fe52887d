//! Where a sealed value belongs.

use uuid::Uuid;

use crate::types::Id;

/// A column of sealed values, in a table whose key is an [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedColumn {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    pub(super) id: &'static str,
}

/// One value's place: a column in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPlace {
    pub(super) column: SealedColumn,
    pub(super) row: Uuid,
}

impl SealedColumn {
    /// The column `column` of `table`, whose rows have their ids in the column `id`. The names are authenticated with
    /// each value, so a table or column that is renamed keeps the names here.
    ///
    /// # Panics
    ///
    /// When it is evaluated, at compile time for a constant, if a name is not of lower case letters, digits and `_`.
    #[must_use]
    pub const fn new(table: &'static str, column: &'static str) -> Self {
        Self::identified_by(table, column, "id")
    }

    /// As [`new`](Self::new), with the column that holds the ids.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn identified_by(
        table: &'static str,
        column: &'static str,
        id: &'static str,
    ) -> Self {
        assert!(
            is_name(table) && is_name(column) && is_name(id),
            "names of tables and columns are lower case letters, digits and `_`"
        );
        Self { table, column, id }
    }

    /// The place of the value in the row `id`.
    #[must_use]
    pub const fn of<T>(self, id: Id<T>) -> SealedPlace {
        SealedPlace {
            column: self,
            row: id.uuid(),
        }
    }
}

impl SealedPlace {
    /// The additional data authenticated with a value here; `head` is the begin of its envelope.
    pub(super) fn associated_data(&self, head: &[u8]) -> Vec<u8> {
        let mut data = head.to_vec();
        // Each part with its length, so that none can run into the next.
        for part in [
            self.column.table.as_bytes(),
            self.column.column.as_bytes(),
            self.row.as_bytes(),
        ] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part);
        }
        data
    }
}

/// Names become part of statements, so only such as need no quotation marks.
const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        let is_right = match bytes[place] {
            b'a'..=b'z' | b'_' => true,
            b'0'..=b'9' => place > 0,
            _ => false,
        };
        if !is_right {
            return false;
        }
        place += 1;
    }
    !bytes.is_empty() && bytes.len() <= 63
}
