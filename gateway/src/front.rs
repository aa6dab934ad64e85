//! The service that a connection calls: every request in its context, compressed if the client wants; produce requests go
//! straight to their handler, everything else through the table of routes.
//!
//! A queue is mostly asked to produce, and small requests cost what HTTP costs: matching a path in the table, the extensions
//! that carry what was matched, and a box for each layer take as long as parsing the record. The short way takes paths without
//! anything to decode; what it does not take is the table's, which has the same handlers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::Method;
use tidelog_api::{headers, limits};
use tower::Service;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, NotForContentType, Predicate as _, SizeAbove};
use tower_http::compression::{Compression, CompressionLayer};

use crate::access::LoggedBody;
use crate::app::App;
use crate::context::in_context;
use crate::router::router;
use crate::routes::produce;

/// The whole gateway.
pub(crate) type Gateway = Compression<Front, Worthwhile>;

type Worthwhile = And<And<SizeAbove, NotForContentType>, NotForContentType>;

/// Builds the gateway.
pub(crate) fn gateway(app: App) -> Gateway {
    let large = SizeAbove::new(limits::COMPRESS_ABOVE_BYTES as u16);
    // Never a stream that follows, nor what is compressed already.
    let worthwhile = large
        .and(NotForContentType::const_new(headers::EVENT_STREAM))
        .and(NotForContentType::const_new(headers::BATCH));
    // Records are many and read once: speed is worth more than the last percent.
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worthwhile);
    // Outermost: a compressor polls bodies beyond their end, which the context's body answers and a stream does not.
    tower::Layer::layer(&compression, Front { router: router(app.clone()), app })
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Front {
    app: App,
    router: Router,
}

impl Service<Request> for Front {
    type Response = http::Response<LoggedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let app = self.app.clone();
        if let Some(route) = self.direct_route(&request) {
            return Box::pin(async move {
                let answer = async |request| produce::direct(&app, request).await.into_response();
                Ok(in_context(&app, Some(route), request, answer).await)
            });
        }
        let router = self.router.clone();
        Box::pin(
            async move { Ok(in_context(&app, None, request, async |request| through(router, request).await).await) },
        )
    }
}

impl Front {
    /// The template of the route if the request goes straight to its handler. With allowed origins the table's layer for those
    /// has to see it.
    fn direct_route(&self, request: &Request) -> Option<&'static str> {
        let direct = *request.method() == Method::POST && self.app.config().http.cors_origins.is_empty();
        if direct { produce::route_of(request.uri().path()) } else { None }
    }
}

/// The gateway with another table, for tests of what surrounds it.
#[cfg(test)]
pub(crate) fn over(app: App, router: Router) -> Front {
    Front { app, router }
}

async fn through(mut router: Router, request: Request) -> Response {
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
