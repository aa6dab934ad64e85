//! The HTTP server of Tidelog, on the facade [`tidelog::queue::Queue`].
//!
//! ```text
//! server ─ compression ─ context (ids, guard, errors, access log) ─┬─ router ─ cors ─┬─ routes ─ Queue
//!                                                                  └──── produce ────┘  │    └ render
//!                                                                                       └ parse
//! ```
//!
//! | module | what |
//! |---|---|
//! | `server` | listeners, connections, drain |
//! | `in_process` | the same without listeners |
//! | `front` | what a connection calls: compression, the short way of produce requests |
//! | `router`, `openapi` | the table of routes, and its description |
//! | `context`, `naming`, `access`, `guard`, `held` | what happens to every request; answers that nobody reads |
//! | `auth` | tokens and roles |
//! | `reload` | files that are read again when they change |
//! | `routes` | one module for each resource |
//! | `body`, `parse`, `params`, `negotiate` | requests, read strictly and within bounds |
//! | `render`, `error` | answers |
//! | `consistency` | how new answers have to be |
//! | `walk` | positions in many partitions |
//! | `baseline` | a handler that does nothing, to measure beside |
//!
//! It knows nothing of shards and of Raft. The contract is in `docs/http-api.md`; its types are in the crate `tidelog-api`.

mod access;
mod app;
mod auth;
pub mod baseline;
mod body;
mod consistency;
mod context;
mod error;
mod front;
mod guard;
mod held;
mod in_process;
mod naming;
mod negotiate;
mod openapi;
mod params;
mod parse;
mod reload;
mod render;
mod router;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod walk;

pub use app::{AdminHooks, Listener};
pub use auth::{Role, token_line};
pub use in_process::InProcess;
pub use naming::{RequestName, current as current_request};
pub use server::{BindError, Bound, Server};
