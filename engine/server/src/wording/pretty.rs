//! JSON formatted for a person; numbers, strings and key order stay as they were written.

/// On a page, a document that is laid out has at most so many times its own bytes.
const SPACES_FACTOR_MAX: usize = 4;
/// A document that has no more bytes when it is laid out is laid out.
const SHORT_BYTES: usize = 2 << 10;

/// The document over several lines, indented by two spaces per level.
#[must_use]
pub fn pretty(json: &str) -> Vec<String> {
    pretty_within(json, usize::MAX).expect("no text is longer")
}

/// The same for a page, or the document as it was written where the spaces would make it much longer: two bytes of a deep
/// value can take 250.
#[must_use]
pub fn pretty_or_plain(json: &str) -> Vec<String> {
    let bytes_max = json.len().saturating_mul(SPACES_FACTOR_MAX).saturating_add(SHORT_BYTES);
    pretty_within(json, bytes_max).unwrap_or_else(|| json.lines().map(str::to_owned).collect())
}

fn pretty_within(json: &str, bytes_max: usize) -> Option<Vec<String>> {
    let (mut lines, mut line, mut depth) = (Vec::<String>::new(), String::new(), 0_usize);
    let (mut counted, mut bytes) = (0, 0);
    let mut tokens = tokens(json).into_iter().peekable();
    while let Some(token) = tokens.next() {
        bytes += lines[counted..].iter().map(|line| line.len() + 1).sum::<usize>();
        counted = lines.len();
        if bytes > bytes_max {
            return None;
        }
        match token {
            "{" | "[" => {
                line.push_str(token);
                if tokens.peek().is_some_and(|next| *next == "}" || *next == "]") {
                    line.push_str(tokens.next().unwrap_or_default());
                    continue;
                }
                depth += 1;
                lines.push(std::mem::replace(&mut line, "  ".repeat(depth)));
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                lines.push(std::mem::replace(&mut line, "  ".repeat(depth)));
                line.push_str(token);
            }
            "," => {
                line.push_str(token);
                lines.push(std::mem::replace(&mut line, "  ".repeat(depth)));
            }
            ":" => line.push_str(": "),
            other => line.push_str(other),
        }
    }
    lines.push(line);
    Some(lines)
}

fn tokens(json: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), json.trim_start());
    while !rest.is_empty() {
        let length = match rest.as_bytes()[0] {
            b'"' => string_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest.find(|c: char| "{}[],:\"".contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after.trim_start();
    }
    found
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_laid_out_and_no_token_changes() {
        let shown = pretty(r#"{"b":9007199254740993,"a":[1, {"x\"{":null}],"e":{},"l":[ ]}"#).join("\n");
        let expected = "{\n  \"b\": 9007199254740993,\n  \"a\": [\n    1,\n    {\n      \"x\\\"{\": null\n    }\n  ],\n  \"e\": {},\n  \"l\": []\n}";
        assert_eq!(shown, expected);
        assert_eq!(pretty("7"), ["7"]);
        assert_eq!(pretty("\"a b\""), ["\"a b\""]);
    }

    #[test]
    fn a_deep_value_is_laid_out_only_as_far_as_its_spaces_fit() {
        let deep = format!("{}{}{}", "[".repeat(120), "1,".repeat(10_000), "]".repeat(120));
        let whole: usize = pretty(&deep).iter().map(String::len).sum();
        assert!(whole > 100 * deep.len(), "{whole}");
        assert_eq!(pretty_or_plain(&deep), [deep]);
        let usual =
            format!("[{}]", r#"{"name":"a","sizes":[{"width":1,"height":2}]},"#.repeat(1_000).trim_end_matches(','));
        assert_eq!(pretty_or_plain(&usual), pretty(&usual));
        assert_eq!(pretty_or_plain("[[[[[1]]]]]"), pretty("[[[[[1]]]]]"));
    }

    #[test]
    fn what_is_no_json_is_shown_all_the_same() {
        assert_eq!(pretty("\"open"), ["\"open"]);
        assert_eq!(pretty("]"), ["", "]"]);
        assert_eq!(pretty(""), [""]);
    }
}
