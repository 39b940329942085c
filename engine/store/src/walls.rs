//! The wall between tenants in PostgreSQL: reads of clients run in a role that sees the rows of one tenant.
//!
//! The role is [`READER`]. It may read a few tables, and row-level security shows it the rows of the tenant that its
//! connection names, or none. A statement without its condition on the tenant reads nothing of another tenant
//! (decision 021).

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::db_error::{Error, cause};

/// The role in which clients read. It is the same for all databases of a server.
pub(crate) const READER: &str = "cerebelum_reader";
/// The setting that names the tenant.
pub(crate) const NAME_TENANT: &str = "select set_config('cerebelum.tenant', $1, false)";
/// The tables that clients read.
const READ_BY_CLIENTS: [&str; 18] = [
    "executions",
    "attributes",
    "history",
    "calls",
    "inbox",
    "approvals",
    "approval_links",
    "logs",
    "progress",
    "programs",
    "components",
    "names",
    "grants",
    "tokens",
    "audit",
    "bulk_jobs",
    "bulk_refusals",
    "views",
];
/// The key of the lock under which one engine at a time builds the wall.
const BUILDERS: i64 = 0x6365_7265_6265_6c6d;

/// Builds what is missing of the wall, if the engine's own role may. Returns whether the wall stands.
///
/// # Errors
/// When the server does not answer.
pub(crate) async fn stand(connection: &mut PgConnection) -> Result<bool, Error> {
    if is_whole(connection).await? {
        return Ok(true);
    }
    sqlx::query("select pg_advisory_lock($1)").bind(BUILDERS).execute(&mut *connection).await?;
    let built = build(connection).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(BUILDERS).execute(&mut *connection).await?;
    if is_whole(connection).await? {
        return Ok(true);
    }
    let why = built.err().map_or_else(|| format!("the role {READER} sees too much"), |error| cause(&error.into()));
    tracing::warn!(why, "PostgreSQL itself does not separate the tenants; docs/operating.md says how it would");
    Ok(false)
}

/// Whether the reader is in order, and sees one tenant in each table that has a tenant.
async fn is_whole(connection: &mut PgConnection) -> Result<bool, Error> {
    let whole = sqlx::query_scalar(
        "select coalesce((
            select not r.rolsuper and not r.rolbypassrls and pg_has_role(current_user, r.oid, 'member')
                and has_schema_privilege(r.oid, current_schema(), 'usage')
                and not pg_has_role(r.oid, (select relowner from pg_class where oid = 'executions'::regclass), 'member')
                and (select bool_and(has_table_privilege(r.oid, t::regclass, 'select')) from unnest($1::text[]) t)
            from pg_roles r where r.rolname = $2
        ), false) and not exists (
            select 1 from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
            where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
                and not (c.relrowsecurity and exists (
                    select 1 from pg_policy p where p.polrelid = c.oid and p.polname = 'one_tenant'))
        )",
    );
    Ok(whole.bind(READ_BY_CLIENTS.as_slice()).bind(READER).fetch_one(connection).await?)
}

/// Creates the role and the policies that are missing. Each table is changed in a transaction of its own, which holds no
/// other lock: engines may be at work.
async fn build(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let role = format!(
        "do $$ begin
            if not exists (select 1 from pg_roles where rolname = '{READER}') then
                begin
                    create role {READER} nologin;
                exception when duplicate_object or unique_violation then null;
                end;
            end if;
            if not pg_has_role(current_user, '{READER}', 'member') then
                execute format('grant {READER} to %I', current_user);
            end if;
            execute format('grant usage on schema %I to {READER}', current_schema());
        end $$"
    );
    execute(connection, role).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(c.relname) from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' order by 1",
    )
    .fetch_all(&mut *connection)
    .await?;
    for table in tables {
        // Not forced: the owner is the engine, which sees all tenants, and `pg_dump` refuses forced tables. The setting is
        // read once a statement, because it stands in a select of its own.
        let policies = format!(
            "alter table {table} enable row level security;
            drop policy if exists each_tenant on {table};
            drop policy if exists one_tenant on {table};
            create policy each_tenant on {table} using (true) with check (true);
            create policy one_tenant on {table} as restrictive to {READER}
                using (tenant_id = (select nullif(current_setting('cerebelum.tenant', true), '')::integer))"
        );
        execute(connection, policies).await?;
    }
    execute(connection, format!("grant select on {} to {READER}", READ_BY_CLIENTS.join(", "))).await
}

async fn execute(connection: &mut PgConnection, words: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(words))).await.map(drop)
}
