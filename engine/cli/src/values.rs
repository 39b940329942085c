//! Values on the command line: JSON as text, from a file or from stdin, and attributes.

use std::collections::HashMap;
use std::io::Read;

use cerebelum_history::{Json, VALUE_BYTES_MAX};

use crate::exit::{CliError, Outcome};

/// Reads `JSON`, `@FILE` or `-`; `flag` is the name of the argument, for errors.
pub(crate) fn json(argument: &str, flag: &str) -> Outcome<String> {
    let text = match argument.strip_prefix('@') {
        _ if argument == "-" => read(std::io::stdin().lock(), "stdin", flag)?,
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|e| CliError::usage(format!("{flag}: cannot read {path}: {e}; give a file that exists")))?;
            read(file, path, flag)?
        }
        None => argument.to_owned(),
    };
    let hint = || match argument {
        file if file == "-" || file.starts_with('@') => String::new(),
        // A word of JSON begins otherwise: it is a text whose quotes are missing, or were taken away by the shell.
        plain if plain.starts_with(|first: char| first.is_alphabetic()) && !plain.contains(['\'', '\n']) => {
            format!("; a text has quotes: '{}'", serde_json::Value::from(plain))
        }
        _ => "; write JSON, @FILE or - for stdin".to_owned(),
    };
    let json = Json::parse(text).map_err(|e| CliError::usage(format!("{flag}: {e}{}", hint())))?;
    Ok(json.as_str().to_owned())
}

fn read(from: impl Read, name: &str, flag: &str) -> Outcome<String> {
    let mut bytes = Vec::new();
    // One byte more than a value may have is enough to detect that it is too long.
    let limit = u64::try_from(VALUE_BYTES_MAX + 1).expect("a megabyte fits into 64 bits");
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| CliError::usage(format!("{flag}: cannot read {name}: {e}")))?;
    String::from_utf8(bytes).map_err(|_| CliError::usage(format!("{flag}: {name} is not UTF-8; JSON is")))
}

/// Reads `K=V` pairs: V is a JSON scalar if it looks like one, else a string.
pub(crate) fn attributes(pairs: &[String]) -> Outcome<HashMap<String, String>> {
    let mut attributes = HashMap::new();
    for pair in pairs {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CliError::usage(format!("--attr {pair}: write NAME=VALUE")))?;
        let scalar = Json::parse(value).ok().filter(|json| !json.as_str().starts_with(['{', '[']));
        let json = scalar.unwrap_or_else(|| Json::of(&value));
        if attributes.insert(name.to_owned(), json.as_str().to_owned()).is_some() {
            return Err(CliError::usage(format!("--attr {pair}: `{name}` is there twice")));
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_scalars_and_everything_else_is_a_string() {
        let pairs = ["team=infra", "n=7", "on=true", "s=\"7\"", "empty=", "list=[1]", "eq=a=b"].map(String::from);
        let read = attributes(&pairs).unwrap();
        let expected = [
            ("team", "\"infra\""),
            ("n", "7"),
            ("on", "true"),
            ("s", "\"7\""),
            ("empty", "\"\""),
            ("list", "\"[1]\""),
            ("eq", "\"a=b\""),
        ];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(attributes(&["team".into()]).unwrap_err().line.contains("NAME=VALUE"));
        assert!(attributes(&["=x".into()]).is_err());
        assert!(attributes(&["n=1".into(), "n=2".into()]).unwrap_err().line.contains("twice"));
    }

    #[test]
    fn json_comes_as_text_or_from_a_file_and_stays_as_it_was_written() {
        assert_eq!(json(r#"{"a": 9007199254740993}"#, "--input").unwrap(), r#"{"a": 9007199254740993}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        std::fs::write(&path, "[1,\n 2]\n").unwrap();
        assert_eq!(json(&format!("@{}", path.display()), "--input").unwrap(), "[1,\n 2]");
        for (argument, why) in
            [("{", "--input"), ("@/nowhere", "cannot read /nowhere"), ("hello", "a text has quotes"), ("[1", "@FILE")]
        {
            let stop = json(argument, "--input").unwrap_err();
            assert!(stop.line.contains(why) && stop.code == Some(crate::exit::Code::Usage), "{stop}");
        }
    }
}
