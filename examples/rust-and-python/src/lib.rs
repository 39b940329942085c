//! A Rust workflow that calls a step in Python, and a step in Rust for a workflow in Python: `examples/python-and-rust` is
//! the other side. Values and failures are JSON, so neither side sees which language the other one speaks.

use std::collections::BTreeMap;

use cerebelum::prelude::*;

/// A fingerprint with a name that people can say.
#[data]
#[derive(PartialEq, Eq)]
pub struct Labelled {
    /// The fingerprint; most do not fit into the 53 bits that a float holds exactly.
    pub fingerprint: u64,
    /// Its name.
    pub label: String,
}

/// Why there is no label, in the words of whoever said so.
#[data]
#[derive(PartialEq)]
pub struct Refusal {
    /// The stable word for it.
    pub kind: String,
    /// For a person.
    pub message: String,
    /// For a program.
    pub details: Json,
}

/// What came of a text.
#[data]
#[derive(PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It has a label.
    Labelled(Labelled),
    /// It has none.
    Refused(Refusal),
}

/// A number that stands for a text (FNV-1a of its bytes).
#[step]
pub async fn fingerprint(_ctx: Context, text: String) -> Result<u64> {
    if text.is_empty() {
        let error = Error::new("nothing-to-hash", "an empty text has no fingerprint");
        return Err(error.permanent().with_details(BTreeMap::from([("length", text.len())])));
    }
    Ok(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
}

/// Labels a text with the help of a step that is written in Python.
#[workflow]
pub async fn label(ctx: Context, text: String) -> Result<Answer> {
    let number = fingerprint(&ctx, text).await?;
    let labelled: Result<Labelled> = ctx.step_by_name("python-and-rust/name_number", &number).await;
    Ok(match labelled {
        Ok(labelled) => Answer::Labelled(labelled),
        Err(error) => Answer::Refused(Refusal {
            kind: error.kind().to_owned(),
            message: error.message().to_owned(),
            details: error.details().unwrap_or_default(),
        }),
    })
}

cerebelum::component!();

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::Local;

    const CAFE: u64 = 0xb538_7d90_e858_9028;

    #[test]
    fn a_step_in_python_is_called_by_its_name() {
        let run = Local::new()
            .step_by_name("python-and-rust/name_number", |fingerprint: u64| {
                Ok(Labelled { fingerprint, label: "brave-otter".to_owned() })
            })
            .run(label, "cafe".to_owned());
        let labelled = Labelled { fingerprint: CAFE, label: "brave-otter".to_owned() };
        assert_eq!(*run.output().unwrap(), Answer::Labelled(labelled));
    }

    #[test]
    fn what_it_refuses_has_kind_message_and_details() {
        let run = Local::new()
            .step_by_name::<u64, Labelled>("python-and-rust/name_number", |number| {
                Err(Error::new("unlucky", "no").permanent().with_details(number))
            })
            .run(label, "cafe".to_owned());
        let Answer::Refused(refusal) = run.output().unwrap() else { panic!("it was refused") };
        assert_eq!((refusal.kind.as_str(), refusal.details.to::<u64>().unwrap()), ("unlucky", CAFE));
    }
}
