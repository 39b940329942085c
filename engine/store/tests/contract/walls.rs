//! The wall between tenants in PostgreSQL: what the role sees in which clients read, and who builds it.

use cerebelum_store::{Filter, TenantId, open};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use crate::bench::{Bench, T};

/// A row of each table that clients read, without the tenant. What is not named here has a row through the store.
const ROWS: [(&str, &str, &str); 15] = [
    ("attributes", "execution_no, name, value", "7, 'a', '1'"),
    ("history", "execution_no, run, first_position, last_position, checksum, events", "7, 1, 1, 1, 0, 'secret'"),
    ("calls", "execution_no, call, state", "7, 'c', '{}'"),
    ("approvals", "execution_no, requested_at, state, id, call, request", "7, 1, 0, 'q', 'c', '{}'"),
    (
        "approval_links",
        "execution_no, created_at, expires_at, decisions, digest, approval_id, name",
        // The digest alone is the primary key.
        "7, 1, 1, 3, md5(random()::text), 'q', 'ada'",
    ),
    (
        "logs",
        "execution_no, seq, logged_at, run, attempt, number, level, scope, line",
        "7, 1, 1, 1, 1, 1, 1, '', 'said'",
    ),
    ("progress", "execution_no, run, percent, scope, message", "7, 1, 5, '', 'half'"),
    ("programs", "workflow, digest", "'shop/secret', 'd'"),
    ("components", "size_bytes, digest, manifest", "1, 'd', '{}'"),
    ("names", "uploaded_at, current, name, digest", "1, 1, 'shop', 'd'"),
    ("grants", "name, capabilities", "'shop', '[]'"),
    ("inbox", "execution_no, message", "7, 'hello'"),
    ("bulk_jobs", "created_at, at_most, matched, id, operation, filter, cursor", "1, 1, 1, 'j', '{}', '{}', '1'"),
    ("bulk_refusals", "ordinal, id, execution_id, reason", "1, 'j', 'a', 'no'"),
    ("views", "saved_at, owner, name, content", "1, '', 'all', '{}'"),
];

async fn connect(url: &str, role: Option<&str>) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.options(role.map(|role| ("role", role))).disable_statement_logging().connect().await.unwrap()
}

async fn number(connection: &mut PgConnection, words: String) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(words)).fetch_one(connection).await
}

/// A database with rows of the tenants 1 and 2 in every table of [`ROWS`] and an execution of each.
async fn two_tenants() -> Bench {
    let bench = Bench::postgres().await;
    bench.meddle("insert into tenants (tenant_id, name) values (2, 'other')").await;
    bench.lease("n").await;
    for tenant in [T, TenantId(2)] {
        let mut new = crate::bench::new("a");
        new.head.key.tenant = tenant;
        bench.start(vec![new]).await;
        for (table, columns, values) in ROWS {
            // The primary key of a question is the tenant and the id, and so on: each row is one of two.
            let tenant = tenant.0;
            bench.meddle(format!("insert into {table} (tenant_id, {columns}) values ({tenant}, {values})")).await;
        }
    }
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_client_ends_after_five_seconds() {
    let bench = two_tenants().await;
    let slow = "create policy slow on executions as restrictive to cerebelum_reader using (pg_sleep(60) is null)";
    bench.meddle(slow).await;
    let began = std::time::Instant::now();
    let error = bench.store.list(T, Filter::default()).await.unwrap_err();
    assert!(error.to_string().contains("statement timeout"), "{error}");
    assert!(began.elapsed().as_secs() < 50, "{:?}", began.elapsed());
    bench.meddle("drop policy slow on executions").await;
    assert_eq!(bench.store.list(T, Filter::default()).await.unwrap().executions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_reader_sees_the_rows_of_one_tenant() {
    let bench = two_tenants().await;
    let mut owner = connect(&bench.url, None).await;
    let mut reader = connect(&bench.url, Some("cerebelum_reader")).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let mut readable = Vec::new();
    for table in tables {
        let count = format!("select count(*) from {table}");
        reader.execute("select set_config('cerebelum.tenant', '', false)").await.unwrap();
        match number(&mut reader, count.clone()).await {
            Ok(found) => assert_eq!(found, 0, "{table} without a tenant"),
            Err(refused) => {
                assert!(refused.to_string().contains("permission denied"), "{table}: {refused}");
                continue;
            }
        }
        reader.execute("select set_config('cerebelum.tenant', '2', false)").await.unwrap();
        let theirs = number(&mut owner, format!("{count} where tenant_id = 2")).await.unwrap();
        assert_eq!(number(&mut reader, count.clone()).await.unwrap(), theirs, "{table}");
        assert_eq!(number(&mut reader, format!("{count} where tenant_id = 1")).await.unwrap(), 0, "{table}");
        assert!(theirs > 0 || ["tokens", "audit"].contains(&table.as_str()), "{table} has no row to be seen");
        for write in [format!("delete from {table}"), format!("update {table} set tenant_id = 2")] {
            let refused = reader.execute(sqlx::raw_sql(AssertSqlSafe(write))).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{table}: {refused}");
        }
        readable.push(table);
    }
    assert_eq!(readable.len(), 18, "{readable:?}");
    // `reset role` does not lead back to the engine's role.
    reader.execute("reset role").await.unwrap();
    assert_eq!(number(&mut reader, "select count(*) from executions where tenant_id = 1".into()).await.unwrap(), 0);
    for table in ["leases", "nodes", "tenants", "component_bytes", "component_packs", "secrets", "data_keys"] {
        let refused = number(&mut reader, format!("select count(*) from {table}")).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{table}: {refused}");
    }
}

/// Reads of tenants in turn share the connections, and each sees its own.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_connection_shows_the_tenant_that_reads_now() {
    let bench = two_tenants().await;
    for tenant in [1, 2, 3, 2, 1, 1, 3] {
        let page = bench.list(TenantId(tenant), Filter { limit: 9, ..Filter::default() }).await.unwrap();
        let seen: Vec<i32> = page.executions.iter().map(|head| head.key.tenant.0).collect();
        assert_eq!(seen, if tenant == 3 { vec![] } else { vec![tenant] });
    }
}

/// A database that a new role owns, and its address for that role.
async fn owned_by(role: &str, may: &str) -> String {
    let url = test_postgres::database();
    let mut options: PgConnectOptions = url.parse().unwrap();
    let name = options.get_database().unwrap().to_owned();
    let role = format!("{role}_{name}");
    let mut superuser = connect(&url, None).await;
    for words in [
        format!("drop role if exists {role}"),
        format!("create role {role} login {may} password 'x'"),
        format!("alter database {name} owner to {role}"),
        format!("alter schema public owner to {role}"),
    ] {
        superuser.execute(sqlx::raw_sql(AssertSqlSafe(words))).await.unwrap();
    }
    superuser.close().await.unwrap();
    options = options.username(&role).password("x");
    options.to_url_lossy().to_string()
}

/// Whether the engine's own role may act as the reader.
async fn has_reader(url: &str) -> bool {
    let words = "select pg_has_role(current_user, 'cerebelum_reader', 'member')
        and has_table_privilege('cerebelum_reader', 'executions', 'select')";
    sqlx::query_scalar(words).fetch_one(&mut connect(url, None).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_owner_builds_the_wall_if_it_may_create_roles() {
    // The first engine on the server creates the role.
    drop(open(&test_postgres::database()).await.unwrap());
    let url = owned_by("builder", "createrole").await;
    // Several engines that start at once build it together.
    let opened = futures::future::join_all((0..4).map(|_| open(&url))).await;
    assert!(has_reader(&url).await);
    for store in opened {
        let page = store.unwrap().list(T, Filter { limit: 9, ..Filter::default() }).await.unwrap();
        assert!(page.executions.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_may_not_create_roles_works_without_the_wall() {
    drop(open(&test_postgres::database()).await.unwrap());
    let url = owned_by("plain", "nocreaterole").await;
    let store = open(&url).await.unwrap();
    assert!(!has_reader(&url).await);
    assert!(store.list(T, Filter { limit: 9, ..Filter::default() }).await.unwrap().executions.is_empty());
    // An administrator makes it a member: the next engine builds the rest.
    let role = url.parse::<PgConnectOptions>().unwrap().get_username().to_owned();
    let mut superuser = connect(&test_postgres::database(), None).await;
    superuser.execute(sqlx::raw_sql(AssertSqlSafe(format!("grant cerebelum_reader to {role}")))).await.unwrap();
    let store = open(&url).await.unwrap();
    assert!(has_reader(&url).await);
    assert!(store.list(T, Filter { limit: 9, ..Filter::default() }).await.unwrap().executions.is_empty());
}
