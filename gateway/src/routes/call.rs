//! What the routes that answer JSON about anything but records have in common: an `Accept` that allows it, query parameters
//! that are all known, and perhaps a JSON body.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::HeaderMap;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::error::{ApiError, Result};
use crate::negotiate::{Media, negotiate};
use crate::params::Params;
use crate::parse::object::from_body;

/// A request whose answer is JSON. Take what the route knows from `params`, then [`Call::finish`] or [`Call::json`].
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) params: Params,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// For a route without a body: refuses parameters that no one took.
    pub(crate) fn finish(self) -> Result<App> {
        self.params.finish()?;
        Ok(self.app)
    }

    /// For a route with a JSON body: the same, and reads it. An absent content type is taken as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<(App, T)> {
        self.params.finish()?;
        Media::of_body(&self.headers, &[Media::Json])?;
        let (bytes, _admitted) = self.app.bodies().read(&self.headers, self.body).await?.collect().await?;
        Ok((self.app, from_body(&bytes)?))
    }
}

impl FromRequest<App> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let params = Params::from_request_parts(&mut parts, app).await?;
        negotiate(&parts.headers, &[Media::Json])?;
        Ok(Self { app: app.clone(), params, headers: parts.headers, body })
    }
}
