//! The frames of PostgreSQL's protocol, put together from however few bytes come at a time.

use std::io::{Error, ErrorKind, Result};

use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// Larger than any frame of ours: a component's bytes are sent in one.
const FRAME_BYTES_MAX: usize = 256 << 20;
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
const CANCEL_REQUEST: u32 = 80_877_102;

/// The first message of a client on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Startup {
    /// A request for encryption.
    Encryption,
    /// A request to cancel a statement of another session.
    Cancel,
    /// A session.
    Session,
}

/// One message: a letter, its length, and its content.
#[derive(Debug)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    /// The frame that requests the answers to the statements so far.
    pub(super) const SYNC: &[u8] = b"S\0\0\0\x04";

    #[cfg(test)]
    pub(super) const fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[0]
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that begins at this offset in the content, without the zero at its end.
    pub(super) fn text(&self, from: usize) -> &[u8] {
        let rest = self.0.get(5 + from..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Reads whole frames. When a read is dropped, the bytes that it has read stay here.
#[derive(Debug)]
pub(super) struct Reader {
    from: OwnedReadHalf,
    gathered: Vec<u8>,
}

impl Reader {
    pub(super) const fn new(from: OwnedReadHalf) -> Self {
        Self { from, gathered: Vec::new() }
    }

    /// The next frame of a session.
    pub(super) async fn frame(&mut self) -> Result<Frame> {
        let length = self.number_at(1).await?;
        self.take(1 + length).await.map(Frame)
    }

    /// The first message of a connection, which has no letter.
    pub(super) async fn startup(&mut self) -> Result<(Vec<u8>, Startup)> {
        let length = self.number_at(0).await?;
        let code = u32::try_from(self.number_at(4).await?).unwrap_or(0);
        let kind = match code {
            CANCEL_REQUEST => Startup::Cancel,
            code if ENCRYPTION_REQUESTS.contains(&code) => Startup::Encryption,
            _ => Startup::Session,
        };
        Ok((self.take(length).await?, kind))
    }

    /// One byte.
    pub(super) async fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1).await?[0])
    }

    async fn number_at(&mut self, from: usize) -> Result<usize> {
        self.gather(from + 4).await?;
        let bytes = self.gathered[from..from + 4].try_into().expect("four bytes are four bytes");
        Ok(usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX))
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        if count > FRAME_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "a frame beyond all bounds"));
        }
        self.gather(count).await?;
        let rest = self.gathered.split_off(count);
        Ok(std::mem::replace(&mut self.gathered, rest))
    }

    async fn gather(&mut self, count: usize) -> Result<()> {
        while self.gathered.len() < count {
            // Cancel-safe: a read that is dropped in the middle has taken nothing.
            if self.from.read_buf(&mut self.gathered).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}
