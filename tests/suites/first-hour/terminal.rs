//! A new user's desk with two terminals: an empty home, few programs, an engine in one terminal, commands in the other.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process_group};
use test_engine::{Scratch, Signal, program, root, scratch, until, within};

/// The longest time of a block, which may compile the SDK on a busy machine.
const BLOCK_MAX: Duration = Duration::from_secs(900);
/// The programs of a new user's machine besides those that the README tells them to install.
const PROGRAMS: &str = "ar as awk basename bash cat cc chmod cp curl cut date dirname env expr false find gcc git grep head id install \
    ld ln ls mkdir mktemp mv nproc printf pwd readlink realpath rm sed seq sh sleep sort tail tee test touch tr true uname \
    uniq wc which";
/// The programs that the README tells them to install, besides Python.
const TOLD: [&str; 3] = ["cargo", "rustc", "rustup"];

/// One of the two terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The terminal of the engine.
    Engine,
    /// The terminal for commands.
    Main,
}

/// The home and both terminals.
pub(crate) struct Desk {
    folder: Scratch,
    engine: Terminal,
    main: Terminal,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = scratch();
        lay_programs(&folder.0.join("bin"));
        // The part of the checkout that the README uses.
        let release = folder.0.join("checkout/target/release");
        fs::create_dir_all(&release).unwrap();
        symlink(program("cerebelum"), release.join("cerebelum")).unwrap();
        fs::create_dir(folder.0.join("home")).unwrap();
        let terminal = |name: &str| Terminal::open(&folder.0, name, &folder.0.join("checkout"));
        let (engine, main) = (terminal("engine"), terminal("main"));
        Self { folder, engine, main }
    }

    /// Runs commands to their end.
    pub(crate) fn run(&mut self, which: Which, place: &str, commands: &str) {
        let terminal = match which {
            Which::Engine => &mut self.engine,
            Which::Main => &mut self.main,
        };
        let done = terminal.type_in(commands);
        within(BLOCK_MAX, place, || terminal.has_done(&done, place).then_some(()));
    }

    /// Runs commands that end with an engine, and waits until that is ready. The other terminal gets its address in a
    /// variable, since tests run side by side; a new user would have the usual port to themselves.
    pub(crate) fn serve(&mut self, place: &str, commands: &str) {
        let said = self.engine.said().len();
        let done = self.engine.type_in(commands);
        let url = until("the engine is ready", || {
            assert!(!self.engine.has_done(&done, place), "{place}: the engine ended\n{}", self.engine.said());
            let said = self.engine.said().split_off(said);
            let line = said.lines().find(|line| line.starts_with("cerebelum is ready on "))?;
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        });
        self.run(Which::Main, "telling where the engine is", &format!("export CEREBELUM_URL={url}"));
    }

    /// Kills the engine, and opens its terminal again in the same folder.
    pub(crate) fn kill_engine(&mut self) {
        let here = fs::read_link(format!("/proc/{}/cwd", self.engine.shell.id())).unwrap();
        self.engine.kill();
        self.engine = Terminal::open(&self.folder.0, "engine-again", &here);
    }

    /// Waits until this command succeeds.
    pub(crate) fn once(&mut self, place: &str, command: &str) {
        let waiting = format!(
            "for n in $(seq 600); do if {command} > /dev/null; then break; fi; sleep 0.1; done; {command} > /dev/null"
        );
        self.run(Which::Main, place, &waiting);
    }

    /// Writes a file into the current folder of the main terminal.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let here = fs::read_link(format!("/proc/{}/cwd", self.main.shell.id())).unwrap();
        fs::write(here.join(path), text).unwrap();
    }
}

/// A shell of its own process group.
struct Terminal {
    shell: Child,
    lines: ChildStdin,
    folder: PathBuf,
    name: String,
    blocks: usize,
}

impl Terminal {
    fn open(folder: &Path, name: &str, here: &Path) -> Self {
        let said = File::create(folder.join(format!("{name}.txt"))).unwrap();
        let mut command = Command::new(folder.join("bin/bash"));
        command.args(["--noprofile", "--norc", "-s"]).current_dir(here).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(said.try_clone().unwrap()).stderr(said);
        let real = |variable: &str, folder: &str| {
            std::env::var_os(variable)
                .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(folder), PathBuf::from)
        };
        command.env("HOME", folder.join("home")).env("PATH", folder.join("bin"));
        // Rust is installed for a user; its libraries may have been fetched before. Its target folder is shared between
        // runs of the tests, and pip fetches from the folder that `make setup` has filled.
        command.env("RUSTUP_HOME", real("RUSTUP_HOME", ".rustup")).env("CARGO_HOME", real("CARGO_HOME", ".cargo"));
        command.env("CARGO_TARGET_DIR", root().join("target/new-project"));
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", wheels()).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        command.env("CEREBELUM_LISTEN", "127.0.0.1:0");
        let mut shell = command.spawn().unwrap();
        let lines = shell.stdin.take().unwrap();
        Self { shell, lines, folder: folder.to_owned(), name: name.to_owned(), blocks: 0 }
    }

    /// Types commands in; the returned file appears when they have succeeded. The first command that fails ends the
    /// shell.
    fn type_in(&mut self, commands: &str) -> PathBuf {
        use std::io::Write;
        self.blocks += 1;
        let block = self.folder.join(format!("{}-{}.sh", self.name, self.blocks));
        fs::write(&block, commands).unwrap();
        let done = block.with_extension("done");
        let typed =
            format!("set -eo pipefail; set -v; . {} < /dev/null; set +v; : > {}\n", block.display(), done.display());
        self.lines.write_all(typed.as_bytes()).unwrap();
        done
    }

    fn has_done(&mut self, done: &Path, place: &str) -> bool {
        let is_done = done.exists();
        let ended = self.shell.try_wait().unwrap();
        assert!(is_done || ended.is_none(), "{place} does not run as written ({ended:?}):\n{}", self.said());
        is_done
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join(format!("{}.txt", self.name))).unwrap_or_default())
            .into_owned()
    }

    fn kill(&mut self) {
        let group = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw).unwrap();
        // The shell may have ended, and with it the group.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.shell.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the terminal `{}` said:\n{}", self.name, self.said());
        }
    }
}

/// A folder with links to the few programs that a new user has.
fn lay_programs(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let find = |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    for name in PROGRAMS.split_whitespace().chain(TOLD) {
        if let Some(program) = find(name) {
            symlink(program, folder.join(name)).unwrap();
        }
    }
    // Not the tests' own Python, which has all packages, but the one from which it was made.
    let python = root().join("target/python/bin/python3");
    let asked = Command::new(&python).args(["-c", "import sys; print(sys._base_executable)"]).output();
    let asked = asked.unwrap_or_else(|e| panic!("{}: {e}: run `make setup`", python.display()));
    symlink(String::from_utf8(asked.stdout).unwrap().trim(), folder.join("python3")).unwrap();
    symlink(program("cerebelum"), folder.join("cerebelum")).unwrap();
}

/// The folder of packages that pip may install, so that no network is needed.
fn wheels() -> PathBuf {
    let folder = root().join("target/python/wheels");
    assert!(folder.is_dir(), "{} is missing: run `make setup`", folder.display());
    folder
}
