//! One row of a result, read column by column from the left.

use cerebelum_history::{Position, Timestamp};
use rusqlite::types::ValueRef;
use sqlx::postgres::PgRow;
use sqlx::{Column, Row as _, TypeInfo};

use crate::db_error::Error;

/// A row, and the index of the next column to read.
pub(crate) struct Row {
    columns: Columns,
    next: usize,
}

enum Columns {
    Sqlite(Vec<SqliteValue>),
    Postgres(PgRow),
}

/// The value of a SQLite column. Whether a text is valid UTF-8 is checked when it is read, because the rest of the row
/// may still be of use.
pub(super) enum SqliteValue {
    Null,
    Int(i64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    /// No column of the store holds fractions.
    Real,
}

impl From<ValueRef<'_>> for SqliteValue {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(int) => Self::Int(int),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
            ValueRef::Real(_) => Self::Real,
        }
    }
}

const MISFIT: Error = Error::Unexpected("a column is of another type");

impl Row {
    /// Moves to this column, counted from 0.
    pub(crate) fn seek(&mut self, column: usize) {
        self.next = column;
    }

    /// The first columns in words, to name a row of which others cannot be read. All of them can still be read afterwards.
    pub(crate) fn glimpse(&self, columns: usize) -> String {
        let shown: Vec<String> = (0..columns).map(|column| self.shown(column).unwrap_or_else(|| "?".into())).collect();
        shown.join(" ")
    }

    fn shown(&self, column: usize) -> Option<String> {
        match &self.columns {
            Columns::Sqlite(values) => match values.get(column)? {
                SqliteValue::Int(int) => Some(int.to_string()),
                SqliteValue::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                SqliteValue::Null | SqliteValue::Bytes(_) | SqliteValue::Real => None,
            },
            Columns::Postgres(row) => {
                let int = || row.try_get::<i64, _>(column).map(|int| int.to_string());
                let short = || row.try_get::<i32, _>(column).map(|int| int.to_string());
                row.try_get::<String, _>(column).or_else(|_| int()).or_else(|_| short()).ok()
            }
        }
    }

    /// Reads a text that will be read a second time.
    pub(crate) fn text_again(&mut self, column: usize) -> Result<String, Error> {
        self.seek(column);
        let text = self.text()?;
        if let Columns::Sqlite(values) = &mut self.columns {
            values[column] = SqliteValue::Text(text.clone().into_bytes());
        }
        Ok(text)
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, Error> {
        let at = self.advance();
        match &self.columns {
            Columns::Sqlite(values) => match values.get(at) {
                Some(SqliteValue::Int(int)) => Ok(Some(*int)),
                Some(SqliteValue::Null) => Ok(None),
                Some(_) | None => Err(MISFIT),
            },
            Columns::Postgres(row) => Ok(match row.column(at).type_info().name() {
                "INT2" => row.try_get::<Option<i16>, _>(at)?.map(i64::from),
                "INT4" => row.try_get::<Option<i32>, _>(at)?.map(i64::from),
                _ => row.try_get(at)?,
            }),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, Error> {
        self.opt_int()?.ok_or(Error::Unexpected("a number is missing"))
    }

    /// Reads a number that counts something.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.int()?).map_err(|_| Error::Unexpected("a number is out of range"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, Error> {
        let at = self.advance();
        match &mut self.columns {
            Columns::Sqlite(values) => match values.get_mut(at) {
                Some(SqliteValue::Text(text)) => {
                    let text = String::from_utf8(std::mem::take(text));
                    text.map(Some).map_err(|_| Error::Unexpected("a text is damaged"))
                }
                Some(SqliteValue::Null) => Ok(None),
                Some(_) | None => Err(MISFIT),
            },
            Columns::Postgres(row) => Ok(row.try_get(at)?),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        self.opt_text()?.ok_or(Error::Unexpected("a text is missing"))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let at = self.advance();
        match &mut self.columns {
            Columns::Sqlite(values) => match values.get_mut(at) {
                Some(SqliteValue::Bytes(bytes)) => Ok(std::mem::take(bytes)),
                Some(_) | None => Err(MISFIT),
            },
            Columns::Postgres(row) => Ok(row.try_get(at)?),
        }
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

/// A time from the database. The latest possible time is stored as the largest signed number.
fn moment(at: i64) -> Timestamp {
    if at == i64::MAX { Timestamp(u64::MAX) } else { Timestamp(u64::try_from(at).unwrap_or(0)) }
}
