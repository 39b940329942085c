//! One row of an answer, read column by column from the left.

use cerebelum_history::{Position, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Error, Row as _, TypeInfo};

/// A row, and how far it has been read.
pub(crate) struct Row {
    columns: Columns,
    next: usize,
}

enum Columns {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! read {
    ($self:ident, $type:ty) => {{
        let at = $self.advance();
        match &$self.columns {
            Columns::Sqlite(row) => row.try_get::<$type, _>(at),
            Columns::Postgres(row) => row.try_get::<$type, _>(at),
        }
    }};
}

impl Row {
    /// Goes on with this column, counted from 0.
    pub(crate) fn seek(&mut self, column: usize) {
        self.next = column;
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, Error> {
        let at = self.advance();
        match &self.columns {
            Columns::Sqlite(row) => row.try_get(at),
            Columns::Postgres(row) => match row.column(at).type_info().name() {
                "INT2" => Ok(row.try_get::<Option<i16>, _>(at)?.map(i64::from)),
                "INT4" => Ok(row.try_get::<Option<i32>, _>(at)?.map(i64::from)),
                _ => row.try_get(at),
            },
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, Error> {
        self.opt_int()?.ok_or_else(|| unexpected("a number is missing"))
    }

    /// A number that counts something.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.int()?).map_err(|_| unexpected("a number is out of range"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, Error> {
        read!(self, Option<String>)
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        read!(self, String)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        read!(self, Vec<u8>)
    }

    pub(crate) fn position(&mut self) -> Result<Position, Error> {
        Ok(Position(self.count()?))
    }

    pub(crate) fn at(&mut self) -> Result<Timestamp, Error> {
        Ok(moment(self.int()?))
    }

    pub(crate) fn opt_at(&mut self) -> Result<Option<Timestamp>, Error> {
        Ok(self.opt_int()?.map(moment))
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self { columns: Columns::Sqlite(row), next: 0 }
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self { columns: Columns::Postgres(row), next: 0 }
    }
}

/// The end of time is stored as the largest signed number.
fn moment(at: i64) -> Timestamp {
    if at == i64::MAX { Timestamp(u64::MAX) } else { Timestamp(u64::try_from(at).unwrap_or(0)) }
}

fn unexpected(what: &str) -> Error {
    Error::Decode(what.into())
}
