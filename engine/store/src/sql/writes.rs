//! Several statements with many rows that are sent to the database together: one round trip on PostgreSQL.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use super::{Dialect, Row, Rows, Session, Statement};
use crate::db_error::Error;

/// Statements that change different rows, so that their order does not matter.
#[derive(Default)]
pub(crate) struct Writes<'a> {
    parts: Vec<(&'static Statement, Rows<'a>)>,
}

impl<'a> Writes<'a> {
    /// Adds a statement, unless it has no rows.
    pub(crate) fn add(&mut self, statement: &'static Statement, rows: Rows<'a>) {
        if !rows.is_empty() {
            self.parts.push((statement, rows));
        }
    }

    /// Runs all statements. Returns the result rows of the one that was added last.
    pub(crate) async fn run(self, session: &mut Session) -> Result<Vec<Row>, Error> {
        match (session.dialect(), self.parts.len()) {
            (_, 0) => Ok(Vec::new()),
            (Dialect::Postgres, 1) => session.rows_of(self.parts[0].0, &self.parts[0].1).await,
            (Dialect::Postgres, _) => session.rows_of_parts(joined(&self.parts), &self.parts).await,
            (Dialect::Sqlite, _) => {
                let mut answer = Vec::new();
                for (statement, rows) in &self.parts {
                    answer = session.rows_one_by_one(statement, rows).await?;
                }
                Ok(answer)
            }
        }
    }
}

/// The one statement that runs them all. There are few combinations, and each is prepared once per connection.
fn joined(parts: &[(&'static Statement, Rows<'_>)]) -> &'static str {
    static JOINED: LazyLock<Mutex<HashMap<Vec<usize>, &'static str>>> = LazyLock::new(Mutex::default);
    let key: Vec<usize> = parts.iter().map(|(statement, _)| std::ptr::from_ref(*statement).addr()).collect();
    let mut joined = JOINED.lock().expect("nobody panics while joining statements");
    joined.entry(key).or_insert_with(|| join(parts).leak())
}

fn join(parts: &[(&'static Statement, Rows<'_>)]) -> String {
    let mut text = String::from("with ");
    let mut offset = 0;
    for (index, (statement, _)) in parts.iter().enumerate() {
        let part = statement.part(offset);
        offset += statement.columns().len();
        match parts.len() - index {
            1 => text.push_str(&part),
            2 => text.push_str(&format!("w{index} as ({part}) ")),
            _ => text.push_str(&format!("w{index} as ({part}), ")),
        }
    }
    text
}
