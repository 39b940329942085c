//! How bytes are written in JSON: as text where they are UTF-8, as hex where they are not.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    Text(std::borrow::Cow<'a, str>),
    Hex(String),
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Body::Text(text.into()),
        Err(_) => Body::Hex(to_hex(bytes)),
    }
    .serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    match Body::deserialize(from)? {
        Body::Text(text) => Ok(text.into_owned().into_bytes()),
        Body::Hex(hex) => from_hex(&hex).ok_or_else(|| D::Error::custom("a body that is no hex")),
    }
}

/// Lower-case hex digits of these bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// The bytes behind hex digits, or none if the text is not hex.
pub(crate) fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let pair = |i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(pair).collect()
}
