//! The listening sockets, taken before anything else is opened; a busy port names who has it.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Error, Result, anyhow};
use tidelog::config::Config;
use tidelog_gateway::{BindError, Bound, Listener, Server};

/// State of a listening socket in `/proc/net/tcp` (Linux, `TCP_LISTEN`).
const LISTENING: &str = "0A";

/// Listens where the settings say.
pub(super) async fn bind(config: &Config) -> Result<Bound> {
    Server::bind(config).await.map_err(explained)
}

/// Says who has a port that is taken, and which flag takes another.
fn explained(error: BindError) -> Error {
    let BindError::Address { listener, address, ref source } = error else { return error.into() };
    if source.kind() != ErrorKind::AddrInUse {
        return error.into();
    }
    let (whose, flag) = match listener {
        Listener::Client => ("", "--listen takes another address"),
        Listener::Admin => (" (for operators)", "--admin-listen takes another address, or none"),
    };
    let holder = holder_of(address.port()).unwrap_or_else(|| "another process".to_owned());
    anyhow!("{address}{whose} is in use by {holder}; {flag}")
}

/// The process that listens on `port` of this machine, as far as the system tells.
fn holder_of(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| inode_of(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let name = process.file_name();
        let Some(id) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // Processes of other users cannot be looked into: they are passed over.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        if links.any(|link| link.to_str() == Some(socket.as_str())) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {id} ({})", command.trim()));
        }
    }
    None
}

/// The inode of the listening socket of `port` in a table of `/proc/net`.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let same = u16::from_str_radix(hex, 16) == Ok(port) && *fields.get(3)? == LISTENING;
        if same { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found_in_the_tables_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n   \
                     1: 0100007F:1B9F 0100007F:1B9E 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0\n";
        assert_eq!(inode_of(table, 7070), Some(4711));
        assert_eq!(inode_of(table, 7071), None, "connected, not listening");
        assert_eq!(inode_of("garbage\nmore garbage", 1), None);
    }

    #[tokio::test]
    async fn a_busy_port_names_this_process() {
        let free = || ([127, 0, 0, 1], 0).into();
        let mut config = Config::default();
        (config.http.listen, config.admin.listen) = (free(), Some(free()));
        let held = bind(&config).await.unwrap();
        let taken = [
            ((held.local_addr().unwrap(), Some(free())), "--listen takes"),
            ((free(), held.admin_addr()), "--admin-listen takes another address, or none"),
        ];
        for ((clients, operators), flag) in taken {
            (config.http.listen, config.admin.listen) = (clients, operators);
            let error = bind(&config).await.err().unwrap().to_string();
            assert!(error.contains("in use by") && error.contains(flag), "{error}");
            if cfg!(target_os = "linux") {
                assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
            }
        }
        config.admin.listen = None;
        config.http.listen = free();
        assert_eq!(bind(&config).await.unwrap().admin_addr(), None);
    }
}
