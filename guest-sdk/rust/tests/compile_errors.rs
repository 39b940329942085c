//! The compiler's messages for wrongly written attributes: golden texts, refreshed by `TRYBUILD=overwrite`.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}
