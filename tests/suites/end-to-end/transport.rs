//! TLS on the port, a proxy in front of it, and what either asks of clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use test_engine::{Database, Engine, component, python, scratch, until};

/// An authority, and the files of a certificate that it has signed for this machine's names.
struct Certificates {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn in_folder(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let made = Self { folder: folder.to_owned(), authority };
        made.renew();
        made
    }

    /// Writes a new certificate.
    fn renew(&self) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.folder.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(self.folder.join("cert.pem"), certificate.pem()).unwrap();
    }

    /// Writes a certificate for clients, with its key in the same file.
    fn for_client(&self, file: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a client".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.folder.join(file), certificate.pem() + &key.serialize_pem()).unwrap();
        self.path(file)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn curl(arguments: &[&str]) -> (i32, String) {
    let said = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    (said.status.code().unwrap(), text.into_owned())
}

/// Makes the first token of an engine that is closed, which is done while it does not run.
fn first_token(engine: &mut Engine, role: &str) -> String {
    engine.kill();
    let create = ["token", "create", "--role", role, "--name", "eve", "--database", engine.database(), "--json"];
    let made = serde_json::from_str::<Value>(&engine.ok(&create)).unwrap();
    engine.restart();
    made["token"].as_str().unwrap().to_owned()
}

/// The certificate that the engine presents.
fn serial(engine: &Engine, ca: &str) -> String {
    let (code, said) =
        curl(&["--cacert", ca, "-o", "/dev/null", "-w", "%{certs}", &format!("{}/healthz", engine.url())]);
    assert_eq!(code, 0, "{said}");
    said
}

#[test]
fn one_certificate_serves_every_protocol_and_is_read_again() {
    let folder = scratch();
    let certificates = Certificates::in_folder(&folder.0);
    let (cert, key, ca) = (certificates.path("cert.pem"), certificates.path("key.pem"), certificates.path("ca.pem"));
    let mut engine = Engine::start_with(Database::Sqlite, &[("TLS_CERT", &cert), ("TLS_KEY", &key), ("CA", &ca)]);
    assert!(engine.url().starts_with("https://"), "{}", engine.url());
    // Other machines may come: without a token nothing is answered, not even that there is none.
    let refused = engine.cli(&["list"]);
    assert!(refused.code == 5 && refused.err.contains("wants a token"), "{refused:?}");
    until("the log says how the first token is made", || engine.log().contains("token create").then_some(()));
    let token = first_token(&mut engine, "admin");
    // The command line keeps the authority with the token.
    engine.ok(&["login", "--token", &token, "--name", "here"]);
    let bare = |arguments: &[&str]| {
        let mut command = Command::new(test_engine::program("cerebelum"));
        command.args(arguments).env_remove("CEREBELUM_CA").env_remove("SSL_CERT_FILE").env_remove("CEREBELUM_URL");
        command.env("HOME", folder.0.join("home")).env_remove("XDG_CONFIG_HOME").output().unwrap()
    };
    let kept = bare(&["login", "--url", engine.url(), "--token", &token, "--ca", &ca]);
    assert!(kept.status.success(), "{kept:?}");
    assert!(bare(&["upload", &component("hello")]).status.success());
    let unknown = bare(&["list", "--url", engine.url(), "--token", &token, "--ca", &key]);
    assert!(unknown.status.code() == Some(2), "{unknown:?}");
    // REST, with an authority and without.
    let (url, bearer) = (format!("{}/v1/components", engine.url()), format!("authorization: Bearer {token}"));
    let (code, said) = curl(&["--cacert", &ca, "-H", &bearer, &url]);
    assert!(code == 0 && said.contains(r#""name":"hello""#), "{said}");
    assert_eq!(curl(&["-H", &bearer, &url]).0, 60, "a certificate of an unknown authority");
    let plain = url.replace("https://", "http://");
    assert_ne!(curl(&["-H", &bearer, &plain]).0, 0, "without TLS there is no answer");
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (_, said) = curl(&["--cacert", &ca, version, "-o", "/dev/null", "-w", "%{http_version}", &url]);
        assert_eq!(said, spoken);
    }
    // Python.
    let program = "import asyncio, sys\nfrom cerebelum.client import ExecutionClient\n\
                   async def main():\n    async with ExecutionClient(sys.argv[1], sys.argv[2]) as client:\n        print(await client.list_executions())\n\
                   asyncio.run(main())\n";
    let said = python().args(["-c", program, engine.url(), &token]).env("CEREBELUM_CA", &ca).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    // A new certificate is taken up by new connections, one that cannot be used is not.
    let first = serial(&engine, &ca);
    certificates.renew();
    let second = until("the new certificate is there", || Some(serial(&engine, &ca)).filter(|now| *now != first));
    std::fs::write(&cert, "nonsense").unwrap();
    until("the log says so", || engine.log().contains("cannot be read again").then_some(()));
    assert_eq!(serial(&engine, &ca), second);
    certificates.renew();
    engine.kill_and_restart();
    engine.ok(&["list", "--token", &token]);
}

#[test]
fn a_client_without_a_certificate_gets_no_connection() {
    let (folder, elsewhere) = (scratch(), scratch());
    let (certificates, others) = (Certificates::in_folder(&folder.0), Certificates::in_folder(&elsewhere.0));
    let (cert, key, ca) = (certificates.path("cert.pem"), certificates.path("key.pem"), certificates.path("ca.pem"));
    let (mine, foreign) = (certificates.for_client("mine.pem"), others.for_client("foreign.pem"));
    let settings =
        [("TLS_CERT", &*cert), ("TLS_KEY", &*key), ("TLS_CLIENT_CA", &*ca), ("CA", &*ca), ("CLIENT_CERT", &*mine)];
    let mut engine = Engine::start_with(Database::Sqlite, &settings);
    let token = first_token(&mut engine, "admin");
    engine.ok(&["list", "--token", &token]);
    let url = format!("{}/v1/caller", engine.url());
    let bearer = format!("authorization: Bearer {token}");
    let asked = |more: &[&str]| curl(&[&["--cacert", &ca, "-H", &bearer, &url], more].concat());
    let (code, said) = asked(&["--cert", &mine]);
    assert!(code == 0 && said.contains("eve"), "{said}");
    for (with, why) in [(vec![], "none"), (vec!["--cert", &*foreign], "that of another authority")] {
        let (code, said) = asked(&with);
        assert!(code != 0 && !said.contains("eve"), "{why}: {said}");
    }
    let healthz = format!("{}/healthz", engine.url());
    assert_ne!(curl(&["--cacert", &ca, &healthz]).0, 0, "the probes have no exception");
    // The command line names the file that cannot be used, and says what the other side wants.
    let refused = engine.cli(&["list", "--token", &token, "--client-cert", &foreign]);
    assert!(refused.code == 4 && refused.err.contains(engine.url()), "{refused:?}");
    let half = engine.cli(&["list", "--token", &token, "--client-cert", &ca]);
    assert!(half.code == 2 && half.err.contains("no private key"), "{half:?}");
    // Python.
    let program = "import asyncio, sys\nfrom cerebelum.client import ExecutionClient\n\
                   async def main():\n    async with ExecutionClient(sys.argv[1], sys.argv[2]) as client:\n        print(await client.list_executions())\n\
                   asyncio.run(main())\n";
    let mut python = python();
    python.args(["-c", program, engine.url(), &token]).envs([("CEREBELUM_CA", &ca), ("CEREBELUM_CLIENT_CERT", &mine)]);
    let said = python.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    // Without TLS of its own, the engine has no connection to ask.
    let mut alone = Command::new(test_engine::program("cerebelum"));
    let alone = alone.args(["serve", "--tls-client-ca", &ca]).current_dir(&folder.0).output().unwrap();
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(2) && said.contains("--tls-cert"), "{said}");
}

#[test]
fn behind_a_proxy_any_name_is_right_and_a_token_is_needed() {
    let mut engine = Engine::start_with(Database::Sqlite, &[("BEHIND_PROXY", "true")]);
    let token = first_token(&mut engine, "viewer");
    let (url, bearer) = (format!("{}/v1/caller", engine.url()), format!("authorization: Bearer {token}"));
    let host = "host: engine.example.com";
    let (_, said) = curl(&["-H", host, "-H", &bearer, "-H", "origin: https://engine.example.com", &url]);
    assert!(said.contains("eve"), "{said}");
    let (_, said) = curl(&["-H", host, "-H", &bearer, "-H", "origin: https://evil.example.com", &url]);
    assert!(said.contains("web pages"), "{said}");
    let (_, said) = curl(&["-H", host, &url]);
    assert!(said.contains("unauthenticated"), "{said}");
}

#[test]
fn a_port_beyond_this_machine_needs_tls_or_a_proxy() {
    let folder = scratch();
    let certificates = Certificates::in_folder(&folder.0);
    let data = folder.0.join("data").display().to_string();
    let serve = |more: &[&str]| {
        let mut command = Command::new(test_engine::program("cerebelum"));
        command.args(["serve", "--data", &data, "--listen", "0.0.0.0:0"]).args(more);
        let said = command.env_remove("CEREBELUM_LISTEN").output().unwrap();
        (said.status.code(), String::from_utf8_lossy(&said.stderr).trim().to_owned())
    };
    let (cert, key, ca) = (certificates.path("cert.pem"), certificates.path("key.pem"), certificates.path("ca.pem"));
    for (arguments, code, part) in [
        (&[][..], 2, "--behind-proxy"),
        (&["--tls-cert", &cert], 2, "--tls-key"),
        (&["--tls-cert", &cert, "--tls-key", &key, "--behind-proxy"], 2, "--behind-proxy"),
        (&["--tls-cert", &cert, "--tls-key", "absent.pem"], 2, "absent.pem"),
        (&["--tls-cert", &key, "--tls-key", &key], 2, "key.pem"),
        (&["--tls-cert", &ca, "--tls-key", &key], 2, "ca.pem"),
    ] {
        let (exit, said) = serve(arguments);
        assert!(exit == Some(code) && said.contains(part) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}
