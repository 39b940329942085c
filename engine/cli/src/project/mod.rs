//! Projects of guests: the kit they are built with, a first one to begin with, and building them.

mod cargo;
mod component;
mod kit;
mod template;

pub(crate) use cargo::{Built, build};
pub(crate) use template::lay_project;
