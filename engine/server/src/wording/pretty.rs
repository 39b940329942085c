//! JSON formatted for a person; numbers, strings and key order stay as they were written.

/// On a page, a document that is laid out has at most so many times its own bytes.
const SPACES_FACTOR_MAX: usize = 4;
/// A document that has no more bytes when it is laid out is laid out.
const SHORT_BYTES: usize = 2 << 10;

/// The document over several lines, indented by two spaces per level.
#[must_use]
pub fn pretty(json: &str) -> Vec<String> {
    let mut lines = Vec::new();
    lay_out(json, |line| {
        lines.push(line.to_owned());
        true
    });
    lines
}

/// The same for a page, or the document as it was written where the spaces would make it much longer: two bytes of a deep
/// value can take 250.
#[must_use]
pub fn pretty_or_plain(json: &str) -> Vec<String> {
    let mut lines = Vec::new();
    each_line(json, |line| lines.push(line.to_owned()));
    lines
}

/// Hands over the same lines one by one, and says whether the document is laid out. No more than one of them is in memory.
pub fn each_line(json: &str, mut take: impl FnMut(&str)) -> bool {
    let bytes_max = json.len().saturating_mul(SPACES_FACTOR_MAX).saturating_add(SHORT_BYTES);
    let mut bytes = 0;
    let fits = lay_out(json, |line| {
        bytes += line.len() + 1;
        bytes <= bytes_max
    });
    match fits {
        true => lay_out(json, |line| {
            take(line);
            true
        }),
        false => {
            json.lines().for_each(take);
            false
        }
    }
}

/// Lays a document out, and hands over line after line as long as these are wanted. Says whether all of them were.
fn lay_out(json: &str, mut take: impl FnMut(&str) -> bool) -> bool {
    let (mut line, mut depth) = (String::new(), 0_usize);
    let mut end = |line: &mut String, depth: usize| {
        let goes_on = take(line);
        line.clear();
        line.extend(std::iter::repeat_n("  ", depth));
        goes_on
    };
    let mut tokens = tokens(json).peekable();
    while let Some(token) = tokens.next() {
        let goes_on = match token {
            "{" | "[" => {
                line.push_str(token);
                if tokens.peek().is_some_and(|next| *next == "}" || *next == "]") {
                    line.push_str(tokens.next().unwrap_or_default());
                    continue;
                }
                depth += 1;
                end(&mut line, depth)
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                let goes_on = end(&mut line, depth);
                line.push_str(token);
                goes_on
            }
            "," => {
                line.push_str(token);
                end(&mut line, depth)
            }
            ":" => {
                line.push_str(": ");
                true
            }
            other => {
                line.push_str(other);
                true
            }
        };
        if !goes_on {
            return false;
        }
    }
    end(&mut line, 0)
}

fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json.trim_start();
    std::iter::from_fn(move || {
        let length = match rest.as_bytes().first()? {
            b'"' => string_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest.find(|c: char| "{}[],:\"".contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_start();
        Some(token)
    })
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
