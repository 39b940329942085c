//! Saved views: each owner has their own, and nobody sees those of another person or tenant.

use cerebelum_store::{NewView, TenantId, ViewKey, ViewLimits};

use crate::audit::act;
use crate::bench::{Bench, T};
use crate::identity::token;
use crate::on_all;

on_all!(
    a_view_is_saved_replaced_and_deleted,
    people_and_tenants_see_their_own_and_what_is_shared,
    an_owner_and_a_tenant_have_so_many_and_no_more,
    the_views_of_those_whose_tokens_are_forgotten_make_room,
);

const MANY: ViewLimits = ViewLimits { of_owner: 9, of_tenant: 99 };

pub(crate) fn view(tenant: TenantId, owner: Option<&str>, name: &str) -> NewView {
    let key = ViewKey { tenant, owner: owner.map(str::to_owned), name: name.to_owned() };
    NewView { key, content: format!("{{\"of\":\"{name}\"}}"), saved_by: owner.map(str::to_owned) }
}

async fn names(bench: &Bench, tenant: TenantId, owner: Option<&str>) -> Vec<String> {
    bench.views(tenant, owner).await.unwrap().into_iter().map(|view| view.key.name).collect()
}

async fn acts(bench: &Bench) -> Vec<(String, String)> {
    let page = bench.acts(T, cerebelum_store::AuditFilter { limit: 99, ..Default::default() }).await.unwrap();
    page.acts.into_iter().map(|act| (act.operation, act.object)).rev().collect()
}

async fn a_view_is_saved_replaced_and_deleted(bench: Bench) {
    let new = view(T, Some("ada"), "<b>stuck</b> 'x' ü");
    assert!(bench.save_view(new.clone(), MANY, Some(act("SaveView", "first"))).await.unwrap());
    let [saved] = &bench.views(T, Some("ada")).await.unwrap()[..] else { panic!("one view") };
    assert_eq!((&saved.key, &saved.content, saved.saved_by.as_deref()), (&new.key, &new.content, Some("ada")));
    assert!(saved.saved_at.0 > 0);
    let again = NewView { content: "{}".into(), saved_by: None, ..new.clone() };
    assert!(bench.save_view(again, MANY, Some(act("SaveView", "second"))).await.unwrap());
    let [replaced] = &bench.views(T, Some("ada")).await.unwrap()[..] else { panic!("one view") };
    assert_eq!((replaced.content.as_str(), replaced.saved_by.as_deref()), ("{}", None));
    assert!(bench.delete_view(new.key.clone(), Some(act("DeleteView", "third"))).await.unwrap());
    assert!(!bench.delete_view(new.key, Some(act("DeleteView", "fourth"))).await.unwrap());
    assert!(bench.views(T, Some("ada")).await.unwrap().is_empty());
    let expected = [("SaveView", "first"), ("SaveView", "second"), ("DeleteView", "third")];
    assert_eq!(acts(&bench).await, expected.map(|(operation, object)| (operation.to_owned(), object.to_owned())));
}

async fn people_and_tenants_see_their_own_and_what_is_shared(bench: Bench) {
    let other = bench.create_tenant("other", None).await.unwrap().unwrap();
    for (tenant, owner) in [(T, None), (T, Some("ada")), (T, Some("bob")), (other, None), (other, Some("ada"))] {
        assert!(bench.create_token(token_of(tenant, owner), 99, None).await.unwrap());
        for name in ["a", owner.unwrap_or("all")] {
            assert!(bench.save_view(view(tenant, owner, name), MANY, None).await.unwrap());
        }
    }
    assert_eq!(names(&bench, T, Some("ada")).await, ["a", "all", "a", "ada"], "shared ones first");
    assert_eq!(names(&bench, T, Some("eve")).await, ["a", "all"]);
    assert_eq!(names(&bench, T, None).await, ["a", "all"]);
    assert_eq!(names(&bench, other, Some("bob")).await, ["a", "all"]);
    let key = |owner: Option<&str>, name| view(T, owner, name).key;
    assert!(!bench.delete_view(key(Some("eve"), "ada"), None).await.unwrap());
    assert!(!bench.delete_view(key(None, "ada"), None).await.unwrap());
    assert!(bench.delete_view(key(None, "a"), None).await.unwrap());
    assert_eq!(names(&bench, T, Some("ada")).await, ["all", "a", "ada"]);
    assert_eq!(names(&bench, other, Some("ada")).await, ["a", "all", "a", "ada"]);
}

fn token_of(tenant: TenantId, name: Option<&str>) -> cerebelum_store::Token {
    let name = name.unwrap_or("nobody");
    cerebelum_store::Token { name: name.to_owned(), ..token(&format!("{name}-{}", tenant.0), tenant) }
}

async fn an_owner_and_a_tenant_have_so_many_and_no_more(bench: Bench) {
    for name in ["ada", "bob", "eve"] {
        assert!(bench.create_token(token_of(T, Some(name)), 99, None).await.unwrap());
    }
    let limits = ViewLimits { of_owner: 2, of_tenant: 5 };
    let save = |owner, name| bench.save_view(view(T, owner, name), limits, Some(act("SaveView", "x")));
    for (owner, name, is_saved) in [
        (Some("ada"), "a", true),
        (Some("ada"), "b", true),
        (Some("ada"), "c", false),
        (Some("ada"), "b", true),
        (None, "a", true),
        (None, "b", true),
        (None, "c", false),
        (Some("bob"), "a", true),
        (Some("eve"), "a", false),
        (Some("bob"), "a", true),
    ] {
        assert_eq!(save(owner, name).await.unwrap(), is_saved, "{owner:?} {name}");
    }
    assert_eq!(acts(&bench).await.len(), 7, "what is refused is not in the audit");
    assert_eq!(names(&bench, T, Some("eve")).await, ["a", "b"]);
    assert!(!bench.save_view(view(TenantId(77), None, "a"), limits, None).await.unwrap(), "there is no such tenant");
}

async fn the_views_of_those_whose_tokens_are_forgotten_make_room(bench: Bench) {
    assert!(bench.create_token(token_of(T, Some("ada")), 99, None).await.unwrap());
    let limits = ViewLimits { of_owner: 1, of_tenant: 3 };
    // The tokens of these three are gone.
    for owner in ["x", "y", "z"] {
        assert!(bench.save_view(view(T, Some(owner), "v"), limits, None).await.unwrap(), "{owner}");
    }
    assert!(bench.save_view(view(T, None, "shared"), limits, None).await.unwrap());
    assert!(bench.save_view(view(T, Some("ada"), "v"), limits, None).await.unwrap());
    assert!(bench.save_view(view(T, Some("z"), "v"), limits, None).await.unwrap());
    assert_eq!(names(&bench, T, Some("ada")).await, ["shared", "v"]);
    assert_eq!(names(&bench, T, Some("z")).await, ["shared", "v"]);
    assert_eq!(names(&bench, T, Some("x")).await, ["shared"]);
}
