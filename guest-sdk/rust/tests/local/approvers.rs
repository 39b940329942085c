//! The people and roles that may answer a question, as the engine reads them.

use cerebelum::prelude::*;
use cerebelum::testing::approve;
use serde_json::json;

use crate::{Terms, check};

#[workflow]
async fn asks_some(ctx: Context, approvers: Vec<String>) -> Result<u64> {
    let asked = ctx.approval("Buy?").approvers(approvers).schema_of::<Terms>().timeout(days(3));
    Ok(asked.await?.data.cents)
}

#[workflow]
async fn asks_one(ctx: Context) -> Result<()> {
    ctx.approval("Buy?").approvers(["ada@example.com"]).await?;
    Ok(())
}

#[test]
fn a_question_names_its_approvers_in_the_schema_of_the_answer() {
    let approvers = vec!["role:operator".to_owned(), "ada@example.com".to_owned()];
    let run = check(|local| local.on_approval("Buy?", approve(&Terms { cents: 7 })).run(asks_some, approvers.clone()));
    assert_eq!(run.output().unwrap(), &7);
    let asked = run.history().iter().find(|event| event.kind == "ApprovalRequested").unwrap();
    let schema = &asked.fields["request"]["schema"];
    assert_eq!((&schema["x-cerebelum-approvers"], &schema["type"]), (&json!(approvers), &json!("object")));
    let run = check(|local| local.on_approval("Buy?", approve(&())).run(asks_one, ()));
    let asked = run.history().iter().find(|event| event.kind == "ApprovalRequested").unwrap();
    assert_eq!(asked.fields["request"]["schema"], json!({"x-cerebelum-approvers": ["ada@example.com"]}));
}

#[test]
fn a_malformed_list_of_approvers_fails_the_call() {
    for wrong in [vec![], vec![""], vec!["role:boss"], vec!["a"; 33]] {
        let approvers: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
        let run = check(|local| local.run(asks_some, approvers.clone()));
        let error = run.output().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("invalid-argument", false), "{approvers:?}");
        assert!(error.message().contains("approver"), "{error}");
    }
}
