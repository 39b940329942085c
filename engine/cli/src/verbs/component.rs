//! Components from a new project to the engine: new, build, upload.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cerebelum_server::{json, proto};
use futures::stream;

use super::ApiCommand;
use super::read::{component_lines, short, size};
use crate::args::{AcceptComponent, Build, New, RemoveComponent, Upload};
use crate::client::{Api, Client};
use crate::exit::{CliError, Outcome};
use crate::out::{self, Out, note};
use crate::project;
use crate::render::{Now, ago};

/// The bytes of a component in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// A component of at least this size contains an interpreter, which takes long to compile for the first time.
const PYTHON_BYTES_MIN: u64 = 8 << 20;
/// The time until the first note that work goes on, and between two notes.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Creates a project.
pub(crate) fn new(args: &New, out: Out) -> Outcome {
    let folder = Path::new(&args.name);
    project::scaffold(folder, args.lang)?;
    let shown = folder.display();
    out.say(&format!("{shown} is ready: cerebelum dev {shown}"))
}

/// Builds a component.
pub(crate) fn build(args: &Build, out: Out) -> Outcome {
    let built = project::build(&args.path)?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => built.folder.join(format!("{}.wasm", built.name)),
    };
    fs::write(&file, &built.bytes)
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}; choose another place with -o", file.display())))?;
    let bytes = u64::try_from(built.bytes.len()).unwrap_or(u64::MAX);
    out.say(&format!("{} ({})", file.display(), size(bytes)))
}

impl ApiCommand {
    /// Uploads a component.
    pub(crate) async fn upload(&self, args: &Upload) -> Outcome {
        let shown = args.file.display();
        let bytes = fs::read(&args.file).map_err(|e| {
            CliError::usage(format!("cannot read {shown}: {e}; name a component built with `cerebelum build`"))
        })?;
        let file_name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut client = self.client().await?;
        let mut component = self.send(&mut client, args.name.clone(), file_name, &bytes).await?;
        if args.accept && component.proposed {
            component = accept(&mut client, component.name, component.digest).await?;
        }
        if self.global.json {
            return self.out.say(&json::of(&component));
        }
        component_lines(&component).iter().try_for_each(|line| self.out.say(line))
    }
}

impl ApiCommand {
    /// Accepts a version.
    pub(crate) async fn accept_component(&self, args: AcceptComponent) -> Outcome {
        let (name, digest) = args.version;
        let accepted = accept(&mut self.client().await?, name, digest).await?;
        let line = format!("accepted {} {}", accepted.name, short(&accepted.digest));
        self.answer(&json::of(&accepted), &line)
    }

    /// Removes a component, or one version of it.
    pub(crate) async fn remove_component(&self, args: RemoveComponent) -> Outcome {
        let RemoveComponent { name, digest } = args;
        let request = proto::RemoveComponentRequest { name: name.clone(), digest };
        let digests = self.client().await?.ask(Api::remove_component, request).await?.digests;
        if self.global.json {
            return self.out.say(&json::removed(&name, &digests));
        }
        digests.iter().try_for_each(|digest| self.out.say(&format!("removed {name} {}", short(digest))))
    }

    /// Uploads a component. Notes on stderr say what takes long, and what the component replaces.
    pub(super) async fn send(
        &self,
        client: &mut Client,
        name: Option<String>,
        file_name: String,
        bytes: &[u8],
    ) -> Outcome<proto::Component> {
        let before = client.components().await?;
        let uploading = upload(client, name, file_name, bytes);
        let component = match self.global.json {
            true => uploading.await?,
            false => waiting(uploading, compiling(&before, bytes.len())).await?,
        };
        if !self.global.json
            && let Some(line) = replaced(&before, &component, Now::measured())
        {
            note(&line);
        }
        Ok(component)
    }
}

/// The note on what the engine does with an upload.
fn compiling(before: &[proto::Component], bytes: usize) -> String {
    let is_python = |size: u64| size >= PYTHON_BYTES_MIN;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    match is_python(bytes) && !before.iter().any(|one| is_python(one.size)) {
        true => "compiling (first Python component on this engine, about 20 s)…".to_owned(),
        false => "compiling…".to_owned(),
    }
}

/// Grants a version what it asks for.
pub(super) async fn accept(client: &mut Client, name: String, digest: String) -> Outcome<proto::Component> {
    client.ask(Api::accept_component, proto::AcceptComponentRequest { name, digest }).await
}

/// The note on the version that the new component has replaced, if that was another one.
fn replaced(before: &[proto::Component], now: &proto::Component, at: Now) -> Option<String> {
    let old = before.iter().find(|old| old.current && old.name == now.name && old.digest != now.digest)?;
    if now.proposed {
        return None;
    }
    let mut line = format!("{} replaces the one uploaded {}", now.name, ago(old.uploaded_at.as_ref(), at));
    let gone: Vec<_> = old.workflows.iter().filter(|name| !now.workflows.contains(name)).map(String::as_str).collect();
    if !gone.is_empty() {
        line.push_str(&format!(", which also had {}", gone.join(", ")));
    }
    let more: Vec<_> =
        now.capabilities.iter().filter(|one| !old.capabilities.contains(one)).map(String::as_str).collect();
    if !more.is_empty() {
        line.push_str(&format!(", and did not ask for {}", more.join(", ")));
    }
    Some(crate::render::plain(&format!("{line}; executions that run stay with it")))
}

/// Waits for some work. If it is not done at once, a note on stderr says what it is: once, or on a terminal repeatedly
/// with the seconds that it has taken.
async fn waiting<T>(work: impl Future<Output = T>, what: String) -> T {
    tokio::pin!(work);
    let began = Instant::now();
    let (mut clock, mut is_said) = (tokio::time::interval(NOTE_INTERVAL), false);
    clock.tick().await;
    loop {
        tokio::select! {
            done = &mut work => {
                if is_said && out::notes_are_seen() {
                    out::note_again("");
                }
                return done;
            }
            _ = clock.tick() => match out::notes_are_seen() {
                true => out::note_again(&format!("{what} {} s", began.elapsed().as_secs())),
                false if !is_said => note(&what),
                false => {}
            },
        }
        is_said = true;
    }
}

/// Sends a component piece by piece.
async fn upload(
    client: &mut Client,
    name: Option<String>,
    file_name: String,
    bytes: &[u8],
) -> Outcome<proto::Component> {
    let mut pieces: Vec<_> = bytes
        .chunks(CHUNK_BYTES)
        .map(|chunk| proto::UploadRequest { chunk: chunk.to_vec(), ..Default::default() })
        .collect();
    if pieces.is_empty() {
        pieces.push(proto::UploadRequest::default());
    }
    (pieces[0].name, pieces[0].file_name) = (name, file_name);
    client.ask(Api::upload, stream::iter(pieces)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, digest: &str, workflows: &[&str], size: u64) -> proto::Component {
        proto::Component {
            name: name.into(),
            digest: digest.into(),
            workflows: workflows.iter().map(ToString::to_string).collect(),
            size,
            uploaded_at: Some(Now(1_000).timestamp()),
            current: true,
            ..Default::default()
        }
    }

    #[test]
    fn only_the_first_python_component_is_said_to_take_long() {
        let (rust, python) = (component("a", "1", &[], 200_000), component("b", "2", &[], 20 << 20));
        let long = |before: &[proto::Component], bytes| compiling(before, bytes).contains("about 20 s");
        assert!(long(&[], 20 << 20) && long(std::slice::from_ref(&rust), 20 << 20));
        assert!(!long(&[rust, python], 20 << 20) && !long(&[], 200_000));
    }

    #[test]
    fn what_an_upload_takes_the_place_of_is_said() {
        let before = [component("visits", "1", &["visit", "leave"], 1), component("other", "2", &["x"], 1)];
        let at = Now(61_000);
        let said = |name: &str, digest: &str| replaced(&before, &component(name, digest, &["visit"], 1), at);
        assert_eq!(
            said("visits", "9").unwrap(),
            "visits replaces the one uploaded 1m ago, which also had leave; executions that run stay with it"
        );
        assert_eq!((said("visits", "1"), said("new", "9")), (None, None));
    }
}
