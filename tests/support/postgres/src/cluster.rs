//! A throw-away cluster: made by `initdb`, run by `pg_ctl`, removed with the process that started it, however that
//! ends.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The number of attempts to start: another process may take the free port before the server does.
const START_ATTEMPTS_MAX: u32 = 5;

/// A running cluster. It stops and its files are removed when this is dropped or the process ends, also by `kill -9`.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    programs: PathBuf,
    folder: PathBuf,
    /// A process that waits for the end of its input, which comes when this process ends, and then cleans up.
    warden: Child,
}

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, and their open transactions are rolled back.
    Fast,
    /// Like a crash.
    Immediate,
}

impl Cluster {
    /// Starts a cluster on a free port of the loopback interface; its only user `postgres` needs no password.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let programs = programs().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not here: install it (Debian: `apt-get install postgresql`), or set TEST_DATABASE_URL"
            )
        });
        let folder = make_folder();
        // The warden is started first, so that a failure below leaves nothing behind either.
        let warden = set_warden(&programs, &folder);
        let mut cluster = Self { port: 0, programs, folder, warden };
        let initdb = server_command(&cluster.programs.join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(cluster.data())
            .output();
        expect_success("initdb", initdb);
        let started = (0..START_ATTEMPTS_MAX).any(|_| {
            cluster.port = free_port();
            configure(&cluster.data(), &cluster.folder, cluster.port);
            cluster.control(&["start"])
        });
        let log = std::fs::read_to_string(cluster.folder.join("log")).unwrap_or_default();
        assert!(started, "PostgreSQL does not start:\n{log}");
        cluster
    }

    /// The address of one of its databases; `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops the server in this way, and starts it again on the same port.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn restart(&self, how: Shutdown) {
        self.stop(how);
        self.start_again();
    }

    /// Stops the server.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&self, how: Shutdown) {
        let mode = match how {
            Shutdown::Fast => "--mode=fast",
            Shutdown::Immediate => "--mode=immediate",
        };
        assert!(self.control(&["stop", mode]), "PostgreSQL does not stop");
    }

    /// Starts a server that was stopped, on the same port.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start_again(&self) {
        assert!(self.control(&["start"]), "PostgreSQL does not come back");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn control(&self, words: &[&str]) -> bool {
        let mut command = pg_ctl(&self.programs, &self.data());
        command.args(words).args(["--wait", "--silent", "--log"]).arg(self.folder.join("log"));
        // The server inherits the open files of this command; a pipe would stay open as long as the server runs.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
    }
}

/// The folder of `initdb` and the other programs: Debian's newest version, otherwise the one on the path.
/// A program of PostgreSQL, such as `pg_dump`.
///
/// # Panics
/// When there is no PostgreSQL.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    programs().expect("PostgreSQL is installed").join(name)
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, folder)| folder.join("initdb").exists())
        .collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.pop().map(|(_, folder)| folder).or_else(|| {
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// PostgreSQL refuses to run as root.
fn server_command(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn pg_ctl(programs: &Path, data: &Path) -> Command {
    let mut command = server_command(&programs.join("pg_ctl"));
    command.arg("--pgdata").arg(data);
    command
}

fn make_folder() -> PathBuf {
    let mut number = 0;
    let folder = loop {
        let folder = std::env::temp_dir().join(format!("cerebelum-postgres-{}-{number}", std::process::id()));
        match std::fs::create_dir(&folder) {
            Ok(()) => break folder,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => panic!("cannot make {}: {error}", folder.display()),
        }
    };
    if is_root() {
        expect_success("chown", Command::new("chown").arg("postgres").arg(&folder).output());
    }
    folder
}

fn set_warden(programs: &Path, folder: &Path) -> Child {
    let stop = "read -r _; \"$@\" stop --silent --mode=immediate; rm -rf \"$0\"";
    let pg_ctl = pg_ctl(programs, &folder.join("data"));
    Command::new("sh")
        .arg("-c")
        .arg(stop)
        .arg(folder)
        .arg(pg_ctl.get_program())
        .args(pg_ctl.get_args())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal must not end the warden, which has work to do then.
        .process_group(0)
        .spawn()
        .expect("a shell")
}

fn configure(data: &Path, folder: &Path, port: u16) {
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = on\nmax_connections = 400\n\
         shared_buffers = '128MB'\nlog_min_messages = warning\n",
        folder.display()
    );
    // As root, the folder belongs to another user, but root may write everywhere.
    let mut file =
        std::fs::File::create(data.join("postgresql.auto.conf")).expect("the cluster's folder can be written");
    file.write_all(settings.as_bytes()).expect("the cluster's settings can be written");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback interface");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn expect_success(what: &str, output: std::io::Result<std::process::Output>) {
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{what} failed:\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{what} cannot be run: {error}"),
    }
}
