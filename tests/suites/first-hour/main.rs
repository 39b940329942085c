//! The first hour of a new user: a shell runs the commands of the README and of the guides as they are written, in
//! order, in an empty home with little more than the built binary on its path.

#![allow(clippy::unwrap_used, reason = "tests: a value that is not there is a failure")]

mod demo;
mod page;
mod pipes;
mod terminal;

use page::{Block, How, Page};
use terminal::{Desk, Which};

/// Runs the blocks of a page in order; returns how many were run, and why each of the others was not.
fn follow(page: &Page) -> (usize, Vec<String>) {
    let (mut desk, mut ran, mut left_out) = (Desk::new(), 0, Vec::new());
    for Block { line, text, how } in &page.blocks {
        let place = format!("{}, line {line}", page.name);
        match how {
            How::NotRun(why) => {
                left_out.push(format!("{place}: {why}"));
                continue;
            }
            How::Serve => desk.serve(&place, text),
            How::ServeAgain => {
                desk.kill_engine();
                desk.serve(&place, text);
            }
            How::Both => {
                desk.run(Which::Engine, &place, text);
                desk.run(Which::Main, &place, text);
            }
            How::Run { once } => {
                if let Some(condition) = once {
                    desk.once(&place, condition);
                }
                desk.run(Which::Main, &place, text);
            }
            How::Put(path) => {
                desk.put(path, &page.sources(path));
            }
        }
        ran += 1;
    }
    (ran, left_out)
}

/// Follows a page and checks which blocks were run.
fn check(page: &Page, ran_min: usize, left_out: &[&str]) {
    let (ran, not_run) = follow(page);
    eprintln!("{}: {ran} blocks run, {} not run: {not_run:?}", page.name, not_run.len());
    assert!(ran >= ran_min, "{}: only {ran} blocks were run", page.name);
    let told: Vec<_> = not_run.iter().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(told, left_out, "a block that is not run says why, and is counted here");
}

#[test]
fn the_readmes_first_five_minutes_run_as_written() {
    let page = Page::read("README.md", Some("## The first five minutes"));
    check(&page, 6, &["the tests have built it"]);
}

#[test]
fn the_commands_of_the_rust_guide_run_as_written() {
    check(&Page::read("docs/guide.md", None), 4, &[]);
}

#[test]
fn the_commands_of_the_rest_page_run_as_written() {
    check(&Page::read("docs/rest.md", None), 11, &[]);
}

#[test]
fn the_commands_of_the_python_guide_run_as_written() {
    check(&Page::read("docs/python.md", None), 2, &[]);
}
