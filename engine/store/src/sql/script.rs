//! Statements that go to the database in one go and are durable together, or not at all: one round trip and one commit.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cerebelum_history::planted;
use futures::TryStreamExt;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, Either, Error, Executor, PgConnection, SqliteConnection};

use super::{Dialect, Row, Rows, Statement};
use crate::connections::Lent;

/// Statements of many rows. On PostgreSQL they are one statement, whose parts are called `w0`, `w1` … and see one
/// state; on SQLite they run one after the other.
#[derive(Default)]
pub(crate) struct Script<'a> {
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    statement: &'static Statement,
    rows: Rows<'a>,
    demand: Demand,
}

/// What is demanded of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Demand {
    /// Each of its rows must touch one; otherwise nothing of the script happens.
    exactly: bool,
    /// What it returns is what the script returns.
    answers: bool,
}

impl<'a> Script<'a> {
    /// Adds a statement, unless it has no rows.
    pub(crate) fn add(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Demand { exactly: false, answers: false });
    }

    /// Adds a statement that has to touch as many rows as it has, unless it has none. It ends with a RETURNING clause.
    pub(crate) fn add_exactly(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Demand { exactly: !planted("unguarded-script"), answers: false });
    }

    /// The same, for the one statement whose rows the script returns.
    pub(crate) fn add_answering(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Demand { exactly: !planted("unguarded-script"), answers: true });
    }

    fn push(&mut self, statement: &'static Statement, rows: Rows<'a>, demand: Demand) {
        if !rows.is_empty() {
            self.parts.push(Part { statement, rows, demand });
        }
    }

    /// Runs it on SQLite.
    ///
    /// # Errors
    /// When anything failed or was not as expected. Nothing has happened then.
    pub(crate) async fn run_on_sqlite(self, mut lent: Lent<SqliteConnection>) -> Result<Vec<Row>, Error> {
        let text = self.text(Dialect::Sqlite);
        let mut arguments = SqliteArguments::default();
        for part in &self.parts {
            arguments.add(part.rows.to_json()).map_err(Error::Encode)?;
            if part.demand.exactly {
                arguments.add(count(&part.rows)).map_err(Error::Encode)?;
            }
        }
        // BEGIN comes first, and each statement that must be exact is followed by its check.
        let checks_before = |index: usize| self.parts[..index].iter().filter(|part| part.demand.exactly).count();
        let answering = self.answering().map(|index| 1 + index + checks_before(index));
        let connection = lent.begin();
        let mut rows = Vec::new();
        let done = async {
            let mut statement = 0;
            let mut results = connection.fetch_many(sqlx::query_with(text, arguments));
            while let Some(result) = results.try_next().await? {
                match result {
                    Either::Left(_) => statement += 1,
                    Either::Right(row) if answering == Some(statement) => rows.push(Row::from(row)),
                    Either::Right(_) => {}
                }
            }
            Ok(())
        };
        let done: Result<(), Error> = done.await;
        let ended = match &done {
            Ok(()) => Ok(()),
            Err(_) => connection.execute(sqlx::raw_sql("rollback")).await.map(drop),
        };
        if ended.is_ok() {
            lent.settle(&ended);
        }
        done.map(|()| rows)
    }

    /// Runs it on PostgreSQL.
    ///
    /// # Errors
    /// When anything failed or was not as expected: nothing has happened then, unless the connection broke.
    pub(crate) async fn run_on_postgres(self, mut lent: Lent<PgConnection>) -> Result<Vec<Row>, Error> {
        let text = self.text(Dialect::Postgres);
        let mut arguments = PgArguments::default();
        for part in &self.parts {
            part.rows.add_columns(part.statement.columns(), &mut arguments)?;
        }
        for part in self.parts.iter().filter(|part| part.demand.exactly) {
            arguments.add(count(&part.rows)).map_err(Error::Encode)?;
        }
        let rows = sqlx::query_with(text, arguments).fetch_all(lent.begin()).await;
        lent.settle(&rows);
        // When no statement answers, one row only says that all is well.
        let rows = rows?.into_iter().filter(|_| self.answering().is_some());
        Ok(rows.map(Row::from).collect())
    }

    /// The text of this combination. There are few, and each is prepared once a connection.
    fn text(&self, dialect: Dialect) -> &'static str {
        type Key = (bool, Vec<(usize, Demand)>);
        static TEXTS: LazyLock<Mutex<HashMap<Key, &'static str>>> = LazyLock::new(Mutex::default);
        let part = |part: &Part<'_>| (std::ptr::from_ref(part.statement).addr(), part.demand);
        let key = (dialect == Dialect::Postgres, self.parts.iter().map(part).collect());
        let mut texts = TEXTS.lock().expect("nobody panics while putting a script together");
        texts.entry(key).or_insert_with(|| {
            let text = match dialect {
                Dialect::Sqlite => self.write_for_sqlite(),
                Dialect::Postgres => self.write_for_postgres(),
            };
            text.leak()
        })
    }

    /// Which of the statements answers.
    fn answering(&self) -> Option<usize> {
        self.parts.iter().position(|part| part.demand.answers)
    }

    /// A text that is no JSON where JSON is asked for ends the script before its COMMIT.
    fn write_for_sqlite(&self) -> String {
        let (mut text, mut offset) = (String::from("begin immediate;\n"), 0);
        for part in &self.parts {
            text.push_str(&part.statement.part(Dialect::Sqlite, offset));
            text.push_str(";\n");
            offset += 1;
            if part.demand.exactly {
                offset += 1;
                text.push_str(&format!("select json('not as expected') where changes() <> ${offset};\n"));
            }
        }
        text + "commit"
    }

    fn write_for_postgres(&self) -> String {
        let answering = self.answering();
        let (mut text, mut offset) = (String::from("with "), 0);
        for (index, part) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { ",\n" };
            text.push_str(&format!("{comma}w{index} as ({})", part.statement.part(Dialect::Postgres, offset)));
            offset += part.statement.columns().len();
        }
        text.push_str("\nselect ");
        if let Some(index) = answering {
            text.push_str(&format!("w{index}.*, "));
        }
        text.push_str("checked.ok from (select case when true");
        for (index, _) in self.parts.iter().enumerate().filter(|(_, part)| part.demand.exactly) {
            offset += 1;
            text.push_str(&format!(" and (select count(*) from w{index}) = ${offset}"));
        }
        text.push_str(" then 1 else not_as_expected() end as ok) as checked");
        match answering {
            Some(index) => text + &format!(" left join w{index} on true"),
            None => text,
        }
    }
}

fn count(rows: &Rows<'_>) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}
