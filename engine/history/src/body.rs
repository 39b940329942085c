//! How bytes are written in JSON: as text where they are UTF-8, as hex where they are not.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    Text(Cow<'a, str>),
    Hex(#[serde(with = "hex")] Vec<u8>),
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Body::Text(text.into()),
        Err(_) => Body::Hex(bytes.into()),
    }
    .serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    Ok(match Body::deserialize(from)? {
        Body::Text(text) => text.into_owned().into_bytes(),
        Body::Hex(bytes) => bytes,
    })
}
