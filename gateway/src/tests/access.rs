//! Who may call what: every route by every listener.

use super::*;
use crate::router::{ROUTES, Route};

/// A request to a route that changes nothing, since it has a parameter that no route knows.
fn harmless(route: &Route, method: &str) -> http::request::Builder {
    let path = route.path.replace("{topic}", "t").replace("{partition}", "0").replace("{id}", "1");
    let path = path.replace("{job}", "flush:pause");
    request(method.to_uppercase().parse().unwrap(), &format!("{path}?nonsense=1"))
}

/// The code of an answer's error, or nothing.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_route_is_on_its_listeners_and_on_no_other() {
    let gateway = Gateway::start().await;
    gateway.fill(1, 1).await;
    for route in ROUTES {
        for (method, listener) in
            route.methods.iter().flat_map(|method| [(method, Listener::Client), (method, Listener::Admin)])
        {
            let answer = gateway.send_by(listener, harmless(route, method).body(Body::empty()).unwrap()).await;
            let what = format!("{method} {} by {listener:?}: {answer:?}", route.path);
            if route.on.has(listener) {
                assert_ne!(code(&answer), "route_not_found", "{what}");
            } else {
                let error = answer.error(404, "route_not_found");
                assert!(error["message"].as_str().unwrap().contains(".listen"), "{what}");
            }
        }
    }
    assert!(!gateway.queue.status().closed, "nothing was changed");
}

#[tokio::test]
async fn operators_routes_are_only_on_their_listener() {
    let on = |path: &str| ROUTES.iter().find(|route| route.path == path).unwrap().on;
    for route in ROUTES {
        let is_admin = route.path.starts_with("/v1/admin/") || route.path == "/metrics";
        assert_eq!(route.on.has(Listener::Client), !is_admin, "{}", route.path);
    }
    for both in ["/healthz", "/readyz", "/v1/status"] {
        assert!(on(both).has(Listener::Client) && on(both).has(Listener::Admin), "{both}");
    }
    assert!(!on("/v1/topics").has(Listener::Admin));
}
