//! Components from nothing to the engine: new, build, upload.

use std::fs;
use std::path::Path;

use cerebelum_server::{json, proto};
use futures::stream;

use super::Asking;
use super::read::{component_lines, size};
use crate::args::{Build, New, Upload};
use crate::client::Client;
use crate::exit::{Code, Outcome, Stop};
use crate::out::Out;
use crate::project;

/// How many bytes of a component travel in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// Lays down a project.
pub(crate) fn new(args: &New, out: Out) -> Outcome {
    let folder = Path::new(&args.name);
    project::lay_project(folder, args.lang)?;
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
    fs::write(&file, &built.bytes).map_err(|e| {
        Stop::new(Code::Failed, format!("cannot write {}: {e}; choose another place with -o", file.display()))
    })?;
    let bytes = u64::try_from(built.bytes.len()).unwrap_or(u64::MAX);
    out.say(&format!("{} ({})", file.display(), size(bytes)))
}

impl Asking {
    /// Hands a component to the engine.
    pub(crate) async fn upload(&self, args: &Upload) -> Outcome {
        let shown = args.file.display();
        let bytes = fs::read(&args.file).map_err(|e| {
            Stop::usage(format!("cannot read {shown}: {e}; name a component built with `cerebelum build`"))
        })?;
        let file_name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut client = self.client().await?;
        let component = upload(&mut client, args.name.clone(), file_name, &bytes).await?;
        if self.global.json {
            return self.out.say(&json::component(&component));
        }
        component_lines(&component).iter().try_for_each(|line| self.out.say(line))
    }
}

/// Sends a component piece by piece.
pub(super) async fn upload(
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
    let answer = client.engine.upload(stream::iter(pieces)).await.map_err(|e| client.stop(&e))?;
    Ok(answer.into_inner())
}
