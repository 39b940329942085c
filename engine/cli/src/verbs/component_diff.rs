//! What two versions of a component have and ask for.

use cerebelum_server::proto;
use serde_json::{Value, json};

use super::ApiCommand;
use super::read::short;
use crate::args::DiffComponent;
use crate::exit::{CliError, Code, Outcome};
use crate::render::plain;

impl ApiCommand {
    /// Compares two versions of a component.
    pub(crate) async fn diff_component(&self, args: DiffComponent) -> Outcome {
        let all = self.client().await?.components().await?;
        let (from, to) = versions(&all, &args)?;
        let nothing = proto::Component::default();
        let changes = changes(from.unwrap_or(&nothing), to);
        if self.global.json {
            let list = |sign| changes.iter().filter(|change| change.sign == sign).map(Change::json).collect::<Vec<_>>();
            let told = json!({"from": from.map(|from| &from.digest), "to": to.digest, "added": list('+'), "removed": list('-')});
            return self.out.say(&told.to_string());
        }
        let before = from.map_or("nothing", |from| short(&from.digest));
        self.out.say(&format!("{} {before} → {}", plain(&to.name), short(&to.digest)))?;
        if changes.is_empty() {
            return self.out.say("both have and ask for the same");
        }
        changes.iter().try_for_each(|change| self.out.say(&change.line()))
    }
}

/// The kind of a difference in what versions ask for.
const ASKS_FOR: &str = "asks for";

/// One difference.
struct Change<'a> {
    /// `+` for what only the later version has, `-` for what only the earlier one has.
    sign: char,
    kind: &'static str,
    name: &'a str,
    /// Whether the name of the component was granted this.
    is_granted: bool,
}

impl Change<'_> {
    fn json(&self) -> Value {
        match self.kind {
            ASKS_FOR => json!({"kind": self.kind, "name": self.name, "granted": self.is_granted}),
            kind => json!({"kind": kind, "name": self.name}),
        }
    }

    fn line(&self) -> String {
        let not_granted = if self.is_granted { "" } else { " (not granted)" };
        format!("{} {} {}{not_granted}", self.sign, self.kind, plain(self.name))
    }
}

fn changes<'a>(before: &'a proto::Component, after: &'a proto::Component) -> Vec<Change<'a>> {
    let kinds = [
        (ASKS_FOR, &before.capabilities, &after.capabilities),
        ("workflow", &before.workflows, &after.workflows),
        ("step", &before.steps, &after.steps),
    ];
    let mut changes = Vec::new();
    for (kind, from, to) in kinds {
        let only = |sign, these: &'a [String], others: &'a [String]| {
            let these = these.iter().filter(move |name| !others.contains(name));
            let is_granted = |name| ![&before.not_granted, &after.not_granted].iter().any(|not| not.contains(name));
            these.map(move |name| Change { sign, kind, name, is_granted: is_granted(name) })
        };
        changes.extend(only('+', to, from).chain(only('-', from, to)));
    }
    changes
}

/// The two versions to compare. None before the first one.
fn versions<'a>(
    all: &'a [proto::Component],
    args: &DiffComponent,
) -> Outcome<(Option<&'a proto::Component>, &'a proto::Component)> {
    // The current one first, then the others, the newest first.
    let of_name: Vec<&proto::Component> = all.iter().filter(|one| one.name == args.name).collect();
    let missing = |what: String| CliError::new(Code::NotFound, what);
    let find = |digits: &str| {
        let found: Vec<_> = of_name.iter().filter(|one| one.digest.starts_with(digits)).collect();
        match found.as_slice() {
            [one] => Ok(**one),
            [] => Err(missing(format!("component `{}` has no version whose digest begins with `{digits}`", args.name))),
            _ => Err(missing(format!(
                "`{digits}` begins several digests of component `{}`: give more digits",
                args.name
            ))),
        }
    };
    let to = match &args.to {
        Some(digits) => find(digits)?,
        None => {
            let latest = of_name.iter().find(|one| one.proposed).or_else(|| of_name.first());
            latest.copied().ok_or_else(|| {
                missing(format!("there is no component `{}`: see `cerebelum components`", plain(&args.name)))
            })?
        }
    };
    let from = match &args.from {
        Some(digits) => Some(find(digits)?),
        // The first version of a name is compared with nothing.
        None => of_name.iter().copied().find(|one| one.digest != to.digest && !one.proposed),
    };
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(digest: &str, steps: &[&str], capabilities: &[&str]) -> proto::Component {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        proto::Component {
            name: "shop".into(),
            digest: digest.into(),
            steps: list(steps),
            capabilities: list(capabilities),
            ..proto::Component::default()
        }
    }

    fn args(from: Option<&str>, to: Option<&str>) -> DiffComponent {
        DiffComponent { name: "shop".into(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn the_version_before_is_compared_with_the_current_one() {
        let all = [
            version("cc", &["pay", "ship"], &["http:b", "secret:K"]),
            version("bb", &["pay", "pack"], &["http:b"]),
            version("ba", &[], &[]),
        ];
        let (Some(from), to) = versions(&all, &args(None, None)).unwrap() else { panic!("there is one before") };
        let told: Vec<String> =
            changes(from, to).iter().map(|change| format!("{} {} {}", change.sign, change.kind, change.name)).collect();
        assert_eq!(told, ["+ asks for secret:K", "+ step ship", "- step pack"]);
        let (Some(from), to) = versions(&all, &args(Some("ba"), Some("bb"))).unwrap() else { panic!("it was named") };
        assert_eq!((from.digest.as_str(), to.digest.as_str(), changes(from, to).len()), ("ba", "bb", 3));
        for (asked, part) in [
            (args(Some("b"), None), "more digits"),
            (args(Some("dd"), None), "no version"),
            (DiffComponent { name: "other".into(), ..args(None, None) }, "no component"),
        ] {
            assert!(versions(&all, &asked).unwrap_err().line.contains(part), "{asked:?}");
        }
        let wanting = proto::Component { not_granted: vec!["secret:K".into()], proposed: true, ..all[0].clone() };
        let accepted = proto::Component { digest: "dd".into(), current: true, ..all[1].clone() };
        let waits = [accepted, version("ee", &[], &[]), wanting];
        let (Some(from), to) = versions(&waits, &args(None, None)).unwrap() else { panic!("there is one before") };
        assert_eq!((from.digest.as_str(), to.digest.as_str()), ("dd", "cc"), "what is proposed is compared");
        assert_eq!(changes(from, to)[0].line(), "+ asks for secret:K (not granted)");
        assert_eq!(changes(from, to)[0].json(), json!({"kind": "asks for", "name": "secret:K", "granted": false}));
        let (before, first) = versions(&all[..1], &args(None, None)).unwrap();
        assert_eq!((before, first.digest.as_str()), (None, "cc"), "the first one is compared with nothing");
    }
}
