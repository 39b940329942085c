//! JSON formatted for a person; numbers, strings and key order stay as they were written.

/// The document over several lines, indented by two spaces per level.
#[must_use]
pub fn pretty(json: &str) -> Vec<String> {
    let (mut lines, mut line, mut depth) = (Vec::new(), String::new(), 0_usize);
    let mut tokens = tokens(json).into_iter().peekable();
    while let Some(token) = tokens.next() {
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
    lines
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
    fn what_is_no_json_is_shown_all_the_same() {
        assert_eq!(pretty("\"open"), ["\"open"]);
        assert_eq!(pretty("]"), ["", "]"]);
        assert_eq!(pretty(""), [""]);
    }
}
