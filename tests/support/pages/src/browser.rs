//! Chromium, driven over WebDriver. The few commands that are used here need no library: the known ones bring two dozen
//! crates, and other features for those that the engine uses.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_engine::{Engine, asked_for, http_post};

/// How long a page may take to show what is waited for.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// The height of a page, in pixels.
const HEIGHT: u32 = 900;

/// The key Tab, as WebDriver names it.
pub const TAB: &str = "\u{e004}";
/// The key Enter.
pub const ENTER: &str = "\u{e007}";

/// The colours that a reader prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Scheme {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Light, Self::Dark];

    /// The word for it in CSS.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A driver, and the browser that it drives.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    /// The address of the session.
    session: String,
}

impl Browser {
    /// A browser whose pages are so many pixels wide.
    ///
    /// # Panics
    /// When there is no Chromium or no driver of it.
    #[must_use]
    pub fn open(width: u32) -> Self {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = driver.unwrap_or_else(|e| panic!("chromedriver: {e}; `make setup` installs it"));
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = said.find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.to_owned()));
        let url = format!("http://127.0.0.1:{}", port.expect("the driver says its port").trim_end_matches('.'));
        let mut browser = Self { driver, session: url };
        let mut arguments =
            vec!["--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
        // Chromium's own sandbox refuses root.
        if rustix::process::getuid().is_root() {
            arguments.push("--no-sandbox");
        }
        let wanted = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.tell("/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("{}/session/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser.resize(width);
        browser
    }

    /// A command of WebDriver, and its result.
    ///
    /// # Panics
    /// When it is refused.
    #[expect(clippy::must_use_candidate, reason = "most commands say nothing")]
    pub fn tell(&self, path: &str, what: &Value) -> Value {
        let told = self.ask(path, what);
        assert!(told["error"].is_null(), "{path}: {told}");
        told
    }

    /// A command of WebDriver, and its result or its refusal.
    fn ask(&self, path: &str, what: &Value) -> Value {
        let told = http_post(&format!("{}{path}", self.session), &what.to_string());
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{path}: {e}: {told:?}"));
        told["value"].clone()
    }

    /// A command of Chromium's own protocol.
    #[expect(clippy::must_use_candidate, reason = "most commands say nothing")]
    pub fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.tell("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        self.tell("/url", &json!({"url": url}));
    }

    /// Goes to a page of an engine.
    pub fn page(&self, engine: &Engine, path: &str) {
        self.go(&format!("{}{path}", engine.url()));
    }

    /// Changes the width of pages.
    pub fn resize(&self, width: u32) {
        let metrics = json!({"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": true});
        self.cdp("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Changes the colours that the reader prefers.
    pub fn prefer(&self, scheme: Scheme) {
        // Without motion: half of a transition is a colour that no one chose.
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme.word()},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.cdp("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Logs in with a token, and goes to the overview.
    pub fn log_in(&self, engine: &Engine, token: &str) {
        self.page(engine, "/login");
        self.types("#token", token);
        self.click("button.main");
        self.sees("h1", "Overview");
    }

    /// The result of a script.
    #[expect(clippy::must_use_candidate, reason = "many scripts say nothing")]
    pub fn run(&self, script: &str, arguments: &[&str]) -> Value {
        self.tell("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// The text of an element; nothing if there is none.
    #[must_use]
    pub fn text(&self, css: &str) -> String {
        // Between two pages there is none.
        let found = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", &[css]);
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element has this text.
    ///
    /// # Panics
    /// When it never has.
    pub fn sees(&self, css: &str, text: &str) {
        let seen = asked_for(SHOWN_WITHIN, || self.text(css).contains(text).then_some(()));
        if seen.is_none() {
            panic!("`{text}` is not in {css}: {}", self.run("return document.documentElement.outerHTML", &[]));
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.tell("/element", &json!({"using": "css selector", "value": css}));
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        format!("/element/{}", id.unwrap())
    }

    /// Clicks on an element, if need be on the one that takes its place when the page is brought up to date.
    ///
    /// # Panics
    /// When it cannot be clicked.
    pub fn click(&self, css: &str) {
        let began = Instant::now();
        loop {
            let told = self.ask(&format!("{}/click", self.element(css)), &json!({}));
            if told["error"].is_null() {
                return;
            }
            let is_replaced = told["error"] == "stale element reference";
            assert!(is_replaced && began.elapsed() < SHOWN_WITHIN, "{css}: {told}");
        }
    }

    /// Moves the pointer to an element, without pressing it.
    pub fn point_at(&self, css: &str) {
        let script = "const one = document.querySelector(arguments[0]); one.scrollIntoView({block: 'center'}); \
                      const at = one.getBoundingClientRect(); \
                      return [Math.round(at.x + at.width / 2), Math.round(at.y + at.height / 2)]";
        let at = self.run(script, &[css]);
        let act = json!({"type": "pointerMove", "duration": 0, "x": at[0], "y": at[1]});
        let mouse = json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [act]});
        self.tell("/actions", &json!({"actions": [mouse]}));
    }

    /// Types into an element.
    pub fn types(&self, css: &str, keys: &str) {
        self.tell(&format!("{}/value", self.element(css)), &json!({"text": keys}));
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let each = |key: char| ["keyDown", "keyUp"].map(|act| json!({"type": act, "value": key.to_string()}));
        let actions: Vec<Value> = keys.chars().flat_map(each).collect();
        self.tell("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// The whole page as a PNG file in base64.
    #[must_use]
    pub fn screenshot(&self) -> String {
        let size = self
            .run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight].join()", &[]);
        let size: Vec<u32> = size.as_str().unwrap().split(',').map(|length| length.parse().unwrap()).collect();
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1].min(6_000), "scale": 1});
        let taken = self.cdp("Page.captureScreenshot", &json!({"captureBeyondViewport": true, "clip": clip}));
        taken["data"].as_str().unwrap().to_owned()
    }

    /// What the browser complained about since it was last asked: broken policies, failed scripts.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let told = self.tell("/se/log", &json!({"type": "browser"}));
        told.as_array().unwrap().iter().map(ToString::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when the session ends.
        let _ = Command::new("curl").args(["-s", "--max-time", "20", "-X", "DELETE", &self.session]).output();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
