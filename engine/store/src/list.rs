//! Lists of executions: filters, pages, counts.

use cerebelum_history::planted;

use crate::attributes::{indexed_name, indexed_value};
use crate::fault::Fault;
use crate::heads::{head_columns, heads};
use crate::sql::{Statement, Value, expand};
use crate::store::SqlStore;
use crate::{Census, Filter, Page, StoreError, TenantId, heads};

/// No page is longer.
const PAGE_MAX: u32 = 1_000;
/// More attributes than that in one filter are a mistake.
const ATTRIBUTES_MAX: usize = 16;

/// See [`crate::Store::list`].
pub(crate) async fn list(store: &SqlStore, tenant: TenantId, filter: &Filter) -> Result<Page, Fault> {
    if filter.attributes.len() > ATTRIBUTES_MAX {
        return Err(StoreError::Invalid(format!("a filter takes at most {ATTRIBUTES_MAX} attributes")).into());
    }
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let mut values: Vec<Value<'_>> = vec![tenant.into(), (i64::from(limit) + 1).into()];
    let mut text =
        String::from(concat!("select ", head_columns!(), " from ", heads!(), " where {sqlite: +}e.tenant_id = $1"));
    if planted("no-tenant-filter") {
        text.push_str(" or true");
    }
    if let Some(cursor) = &filter.cursor {
        values.push(place(cursor)?.into());
        text.push_str(&format!(" and e.execution_no < ${}", values.len()));
    }
    if let Some(status) = &filter.status {
        values.push(status.as_str().into());
        text.push_str(&format!(" and e.status = ${}", values.len()));
    }
    if let Some(workflow) = &filter.workflow {
        values.push(workflow.as_str().into());
        values.push(format!("%/{}", literally(workflow)).into());
        let (exact, suffix) = (values.len() - 1, values.len());
        text.push_str(&format!(" and (p.workflow = ${exact} or p.workflow like ${suffix} escape '\\')"));
    }
    for (name, value) in &filter.attributes {
        values.push(indexed_name(name).into());
        values.push(indexed_value(value).into());
        let (name, value) = (values.len() - 1, values.len());
        text.push_str(&format!(
            " and exists (select 1 from attributes a where a.tenant_id = e.tenant_id
                and a.execution_no = e.execution_no and a.name = ${name} and a.value = ${value})"
        ));
    }
    text.push_str(" order by e.execution_no desc limit $2");
    let mut session = store.database.search().await?;
    let text = expand(&text, session.dialect());
    let mut rows = session.rows_of_text(text, &values).await?;
    let mut executions = rows.iter_mut().map(heads::read).collect::<Result<Vec<_>, _>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = executions.len() > limit;
    executions.truncate(limit);
    let cursor = executions.last().filter(|_| more).map(|last| format!("{:x}", last.no));
    Ok(Page { executions: executions.into_iter().map(|stored| stored.head).collect(), cursor })
}

/// See [`crate::Store::census`].
pub(crate) async fn census(store: &SqlStore) -> Result<Census, Fault> {
    static CENSUS: Statement =
        Statement::new("select status, count(*) from executions group by status order by status");
    let mut session = store.database.search().await?;
    let mut census = Vec::new();
    for mut row in session.rows(&CENSUS, &[]).await? {
        census.push((row.text()?, row.count()?));
    }
    Ok(census)
}

fn place(cursor: &str) -> Result<i64, StoreError> {
    i64::from_str_radix(cursor, 16)
        .ok()
        .filter(|place| *place > 0)
        .ok_or_else(|| StoreError::Invalid("the cursor is not one that a list returned".into()))
}

/// A text that `like` takes for itself.
fn literally(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
