//! Calls about the guest's own context, such as its id, clock, progress, log and attributes. None of them suspends.

use cerebelum_history::{Failure, Level, check_attribute, kind};
use wasmtime::component::HasData;

use crate::bindings::context;
use crate::convert;
use crate::state::{HostImpl, State};
use crate::trap::GuestExit;

impl HasData for HostImpl {
    type Data<'a> = &'a mut State;
}

impl context::Host for State {
    fn get_info(&mut self) -> context::Info {
        self.info.clone()
    }

    fn now(&mut self) -> u64 {
        self.calls.clock_ms()
    }

    fn progress(&mut self, percent: u8, message: String) {
        self.calls.progress(percent, &message);
    }

    fn log(&mut self, level: context::Level, message: String) {
        let level = match level {
            context::Level::Debug => Level::Debug,
            context::Level::Info => Level::Info,
            context::Level::Warn => Level::Warn,
            context::Level::Error => Level::Error,
        };
        self.calls.log(level, &message);
    }

    /// The function has no result to return a failure in, so a refusal ends the guest. The attribute would otherwise be
    /// missing without notice.
    fn set_attribute(&mut self, name: String, value: String) -> wasmtime::Result<()> {
        self.attribute(name, value).map_err(|failure| GuestExit::Failed(failure).into())
    }
}

impl State {
    fn attribute(&mut self, name: String, value: String) -> Result<(), Failure> {
        if self.info.step.is_some() {
            return Err(Failure::new(kind::NOT_GRANTED, "only a workflow can set attributes"));
        }
        let value = convert::json(value, "an attribute's value")?;
        check_attribute(&name, &value).map_err(convert::invalid)?;
        self.calls.set_attribute(name, value)
    }
}
