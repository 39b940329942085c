//! The arguments of a statement: single values, or many rows at once.

use std::borrow::Cow;

use cerebelum_history::{Position, Timestamp};
use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use super::statement::ColumnType;
use crate::db_error::Error;
use crate::model::{Incarnation, TenantId};

/// One value for the database.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<&'a [u8]>),
}

impl<'a> Value<'a> {
    fn text(text: Option<impl Into<Cow<'a, str>>>) -> Self {
        // Neither database stores a raw NUL in a text reliably. JSON never has one; other texts are escaped before.
        Self::Text(text.map(Into::into).map(|text| match text.contains('\0') {
            true => Cow::Owned(text.replace('\0', "\\u0000")),
            false => text,
        }))
    }
}

/// Many rows for one statement.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    rows: Vec<Vec<Value<'a>>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn push(&mut self, row: impl Into<Vec<Value<'a>>>) {
        self.rows.push(row.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[Value<'a>]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// All rows as one JSON text: an array of arrays, with bytes as hex digits.
    pub(crate) fn to_json(&self) -> String {
        let mut json = String::with_capacity(64 * self.rows.len());
        json.push('[');
        for (index, row) in self.rows.iter().enumerate() {
            json.push_str(if index == 0 { "[" } else { ",[" });
            for (index, value) in row.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_json(&mut json, value);
            }
            json.push(']');
        }
        json.push(']');
        json
    }

    /// All rows as single values, row by row.
    pub(crate) fn add_values(&self, arguments: &mut PgArguments) -> Result<(), Error> {
        self.rows.iter().try_for_each(|row| add_values(row, arguments))
    }

    /// All rows as one array per column.
    pub(crate) fn add_columns(&self, columns: &[ColumnType], arguments: &mut PgArguments) -> Result<(), Error> {
        for (index, kind) in columns.iter().enumerate() {
            let column = self.rows.iter().map(|row| &row[index]);
            let added = match kind {
                ColumnType::Int => arguments.add(column.map(as_int).collect::<Vec<_>>()),
                ColumnType::Text => arguments.add(column.map(as_text).collect::<Vec<_>>()),
                ColumnType::Bytes => arguments.add(column.map(as_bytes).collect::<Vec<_>>()),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(())
    }
}

fn as_int(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(int) => *int,
        Value::Text(_) | Value::Bytes(_) => unreachable!("an int column holds ints"),
    }
}

fn as_text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Text(text) => text.as_deref(),
        Value::Int(_) | Value::Bytes(_) => unreachable!("a text column holds texts"),
    }
}

fn as_bytes<'v>(value: &'v Value<'_>) -> Option<&'v [u8]> {
    match value {
        Value::Bytes(bytes) => *bytes,
        Value::Int(_) | Value::Text(_) => unreachable!("a bytes column holds bytes"),
    }
}

fn write_json(json: &mut String, value: &Value<'_>) {
    use std::fmt::Write;
    match value {
        Value::Int(None) | Value::Text(None) | Value::Bytes(None) => json.push_str("null"),
        Value::Int(Some(int)) => {
            let _ = write!(json, "{int}");
        }
        Value::Text(Some(text)) => {
            json.push_str(&serde_json::to_string(text).expect("a text has a JSON form"));
        }
        Value::Bytes(Some(bytes)) => {
            json.push('"');
            for byte in *bytes {
                let _ = write!(json, "{byte:02x}");
            }
            json.push('"');
        }
    }
}

/// Values as arguments for PostgreSQL.
pub(crate) fn for_postgres(values: &[Value<'_>]) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    add_values(values, &mut arguments)?;
    Ok(arguments)
}

fn add_values(values: &[Value<'_>], arguments: &mut PgArguments) -> Result<(), Error> {
    for value in values {
        let added = match value {
            Value::Int(int) => arguments.add(int),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Bytes(bytes) => arguments.add(*bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(())
}

impl From<i64> for Value<'_> {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

impl From<u32> for Value<'_> {
    fn from(int: u32) -> Self {
        Self::Int(Some(int.into()))
    }
}

impl From<usize> for Value<'_> {
    fn from(int: usize) -> Self {
        Self::Int(Some(i64::try_from(int).unwrap_or(i64::MAX)))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Int(Some(flag.into()))
    }
}

impl From<TenantId> for Value<'_> {
    fn from(tenant: TenantId) -> Self {
        Self::Int(Some(tenant.0.into()))
    }
}

impl From<Incarnation> for Value<'_> {
    fn from(incarnation: Incarnation) -> Self {
        Self::Int(Some(incarnation.0))
    }
}

impl From<Position> for Value<'_> {
    fn from(position: Position) -> Self {
        Self::Int(Some(i64::try_from(position.0).unwrap_or(i64::MAX)))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(i64::try_from(at.0).unwrap_or(i64::MAX)))
    }
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Int(None), Self::from)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::text(Some(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::text(text)
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Some(bytes))
    }
}
