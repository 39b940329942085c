//! The deletion of a tenant: nothing of it is left, and nothing of another one is touched.

use cerebelum_history::{Level, Timestamp};
use cerebelum_store::{
    ApprovalChange, Batch, BulkRefusal, BulkStep, Command, ExecutionKey, Incarnation, LinkOutcome, LogLine, Progress,
    SecretChange, TenantId,
};
use sqlx::{AssertSqlSafe, Connection};

use crate::bench::{Bench, T, call, fresh, new, opened, scope, upload, written};
use crate::identity::token;
use crate::on_all;

on_all!(
    a_deleted_tenant_goes_piece_by_piece_and_gives_its_name_back,
    only_what_is_marked_is_deleted,
    a_tenant_that_is_deleted_takes_nothing_new;
    // Only on databases:
    no_table_keeps_a_row_of_a_deleted_tenant,
    a_node_that_runs_a_deleted_execution_loses_its_claim,
    an_execution_that_is_locked_is_not_left_behind,
);

pub(crate) const LATER: Timestamp = Timestamp(u64::MAX >> 2);

/// Stores an execution with a row in each table, claimed by the node.
async fn store(bench: &Bench, node: Incarnation, tenant: TenantId, id: &str) -> Batch {
    let mut new = new(id);
    new.head.key.tenant = tenant;
    new.head.attributes = r#"{"team":"ops"}"#.into();
    let line = LogLine {
        scope: scope("1"),
        attempt: 1,
        place: 1,
        number: 1,
        at: Timestamp(1),
        level: Level::Info,
        text: "hello".into(),
    };
    let question =
        ApprovalChange::Open { id: format!("q-{id}"), call: call("1"), request: "{}".into(), deadline: None };
    let batch = Batch {
        opened: vec![opened("1", "{}")],
        approvals: vec![question],
        logs: vec![line],
        progress: vec![Progress { scope: scope("1"), percent: 7, message: "on its way".into() }],
        release: false,
        ..Batch::start(node, new)
    };
    assert_eq!(written(bench.append(fresh(), vec![batch.clone()]).await.unwrap()), [Ok(())]);
    assert!(bench.command(&batch.key, Command::Send("{}".into()), None).await.unwrap());
    batch
}

/// A suspended tenant that has something of each kind, and the batch of its last execution.
pub(crate) async fn tenant_with_everything(bench: &Bench, node: Incarnation, name: &str) -> (TenantId, Batch) {
    let tenant = bench.create_tenant(name, None).await.unwrap().unwrap();
    let mut last = None;
    for id in ["a", "b", "c"] {
        last = Some(store(bench, node, tenant, id).await);
    }
    let mut act = crate::audit::act("CreateToken", "k");
    act.tenant = tenant;
    assert!(bench.create_token(token(&format!("k-{name}"), tenant), 9, Some(act)).await.unwrap());
    for bytes in [&b"one"[..], b"two"] {
        let of_tenant = cerebelum_store::Upload { tenant, ..upload("shop", "{}", bytes) };
        crate::bench::keep(&**bench, of_tenant, None).await.unwrap();
    }
    let secret = SecretChange::Put(crate::secrets::secret("A", b"1"), Some(crate::secrets::key("k")));
    assert!(bench.change_secrets(tenant, 0, secret, None).await.unwrap());
    let last = last.unwrap();
    let link = crate::links::link(tenant, "q-c", name, last.head.stamp);
    assert!(matches!(bench.create_link(link, 9, None).await.unwrap(), LinkOutcome::Created(_)));
    assert!(bench.create_bulk(crate::bulk::job(tenant, "j"), (1, 1), None).await.unwrap());
    let step = BulkStep {
        tenant,
        id: "j".into(),
        from: bench.bulk_job(tenant, "j").await.unwrap().unwrap().cursor,
        to: None,
        items: Vec::new(),
        refusals: vec![BulkRefusal { execution: "x".parse().unwrap(), reason: "no".into() }],
    };
    assert!(bench.bulk_step(step).await.unwrap());
    let limits = cerebelum_store::ViewLimits { of_owner: 1, of_tenant: 1 };
    assert!(bench.save_view(crate::saved_views::view(tenant, None, "v"), limits, None).await.unwrap());
    assert!(bench.suspend_tenant(name, true, None).await.unwrap());
    (tenant, last)
}

async fn purge(bench: &Bench, tenant: TenantId, before: Timestamp) {
    for _ in 0..100 {
        if bench.purge_tenant(tenant, before, 2).await.unwrap() == 0 {
            return;
        }
    }
    panic!("it has no end");
}

async fn names(bench: &Bench) -> Vec<String> {
    bench.tenants().await.unwrap().into_iter().map(|tenant| tenant.name).collect()
}

async fn a_deleted_tenant_goes_piece_by_piece_and_gives_its_name_back(bench: Bench) {
    let node = bench.lease("n").await;
    let (gone, _) = tenant_with_everything(&bench, node, "gone").await;
    let (stays, _) = tenant_with_everything(&bench, node, "stays").await;
    assert!(bench.delete_tenant("gone", Some(crate::audit::act("DeleteTenant", "gone"))).await.unwrap());
    assert!(!bench.delete_tenant("gone", None).await.unwrap(), "it is marked already");
    assert!(!bench.suspend_tenant("gone", false, None).await.unwrap(), "there is no way back");
    purge(&bench, gone, Timestamp(1)).await;
    assert_eq!(names(&bench).await, ["default", "gone", "stays"], "its name is taken for a while");
    assert!(bench.find_token("k-gone").await.unwrap().is_none());
    purge(&bench, gone, LATER).await;
    assert_eq!(names(&bench).await, ["default", "stays"]);
    let again = bench.create_tenant("gone", None).await.unwrap().unwrap();
    assert!(again != gone && again != stays, "no number is used twice");
    let key = |tenant| ExecutionKey { tenant, id: "a".parse().unwrap() };
    assert_eq!(bench.execution(&key(gone)).await.unwrap(), None);
    assert!(bench.components(gone).await.unwrap().is_empty() && bench.components(again).await.unwrap().is_empty());
    assert!(bench.execution(&key(stays)).await.unwrap().is_some());
    assert_eq!(bench.components(stays).await.unwrap().len(), 2);
    assert!(bench.find_token("k-stays").await.unwrap().is_some());
}

async fn only_what_is_marked_is_deleted(bench: Bench) {
    let node = bench.lease("n").await;
    let (tenant, _) = tenant_with_everything(&bench, node, "a").await;
    for tenant in [tenant, T, TenantId(77)] {
        assert_eq!(bench.purge_tenant(tenant, LATER, 9).await.unwrap(), 0);
    }
    assert!(bench.suspend_tenant("a", false, None).await.unwrap());
    assert!(!bench.delete_tenant("a", None).await.unwrap(), "it is not suspended");
    assert!(!bench.delete_tenant("nobody", None).await.unwrap());
    assert_eq!(bench.components(tenant).await.unwrap().len(), 2);
}

/// The tables whose rows have a tenant.
async fn tables(bench: &Bench) -> Vec<String> {
    if bench.folder.is_some() {
        let mut connection = sqlx::SqliteConnection::connect(&bench.url).await.unwrap();
        let all = "select m.name from sqlite_master m join pragma_table_info(m.name) c where c.name = 'tenant_id'";
        return sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(&mut connection).await.unwrap();
    }
    let mut connection = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    let all = "select table_name::text from information_schema.columns
        where column_name = 'tenant_id' and table_schema = current_schema()";
    sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(&mut connection).await.unwrap()
}

async fn no_table_keeps_a_row_of_a_deleted_tenant(bench: Bench) {
    let node = bench.lease("n").await;
    let (gone, _) = tenant_with_everything(&bench, node, "gone").await;
    let (stays, _) = tenant_with_everything(&bench, node, "stays").await;
    let tables = tables(&bench).await;
    assert!(tables.len() >= 20, "{tables:?}");
    let count = async |table: &str, tenant: TenantId| {
        bench.meddle(format!("select count(*) from {table} where tenant_id = {}", tenant.0)).await
    };
    let mut before = Vec::new();
    for table in &tables {
        // What earlier engines stored whole is the only kind of row that this one does not write.
        if table == "component_bytes" {
            for tenant in [gone, stays] {
                bench
                    .meddle(format!(
                        "insert into component_bytes (tenant_id, digest, bytes) select {}, 'old', packed
                        from component_packs limit 1",
                        tenant.0
                    ))
                    .await;
            }
        }
        // As if an execution had been deleted just before.
        if table == "remains" {
            for tenant in [gone, stays] {
                let words = format!("insert into remains (execution_no, tenant_id) values (77, {})", tenant.0);
                bench.meddle(words).await;
            }
        }
        assert!(count(table, gone).await > 0, "{table} has no row that could be left");
        before.push(count(table, stays).await);
    }
    assert!(bench.delete_tenant("gone", None).await.unwrap());
    purge(&bench, gone, LATER).await;
    for (table, before) in std::iter::zip(&tables, before) {
        // The row of the tenant itself keeps its number.
        assert_eq!(count(table, gone).await, i64::from(table == "tenants"), "{table}");
        assert_eq!(count(table, stays).await, before, "{table}");
    }
}

async fn a_node_that_runs_a_deleted_execution_loses_its_claim(bench: Bench) {
    let node = bench.lease("n").await;
    let (gone, last) = tenant_with_everything(&bench, node, "gone").await;
    assert!(bench.delete_tenant("gone", None).await.unwrap());
    purge(&bench, gone, LATER).await;
    for _ in 0..2 {
        let next = crate::bench::events(node, &last.head, 1);
        assert_eq!(bench.write(next).await, Err(cerebelum_store::AppendError::ClaimLost));
    }
}

async fn a_tenant_that_is_deleted_takes_nothing_new(bench: Bench) {
    let node = bench.lease("n").await;
    let (gone, _) = tenant_with_everything(&bench, node, "gone").await;
    assert!(bench.delete_tenant("gone", None).await.unwrap());
    purge(&bench, gone, LATER).await;
    let late = cerebelum_store::Upload { tenant: gone, ..upload("late", "{}", b"late") };
    assert!(bench.keep_component(late, None).await.is_err(), "an upload that began before");
    assert!(!bench.create_token(token("late", gone), 9, None).await.unwrap());
    let secret = SecretChange::Put(crate::secrets::secret("A", b"1"), Some(crate::secrets::key("k")));
    assert!(!bench.change_secrets(gone, 0, secret, None).await.unwrap());
    let limits = cerebelum_store::ViewLimits { of_owner: 9, of_tenant: 9 };
    assert!(!bench.save_view(crate::saved_views::view(gone, None, "late"), limits, None).await.unwrap());
    assert!(bench.components(gone).await.unwrap().is_empty() && bench.tokens(gone).await.unwrap().is_empty());
}

/// A row that another transaction has locked is skipped, and the tenant is not forgotten meanwhile.
async fn an_execution_that_is_locked_is_not_left_behind(bench: Bench) {
    let node = bench.lease("n").await;
    let (gone, _) = tenant_with_everything(&bench, node, "gone").await;
    assert!(bench.delete_tenant("gone", None).await.unwrap());
    if bench.folder.is_none() {
        let mut other = sqlx::PgConnection::connect(&bench.url).await.unwrap();
        let words = format!("select 1 from executions where tenant_id = {} and id = 'b' for update", gone.0);
        let mut lock = other.begin().await.unwrap();
        sqlx::query(AssertSqlSafe(words)).fetch_one(&mut *lock).await.unwrap();
        purge(&bench, gone, LATER).await;
        assert_eq!(names(&bench).await, ["default", "gone"]);
        assert_eq!(bench.meddle(format!("select count(*) from programs where tenant_id = {}", gone.0)).await, 1);
        lock.rollback().await.unwrap();
    }
    purge(&bench, gone, LATER).await;
    assert_eq!(names(&bench).await, ["default"]);
    assert_eq!(bench.meddle(format!("select count(*) from executions where tenant_id = {}", gone.0)).await, 0);
}
