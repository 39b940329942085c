//! Lists of executions: pages and counts.

mod filter;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cerebelum_history::{ExecutionId, Status};

use crate::attributes::{indexed_name, indexed_value};
use crate::database::Database;
use crate::db_error::DbError;
use crate::error::StoreError;
use crate::executions;
use crate::executions::head_columns;
use crate::model::{ExecutionRow, Page, StatusCounts, TenantId};
use crate::requests::Filter;
use crate::sql::{Row, Statement, expand};

use filter::{check, is_indexed, is_narrow, statement};

/// The most executions on a page.
const PAGE_MAX: u32 = 1_000;
/// A page ends with the execution that brings it to this many bytes of attributes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The number of executions that are read at once.
const READ_AT_ONCE: usize = 128;
/// The number of executions that one statement examines for a filter that no index serves.
const LOOKED_AT_ONCE: u32 = 50_000;
/// A page ends after this time, however little has been found.
const LOOKED_MAX: Duration = Duration::from_secs(2);
/// Counting ends after this time, however many executions are left to be examined.
const COUNTED_MAX: Duration = Duration::from_secs(5);
/// So many executions of each attribute of a filter are counted, to find the one that the fewest have.
const COMPARED_MAX: u32 = 10_000;

/// No execution has a lower number.
const END: i64 = i64::MIN;

/// A number of executions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub executions: u64,
    /// Whether there are no more than that.
    pub is_exact: bool,
}

/// The children of an execution, counted by status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// The numbers, without those that are 0.
    pub by_status: StatusCounts,
    /// Whether all children were counted, or only the newest ones.
    pub is_exact: bool,
}

impl ChildCounts {
    /// The number of children that were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_status.iter().map(|(_, count)| count).sum()
    }

    /// The number of those that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.by_status.iter().filter(|(status, _)| *status == Status::Failed).map(|(_, count)| count).sum()
    }
}

/// See [`crate::Store::list`].
pub(crate) async fn list(database: &Database, tenant: TenantId, filter: &Filter) -> Result<Page, DbError> {
    check(filter)?;
    let filter = &*rarest_first(database, tenant, filter).await?;
    let mut from = filter.cursor.as_deref().map_or(Ok(i64::MAX), |cursor| place(cursor).map(|place| place - 1))?;
    let limit = usize::try_from(filter.limit.clamp(1, PAGE_MAX)).unwrap_or(usize::MAX);
    let began = Instant::now();
    let mut found = PageBuilder { executions: Vec::new(), bytes: 0, limit };
    loop {
        let floor = floor(database, (tenant, filter), from).await?;
        if let Some(next) = found.read(database, (tenant, filter), (from, floor)).await? {
            return Ok(found.page(Some(next)));
        }
        if floor == END {
            return Ok(found.page(None));
        }
        from = floor;
        if began.elapsed() > LOOKED_MAX {
            return Ok(found.page(Some(from)));
        }
    }
}

/// See [`crate::Store::count`].
pub(crate) async fn count(database: &Database, tenant: TenantId, filter: &Filter, max: u64) -> Result<Count, DbError> {
    check(filter)?;
    let is_only_by_status =
        filter.workflow.is_none() && filter.attributes.is_empty() && filter.parent.is_none() && !is_narrow(filter);
    if filter.status == Some(Status::Running) && is_only_by_status && max <= u64::from(LOOKED_AT_ONCE) {
        return running(database, tenant, max).await;
    }
    let filter = &*rarest_first(database, tenant, filter).await?;
    let (began, mut count, mut from) = (Instant::now(), 0, i64::MAX);
    loop {
        let floor = floor(database, (tenant, filter), from).await?;
        // One more than is wanted shows that there are more. Between two pieces others get the connection.
        let room = max.saturating_sub(count).saturating_add(1).min(u64::from(LOOKED_AT_ONCE));
        let (text, values) = statement(tenant, filter, (from, floor), usize::try_from(room).unwrap_or(usize::MAX));
        let mut session = database.client(tenant).await?;
        // No column is read of what is only counted.
        let text = text.replacen(head_columns!(), "e.execution_no as no", 1);
        let text = format!("select count(*), min(matching.no) from ({text}) matching");
        let mut rows = session.rows_of_text(expand(&text, session.dialect()), &values).await?;
        drop(session);
        let Some(row) = rows.first_mut() else { return Ok(Count::default()) };
        let (found, lowest): (u64, Option<i64>) = (row.count()?, row.opt_int()?);
        count += found;
        // The piece may have ended because it was full, or because its floor was reached.
        from = match lowest.filter(|_| found == room) {
            _ if count > max => return Ok(Count { executions: max, is_exact: false }),
            Some(lowest) => lowest.saturating_sub(1),
            None if floor > END => floor,
            None => return Ok(Count { executions: count, is_exact: true }),
        };
        if began.elapsed() > COUNTED_MAX {
            return Ok(Count { executions: count, is_exact: false });
        }
    }
}

/// The filter with the attribute first that the fewest executions have, as far as they are counted. The first one leads to
/// the executions, and each of these is then looked up for the others.
async fn rarest_first<'f>(
    database: &Database,
    tenant: TenantId,
    filter: &'f Filter,
) -> Result<Cow<'f, Filter>, DbError> {
    static COUNT: Statement = Statement::new(
        "select count(*)
        from (select 1 from attributes where tenant_id = $1 and name = $2 and value = $3 limit $4) held",
    );
    if filter.attributes.len() < 2 || filter.parent.is_some() {
        return Ok(Cow::Borrowed(filter));
    }
    let mut session = database.client(tenant).await?;
    let mut counted = Vec::new();
    for (name, value) in &filter.attributes {
        let values = [tenant.into(), indexed_name(name).into(), indexed_value(value).into(), COMPARED_MAX.into()];
        let mut rows = session.rows(&COUNT, &values).await?;
        let count: u64 = rows.first_mut().map(|row| row.count()).transpose()?.unwrap_or_default();
        counted.push((count, (name.clone(), value.clone())));
    }
    counted.sort_by_key(|(count, _)| *count);
    let attributes = counted.into_iter().map(|(_, attribute)| attribute).collect();
    Ok(Cow::Owned(Filter { attributes, ..filter.clone() }))
}

/// The numbers of open executions and of running ones among them. Only the index `executions_open` makes it stop at the open
/// ones.
static RUNNING: Statement = Statement::new(
    "select count(*), count(case when o.status = 'running' then 1 end)
    from (select status from executions {sqlite: indexed by executions_open} where tenant_id = $1 and state = 0
        limit $2) o",
);

/// Counts the running executions among the open ones, of which not all are examined if there are many: a live overview
/// asks for this number again and again.
async fn running(database: &Database, tenant: TenantId, max: u64) -> Result<Count, DbError> {
    let mut session = database.client(tenant).await?;
    let mut rows = session.rows(&RUNNING, &[tenant.into(), LOOKED_AT_ONCE.into()]).await?;
    let Some(row) = rows.first_mut() else { return Ok(Count::default()) };
    let (examined, running): (u64, u64) = (row.count()?, row.count()?);
    let is_exact = examined < u64::from(LOOKED_AT_ONCE) && running <= max;
    Ok(Count { executions: running.min(max), is_exact })
}

/// The executions that were found for a page.
struct PageBuilder {
    executions: Vec<ExecutionRow>,
    bytes: usize,
    limit: usize,
}

impl PageBuilder {
    /// Adds the executions that match, from the number `from` down to above the floor. Returns where the next page
    /// begins if this one is full.
    async fn read(
        &mut self,
        database: &Database,
        (tenant, filter): (TenantId, &Filter),
        (mut from, floor): (i64, i64),
    ) -> Result<Option<i64>, DbError> {
        loop {
            // One more row than there is room for shows whether there is a next page.
            let room = self.limit - self.executions.len();
            let count = (room + 1).min(READ_AT_ONCE);
            let (text, values) = statement(tenant, filter, (from, floor), count);
            let mut session = database.client(tenant).await?;
            let text = expand(&text, session.dialect());
            let mut rows = session.rows_of_text(text, &values).await?;
            drop(session);
            for row in &mut rows {
                if self.executions.len() == self.limit || self.bytes >= PAGE_BYTES_MAX {
                    return Ok(Some(from));
                }
                let stored = executions::read(row);
                from = stored.no.saturating_sub(1);
                self.bytes += stored.head.attributes.len() + stored.head.waits_for.as_ref().map_or(0, String::len);
                self.executions.push(stored.shown());
            }
            if rows.len() < count {
                return Ok(None);
            }
        }
    }

    fn page(self, next: Option<i64>) -> Page {
        Page { executions: self.executions, cursor: next.map(cursor) }
    }
}

/// The number above which executions are looked at together: that below which [`LOOKED_AT_ONCE`] have been examined for a
/// filter that no index serves, or [`END`] if there are no more than that.
async fn floor(database: &Database, (tenant, filter): (TenantId, &Filter), from: i64) -> Result<i64, DbError> {
    static FLOOR: Statement = Statement::new(
        "select execution_no from executions where tenant_id = $1 and execution_no <= $2
        order by execution_no desc limit 1 offset $3",
    );
    if is_indexed(filter) {
        return Ok(END);
    }
    let mut session = database.client(tenant).await?;
    let mut rows = session.rows(&FLOOR, &[tenant.into(), from.into(), LOOKED_AT_ONCE.into()]).await?;
    Ok(rows.first_mut().map(|row| row.int()).transpose()?.unwrap_or(END))
}

/// See [`crate::Store::children_by_status`].
pub(crate) async fn children_by_status(
    database: &Database,
    tenant: TenantId,
    parents: &[ExecutionId],
    max: u32,
) -> Result<Vec<ChildCounts>, DbError> {
    static CHILDREN: Statement = Statement::new(
        "select c.status, count(*)
        from (
            select status from executions where tenant_id = $1 and parent_id = $2
            order by execution_no desc limit $3
        ) c
        group by c.status",
    );
    let (mut session, mut all) = (database.client(tenant).await?, Vec::new());
    for parent in parents {
        // One more than is wanted shows that there are more.
        let values = [tenant.into(), parent.as_str().into(), max.saturating_add(1).into()];
        let counts = by_status(session.rows(&CHILDREN, &values).await?)?;
        let total: u64 = counts.values().sum();
        all.push(ChildCounts { by_status: counts.into_iter().collect(), is_exact: total <= max.into() });
    }
    Ok(all)
}

/// Numbers by status. An execution whose status cannot be read counts as parked, and is parked when it is looked at.
fn by_status(rows: Vec<Row>) -> Result<BTreeMap<Status, u64>, DbError> {
    let mut counts = BTreeMap::new();
    for mut row in rows {
        let status = row.text().ok().and_then(|word| word.parse().ok()).unwrap_or(Status::Parked);
        let count: u64 = row.count()?;
        *counts.entry(status).or_default() += count;
    }
    Ok(counts)
}

/// See [`crate::Store::count_by_status`].
pub(crate) async fn count_by_status(database: &Database) -> Result<StatusCounts, DbError> {
    static CENSUS: Statement = Statement::new("select status, count(*) from executions group by status");
    let mut session = database.background().await?;
    Ok(by_status(session.rows(&CENSUS, &[]).await?)?.into_iter().collect())
}

/// The cursor behind which the list goes on with the execution of this number.
pub(crate) fn cursor(next: i64) -> String {
    format!("{:x}", next.saturating_add(1))
}

fn place(cursor: &str) -> Result<i64, StoreError> {
    i64::from_str_radix(cursor, 16)
        .ok()
        .filter(|place| *place > 0)
        .ok_or_else(|| StoreError::Invalid("the cursor is not one that a list returned".into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::MachineClocks;
    use crate::sql::{Dialect, Value};

    /// Filters that an index serves, with a word of each database's plan that shows it.
    fn indexed() -> [(Filter, &'static str, &'static str); 7] {
        let status = |status| Filter { status: Some(status), ..Filter::default() };
        let children = |filter| Filter { parent: "p".parse().ok(), ..filter };
        let attributes = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        [
            (Filter::default(), "executions_of_tenant (tenant_id=? and rowid", "executions_pkey"),
            (status(Status::Parked), "executions_by_status", "executions_by_status"),
            (status(Status::Sleeping), "executions_by_status", "executions_by_status"),
            (
                Filter { attributes: attributes.clone(), ..Filter::default() },
                "search f using primary key",
                "attributes_pkey",
            ),
            (Filter { attributes, ..status(Status::Failed) }, "search f using primary key", "attributes_pkey"),
            (children(Filter::default()), "executions_children", "executions_children"),
            (children(status(Status::Failed)), "executions_children", "executions_children"),
        ]
    }

    async fn plan(database: &Database, filter: &Filter, explain: &str) -> String {
        let (text, values) = statement(TenantId::DEFAULT, filter, (9, 0), 3);
        explained(database, (&text, &values), explain).await
    }

    async fn explained(database: &Database, (text, values): (&str, &[Value<'_>]), explain: &str) -> String {
        let mut session = database.client(TenantId::DEFAULT).await.unwrap();
        let text = expand(&format!("{explain} {text}"), session.dialect());
        let mut lines = Vec::new();
        for mut row in session.rows_of_text(text, values).await.unwrap() {
            row.seek(if explain == "explain" { 0 } else { 3 });
            lines.push(row.text().unwrap().to_lowercase());
        }
        lines.join("\n")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_leads_to_what_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", folder.path().join("cerebelum.db").display());
        let lease = std::time::Duration::from_secs(10);
        let (sqlite, _) = Database::open(&file, lease, Arc::new(MachineClocks)).await.unwrap();
        let (postgres, _) = Database::open(&test_postgres::database(), lease, Arc::new(MachineClocks)).await.unwrap();
        for (filter, in_sqlite, in_postgres) in indexed() {
            assert!(is_indexed(&filter));
            let said = plan(&sqlite, &filter, "explain query plan").await;
            assert!(said.contains(in_sqlite) && !said.contains("temp b-tree"), "{filter:?}\n{said}");
            let said = plan(&postgres, &filter, "explain").await;
            assert!(said.contains(in_postgres) && !said.contains("seq scan"), "{filter:?}\n{said}");
        }
        let count = (RUNNING.text(Dialect::Sqlite), [TenantId::DEFAULT.into(), 9_u32.into()]);
        let said = explained(&sqlite, (count.0, &count.1), "explain query plan").await;
        assert!(said.contains("executions_open"), "{said}");
    }
}
