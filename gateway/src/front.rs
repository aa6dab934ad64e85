//! The service that a connection calls: every request in its context, compressed if the client wants; produce requests go
//! straight to their handler, everything else through the table of routes.
//!
//! A queue is mostly asked to produce, and small requests cost what HTTP costs: matching a path in the table, the extensions
//! that carry what was matched, and a box for each layer take as long as parsing the record. The short way takes paths without
//! anything to decode, borrows the connection's body and answers without a layer; what it does not take is the table's, which
//! has the same handlers.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body::{Body as _, Frame, SizeHint};
use tidelog_api::{headers, limits};
use tower::{BoxError, Layer as _, Service, ServiceExt as _, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, NotForContentType, Predicate as _, SizeAbove};
use tower_http::compression::{Compression, CompressionBody, CompressionLayer};

use crate::access::LoggedBody;
use crate::app::{App, Listener};
use crate::auth::{Need, Role};
use crate::body::Arriving;
use crate::context::{in_context, in_context_of};
use crate::router::router;
use crate::routes::produce;

/// What producing needs.
const PRODUCE: Need = Need::Token(Role::Write);

type Worthwhile = And<And<SizeAbove, NotForContentType>, NotForContentType>;

/// The whole gateway; cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    app: App,
    compression: CompressionLayer<Worthwhile>,
    // Compression outermost: a compressor polls bodies beyond their end, which the context's body answers and a stream does not.
    table: Compression<Table, Worthwhile>,
}

/// Builds the gateway.
pub(crate) fn gateway(app: App) -> Gateway {
    let router = router(app.clone());
    over(app, router)
}

/// The gateway with `router` as its table.
pub(crate) fn over(app: App, router: Router) -> Gateway {
    let large = SizeAbove::new(limits::COMPRESS_ABOVE_BYTES as u16);
    // Never a stream that follows, nor what is compressed already.
    let worthwhile = large
        .and(NotForContentType::const_new(headers::EVENT_STREAM))
        .and(NotForContentType::const_new(headers::BATCH));
    // Records are many and read once: speed is worth more than the last percent.
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worthwhile);
    Gateway { table: compression.layer(Table { router, app: app.clone() }), compression, app }
}

impl Gateway {
    /// What its handlers have at hand.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Answers a request.
    pub(crate) async fn answer<B>(self, request: http::Request<B>) -> http::Response<AnswerBody>
    where
        B: Arriving<Error: Into<BoxError>> + 'static,
    {
        match self.direct_route(&request) {
            Some(route) => self.directly(route, request).await,
            None => never(self.table.oneshot(request.map(Body::new)).await).map(packed),
        }
    }

    /// The template of the route if the request goes straight to its handler. With allowed origins the table's layer for those
    /// has to see it.
    fn direct_route<B>(&self, request: &http::Request<B>) -> Option<&'static str> {
        let direct = *request.method() == Method::POST
            && self.app.listener() == Listener::Client
            && self.app.cors_origins().is_empty();
        if direct { produce::route_of(request.uri().path()) } else { None }
    }

    async fn directly<B: Arriving>(self, route: &'static str, request: http::Request<B>) -> http::Response<AnswerBody> {
        let accepted = request.headers().get(header::ACCEPT_ENCODING).cloned();
        let handler = async |head: &_, body: &mut B| produce::direct(&self.app, head, body).await.into_response();
        let response = in_context_of(&self.app, (route, PRODUCE), request, handler).await;
        let is_large = response.body().size_hint().lower() >= limits::COMPRESS_ABOVE_BYTES as u64;
        match accepted.filter(|_| is_large) {
            None => response.map(AnswerBody::Plain),
            Some(accepted) => self.packed(accepted, response).await.map(packed),
        }
    }

    /// An answer as the compression's layer leaves it.
    async fn packed(
        &self,
        accepted: HeaderValue,
        response: http::Response<LoggedBody>,
    ) -> http::Response<CompressionBody<LoggedBody>> {
        let mut request = http::Request::new(());
        request.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
        let mut response = Some(response);
        let answer = service_fn(move |_| {
            let Some(response) = response.take() else { unreachable!("it is called once") };
            ready(Ok(response))
        });
        never(self.compression.layer(answer).oneshot(request).await)
    }
}

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// As it is.
    Plain(LoggedBody),
    /// Compressed, or found not to be worth it.
    Packed(Box<CompressionBody<LoggedBody>>),
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Packed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Packed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Packed(body) => body.size_hint(),
        }
    }
}

/// The table of routes, each request in its context.
#[derive(Clone)]
struct Table {
    app: App,
    router: Router,
}

impl Service<Request> for Table {
    type Response = http::Response<LoggedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { app, router } = self.clone();
        Box::pin(async move { Ok(in_context(&app, request, async |request| through(router, request).await).await) })
    }
}

fn packed(body: CompressionBody<LoggedBody>) -> AnswerBody {
    AnswerBody::Packed(Box::new(body))
}

async fn through(mut router: Router, request: Request) -> Response {
    never(router.call(request).await)
}

fn never<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
