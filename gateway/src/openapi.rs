//! The description of the API, generated from the handlers.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes::{admin, all, archive, cluster, cost, fetch, health, jobs, produce, producers, topics};

/// OpenAPI 3.1, served under `/v1/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tidelog", description = "A message queue whose database is an object-storage bucket",
        license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        topics::list, topics::create, topics::describe, topics::alter, topics::delete, topics::flush, topics::undelete,
        archive::list, jobs::claim, jobs::extend, jobs::complete, jobs::abandon,
        produce::to_topic, produce::to_partition, fetch::partition, all::all,
        producers::register, producers::find, producers::positions,
        health::healthz, health::readyz, health::status, cost::cost, health::metrics, health::openapi,
        admin::pause, admin::resume, admin::settings, admin::log_level, admin::stop,
        cluster::describe, cluster::add, cluster::remove, cluster::replace, cluster::transfer, cluster::drain,
    ),
    tags(
        (name = "topics", description = "Topics and their settings"),
        (name = "records", description = "Produce and fetch"),
        (name = "producers", description = "Idempotent producers"),
        (name = "archive", description = "Parquet files"),
        (name = "operation", description = "Health on both listeners; metrics and administration on that of operators"),
    ),
    security((), ("token" = [])),
    modifiers(&Token)
)]
pub(crate) struct ApiDoc;

/// The token that a server may want.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "If the server has a file of tokens: read for GET, write to produce and create, admin for the rest",
            ))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}
