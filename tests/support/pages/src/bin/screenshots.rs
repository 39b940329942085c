//! Takes screenshots of every page, for a person to look at: in light, in dark and on a phone, into `target/screenshots`.
//! An argument takes only the pages whose names contain it.

#![allow(clippy::unwrap_used, reason = "a tool: a value that is not there is a failure")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use test_engine::root;
use test_pages::{Browser, Gallery, Scheme, Who};

#[expect(clippy::print_stdout, reason = "it says where the pictures are")]
fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let folder = root().join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let browser = Browser::open(1_280);
    for gallery in [Gallery::empty(), Gallery::full()] {
        for who in [Who::Stranger, Who::Admin, Who::Viewer] {
            gallery.log_in(&browser, who);
            for (name, path, _) in gallery.pages.iter().filter(|(name, _, of)| *of == who && name.contains(&wanted)) {
                for (scheme, width, end) in
                    [(Scheme::Light, 1_280, "light"), (Scheme::Dark, 1_280, "dark"), (Scheme::Light, 360, "phone")]
                {
                    browser.prefer(scheme);
                    browser.resize(width);
                    browser.page(&gallery.engine, path);
                    keep(&browser.screenshot(), &folder.join(format!("{name}-{end}.png")));
                }
            }
        }
    }
    println!("the screenshots are in {}", folder.display());
}

/// Writes a file that is given in base64.
fn keep(base64: &str, to: &Path) {
    let file = std::fs::File::create(to).unwrap();
    let mut decoder = Command::new("base64").arg("--decode").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
    decoder.stdin.take().unwrap().write_all(base64.as_bytes()).unwrap();
    assert!(decoder.wait().unwrap().success(), "{}", to.display());
}
