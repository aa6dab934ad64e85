//! Which server a command speaks with: the listener for clients, or the one for operators.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tidelog_client::{Client, ClientOptions, RetryPolicy};

use crate::exit::usage;

/// The default of `admin.listen`, as a URL.
pub(crate) const ADMIN_SERVER: &str = "http://127.0.0.1:7071";

/// Which server, and how answers are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// URL of the server; several of one cluster are separated by commas, and the next one is asked when one is away
    #[arg(long, env = "TIDELOG_SERVER", default_value = "http://127.0.0.1:7070", value_name = "URL[,URL]")]
    pub server: String,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Which server's listener for operators, and how answers are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminRemote {
    #[command(flatten)]
    pub at: AdminServer,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Which server's listener for operators.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminServer {
    /// URL of the server's listener for operators (admin.listen); several of one cluster are separated by commas, and the next
    /// one is asked when one is away
    #[arg(long, env = "TIDELOG_ADMIN_SERVER", default_value = ADMIN_SERVER, value_name = "URL[,URL]")]
    pub admin_server: String,
}

/// What names servers.
pub(crate) trait Servers {
    /// Their URLs, separated by commas.
    fn servers(&self) -> &str;
}

impl Servers for Remote {
    fn servers(&self) -> &str {
        &self.server
    }
}

impl Servers for AdminServer {
    fn servers(&self) -> &str {
        &self.admin_server
    }
}

impl Servers for AdminRemote {
    fn servers(&self) -> &str {
        self.at.servers()
    }
}

/// The client for the server or servers that were named.
pub(crate) fn connect(remote: &impl Servers) -> Result<Client> {
    connect_with(remote, ClientOptions::default())
}

/// The same, for calls that are tried again for so long.
pub(crate) fn connect_for(remote: &impl Servers, deadline: Duration) -> Result<Client> {
    let retry = RetryPolicy { deadline, ..RetryPolicy::default() };
    connect_with(remote, ClientOptions { retry, ..ClientOptions::default() })
}

fn connect_with(remote: &impl Servers, options: ClientOptions) -> Result<Client> {
    Client::new(remote.servers(), options).map_err(|error| usage(error.to_string()))
}
