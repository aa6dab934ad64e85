//! The gateway without a listener: whoever has a queue in the same process calls it as a connection would.
//!
//! For simulations and embedding. There is no connection, so nothing bounds how many requests there are at a time, and an answer
//! is as large as a page may be.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tidelog::config::Config;
use tidelog::queue::Queue;
use tower::BoxError;

use crate::app::{AdminHooks, App, Lifecycle};
use crate::front::{Gateway, gateway};

/// Answers requests; clones share it.
#[derive(Clone)]
pub struct InProcess(Gateway);

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl InProcess {
    /// The gateway over `queue`.
    #[must_use]
    pub fn new(queue: Queue, config: Config, hooks: Arc<dyn AdminHooks>) -> Self {
        let incarnation = queue.status().incarnation;
        Self(gateway(App::new(queue, config, hooks, incarnation, Lifecycle::default())))
    }

    /// Answers a request, its body read whole. Dropping the future is what a connection that breaks is.
    ///
    /// # Errors
    /// That the answer's body broke off, as it does for a client.
    pub async fn answer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, BoxError> {
        let answer = self.0.clone().answer(request.map(Full::new)).await;
        let (head, body) = answer.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}
