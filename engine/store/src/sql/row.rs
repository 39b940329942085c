//! One row of an answer, read column by column from the left.

use cerebelum_history::{Position, Timestamp};
use rusqlite::types::Value as SqliteValue;
use rusqlite::types::Value::Null;
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _, TypeInfo};

use crate::fault::Error;

/// A row, and how far it has been read.
pub(crate) struct Row {
    columns: Columns,
    next: usize,
}

enum Columns {
    Sqlite(Vec<SqliteValue>),
    Postgres(PgRow),
}

macro_rules! read {
    ($self:ident, $kind:ident, $type:ty) => {{
        let at = $self.advance();
        match &mut $self.columns {
            Columns::Sqlite(values) => match values.get_mut(at).map(|value| std::mem::replace(value, Null)) {
                Some(SqliteValue::$kind(value)) => Ok(Some(value)),
                Some(Null) => Ok(None),
                Some(_) | None => Err(Error::Unexpected("a column is of another type")),
            },
            Columns::Postgres(row) => Ok(row.try_get::<Option<$type>, _>(at)?),
        }
    }};
}

impl Row {
    /// Goes on with this column, counted from 0.
    pub(crate) fn seek(&mut self, column: usize) {
        self.next = column;
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, Error> {
        if let Columns::Postgres(row) = &self.columns {
            let narrow = match row.column(self.next).type_info().name() {
                "INT2" => Some(row.try_get::<Option<i16>, _>(self.next)?.map(i64::from)),
                "INT4" => Some(row.try_get::<Option<i32>, _>(self.next)?.map(i64::from)),
                _ => None,
            };
            if let Some(int) = narrow {
                self.next += 1;
                return Ok(int);
            }
        }
        read!(self, Integer, i64)
    }

    pub(crate) fn int(&mut self) -> Result<i64, Error> {
        self.opt_int()?.ok_or(Error::Unexpected("a number is missing"))
    }

    /// A number that counts something.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.int()?).map_err(|_| Error::Unexpected("a number is out of range"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, Error> {
        read!(self, Text, String)
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        self.opt_text()?.ok_or(Error::Unexpected("a text is missing"))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        read!(self, Blob, Vec<u8>)?.ok_or(Error::Unexpected("bytes are missing"))
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

impl From<Vec<SqliteValue>> for Row {
    fn from(values: Vec<SqliteValue>) -> Self {
        Self { columns: Columns::Sqlite(values), next: 0 }
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
