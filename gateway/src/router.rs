//! All routes of both listeners, in one table.

use axum::Extension;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tidelog_api::{ErrorCode, headers};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::{App, Listener};
use crate::auth::{Identity, Need, Role};
use crate::error::ApiError;
use crate::routes::{admin, all, archive, cluster, cost, fetch, health, jobs, produce, producers, topics};

/// Builds the router from a table and keeps the table, which tests compare with the OpenAPI document.
macro_rules! routes {
    ($($on:ident $path:literal { $($method:ident $need:ident $handler:path),+ $(,)? })+) => {
        fn mount(listener: Listener) -> Router<App> {
            let mut router = Router::new();
            $(if On::$on.has(listener) {
                router = router.route($path, routes!(@ $($method $handler),+));
            })+
            router
        }

        /// Every route: where it is, its path, its methods and what each needs; a path that ends in `{…}` and takes POST has verbs.
        pub(crate) const ROUTES: &[Route] =
            &[$(Route { on: On::$on, path: $path, methods: &[$((stringify!($method), $need)),+] }),+];
    };
    (@ $first:ident $handler:path $(, $method:ident $other:path)*) => {
        $first($handler)$(.$method($other))*
    };
}

const NOTHING: Need = Need::Nothing;
const READ: Need = Need::Token(Role::Read);
const WRITE: Need = Need::Token(Role::Write);
const ADMIN: Need = Need::Token(Role::Admin);

/// Where a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Clients,
    Admin,
    Both,
}

impl On {
    pub(crate) fn has(self, listener: Listener) -> bool {
        match self {
            Self::Clients => listener == Listener::Client,
            Self::Admin => listener == Listener::Admin,
            Self::Both => true,
        }
    }
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) on: On,
    /// As axum writes it.
    pub(crate) path: &'static str,
    /// In lowercase.
    pub(crate) methods: &'static [(&'static str, Need)],
}

impl Route {
    /// What a method of the route needs; one that it does not have is refused to whoever has a token.
    fn need(&self, method: &Method) -> Need {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = self.methods.iter().find(|(name, _)| name.eq_ignore_ascii_case(method.as_str()));
        found.map_or(READ, |(_, need)| *need)
    }

    /// Whether a path is one of this route, whatever is in the place of its parameters.
    fn covers(&self, path: &str) -> bool {
        let (mut ours, mut theirs) = (self.path.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(part), Some(found)) if part == found || (part.starts_with('{') && !found.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

routes! {
    Both "/healthz" { get NOTHING health::healthz }
    Both "/readyz" { get NOTHING health::readyz }
    Admin "/metrics" { get READ health::metrics }
    Clients "/v1/openapi.json" { get READ health::openapi }
    Both "/v1/status" { get READ health::status }
    Both "/v1/cost" { get READ cost::cost }
    Clients "/v1/topics" { get READ topics::list }
    Clients "/v1/topics/{topic}" {
        get READ topics::describe,
        put WRITE topics::create,
        patch ADMIN topics::alter,
        delete ADMIN topics::delete,
        post WRITE topics::verb,
    }
    Clients "/v1/topics/{topic}/archive" { get READ archive::list }
    Clients "/v1/topics/{topic}/records" { get READ all::all, post WRITE produce::to_topic }
    Clients "/v1/topics/{topic}/partitions/{partition}/records" { get READ fetch::partition, post WRITE produce::to_partition }
    Clients "/v1/producers" { get READ producers::find, post WRITE producers::register }
    Clients "/v1/producers/{id}" { get READ producers::positions }
    Clients "/v1/archive-jobs:claim" { post ADMIN jobs::claim }
    Clients "/v1/archive-jobs:extend" { post ADMIN jobs::extend }
    Clients "/v1/archive-jobs:complete" { post ADMIN jobs::complete }
    Clients "/v1/archive-jobs:abandon" { post ADMIN jobs::abandon }
    Admin "/v1/admin/jobs/{job}" { post ADMIN admin::job }
    Admin "/v1/admin/settings" { get ADMIN admin::settings }
    Admin "/v1/admin/log-level" { put ADMIN admin::log_level }
    Admin "/v1/admin/stop" { post ADMIN admin::stop }
    Admin "/v1/admin/cluster" { get ADMIN cluster::describe }
    Admin "/v1/admin/nodes:add" { post ADMIN cluster::add }
    Admin "/v1/admin/nodes:remove" { post ADMIN cluster::remove }
    Admin "/v1/admin/nodes:replace" { post ADMIN cluster::replace }
    Admin "/v1/admin/leader:transfer" { post ADMIN cluster::transfer }
    Admin "/v1/admin/drain" { post ADMIN cluster::drain }
}

/// The router of the listener of `app`, with its layers.
pub(crate) fn router(app: App) -> Router {
    let origins = app.cors_origins().to_vec();
    let router = mount(app.listener()).layer(from_fn(name_route)).fallback(no_such_route);
    let router = if origins.is_empty() { router } else { router.layer(cors(&origins)) };
    router.with_state(app)
}

/// Says where a route is that the other listener has, to whoever may know.
async fn no_such_route(uri: Uri, State(app): State<App>, identity: Option<Extension<Identity>>) -> Response {
    if let Some(Extension(identity)) = identity
        && let Err(error) = identity.admit(READ)
    {
        return error.into_response();
    }
    let elsewhere = ROUTES.iter().any(|route| !route.on.has(app.listener()) && route.covers(uri.path()));
    match (elsewhere, app.listener()) {
        (false, _) => StatusCode::NOT_FOUND.into_response(),
        (true, Listener::Client) => not_found("this is a route of the listener for operators, see admin.listen"),
        (true, Listener::Admin) => not_found("this is a route of the listener for clients, see http.listen"),
    }
}

fn not_found(message: &str) -> Response {
    ApiError::new(ErrorCode::RouteNotFound, message).into_response()
}

/// Lets those pass who have what the route needs, and tells the context which route it was.
async fn name_route(matched: MatchedPath, request: Request, next: Next) -> Response {
    let admitted = match request.extensions().get::<Identity>() {
        Some(identity) => identity.admit(need(matched.as_str(), request.method())),
        None => Ok(()),
    };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(matched);
    response
}

/// What a request to the route of this template needs.
fn need(template: &str, method: &Method) -> Need {
    let route = ROUTES.iter().find(|route| route.path == template);
    route.map_or(ADMIN, |route| route.need(method))
}

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(headers::EXPOSED.map(HeaderName::from_static))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use utoipa::OpenApi as _;

    use super::*;
    use crate::openapi::ApiDoc;

    /// Verbs of the paths that take them.
    const VERBS: [(&str, [&str; 2]); 2] =
        [("/v1/topics/{topic}", ["flush", "undelete"]), ("/v1/admin/jobs/{job}", ["pause", "resume"])];

    #[test]
    fn every_route_is_in_the_openapi_document_and_nothing_else() {
        let mut routed = BTreeSet::new();
        for Route { path, methods, .. } in ROUTES {
            for (method, _) in *methods {
                match VERBS.iter().find(|(with_verbs, _)| with_verbs == path && *method == "post") {
                    Some((_, verbs)) => routed.extend(verbs.map(|verb| (format!("{path}:{verb}"), "post".to_owned()))),
                    None => {
                        routed.insert(((*path).to_owned(), (*method).to_owned()));
                    }
                }
            }
        }
        let document = serde_json::to_value(ApiDoc::openapi()).unwrap();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone())))
            .collect();
        assert_eq!(routed, described);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    }

    #[test]
    fn every_reference_of_the_document_is_defined() {
        let document = serde_json::to_value(ApiDoc::openapi()).unwrap();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is not defined");
        }
        assert!(schemas.contains_key("ErrorCode"));
    }
}
