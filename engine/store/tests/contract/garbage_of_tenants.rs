//! Garbage in one row of any table of a tenant that is not an execution's: another tenant does not notice, and neither do
//! the other lists of the same tenant.

use cerebelum_store::{AuditFilter, Incarnation, LinkOutcome, StoreError, TenantId};

use crate::bench::{Bench, events};
use crate::deletion::{LATER, tenant_with_everything};
use crate::garbage::Meddler;
use crate::on_both;

on_both!(
    garbage_in_a_row_of_one_tenant_stops_neither_another_one_nor_its_lists,
    a_row_that_cannot_be_read_is_left_out_and_said_by_its_name,
    of_a_damaged_grant_nothing_is_granted,
    a_damaged_count_of_bytes_stops_no_batch,
);

/// The tables with rows of a tenant that belong to no execution, with a column that tells rows of one tenant apart.
const TABLES: [(&str, &str); 13] = [
    ("tenants", "name"),
    ("tokens", "token_id"),
    ("names", "digest"),
    ("components", "digest"),
    ("grants", "name"),
    ("views", "name"),
    ("bulk_jobs", "id"),
    ("bulk_refusals", "ordinal"),
    ("approval_links", "digest"),
    ("audit", "chance"),
    ("secrets", "name"),
    ("data_keys", "key_id"),
    ("tenant_bytes", "shard"),
];

/// Two tenants that have something of each kind, and an open job besides.
async fn two_tenants(bench: &Bench) -> (Incarnation, TenantId, TenantId) {
    let node = bench.lease("n").await;
    let (bad, _) = tenant_with_everything(bench, node, "bad").await;
    let (good, last) = tenant_with_everything(bench, node, "good").await;
    for tenant in [bad, good] {
        assert!(bench.create_bulk(crate::bulk::job(tenant, "open"), (1, 1), None).await.unwrap());
        let link = crate::links::link(tenant, "q-c", &format!("second of {tenant:?}"), last.head.stamp);
        assert!(matches!(bench.create_link(link, 9, None).await.unwrap(), LinkOutcome::Created(_)));
    }
    assert!(bench.suspend_tenant("good", false, None).await.unwrap());
    (node, bad, good)
}

/// All that is listed of one tenant, in words.
async fn lists(bench: &Bench, tenant: TenantId) -> Result<String, StoreError> {
    let acts = AuditFilter { limit: 99, ..AuditFilter::default() };
    let said = [
        format!("{:?}", bench.tokens(tenant).await?),
        format!("{:?}", bench.components(tenant).await?),
        format!("{:?}", bench.views(tenant, None).await?),
        format!("{:?}", bench.bulk_jobs(tenant).await?),
        format!("{:?}", bench.bulk_refusals(tenant, "j").await?),
        format!("{:?}", bench.links(tenant, "q-c").await?),
        format!("{:?}", bench.acts(tenant, acts).await?),
    ];
    Ok(said.join("\n"))
}

/// What the engine's own tasks and the other verbs find of one tenant, in words.
async fn served(bench: &Bench, node: Incarnation, tenant: TenantId) -> Result<String, StoreError> {
    let jobs = bench.claim_bulk(node).await?.into_iter().filter(|(of, _)| *of == tenant).collect::<Vec<_>>();
    let replaced = bench.replaced_components(LATER).await?.into_iter().filter(|version| version.tenant == tenant);
    let said = [
        format!("{:?}", bench.tenants().await?.into_iter().filter(|found| found.id == tenant).collect::<Vec<_>>()),
        format!("{:?}", bench.find_tenant("good").await?),
        format!("{:?}", bench.find_token("k-good").await?),
        format!("{:?}", bench.stored_bytes().await?.get(&tenant)),
        format!("{:?} {:?}", bench.egress(tenant).await?, bench.count_open(tenant, 99).await?),
        format!("{jobs:?} {:?}", replaced.collect::<Vec<_>>()),
        lists(bench, tenant).await?,
    ];
    bench.nameless_components(LATER).await?;
    bench.digests().await?;
    Ok(said.join("\n"))
}

async fn garbage_in_a_row_of_one_tenant_stops_neither_another_one_nor_its_lists(bench: Bench) {
    let (node, bad, good) = two_tenants(&bench).await;
    let mut meddler = Meddler::of(&bench).await;
    for (table, _) in TABLES {
        assert!(meddler.run(&format!("create table kept_{table} as select * from {table}")).await);
    }
    let before = served(&bench, node, good).await.unwrap();
    assert!(before.contains("\"open\""), "the job is claimed: {before}");
    let (mut cases, mut left_out) = (0, 0);
    let whole = lists(&bench, bad).await.unwrap();
    for (table, key) in TABLES {
        let columns = meddler.columns(table).await;
        assert!(columns.len() > 2, "{table} has {columns:?}");
        let one = format!("tenant_id = {0} and {key} = (select min({key}) from {table} where tenant_id = {0})", bad.0);
        for column in columns {
            for garbage in meddler.garbage() {
                let case = format!("{table}.{column} = {garbage}");
                if !meddler.run(&format!("update {table} set {column} = {garbage} where {one}")).await {
                    continue;
                }
                cases += 1;
                let after = served(&bench, node, good).await.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(after, before, "{case}");
                let of_bad = lists(&bench, bad).await.unwrap_or_else(|error| panic!("{case}: {error}"));
                left_out += usize::from(of_bad.len() < whole.len());
                let again = format!("delete from {table}; insert into {table} select * from kept_{table}");
                assert!(meddler.run(&again).await, "{case}");
            }
        }
    }
    assert!(cases > 300 && left_out > 30, "{cases} cases, {left_out} with shorter lists");
}

async fn a_row_that_cannot_be_read_is_left_out_and_said_by_its_name(bench: Bench) {
    let (_, bad, _) = two_tenants(&bench).await;
    let mut meddler = Meddler::of(&bench).await;
    let garbage = if bench.folder.is_some() { "cast(x'ff00fe' as text)" } else { "null" };
    for (table, column) in [("tenants", "quotas"), ("tokens", "role"), ("bulk_jobs", "filter")] {
        let words = format!("update {table} set {column} = {garbage} where tenant_id = {}", bad.0);
        assert!(meddler.run(&words).await, "{words}");
    }
    assert!(!bench.tenants().await.unwrap().iter().any(|tenant| tenant.id == bad));
    assert!(bench.tokens(bad).await.unwrap().is_empty() && bench.bulk_jobs(bad).await.unwrap().is_empty());
    let tenant = bench.find_tenant("bad").await;
    assert!(matches!(&tenant, Err(StoreError::Corrupt(why)) if why.contains("tenant bad")), "{tenant:?}");
    assert!(matches!(bench.find_token("k-bad").await, Err(StoreError::Corrupt(_))));
    assert!(matches!(bench.bulk_job(bad, "open").await, Err(StoreError::Corrupt(_))));
    assert_eq!(bench.find_tenant("nobody").await.unwrap(), None);
}

/// A version that was left out of the list would count as one that was granted all that it asks for.
async fn of_a_damaged_grant_nothing_is_granted(bench: Bench) {
    let (_, bad, _) = two_tenants(&bench).await;
    let mut meddler = Meddler::of(&bench).await;
    let names = bench.components(bad).await.unwrap();
    let garbage = if bench.folder.is_some() { "cast(x'ff00fe' as text)" } else { "null" };
    assert!(meddler.run(&format!("update components set manifest = {garbage}")).await);
    let after = bench.components(bad).await.unwrap();
    assert!(after.iter().all(|component| component.manifest.is_empty()), "{after:?}");
    let digests = |all: &[cerebelum_store::Component]| {
        all.iter().map(|component| (component.digest.clone(), component.current)).collect::<Vec<_>>()
    };
    assert_eq!(digests(&after), digests(&names), "each version is there");
    // A missing record means that there was none yet. PostgreSQL cannot hold a text that is none.
    if bench.folder.is_some() {
        assert!(meddler.run(&format!("update grants set capabilities = {garbage}")).await);
        let granted: Vec<_> = bench.components(bad).await.unwrap().into_iter().map(|found| found.granted).collect();
        assert_eq!(granted, vec![Some("[]".to_owned()); names.len()]);
    }
}

async fn a_damaged_count_of_bytes_stops_no_batch(bench: Bench) {
    let node = bench.lease("n").await;
    let mut head = bench.started(node, "a").await;
    for garbage in ["9223372036854775807", "-9223372036854775808"] {
        bench.meddle(format!("update tenant_bytes set bytes = {garbage}")).await;
        assert_eq!(bench.stored_bytes().await.unwrap()[&head.key.tenant], 0);
        let batch = events(node, &head, 1);
        head = batch.head.clone();
        assert_eq!(bench.write(batch).await, Ok(()), "{garbage}");
        assert!(bench.stored_bytes().await.unwrap()[&head.key.tenant] > 0);
    }
}
