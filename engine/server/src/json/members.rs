//! How the members of messages become members of JSON.

use std::collections::{BTreeMap, HashMap};

use prost_types::Timestamp;
use serde_json::value::RawValue;

use super::rfc3339;

/// A message that programs read as JSON.
pub trait ToJson {
    /// The message on one line.
    fn to_json(&self) -> String;
}

/// A shape of JSON, or a member of one, that is made from its counterpart in a message.
pub(super) trait FromWire<'a, W> {
    fn from_wire(wire: &'a W) -> Self;
}

/// States that a message is shown in a shape, whose members are those of the message with the same names. The member
/// behind the semicolon has no counterpart in the message.
macro_rules! shape {
    ($message:ty as $shape:ident $(<$life:lifetime>)?: $($member:ident),+ $(; $own:ident: $value:expr)?) => {
        impl<'a> $crate::json::members::FromWire<'a, $message> for $shape $(<$life>)? {
            fn from_wire(wire: &'a $message) -> Self {
                Self { $($member: $crate::json::members::FromWire::from_wire(&wire.$member),)+ $($own: $value)? }
            }
        }

        impl $crate::json::members::ToJson for $message {
            fn to_json(&self) -> String {
                $crate::json::line(&<$shape as $crate::json::members::FromWire<$message>>::from_wire(self))
            }
        }
    };
}
pub(super) use shape;

macro_rules! as_they_are {
    ($($kind:ty),+) => {
        $(impl FromWire<'_, $kind> for $kind {
            fn from_wire(wire: &$kind) -> Self {
                *wire
            }
        })+
    };
}
as_they_are!(bool, i32, i64, u32, u64);

impl<'a> FromWire<'a, String> for &'a str {
    fn from_wire(wire: &'a String) -> Self {
        wire
    }
}

impl<'a> FromWire<'a, Vec<String>> for &'a [String] {
    fn from_wire(wire: &'a Vec<String>) -> Self {
        wire
    }
}

impl FromWire<'_, Timestamp> for String {
    fn from_wire(wire: &Timestamp) -> Self {
        rfc3339(wire)
    }
}

/// A guest's JSON. The engine checked it when it came in. If it is not JSON after all, it is shown as a string.
impl FromWire<'_, String> for Box<RawValue> {
    fn from_wire(wire: &String) -> Self {
        RawValue::from_string(wire.clone())
            .or_else(|_| serde_json::value::to_raw_value(wire))
            .expect("a text is a JSON string")
    }
}

impl<'a> FromWire<'a, HashMap<String, String>> for BTreeMap<&'a str, Box<RawValue>> {
    fn from_wire(wire: &'a HashMap<String, String>) -> Self {
        wire.iter().map(|(name, value)| (name.as_str(), FromWire::from_wire(value))).collect()
    }
}

impl<'a, W, T: FromWire<'a, W>> FromWire<'a, Option<W>> for Option<T> {
    fn from_wire(wire: &'a Option<W>) -> Self {
        wire.as_ref().map(T::from_wire)
    }
}

impl<'a, W, T: FromWire<'a, W>> FromWire<'a, Vec<W>> for Vec<T> {
    fn from_wire(wire: &'a Vec<W>) -> Self {
        wire.iter().map(T::from_wire).collect()
    }
}
