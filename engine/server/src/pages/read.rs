//! What a request for a page brings along, refused with a page if it cannot be read.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use tonic::Status;

use super::Refusal;
use super::parts::{cut, escaped};

/// The form with the most fields starts a workflow: 50 of its input, and some options.
const FORM_FIELDS_MAX: usize = 200;
/// A refusal repeats no more of a query.
const SHOWN_LETTERS_MAX: usize = 100;

/// The parts of the path.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|read| Self(read.0)).map_err(|refused| Refusal(Status::invalid_argument(refused.body_text())))
    }
}

/// The query. A field that is unknown or there twice is refused, because a misspelt filter would find everything.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        read(&parts.uri).map(Self).map_err(|why| Refusal(Status::invalid_argument(why)))
    }
}

fn read<T: DeserializeOwned>(of: &Uri) -> Result<T, String> {
    let given: Vec<(String, String)> = taken(of).ok_or("the query cannot be read")?;
    let known = fields_of::<T>();
    let mut seen = BTreeSet::new();
    for (name, _) in &given {
        if !known.contains(&name.as_str()) {
            let known = known.join("`, `");
            let name = cut(name, SHOWN_LETTERS_MAX);
            return Err(format!("the query of this page has no field `{name}`: it takes `{known}`"));
        }
        if !seen.insert(name) {
            return Err(format!("the field `{name}` is in the query twice: give it once"));
        }
    }
    // One field after the other, so that a refusal can name the one that does not fit.
    let fits = |(name, value): &&(String, String)| {
        let alone = format!("/?{name}={}", escaped(value)).parse();
        alone.is_ok_and(|alone| taken::<T>(&alone).is_some())
    };
    taken(of).ok_or_else(|| match given.iter().find(|one| !fits(one)) {
        Some((name, value)) => {
            format!("the field `{name}` of the query cannot be `{}`", cut(value, SHOWN_LETTERS_MAX))
        }
        None => "the query lacks a field".to_owned(),
    })
}

fn taken<T: DeserializeOwned>(of: &Uri) -> Option<T> {
    axum::extract::Query::try_from_uri(of).ok().map(|axum::extract::Query(read)| read)
}

/// The names of the fields that a type is read from.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields = Fields(&[]);
    // The names are all that is wanted: nothing is read.
    drop(T::deserialize(&mut fields));
    fields.0
}

/// Notes which fields a type asks for.
struct Fields(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Fields {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0 = fields;
        Err(serde::de::Error::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a query is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields of a form. They are counted before they are read: two bytes of a form would be 48 in memory.
pub(super) struct Form<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let refused = |why: String| Refusal(Status::invalid_argument(why));
        let (parts, body) = request.into_parts();
        let whole = Request::from_parts(parts.clone(), body);
        let body = Bytes::from_request(whole, state).await.map_err(|why| refused(why.body_text()))?;
        if body.iter().filter(|byte| **byte == b'&').count() >= FORM_FIELDS_MAX {
            return Err(refused(format!("a form has at most {FORM_FIELDS_MAX} fields")));
        }
        let read = axum::Form::<T>::from_request(Request::from_parts(parts, body.into()), state).await;
        read.map(|read| Self(read.0)).map_err(|why| refused(why.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Wanted {
        status: String,
        after: Option<u64>,
    }

    #[tokio::test]
    async fn a_form_has_as_many_fields_as_a_page_can_show() {
        let read = async |fields: usize| {
            let form = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
            let form = form.body(vec!["a=1"; fields].join("&").into()).unwrap();
            Form::<Vec<(String, String)>>::from_request(form, &()).await.map(|form| form.0.len())
        };
        assert_eq!(read(FORM_FIELDS_MAX).await.ok(), Some(FORM_FIELDS_MAX));
        let Err(Refusal(why)) = read(FORM_FIELDS_MAX + 1).await else { panic!("it is read") };
        assert_eq!(why.message(), "a form has at most 200 fields");
    }

    #[test]
    fn a_query_is_read_or_refused_with_what_is_wrong() {
        let wanted = Wanted { status: "a b".into(), after: Some(7) };
        let read = |query: &str| read::<Wanted>(&format!("/executions?{query}").parse().unwrap());
        assert_eq!(read("after=7&status=a+b").as_ref(), Ok(&wanted));
        assert_eq!(read(""), Ok(Wanted::default()));
        for (query, why) in [
            ("stat=failed", "the query of this page has no field `stat`: it takes `status`, `after`"),
            ("status=a&after=1&status=a", "the field `status` is in the query twice: give it once"),
            ("status=a&after=-1", "the field `after` of the query cannot be `-1`"),
        ] {
            assert_eq!(read(query), Err(why.to_owned()));
        }
    }
}
