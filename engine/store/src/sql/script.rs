//! Statements that are sent to the database together and are durable together, or not at all: one round trip and one
//! commit.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cerebelum_history::planted;
use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use super::{Row, Rows, Statement};
use crate::connections::Pooled;
use crate::db_error::{Error, state};

/// The number of rows in a small script: the writes of one execution that does one thing after another, seldom of two.
const SMALL_ROWS_MAX: usize = 8;

/// The SQLSTATE with which the function `not_as_expected` ends a script.
const RAISED: &str = "P0001";

/// Statements with many rows. On PostgreSQL they become one statement, whose parts are named `w0`, `w1` and so on and
/// see the same state. On SQLite each one runs once for each of its rows, one after the other.
#[derive(Default)]
pub(crate) struct Script<'a> {
    parts: Vec<Part<'a>>,
}

pub(super) struct Part<'a> {
    pub(super) statement: &'static Statement,
    pub(super) rows: Rows<'a>,
    pub(super) demand: Expect,
}

/// The expectations of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Expect {
    /// Each of its rows must change exactly one row of the table. Otherwise nothing of the script happens.
    pub(super) exactly: bool,
    /// The script returns the result rows of this statement.
    pub(super) answers: bool,
}

impl<'a> Script<'a> {
    /// Adds a statement, unless it has no rows.
    pub(crate) fn add(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Expect { exactly: false, answers: false });
    }

    /// Adds a statement that must change as many rows as it has, unless it has none. The statement ends with a
    /// RETURNING clause.
    pub(crate) fn add_exactly(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Expect { exactly: is_guarded(), answers: false });
    }

    /// The same as `add`, for a statement whose result rows the script returns.
    pub(crate) fn add_returning(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Expect { exactly: false, answers: true });
    }

    /// The same as `add_exactly`, for a statement whose result rows the script returns. All such statements of a script
    /// return the same columns.
    pub(crate) fn add_exactly_returning(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        self.push(statement, rows, Expect { exactly: is_guarded(), answers: true });
    }

    fn push(&mut self, statement: &'static Statement, rows: Rows<'a>, demand: Expect) {
        if !rows.is_empty() {
            self.parts.push(Part { statement, rows, demand });
        }
    }

    pub(super) fn parts(&self) -> &[Part<'a>] {
        &self.parts
    }

    /// Runs the script on PostgreSQL.
    ///
    /// # Errors
    /// If any statement failed or did not do what the script expects. Nothing has happened then, unless the connection
    /// broke.
    pub(crate) async fn run_on_postgres(self, lent: &mut Pooled) -> Result<Vec<Row>, Error> {
        let (text, one) = (self.text(), self.is_of_single_rows());
        let mut arguments = PgArguments::default();
        for part in &self.parts {
            match one {
                true => part.rows.add_values(&mut arguments)?,
                false => part.rows.add_columns(part.statement.columns(), &mut arguments)?,
            }
        }
        for part in self.parts.iter().filter(|part| part.demand.exactly) {
            arguments.add(count(&part.rows)).map_err(sqlx::Error::Encode)?;
        }
        let rows = sqlx::query_with(text, arguments).fetch_all(lent.begin()).await;
        lent.settle(&rows);
        // If no statement returns rows, a single row only confirms success.
        let rows = rows.map_err(|error| match state(&error) {
            Some(RAISED) => Error::NotAsExpected,
            _ => error.into(),
        })?;
        Ok(rows.into_iter().filter(|_| self.answers()).map(Row::from).collect())
    }

    /// The text of this combination of statements for PostgreSQL. There are few combinations, and each is prepared once
    /// per connection.
    fn text(&self) -> &'static str {
        type Key = (bool, Vec<(usize, Expect)>);
        static TEXTS: LazyLock<Mutex<HashMap<Key, &'static str>>> = LazyLock::new(Mutex::default);
        let part = |part: &Part<'_>| (std::ptr::from_ref(part.statement).addr(), part.demand);
        let key = (self.is_of_single_rows(), self.parts.iter().map(part).collect());
        let mut texts = TEXTS.lock().expect("nobody panics while putting a script together");
        texts.entry(key).or_insert_with(|| self.write().leak())
    }

    /// Whether each statement has one row.
    pub(super) fn is_of_single_rows(&self) -> bool {
        self.parts.iter().all(|part| part.rows.len() == 1)
    }

    /// Whether the script has few rows.
    pub(super) fn is_small(&self) -> bool {
        self.parts.iter().map(|part| part.rows.len()).sum::<usize>() <= SMALL_ROWS_MAX
    }

    fn answers(&self) -> bool {
        self.parts.iter().any(|part| part.demand.answers)
    }

    fn write(&self) -> String {
        let one = self.is_of_single_rows();
        let (mut text, mut offset) = (String::from("with "), 0);
        for (index, Part { statement, .. }) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { ",\n" };
            let part = match one {
                true => statement.part_of_one(offset),
                false => statement.part(offset),
            };
            text.push_str(&format!("{comma}w{index} as ({part})"));
            offset += statement.columns().len();
        }
        let answers: Vec<String> =
            self.parts.iter().enumerate().filter(|(_, part)| part.demand.answers).map(table).collect();
        text.push_str(if answers.is_empty() { "\nselect " } else { "\nselect answers.*, " });
        text.push_str("checked.ok from (select case when true");
        for (index, _) in self.parts.iter().enumerate().filter(|(_, part)| part.demand.exactly) {
            offset += 1;
            text.push_str(&format!(" and (select count(*) from w{index}) = ${offset}"));
        }
        text.push_str(" then 1 else not_as_expected() end as ok) as checked");
        if !answers.is_empty() {
            // If there is no answer, there is one row of nulls.
            text.push_str(&format!(" left join ({}) as answers on true", answers.join(" union all ")));
        }
        text
    }
}

fn table((index, _): (usize, &Part<'_>)) -> String {
    format!("select * from w{index}")
}

fn is_guarded() -> bool {
    !planted("unguarded-script") && !planted("no-fence")
}

fn count(rows: &Rows<'_>) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}
