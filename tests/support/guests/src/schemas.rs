//! Schemas that tests write into the component, or pass at run time.

use std::borrow::Cow;
use std::cell::RefCell;

use cerebelum::prelude::*;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// The space for a schema, in bytes.
const ROOM: usize = 256 << 10;
/// The schema until a test writes another one over it.
static SCHEMA: [u8; ROOM] = {
    let mut room = [b' '; ROOM];
    let begins = br#"{"$comment":"room for a schema"}"#;
    let mut at = 0;
    while at < begins.len() {
        room[at] = begins[at];
        at += 1;
    }
    room
};

fn parse(text: &str) -> Schema {
    let value: serde_json::Value = serde_json::from_str(text.trim_end()).expect("a test lays JSON down");
    value.try_into().expect("a schema is an object or a boolean")
}

/// Anything that satisfies the schema that a test laid down.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fitting(Json);

impl JsonSchema for Fitting {
    fn schema_name() -> Cow<'static, str> {
        "Fitting".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let room = std::hint::black_box(&SCHEMA);
        parse(std::str::from_utf8(room).expect("a test lays text down"))
    }
}

/// Takes what fits.
#[workflow]
pub async fn fitting(_ctx: Context, _value: Fitting) -> Result<bool> {
    Ok(true)
}

thread_local! {
    static ASKED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// An answer by the schema of the question.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answer(serde_json::Value);

impl JsonSchema for Answer {
    fn schema_name() -> Cow<'static, str> {
        "Answer".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        ASKED.with_borrow(|text| parse(text))
    }
}

/// Asks for an answer by this schema; yields it, or the kind of the failure to ask.
#[workflow]
pub async fn asking_by_schema(ctx: Context, schema: Json) -> Result<serde_json::Value> {
    ASKED.set(schema.to_string());
    match ctx.approval("What fits?").schema_of::<Answer>().await {
        Ok(approval) => Ok(approval.data.0),
        Err(error) => {
            ctx.sleep(millis(1)).await?;
            Ok(serde_json::json!({"kind": error.kind(), "message": error.message()}))
        }
    }
}
