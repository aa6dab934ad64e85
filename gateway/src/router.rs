//! All routes, in one table.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::{HeaderName, HeaderValue, Method};
use tidelog_api::headers;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::routes::{admin, all, archive, cluster, fetch, health, jobs, produce, producers, topics};

/// Builds the router from a table and keeps the table, which tests compare with the OpenAPI document.
macro_rules! routes {
    ($($path:literal { $($method:ident $handler:path),+ $(,)? })+) => {
        fn mount(router: Router<App>) -> Router<App> {
            router$(.route($path, routes!(@ $($method $handler),+)))+
        }

        /// Path and method of every route; a path that ends in `{…}` and takes POST has verbs.
        #[cfg(test)]
        const ROUTES: &[(&str, &[&str])] = &[$(($path, &[$(stringify!($method)),+])),+];
    };
    (@ $first:ident $handler:path $(, $method:ident $other:path)*) => {
        $first($handler)$(.$method($other))*
    };
}

routes! {
    "/healthz" { get health::healthz }
    "/readyz" { get health::readyz }
    "/metrics" { get health::metrics }
    "/v1/openapi.json" { get health::openapi }
    "/v1/status" { get health::status }
    "/v1/topics" { get topics::list }
    "/v1/topics/{topic}" {
        get topics::describe, put topics::create, patch topics::alter, delete topics::delete, post topics::verb,
    }
    "/v1/topics/{topic}/archive" { get archive::list }
    "/v1/topics/{topic}/records" { get all::all, post produce::to_topic }
    "/v1/topics/{topic}/partitions/{partition}/records" { get fetch::partition, post produce::to_partition }
    "/v1/producers" { get producers::find, post producers::register }
    "/v1/producers/{id}" { get producers::positions }
    "/v1/archive-jobs:claim" { post jobs::claim }
    "/v1/archive-jobs:extend" { post jobs::extend }
    "/v1/archive-jobs:complete" { post jobs::complete }
    "/v1/archive-jobs:abandon" { post jobs::abandon }
    "/v1/admin/jobs/{job}" { post admin::job }
    "/v1/admin/settings" { get admin::settings }
    "/v1/admin/log-level" { put admin::log_level }
    "/v1/admin/stop" { post admin::stop }
    "/v1/admin/cluster" { get cluster::describe }
    "/v1/admin/nodes:add" { post cluster::add }
    "/v1/admin/nodes:remove" { post cluster::remove }
    "/v1/admin/nodes:replace" { post cluster::replace }
    "/v1/admin/leader:transfer" { post cluster::transfer }
    "/v1/admin/drain" { post cluster::drain }
}

/// The router with its layers.
pub(crate) fn router(app: App) -> Router {
    let origins = app.config().http.cors_origins.clone();
    let router = mount(Router::new()).layer(from_fn(name_route)).fallback(|| async { http::StatusCode::NOT_FOUND });
    let router = if origins.is_empty() { router } else { router.layer(cors(&origins)) };
    router.with_state(app)
}

/// Tells the context which route it was.
async fn name_route(matched: MatchedPath, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(matched);
    response
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
        for (path, methods) in ROUTES {
            for method in *methods {
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
