//! The loop of writing a workflow: after every change build, upload, run, watch.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cerebelum_server::proto;

use super::ApiCommand;
use super::component::accept;
use super::read::component_lines;
use super::start::ended_well;
use crate::args::Dev;
use crate::client::{Api, Client};
use crate::exit::{CliError, Code, Outcome};
use crate::project::{self, Built};
use crate::values;

/// The time between two checks of the project's files.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// The state of a project's sources: path, time of the last change and size of each file.
type Sources = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl ApiCommand {
    /// Builds, uploads and runs a project after every change, until it is interrupted.
    pub(crate) async fn dev(&self, args: Dev) -> Outcome {
        let mut client = self.client().await?;
        if !args.path.exists() {
            let line = format!("there is no {}; begin a project with `cerebelum new`", args.path.display());
            return Err(CliError::usage(line));
        }
        // A folder without a project does not become one while this waits for changes.
        project::find(&args.path)?;
        let mut running = None;
        let ended = tokio::select! {
            ended = self.rounds(&mut client, &args, &mut running) => ended,
            // If no handler can be installed, Ctrl-C just ends the program.
            Ok(()) = tokio::signal::ctrl_c() => Ok(()),
        };
        if let Some(id) = running {
            self.out.say(&format!("{id} is left as it is; end it with `cerebelum terminate {id}`"))?;
        }
        ended
    }

    async fn rounds(&self, client: &mut Client, args: &Dev, running: &mut Option<String>) -> Outcome {
        loop {
            let seen = sources(&args.path);
            tokio::select! {
                ended = self.round(client, args, running) => match ended {
                    Ok(()) => {}
                    Err(stop) if stop.code.is_none() || stop.code == Some(Code::Unreachable) => return Err(stop),
                    Err(stop) => self.out.say(&crate::render::plain(&stop.line))?,
                },
                () = changed(&args.path, &seen) => {}
            }
            self.out.say("waiting for changes; Ctrl-C ends this")?;
            changed(&args.path, &seen).await;
            if let Some(execution_id) = running.take() {
                self.out.say(&format!("terminating {execution_id}, which runs the code from before the change"))?;
                // It does not matter if it has ended meanwhile.
                let _ = client.ask(Api::terminate, proto::TerminateRequest { execution_id }).await;
            }
        }
    }

    async fn round(&self, client: &mut Client, args: &Dev, running: &mut Option<String>) -> Outcome {
        let built = build(args.path.clone()).await?;
        let file_name = format!("{}.wasm", built.name);
        let mut component = self.send(client, Some(built.name), file_name, &built.bytes).await?;
        // The author of the program runs `dev`, and has just written what it asks for.
        if component.proposed {
            component = accept(client, component.name, component.digest).await?;
        }
        component_lines(&component).iter().try_for_each(|line| self.out.say(line))?;
        let workflow = choose(&component, args.workflow.as_deref())?;
        // Read anew each time: the file with the input may have changed.
        let beside = folder(&args.path).join("input.json");
        let input = match &args.input {
            Some(input) => values::json(input, "--input")?,
            None if beside.is_file() => values::json(&format!("@{}", beside.display()), "input.json")?,
            None => "null".to_owned(),
        };
        let request = proto::StartRequest { workflow, input, ..Default::default() };
        let summary = client.ask(Api::start, request).await?;
        *running = Some(summary.execution_id.clone());
        let status = self.follow(client, &summary.execution_id).await?;
        *running = None;
        ended_well(&status)
    }
}

async fn build(path: PathBuf) -> Outcome<Built> {
    let building = tokio::task::spawn_blocking(move || project::build(&path));
    building.await.unwrap_or_else(|e| Err(CliError::failed(format!("the build broke off: {e}"))))
}

fn choose(component: &proto::Component, wanted: Option<&str>) -> Outcome<String> {
    match (wanted, component.workflows.as_slice()) {
        (Some(wanted), _) if wanted.contains('/') => Ok(wanted.to_owned()),
        (Some(wanted), _) => Ok(format!("{}/{wanted}", component.name)),
        (None, [only]) => Ok(format!("{}/{only}", component.name)),
        (None, []) => {
            Err(CliError::usage("the component has no workflow; write one with #[workflow], in Python @workflow"))
        }
        (None, many) => Err(CliError::usage(format!("choose with --workflow: {}", many.join(", ")))),
    }
}

async fn changed(path: &Path, seen: &Sources) {
    while sources(path) == *seen {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The folder that a path names, or the folder of its file.
fn folder(path: &Path) -> &Path {
    match path.is_file() {
        // The parent of a bare name is empty.
        true => path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")),
        false => path,
    }
}

fn sources(path: &Path) -> Sources {
    let mut found = Vec::new();
    // The folder of a single file can contain anything: only the packages in it belong to the project.
    let is_alone = path.extension().is_some_and(|extension| extension == "py");
    let mut folders = vec![folder(path).to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                let is_source = !project::is_foreign(&path) && (!is_alone || path.join("__init__.py").is_file());
                folders.extend(is_source.then_some(path));
            } else if path.extension().is_none_or(|extension| extension != "wasm" && extension != "lock") {
                found.push((path, about.modified().ok(), about.len()));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_source_is_seen_and_what_a_build_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "a");
        let before = sources(folder.path());
        for built in ["target/release/x.d", "x.wasm", "Cargo.lock", ".cerebelum/sdk/x", "__pycache__/app.pyc"] {
            write(built, "b");
        }
        assert_eq!(sources(folder.path()), before);
        write("src/lib.rs", "ab");
        assert_ne!(sources(folder.path()), before);
    }

    #[test]
    fn of_a_file_its_neighbours_and_their_packages_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        for name in ["app.py", "input.json", "shop/__init__.py", "shop/cart.py", "photos/large.raw"] {
            write(name);
        }
        let names = |path: &Path| sources(path).into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
        let watched = names(&folder.path().join("app.py"));
        let wanted = ["app.py", "input.json", "shop/__init__.py", "shop/cart.py"];
        assert_eq!(watched, wanted.map(|name| folder.path().join(name)));
        assert_eq!(names(folder.path()).len(), 5);
    }

    #[test]
    fn the_only_workflow_is_chosen_and_among_many_the_named_one() {
        let component = |names: &[&str]| proto::Component {
            name: "c".into(),
            workflows: names.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        assert_eq!(choose(&component(&["a"]), None).unwrap(), "c/a");
        assert_eq!(choose(&component(&["a", "b"]), Some("b")).unwrap(), "c/b");
        assert_eq!(choose(&component(&["a"]), Some("d/b")).unwrap(), "d/b");
        assert!(choose(&component(&["a", "b"]), None).unwrap_err().line.contains("a, b"));
        assert_eq!(choose(&component(&[]), None).unwrap_err().code, Some(Code::Usage));
    }
}
