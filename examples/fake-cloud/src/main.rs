//! The fake cloud as a program: prints where it listens, then serves until it is ended.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use fake_cloud::{Config, FakeCloud};

/// The outside world of the examples, with a ledger of every request at `GET /ledger`.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 chooses a free one. The URL is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Looks at a droplet, certificate, database, build or deployment before it is ready.
    #[arg(long, default_value_t = 3)]
    ready_after: u64,
    /// SSH attempts that are refused.
    #[arg(long, default_value_t = 2)]
    refuse: u64,
    /// A file that the ledger is appended to and that it is read from at the start.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, ready_after, refuse, ledger } = Arguments::parse();
    let cloud = FakeCloud::start(listen, Config { ready_after, refuse, ledger }).await?;
    writeln!(std::io::stdout(), "{}", cloud.base_url())?;
    cloud.serve_forever().await;
    Ok(())
}
