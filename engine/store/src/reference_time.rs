//! The clock that the steady clock follows: that of the server, or the wall clock, whose time is saved in the file.

use cerebelum_history::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use crate::clock::{SavedTime, SteadyClock};
use crate::db_error::DbError;
use crate::sql::{Dialect, Session, Statement};

/// Compares the time with its reference clock. For a server, that is the server's clock, which was just read. For a
/// file, it is the wall clock, and the time is saved in the file.
pub(crate) async fn keep_time(session: &mut Session, clock: &SteadyClock, server: Timestamp) -> Result<(), DbError> {
    static KEEP: Statement = Statement::new(
        "insert into clock (only_row, told_at, boot_ms, boot_id) values (1, $1, $2, $3)
        on conflict (only_row) do update
        set told_at = excluded.told_at, boot_ms = excluded.boot_ms, boot_id = excluded.boot_id",
    );
    if session.dialect() == Dialect::Postgres {
        clock.follow(server.0);
        return Ok(());
    }
    clock.follow_wall();
    let SavedTime { told_ms, boot_ms, boot_id } = clock.kept();
    session.run(&KEEP, &[Timestamp(told_ms).into(), Timestamp(boot_ms).into(), boot_id.into()]).await?;
    Ok(())
}

/// The time that was saved in a file, or none if no time was saved yet.
pub(crate) async fn kept_time(file: &mut SqliteConnection) -> Result<Option<SavedTime>, sqlx::Error> {
    let row = sqlx::query("select told_at, boot_ms, boot_id from clock").fetch_optional(file).await?;
    let Some(row) = row else { return Ok(None) };
    let count = |column| row.try_get::<i64, _>(column).map(|value| u64::try_from(value).unwrap_or(0));
    Ok(Some(SavedTime { told_ms: count(0)?, boot_ms: count(1)?, boot_id: row.try_get(2)? }))
}

/// The server's clock.
pub(crate) async fn server_clock(session: &mut Session) -> Result<Timestamp, DbError> {
    static NOW: Statement = Statement::new("select {clock}");
    let mut rows = session.rows(&NOW, &[]).await?;
    Ok(rows.first_mut().expect("a select without a table has one row").at()?)
}
