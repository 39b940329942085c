//! Style, script and icon, which are part of the program. Their addresses change with their content.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cerebelum_history::Digest;

/// Where they are.
pub(super) const PATH: &str = "/assets/{version}/{name}";

/// Name, content type and content.
const ALL: [(&str, &str, &str); 3] = [
    ("pages.css", "text/css; charset=utf-8", include_str!("assets/pages.css")),
    ("pages.js", "text/javascript; charset=utf-8", include_str!("assets/pages.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// A digest of all of them.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: String = ALL.iter().map(|(_, _, content)| *content).collect();
    Digest::of(all.as_bytes()).to_string().chars().take(16).collect()
});

/// The address of one of them.
pub(super) fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// The content of one of them. A browser that has it never asks again. While engines of two versions stand behind a
/// proxy, the one that is asked may not be the one that made the page: then its own content is better than none.
pub(super) async fn get(Path((version, name)): Path<(String, String)>) -> Response {
    let found = ALL.iter().find(|(held, ..)| *held == name);
    let cached = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-store" };
    match found {
        Some((_, kind, content)) => {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, cached),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, *content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file: reload the page\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_styles_stay_small() {
        for (name, _, content) in ALL {
            assert!(content.len() < 30 << 10, "{name} has {} bytes", content.len());
        }
    }
}
