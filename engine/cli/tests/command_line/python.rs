//! Python programs from a new project to an engine: the builds, the refusals, and their messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::{BINARY, Running, cerebelum, check, input};

/// The tests' own Python, which `make setup` installs.
fn environment() -> PathBuf {
    let folder = Path::new(BINARY).ancestors().nth(2).unwrap().join("python");
    assert!(folder.join("bin/componentize-py").is_file(), "{} is missing: run `make setup`", folder.display());
    folder
}

/// The interpreter that programs are built from, made once for all tests.
fn base() -> PathBuf {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let cache = environment().with_file_name("cache");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), FINE).unwrap();
        let mut build = cerebelum("build app.py -o x.wasm");
        build.current_dir(&folder).env("XDG_CACHE_HOME", &cache);
        check(build.env("CEREBELUM_COMPONENTIZE", environment().join("bin/componentize-py")), 0);
        let there = fs::read_dir(cache.join("cerebelum")).unwrap().map(|entry| entry.unwrap());
        let bases = there.filter(|entry| entry.file_name().to_string_lossy().starts_with("python-base-"));
        let bases = bases.filter(|entry| entry.path().is_dir());
        bases.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap()).unwrap().path()
    };
    BASE.get_or_init(make).clone()
}

/// A folder with files, and a cache of its own with the interpreter in it.
struct Place {
    folder: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() };
        let (base, cache) = (base(), place.cache.path().join("cerebelum"));
        fs::create_dir(&cache).unwrap();
        std::os::unix::fs::symlink(&base, cache.join(base.file_name().unwrap())).unwrap();
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = cerebelum(line);
        let tool = environment().join("bin/componentize-py");
        command.current_dir(self.folder.path()).env("CEREBELUM_COMPONENTIZE", tool);
        command.env("XDG_CACHE_HOME", self.cache.path());
        command
    }

    /// Runs a command and returns the exit code and stderr.
    fn complain(&self, line: &str) -> (i32, String) {
        let Output { status, stderr, .. } = self.command(line).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Checks that a build fails with these lines before the last one.
    fn refuses(&self, line: &str, wanted: &[&str]) {
        let (code, said) = self.complain(line);
        assert_eq!(code, 1, "{said}");
        let mut lines: Vec<&str> = said.lines().collect();
        let last = lines.pop().unwrap();
        assert!(last.starts_with("error: ") && last.contains("see above"), "{said}");
        assert_eq!(lines.len(), wanted.len(), "{said}");
        for (line, wanted) in lines.iter().zip(wanted) {
            assert!(line.contains(wanted), "{line}\nlacks\n{wanted}\n\n{said}");
        }
    }
}

const FINE: &str = "from cerebelum import step\n\n@step\nasync def fine(context): ...\n";

#[test]
fn a_new_python_project_is_tested_builds_and_runs_anywhere() {
    let place = Place::with(&[]);
    let (out, _) = check(&mut place.command("new first-steps --lang python"), 0);
    assert_eq!(out, "first-steps is ready: cerebelum dev first-steps\n");
    let project = place.folder.path().join("first-steps");
    // A missing file in the cache is written again.
    fs::remove_dir_all(place.cache.path().join("cerebelum")).unwrap();
    let (out, err) = check(&mut place.command("build first-steps -o x.wasm"), 0);
    assert!(out.starts_with("x.wasm (") && err.starts_with("preparing the interpreter"), "{out}{err}");
    assert_eq!(check(&mut place.command("build first-steps -o x.wasm"), 0), (out, String::new()));
    assert!(!project.join("__pycache__").exists(), "a build leaves nothing but the component");
    let mut tests = Command::new(environment().join("bin/python"));
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).current_dir(&project);
    let tested = tests.output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));

    let running = Running::start(place.folder.path());
    let (out, _) = check(running.ask("upload x.wasm --name first --json").current_dir(place.folder.path()), 0);
    assert!(out.contains(r#""workflows":["visit"]"#) && out.contains(r#""welcome""#), "{out}");
    let (out, _) = check(running.ask("start visit --id v --wait --json --input -").stdin(input()), 0);
    assert!(out.contains(r#""status":"completed""#), "{out}");
    assert_eq!(check(&mut running.ask("result v"), 0).0, "[\"Welcome, Ada!\",\"Goodbye, Ada!\"]\n");
    assert!(check(&mut running.ask("logs v"), 0).0.contains("Ada is here"));
}

#[test]
fn a_program_with_packages_and_dependencies_carries_them_along() {
    let place = Place::with(&[
        (
            "shop/app.py",
            "from pure import greet\nfrom parts.prices import PRICE\n\nfrom cerebelum import Context, workflow\n\n\
          @workflow\nasync def buy(context: Context) -> list:\n    import parts.late\n    import pure.late\n\n    \
          return [greet(), PRICE, parts.late.HERE, pure.late.HERE]\n",
        ),
        ("shop/parts/__init__.py", ""),
        (
            "shop/parts/prices.py",
            "from pathlib import Path\nPRICE = int(Path(__file__).with_name('price.txt').read_text())\n",
        ),
        ("shop/parts/price.txt", "42"),
        ("shop/parts/late.py", "HERE = 'late'\n"),
        ("shop/requirements.txt", "cerebelum\npure>=1\n"),
    ]);
    wheel(
        &place,
        "pure",
        "py3-none-any",
        &[("pure/__init__.py", "def greet(): return 'hi'\n"), ("pure/late.py", "HERE = 'later'\n")],
    );
    let (_, err) = check(offline(&place, &mut place.command("build shop")), 0);
    assert!(err.contains("fetching the packages of shop/requirements.txt"), "{err}");
    let running = Running::start(place.folder.path());
    check(running.ask("upload shop/shop.wasm").current_dir(place.folder.path()), 0);
    let (out, _) = check(&mut running.ask("start shop/buy --wait --id b"), 0);
    assert!(out.contains("completed"), "{out}");
    assert_eq!(check(&mut running.ask("result b"), 0).0, "[\"hi\",42,\"late\",\"later\"]\n");
}

#[test]
fn an_import_error_is_told_at_its_line() {
    let place = Place::with(&[
        ("app.py", "import helper\n"),
        ("helper.py", "def deep():\n    raise ValueError('no such luck')\n\ndeep()\n"),
        ("missing.py", "import nowhere_to_be_found\n"),
        ("typo.py", "def f(:\n"),
        ("leave.py", "import sys\nsys.exit(3)\n"),
        ("call.py", "from cerebelum import call_step\nimport asyncio\nasyncio.run(call_step('x', None))\n"),
    ]);
    let deep = ["helper.py:2: ValueError: no such luck", "at app.py:1", "at helper.py:4", "at helper.py:2: deep"];
    place.refuses("build app.py", &deep);
    place.refuses(
        "build missing.py",
        &["missing.py:1: ModuleNotFoundError: No module named 'nowhere_to_be_found'; name its"],
    );
    place.refuses("build typo.py", &["typo.py:1: SyntaxError: "]);
    place.refuses("build leave.py", &["leave.py:2: the program ends while it is imported"]);
    place.refuses("build call.py", &["call.py:3: cerebelum.errors.ContextError: "]);
}

#[test]
fn all_problems_of_a_program_are_told_at_once() {
    let place = Place::with(&[(
        "app.py",
        "from cerebelum import step, workflow\n\n\
         @step\ndef one(context): ...\n\n\
         @step(retry={'atempts': 3})\nasync def two(context): ...\n\n\
         @step\nasync def three(context, a: 'Nowhere'): ...\n\n\
         @workflow\nasync def four(a, b): ...\n\n\
         @step\nasync def five(context): ...\n\n\
         @step\nasync def five(context): ...\n",
    )]);
    place.refuses(
        "build app.py",
        &[
            "app.py:3: Step 'one': Step functions must be async",
            "app.py:6: Step 'two': retry does not know atempts",
            "app.py:12: workflow 'four': First parameter must be 'context'",
            "app.py:18: step 'five' is defined twice",
            "app.py:9: step 'three': a type hint cannot be resolved while the module is imported: name 'Nowhere'",
        ],
    );
    place.write("app.py", "def nothing(): ...\n");
    place.refuses("build app.py", &["app.py: defines no workflow and no step"]);
}

#[test]
fn what_only_a_component_lacks_is_told_at_its_line_as_well() {
    let place = Place::with(&[("app.py", "from cerebelum import step\n\ndef load():\n    import ctypes\n\nload()\n")]);
    place.write("app.py", &format!("{FINE}\ndef load():\n    import ctypes\n\nload()\n"));
    let wanted = [
        "warning: app.py:7: import ctypes: there is no module 'ctypes' in a component",
        "app.py:7: ModuleNotFoundError: No module named '_ctypes'",
        "at app.py:9: <module>",
        "at app.py:7: load",
    ];
    place.refuses("build app.py", &wanted);
}

#[test]
fn values_that_would_be_frozen_are_warned_of() {
    let place = Place::with(&[(
        "app.py",
        "import time, uuid, random, datetime, threading\n\nNOW = time.time()\nID = uuid.uuid4()\n\
         LUCK = random.randint(1, 6)\nFAIR = random.Random(7).random()\nDAY = datetime.datetime.now()\n\
         threading.Thread(target=print).start()\nraise ValueError('enough')\n",
    )]);
    let (code, said) = place.complain("build app.py");
    assert_eq!(code, 1, "{said}");
    for (line, what) in [(3, "time.time()"), (4, "uuid.uuid4()"), (5, "random.randint()"), (7, "datetime.now()")] {
        assert!(said.contains(&format!("warning: app.py:{line}: {what} at module level runs once")), "{line}: {said}");
    }
    assert!(said.contains("warning: app.py:8: threads are used at module level"), "{said}");
    assert_eq!(said.matches("warning: ").count(), 5, "{said}");
}

#[test]
fn a_package_with_native_code_is_refused_by_name() {
    let place = Place::with(&[("app.py", FINE), ("requirements.txt", "pure\n")]);
    wheel_that_needs(&place, "pure", "py3-none-any", "fast-core");
    wheel_that_needs(&place, "fast_core", &machine(), "");
    let said = offline(&place, &mut place.command("build app.py")).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(
        said.contains("requirements.txt: fast_core (for pure) has native code; only pure-Python packages"),
        "{said}"
    );
    assert!(said.lines().last().unwrap().starts_with("error: what requirements.txt names cannot be had"), "{said}");
    place.write("requirements.txt", "nowhere-to-be-found\n");
    let said = offline(&place, &mut place.command("build app.py")).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("requirements.txt: pip finds no nowhere-to-be-found"), "{said}");
}

#[test]
fn without_a_way_to_build_it_says_what_is_missing() {
    let place = Place::with(&[("app.py", FINE)]);
    let (code, said) = place.complain("build nowhere.py");
    assert!(code == 2 && said.contains("name the folder of a crate, or a Python file"), "{said}");
    let mut command = place.command("build app.py");
    check(command.env("CEREBELUM_COMPONENTIZE", "/nowhere/componentize-py"), 2);
    let mut command = place.command("build app.py");
    let Output { status, stderr, .. } =
        command.env_remove("CEREBELUM_COMPONENTIZE").env("PATH", place.folder.path()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(1) && said.contains("cannot run python3"), "{said}");
    assert!(said.contains("install it first"), "{said}");
}

/// Makes pip take packages from a folder instead of the network.
fn offline<'a>(place: &Place, command: &'a mut Command) -> &'a mut Command {
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", place.folder.path().join("index"))
}

/// The tag of wheels with native code for this machine.
fn machine() -> String {
    let tag = "import sys, sysconfig; v = 'cp%d%d' % sys.version_info[:2]; \
               print(v, v, sysconfig.get_platform().replace('-', '_').replace('.', '_'), sep='-')";
    let said = Command::new(environment().join("bin/python")).args(["-c", tag]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn wheel_that_needs(place: &Place, name: &str, tag: &str, needs: &str) {
    let module = format!("{name}/__init__.py");
    wheel_of(place, name, tag, needs, &[(&module, "")]);
}

fn wheel(place: &Place, name: &str, tag: &str, files: &[(&str, &str)]) {
    wheel_of(place, name, tag, "", files);
}

/// Publishes a package in the folder.
fn wheel_of(place: &Place, name: &str, tag: &str, needs: &str, files: &[(&str, &str)]) {
    let needs = if needs.is_empty() { String::new() } else { format!("Requires-Dist: {needs}\n") };
    let about = format!("{name}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}");
    let described = format!("Wheel-Version: 1.0\nGenerator: ours\nRoot-Is-Purelib: true\nTag: {tag}\n");
    let (metadata_path, wheel_path, record_path) =
        (format!("{about}/METADATA"), format!("{about}/WHEEL"), format!("{about}/RECORD"));
    let record: String = files.iter().map(|(path, _)| format!("{path},,\n")).collect();
    let extra = [(&*metadata_path, &*metadata), (&*wheel_path, &*described), (&*record_path, &*record)];
    let all: Vec<(&str, &str)> = files.iter().copied().chain(extra).collect();
    let index = place.folder.path().join("index");
    fs::create_dir_all(&index).unwrap();
    let pack = "import json, sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as wheel:\n    \
                for name, text in json.loads(sys.argv[2]): wheel.writestr(name, text)\n";
    let file = index.join(format!("{name}-1.0-{tag}.whl"));
    let mut python = Command::new(environment().join("bin/python"));
    python.args(["-c", pack]).arg(file).arg(serde_json::to_string(&all).unwrap()).stdin(Stdio::null());
    assert!(python.status().unwrap().success());
}
