//! Who may call what: every route by every listener and with every role.

use super::*;
use crate::auth::{Need, Role, token_line};
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
            route.methods.iter().flat_map(|(method, _)| [(method, Listener::Client), (method, Listener::Admin)])
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

/// A file with a token of each role, whose text is the role's name.
fn tokens() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |role: Role| token_line(&format!("a-{role}"), role, role.name()).unwrap();
    std::fs::write(file.path(), Role::ALL.map(line).join("\n")).unwrap();
    file
}

async fn with_tokens() -> (Gateway, tempfile::NamedTempFile) {
    let file = tokens();
    let path = file.path().to_owned();
    (Gateway::with(|config| config.auth.tokens_file = Some(path)).await, file)
}

/// A caller, the role that it has, and the code by which it is refused where it has too little.
const CALLERS: [(Option<&str>, Option<Role>, &str); 6] = [
    (None, None, "unauthorized"),
    (Some("Bearer nobody's"), None, "unauthorized"),
    (Some("Basic YTpi"), None, "unauthorized"),
    (Some("Bearer read"), Some(Role::Read), "forbidden"),
    (Some("bearer write"), Some(Role::Write), "forbidden"),
    (Some("Bearer admin"), Some(Role::Admin), "forbidden"),
];

fn sent_by(caller: Option<&str>, request: http::request::Builder) -> Request {
    let request = caller.into_iter().fold(request, |request, token| request.header("authorization", token));
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_route_wants_its_role_on_each_listener() {
    let (gateway, _tokens) = with_tokens().await;
    for route in ROUTES {
        for ((method, need), listener) in
            route.methods.iter().flat_map(|method| [(method, Listener::Client), (method, Listener::Admin)])
        {
            // Of a route that is not here a caller learns no more than that, and only with a token.
            let needed = if route.on.has(listener) { *need } else { Need::Token(Role::Read) };
            for (caller, role, refusal) in CALLERS {
                let answer = gateway.send_by(listener, sent_by(caller, harmless(route, method))).await;
                let refused = matches!(answer.head.status.as_u16(), 401 | 403);
                let admitted = match needed {
                    Need::Nothing => true,
                    Need::Token(needed) => role >= Some(needed),
                };
                assert_eq!(refused, !admitted, "{method} {} by {caller:?} on {listener:?}: {answer:?}", route.path);
                if refused {
                    answer.error(if role.is_some() { 403 } else { 401 }, refusal);
                    assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{answer:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn roles_are_as_documented() {
    let need = |method: &str, path: &str| {
        let route = ROUTES.iter().find(|route| route.path == path).unwrap();
        route.methods.iter().find(|(name, _)| *name == method).unwrap().1
    };
    assert_eq!((need("get", "/healthz"), need("get", "/readyz")), (Need::Nothing, Need::Nothing));
    for route in ROUTES {
        for (method, need) in route.methods {
            let what = format!("{method} {}", route.path);
            if route.path.starts_with("/v1/admin/") {
                assert_eq!(*need, Need::Token(Role::Admin), "{what}");
            } else if *method != "get" {
                assert!(*need != Need::Token(Role::Read) && *need != Need::Nothing, "{what}");
            }
        }
    }
    let records = "/v1/topics/{topic}/records";
    assert_eq!((need("get", records), need("post", records)), (Need::Token(Role::Read), Need::Token(Role::Write)));
    assert_eq!(need("delete", "/v1/topics/{topic}"), Need::Token(Role::Admin));
}

#[tokio::test]
async fn producing_by_the_short_way_wants_its_role_too() {
    let (gateway, _tokens) = with_tokens().await;
    let as_role = |token: &'static str, method: Method, path: &str, body: &Value| {
        let sent = request(method, path).header("authorization", format!("Bearer {token}"));
        sent.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
    };
    let create = as_role("write", Method::PUT, "/v1/topics/t", &json!({}));
    gateway.send(create).await.expect(201);
    for path in ["/v1/topics/t/records", "/v1/topics/t/partitions/0/records"] {
        let body = json!({"records": [{"text": "x"}]});
        for (token, status) in [("nobody's", 401), ("read", 403), ("write", 200), ("admin", 200)] {
            let answer = gateway.send(as_role(token, Method::POST, path, &body)).await;
            assert_eq!(answer.head.status, status, "{token} {path}: {answer:?}");
        }
        let nobody = request(Method::POST, path).body(Body::from(body.to_string())).unwrap();
        let error = gateway.send(nobody).await.error(401, "unauthorized");
        assert_eq!(error["outcome"], "not_written");
    }
    let kept = gateway.send(as_role("read", Method::GET, "/v1/topics/t", &json!({}))).await.expect(200);
    assert_eq!(kept["partitions"][0]["high_watermark"], 4, "{kept}");
}

#[tokio::test]
async fn tokens_stand_in_for_the_rule_of_loopback_and_pages_may_ask_first() {
    let (gateway, _tokens) = with_tokens().await;
    let mut foreign = sent_by(Some("Bearer read"), request(Method::GET, "/v1/topics"));
    foreign.headers_mut().insert("host", "queue.example".parse().unwrap());
    gateway.send(foreign).await.expect(200);
    let mut twice = sent_by(Some("Bearer read"), request(Method::GET, "/v1/topics"));
    twice.headers_mut().append("authorization", "Bearer admin".parse().unwrap());
    gateway.send(twice).await.error(400, "invalid_parameter");
    gateway.send(sent_by(None, request(Method::GET, "/nowhere"))).await.error(401, "unauthorized");
    gateway.send(sent_by(Some("Bearer read"), request(Method::GET, "/nowhere"))).await.error(404, "route_not_found");

    let file = tokens();
    let path = file.path().to_owned();
    let listed = Gateway::with(|config| {
        config.auth.tokens_file = Some(path);
        config.http.cors_origins = vec!["https://a.example".to_owned()];
    })
    .await;
    let from_page = |method| request(method, "/v1/topics").header("origin", "https://a.example");
    let preflight = from_page(Method::OPTIONS).header("access-control-request-method", "GET");
    let answer = listed.send(preflight.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.head.status.as_u16(), answer.header("access-control-allow-origin")), (200, "https://a.example"));
    let refused = listed.send(sent_by(None, from_page(Method::GET))).await;
    refused.error(401, "unauthorized");
    assert_eq!(refused.header("access-control-allow-origin"), "https://a.example", "the page learns why");
}
