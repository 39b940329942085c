//! Standard output and standard error of a guest: their lines go to its log.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::host_calls::{HostCalls, Stream};

/// One of the two streams. All handles to it write to the same [`HostCalls`].
#[derive(Clone)]
pub(crate) struct StandardStream {
    calls: Arc<HostCalls>,
    stream: Stream,
}

impl StandardStream {
    pub(crate) fn new(calls: &Arc<HostCalls>, stream: Stream) -> Self {
        Self { calls: Arc::clone(calls), stream }
    }
}

impl IsTerminal for StandardStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for StandardStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 calls this, and guests are not linked against it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for StandardStream {
    async fn ready(&mut self) {}
}

impl OutputStream for StandardStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.calls.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}
