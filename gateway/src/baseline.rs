//! A handler that does nothing: what HTTP alone costs, for `tidelog bench baseline`.
//!
//! It reads the body whole and answers as many bytes as a produce request of one record gets. No middleware, no engine.

use std::io;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;

/// The answer to everything.
const ANSWER: &str = "{\"topic_id\":\"00000000-0000-0000-0000-000000000000\",\"durability\":\"quorum\",\
                      \"records\":[{\"partition\":0,\"offset\":123456}]}";

/// Serves until the process ends.
///
/// # Errors
/// Those of the listener.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
    let listener = listener.tap_io(|stream| {
        // As the real listener does; a stream that is gone by now fails later.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

async fn answer(_body: Bytes) -> ([(http::HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], ANSWER)
}
