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
use crate::rest::{is_too_long, status_of};

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

/// The fields of a form: those of a struct, of which a field that is unknown is refused as it is in a query, or a list of
/// all of them.
pub(super) struct Form<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let sent = Sent::read(request, state).await?;
        sent.knows(fields_of::<T>()).await?;
        sent.fields().await.map(Self)
    }
}

/// The fields of a form in two groups.
pub(super) struct FormOf<A, B>(pub(super) A, pub(super) B);

impl<S: Send + Sync, A: DeserializeOwned + Send, B: DeserializeOwned + Send> FromRequest<S> for FormOf<A, B> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let sent = Sent::read(request, state).await?;
        sent.knows(&[fields_of::<A>(), fields_of::<B>()].concat()).await?;
        Ok(Self(sent.fields().await?, sent.fields().await?))
    }
}

/// A form as it came.
struct Sent {
    parts: Parts,
    body: Bytes,
}

impl Sent {
    /// The fields are counted before they are read: two bytes of a form would be 48 in memory.
    async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let whole = Request::from_parts(parts.clone(), body);
        let body = Bytes::from_request(whole, state).await.map_err(|why| Refusal(broken_form(&why)))?;
        if body.iter().filter(|byte| **byte == b'&').count() >= FORM_FIELDS_MAX {
            let why = format!("a form has at most {FORM_FIELDS_MAX} fields");
            return Err(Refusal(Status::invalid_argument(why)));
        }
        Ok(Self { parts, body })
    }

    async fn fields<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let request = Request::from_parts(self.parts.clone(), self.body.clone().into());
        let read = axum::Form::<T>::from_request(request, &()).await;
        read.map(|read| read.0).map_err(|why| Refusal(Status::invalid_argument(why.body_text())))
    }

    /// Refuses a form with a field that is not one of these. There are none for a list.
    async fn knows(&self, known: &[&str]) -> Result<(), Refusal> {
        let sent: Vec<(String, String)> = self.fields().await?;
        match sent.iter().find(|(name, _)| !known.is_empty() && !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let (name, known) = (cut(name, SHOWN_LETTERS_MAX), known.join("`, `"));
                let why = format!("this form has no field `{name}`: it takes `{known}`");
                Err(Refusal(Status::invalid_argument(why)))
            }
        }
    }
}

/// Why a form could not be read: the limit that it met, or that it broke off.
fn broken_form(error: &(dyn std::error::Error + 'static)) -> Status {
    if is_too_long(error) {
        return Status::invalid_argument("the form is too large");
    }
    status_of(error)
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
    async fn an_unknown_field_of_a_form_is_refused() {
        let form = |text: &'static str| {
            let form = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
            form.body(text.into()).unwrap()
        };
        assert!(Form::<Wanted>::from_request(form("status=a&after=3"), &()).await.is_ok());
        let Err(Refusal(why)) = Form::<Wanted>::from_request(form("status=a&aftr=3"), &()).await else {
            panic!("it is read")
        };
        assert_eq!(why.message(), "this form has no field `aftr`: it takes `status`, `after`");
        #[derive(Deserialize)]
        struct Other {
            name: String,
        }
        let both = FormOf::<Other, Wanted>::from_request(form("name=n&after=3"), &()).await;
        let Ok(FormOf(other, wanted)) = both else { panic!("it is not read") };
        assert_eq!((other.name.as_str(), wanted.after), ("n", Some(3)));
        assert!(FormOf::<Other, Wanted>::from_request(form("name=n&id=3"), &()).await.is_err());
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
