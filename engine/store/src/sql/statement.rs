//! Statements written once: a template with a few marks in braces that each database spells its own way.
//!
//! `{now}` the database's clock when the statement began, usable with an index · `{clock}` the same at this very moment ·
//! `{rows name:type …}` many rows handed over in one statement, as table `r` (types `int`, `text`, `bytes`) ·
//! `{postgres: …}` words that only PostgreSQL wants, such as row locks: SQLite has one writer and needs none ·
//! `{sqlite: …}` words that only SQLite wants, such as the `+` that keeps its planner off a column.

use std::fmt::Write;
use std::sync::OnceLock;

/// Which database is spoken to.
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

/// A statement in both dialects.
pub(crate) struct Statement {
    template: &'static str,
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
    columns: OnceLock<Vec<ColumnType>>,
}

impl Statement {
    pub(crate) const fn new(template: &'static str) -> Self {
        Self { template, sqlite: OnceLock::new(), postgres: OnceLock::new(), columns: OnceLock::new() }
    }

    /// The text for one database.
    pub(crate) fn text(&'static self, dialect: Dialect) -> &'static str {
        let text = match dialect {
            Dialect::Sqlite => &self.sqlite,
            Dialect::Postgres => &self.postgres,
        };
        text.get_or_init(|| expand(self.template, dialect, 0))
    }

    /// The text as one part of something larger that has `offset` arguments before it.
    pub(crate) fn part(&self, dialect: Dialect, offset: usize) -> String {
        expand(self.template, dialect, offset)
    }

    /// The types of the columns of its rows, in order.
    pub(crate) fn columns(&self) -> &[ColumnType] {
        self.columns.get_or_init(|| columns(self.template).into_iter().map(|(_, kind)| kind).collect())
    }
}

/// A text that is put together at run time, from constant parts only.
pub(crate) fn expand(template: &str, dialect: Dialect, offset: usize) -> String {
    let mut text = String::with_capacity(template.len() + 128);
    let mut rest = template;
    while let Some((before, mark)) = rest.split_once('{') {
        let (mark, after) = mark.split_once('}').expect("a mark in a statement ends with a brace");
        text.push_str(before);
        text.push_str(&spell(mark, dialect, offset));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn spell(mark: &str, dialect: Dialect, offset: usize) -> String {
    match (mark, dialect) {
        // Rounded down, so that nothing is due early.
        ("now", Dialect::Postgres) => "floor(extract(epoch from statement_timestamp()) * 1000)::bigint".into(),
        ("clock", Dialect::Postgres) => "floor(extract(epoch from clock_timestamp()) * 1000)::bigint".into(),
        ("now" | "clock", Dialect::Sqlite) => "cast(round(unixepoch('subsec') * 1000) as integer)".into(),
        (mark, dialect) if mark.starts_with("rows ") => rows(&columns_of(mark), dialect, offset),
        (mark, dialect) => match mark.split_once(':').expect("a mark that is known") {
            ("postgres", words) if dialect == Dialect::Postgres => words.trim().into(),
            ("sqlite", words) if dialect == Dialect::Sqlite => words.trim().into(),
            _ => String::new(),
        },
    }
}

fn rows(columns: &[(&str, ColumnType)], dialect: Dialect, offset: usize) -> String {
    let mut text = String::new();
    let comma = |index: usize| if index == 0 { "" } else { ", " };
    match dialect {
        Dialect::Postgres => {
            text.push_str("unnest(");
            for (index, (_, kind)) in columns.iter().enumerate() {
                let array = match kind {
                    ColumnType::Int => "bigint[]",
                    ColumnType::Text => "text[]",
                    ColumnType::Bytes => "bytea[]",
                };
                let _ = write!(text, "{}${}::{array}", comma(index), offset + index + 1);
            }
            text.push_str(") as r(");
            for (index, (name, _)) in columns.iter().enumerate() {
                let _ = write!(text, "{}{name}", comma(index));
            }
            text.push(')');
        }
        Dialect::Sqlite => {
            text.push_str("(select ");
            for (index, (name, kind)) in columns.iter().enumerate() {
                let _ = match kind {
                    ColumnType::Bytes => write!(text, "{}unhex(value ->> {index}) as {name}", comma(index)),
                    ColumnType::Int | ColumnType::Text => write!(text, "{}value ->> {index} as {name}", comma(index)),
                };
            }
            let _ = write!(text, " from json_each(${})) as r", offset + 1);
        }
    }
    text
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
            "delete from calls where (tenant_id, call) in (select r.tenant_id, r.call from (select value ->> 0 as tenant_id, value ->> 1 as call from json_each($1)) as r) "
        );
        assert!(DELETE.part(Dialect::Postgres, 3).contains("unnest($4::bigint[], $5::text[])"));
        assert!(DELETE.part(Dialect::Sqlite, 3).contains("from json_each($4)"));
        assert_eq!(DELETE.columns(), [ColumnType::Int, ColumnType::Text]);
    }
}
