//! The parameters in the path and behind the `?` of a request. Unknown and repeated ones are refused, because a misspelt filter would
//! otherwise find everything.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;
use crate::json::json_or_text;

/// The parameters in the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        Ok(Self(read.map_err(|refused| Problem::invalid(refused.body_text()))?.0))
    }
}

/// The parameters that no handler has taken yet.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::from_request_parts(parts, state).await;
        Ok(Self(read.map_err(|refused| Problem::invalid(refused.body_text()))?.0))
    }
}

impl Parameters {
    /// Takes a parameter, if it is there.
    pub(crate) fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(at) = self.0.iter().position(|(held, _)| held == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        let value = value.parse().map_err(|e| Problem::invalid(format!("parameter `{name}`: {e}")))?;
        Ok(Some(value))
    }

    /// Takes all parameters `attr.NAME=VALUE`. A value that is not JSON is a text.
    pub(crate) fn take_attributes(&mut self) -> Result<HashMap<String, String>, Problem> {
        let mut taken = HashMap::new();
        let mut others = Vec::new();
        for (name, value) in std::mem::take(&mut self.0) {
            let Some(attribute) = name.strip_prefix("attr.") else {
                others.push((name, value));
                continue;
            };
            if taken.insert(attribute.to_owned(), json_or_text(&value)).is_some() {
                return Err(Problem::invalid(format!("parameter `{name}` is there twice")));
            }
        }
        self.0 = others;
        Ok(taken)
    }

    /// Refuses the parameters that are left.
    pub(crate) fn end(&self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => {
                Err(Problem::invalid(format!("parameter `{}` is unknown here, or there twice", name.escape_debug())))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[(&str, &str)]) -> Parameters {
        Parameters(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_unknown_wrong_or_repeated_is_refused() {
        let mut asked = of(&[("limit", "5"), ("limit", "6")]);
        assert_eq!(asked.take::<u32>("limit").unwrap(), Some(5));
        assert!(asked.end().is_err());
        assert!(of(&[("limit", "-1")]).take::<u32>("limit").unwrap_err().line().contains("`limit`"));
        assert!(of(&[("attr.a", "1"), ("attr.a", "2")]).take_attributes().is_err());
        assert!(of(&[("stat", "failed")]).end().unwrap_err().line().contains("`stat`"));
    }

    #[test]
    fn the_value_of_an_attribute_is_json_or_a_text() {
        let mut asked = of(&[("attr.team", "ops"), ("attr.n", "7"), ("attr.s", "\"7\""), ("status", "failed")]);
        let mut taken: Vec<_> = asked.take_attributes().unwrap().into_iter().collect();
        taken.sort();
        let held = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(taken, [held("n", "7"), held("s", "\"7\""), held("team", "\"ops\"")]);
        assert_eq!(asked.take::<String>("status").unwrap().as_deref(), Some("failed"));
    }
}
