//! Statements that are written once: a template with a few placeholders in braces, which are spelled out for each
//! database.
//!
//! - `{now}`: the database's clock at the start of the statement, usable with an index.
//! - `{clock}`: the database's clock at this very moment. A file has no clock of its own and uses the store's.
//! - `{rows name:type …}`: rows passed as table `r` (types `int`, `text`, `bytes`), one or many.
//! - `{postgres: …}`: text only for PostgreSQL, such as row locks. SQLite has one writer and needs none.
//! - `{sqlite: …}`: text only for SQLite, such as the `+` that keeps its planner from using a column.
//!
//! Arguments are `$1`, `$2` ….

use std::sync::OnceLock;

/// More than the number of statement texts in all combinations. A connection keeps this many prepared statements, and
/// has to plan a statement again that it dropped.
pub(crate) const STATEMENTS_MAX: usize = 512;

/// The database's dialect of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// The type of one column of `{rows …}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Int,
    Text,
    Bytes,
}

impl ColumnType {
    const fn in_postgres(self) -> &'static str {
        match self {
            Self::Int => "bigint",
            Self::Text => "text",
            Self::Bytes => "bytea",
        }
    }
}

/// A statement in both dialects.
pub(crate) struct Statement {
    template: &'static str,
    sqlite: OnceLock<String>,
    sqlite_one: OnceLock<String>,
    postgres: OnceLock<String>,
    columns: OnceLock<Vec<ColumnType>>,
}

impl Statement {
    pub(crate) const fn new(template: &'static str) -> Self {
        Self {
            template,
            sqlite: OnceLock::new(),
            sqlite_one: OnceLock::new(),
            postgres: OnceLock::new(),
            columns: OnceLock::new(),
        }
    }

    /// The text for one database. The rows are one argument for SQLite, and one argument per column for PostgreSQL.
    pub(crate) fn text(&'static self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite.get_or_init(|| expand(self.template, dialect)),
            Dialect::Postgres => self.postgres.get_or_init(|| expand(self.template, dialect)),
        }
    }

    /// The text for SQLite that takes one row, with one argument per column.
    pub(crate) fn text_of_one(&'static self) -> &'static str {
        self.sqlite_one
            .get_or_init(|| spell_out(self.template, Dialect::Sqlite, &|columns| one_row(columns, Dialect::Sqlite, 0)))
    }

    /// The text for PostgreSQL as one part of a larger statement, with `offset` arguments before it.
    pub(crate) fn part(&self, offset: usize) -> String {
        spell_out(self.template, Dialect::Postgres, &|columns| arrays(columns, offset))
    }

    /// The same as `part` for one row, with one argument per column.
    pub(crate) fn part_of_one(&self, offset: usize) -> String {
        spell_out(self.template, Dialect::Postgres, &|columns| one_row(columns, Dialect::Postgres, offset))
    }

    /// The types of the columns of its rows, in order.
    pub(crate) fn columns(&self) -> &[ColumnType] {
        self.columns.get_or_init(|| columns(self.template).into_iter().map(|(_, kind)| kind).collect())
    }
}

/// Spells out a text that is put together at run time, from constant parts only.
pub(crate) fn expand(template: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => spell_out(template, dialect, &json_rows),
        Dialect::Postgres => spell_out(template, dialect, &|columns| arrays(columns, 0)),
    }
}

type Columns<'t> = [(&'t str, ColumnType)];

fn spell_out(template: &str, dialect: Dialect, rows: &dyn Fn(&Columns<'_>) -> String) -> String {
    let mut text = String::with_capacity(template.len() + 128);
    let mut rest = template;
    while let Some((before, mark)) = rest.split_once('{') {
        let (mark, after) = mark.split_once('}').expect("a mark in a statement ends with a brace");
        text.push_str(before);
        match mark.starts_with("rows ") {
            true => text.push_str(&rows(&columns_of(mark))),
            false => text.push_str(&spell(mark, dialect)),
        }
        rest = after;
    }
    text.push_str(rest);
    match dialect {
        // In SQLite, `$1` is a name like any other, numbered by its first occurrence.
        Dialect::Sqlite => text.replace('$', "?"),
        Dialect::Postgres => text,
    }
}

fn spell(mark: &str, dialect: Dialect) -> String {
    match (mark, dialect) {
        // The time is rounded down, so that nothing is due too early.
        ("now", Dialect::Postgres) => "floor(extract(epoch from statement_timestamp()) * 1000)::bigint".into(),
        ("clock", Dialect::Postgres) => "floor(extract(epoch from clock_timestamp()) * 1000)::bigint".into(),
        ("now" | "clock", Dialect::Sqlite) => "steady_ms()".into(),
        (mark, dialect) => match mark.split_once(':').expect("a mark that is known") {
            ("postgres", words) if dialect == Dialect::Postgres => words.trim().into(),
            ("sqlite", words) if dialect == Dialect::Sqlite => words.trim().into(),
            _ => String::new(),
        },
    }
}

/// Many rows as one array per column.
fn arrays(columns: &Columns<'_>, offset: usize) -> String {
    let array =
        |(index, (_, kind)): (usize, &(&str, ColumnType))| format!("${}::{}[]", offset + index + 1, kind.in_postgres());
    let arrays: Vec<String> = columns.iter().enumerate().map(array).collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    format!("unnest({}) as r({})", arrays.join(", "), names.join(", "))
}

/// Many rows as one JSON text.
fn json_rows(columns: &Columns<'_>) -> String {
    let value = |(index, (name, kind)): (usize, &(&str, ColumnType))| match kind {
        ColumnType::Bytes => format!("unhex(value ->> {index}) as {name}"),
        ColumnType::Int | ColumnType::Text => format!("value ->> {index} as {name}"),
    };
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    format!("(select {} from json_each($1)) as r", values.join(", "))
}

/// One row, with its columns as the arguments.
fn one_row(columns: &Columns<'_>, dialect: Dialect, offset: usize) -> String {
    let value = |(index, (name, kind)): (usize, &(&str, ColumnType))| match dialect {
        Dialect::Sqlite => format!("${} as {name}", offset + index + 1),
        Dialect::Postgres => format!("${}::{} as {name}", offset + index + 1, kind.in_postgres()),
    };
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    format!("(select {}) as r", values.join(", "))
}

fn columns(template: &str) -> Vec<(&str, ColumnType)> {
    let marks = template.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    marks.filter(|mark| mark.starts_with("rows ")).flat_map(columns_of).collect()
}

fn columns_of(mark: &str) -> Vec<(&str, ColumnType)> {
    let spelled = mark.split_whitespace().skip(1).map(|column| {
        let (name, kind) = column.split_once(':').expect("a column of rows is written name:type");
        let kind = match kind {
            "int" => ColumnType::Int,
            "text" => ColumnType::Text,
            "bytes" => ColumnType::Bytes,
            _ => unreachable!("a column of rows is int, text or bytes"),
        };
        (name, kind)
    });
    spelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_becomes_the_words_of_each_database() {
        static DELETE: Statement = Statement::new(
            "delete from calls where (tenant_id, call) in (select r.tenant_id, r.call from {rows tenant_id:int call:text}) {postgres: returning 1}",
        );
        assert_eq!(
            DELETE.text(Dialect::Postgres),
            "delete from calls where (tenant_id, call) in (select r.tenant_id, r.call from unnest($1::bigint[], $2::text[]) as r(tenant_id, call)) returning 1"
        );
        assert_eq!(
            DELETE.text(Dialect::Sqlite),
            "delete from calls where (tenant_id, call) in (select r.tenant_id, r.call from (select value ->> 0 as tenant_id, value ->> 1 as call from json_each(?1)) as r) "
        );
        assert!(DELETE.part(3).contains("unnest($4::bigint[], $5::text[])"));
        assert!(DELETE.part_of_one(3).contains("from (select $4::bigint as tenant_id, $5::text as call) as r"));
        assert!(DELETE.text_of_one().contains("from (select ?1 as tenant_id, ?2 as call) as r"));
        assert_eq!(DELETE.columns(), [ColumnType::Int, ColumnType::Text]);
    }
}
