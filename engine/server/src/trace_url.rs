//! Where people look at traces: an address with a place for the id of a trace. Pages make links of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::Uri;

/// What stands for the id in the address.
const PLACE: &str = "{trace_id}";

/// The address of a trace in the tool that shows traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceUrl(Arc<str>);

impl TraceUrl {
    /// The address of the trace with this id.
    pub(crate) fn of(&self, trace_id: &str) -> String {
        self.0.replace(PLACE, trace_id)
    }
}

impl FromStr for TraceUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write the address of a trace with {trace_id} in its path or query, such as https://tempo.example.com/trace/{trace_id}";
        let whole = Self(text.into());
        let of = |id: char| {
            let filled = whole.of(&id.to_string().repeat(32));
            // A fragment may hold the id: tools that are one page take it from there.
            let (before, fragment) = filled.split_once('#').unwrap_or((&filled, ""));
            let is_plain = fragment.bytes().all(|byte| byte.is_ascii_graphic());
            before.parse::<Uri>().ok().filter(|_| is_plain)
        };
        let (Some(url), Some(other)) = (of('0'), of('1')) else { return Err(wrong) };
        let is_web = matches!(url.scheme_str(), Some("http" | "https"));
        // The host is the same for every id, and has no user and no password.
        let host = url.authority().filter(|host| Some(*host) == other.authority() && !host.as_str().contains('@'));
        if !is_web || host.is_none() || !text.contains(PLACE) {
            return Err(wrong);
        }
        Ok(whole)
    }
}

impl fmt::Display for TraceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_place_for_the_id_outside_its_host() {
        let of = |text: &str| text.parse::<TraceUrl>().unwrap().of("7f");
        assert_eq!(of("https://tempo/t/{trace_id}?a=b"), "https://tempo/t/7f?a=b");
        assert_eq!(of("http://127.0.0.1:3000/#/trace/{trace_id}"), "http://127.0.0.1:3000/#/trace/7f");
        for wrong in [
            "",
            "https://tempo/t",
            "https://tempo/t/{traceid}",
            "tempo/t/{trace_id}",
            "/t/{trace_id}",
            "ftp://tempo/{trace_id}",
            "javascript:alert(1)//{trace_id}",
            "https://{trace_id}.example.com/",
            "https://ada:secret@tempo/{trace_id}",
            "https://tempo/a b/{trace_id}",
            "https://tempo/#a b{trace_id}",
        ] {
            assert!(wrong.parse::<TraceUrl>().is_err(), "{wrong}");
        }
    }
}
