//! One wording of each statement for both databases, and the few functions through which statements reach them.

mod argument;
mod file;
mod row;
mod script;
mod session;
mod statement;

pub(crate) use argument::{Rows, Value};
pub(crate) use file::{Blocking, SqliteConn, SqliteFile};
pub(crate) use row::Row;
pub(crate) use script::Script;
pub(crate) use session::{Conn, Session};
pub(crate) use statement::{Dialect, STATEMENTS_MAX, Statement, expand};
