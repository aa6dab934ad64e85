//! What a request must satisfy before it reaches a route: bounded and unambiguous headers, and on a loopback listener without
//! tokens a host and an origin of this machine.
//!
//! A web page that a developer visits can make the browser send requests to any address, under the page's own name if its
//! DNS answers with 127.0.0.1. The browser cannot lie about `Host` and `Origin`, so a listener that is only protected by
//! being local refuses names that are not local.

use http::{HeaderMap, Uri, header};
use tidelog_api::ErrorCode;

use crate::app::App;
use crate::error::{ApiError, Result};

/// Bytes of the request line and the headers. The server's buffer is larger, so that the error can be ours.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 100;

/// Checks a request's head before any route sees it.
///
/// # Errors
/// What is wrong with it; the request was not looked at further.
pub(crate) fn guard(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<()> {
    check_head(uri, headers)?;
    check_unambiguous(headers)?;
    // Tokens keep pages out as well: a browser does not send one by itself.
    if app.is_local() && !app.auth().is_on() { check_local(uri, headers, app.cors_origins()) } else { Ok(()) }
}

fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let line = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if line + bytes > MAX_HEAD_BYTES || headers.len() > MAX_HEADERS {
        let message = format!("a request has at most {MAX_HEADERS} headers, {MAX_HEAD_BYTES} bytes with its path");
        return Err(ApiError::new(ErrorCode::HeadersTooLarge, message));
    }
    Ok(())
}

/// Refuses what two readers could read in two ways: which host is meant, where a page is from, who calls, what the body is. Where the
/// body ends is the protocol library's: of a length and chunks it goes by the chunks, as RFC 9112 has it.
fn check_unambiguous(headers: &HeaderMap) -> Result<()> {
    for name in [header::HOST, header::ORIGIN, header::AUTHORIZATION, header::CONTENT_TYPE] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(ApiError::parameter(name.as_str(), format!("the header {name} is given twice")));
        }
    }
    Ok(())
}

fn check_local(uri: &Uri, headers: &HeaderMap, allowed_origins: &[String]) -> Result<()> {
    // HTTP/2 has the host in the URI.
    let host = uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
    if !is_local_host(host) {
        let message = format!("this server serves its own machine only, not the host {host:?}");
        return Err(ApiError::new(ErrorCode::MisdirectedRequest, message));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    if is_local_origin(origin) || allowed_origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
        return Ok(());
    }
    let message = format!("pages of {origin:?} may not call this server; see http.cors_origins");
    Err(ApiError::new(ErrorCode::ForbiddenOrigin, message))
}

fn is_local_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_local_host)
}

/// Whether `host`, with or without a port, names this machine whatever a name server says.
fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for good in [
            "localhost",
            "localhost:7070",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:7070",
            "[::1]",
            "x.localhost",
            "localhost.",
        ] {
            assert!(is_local_host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::1",
            "[::1]x",
            "127.0.0.1.evil.example",
            "[::2]",
            "xlocalhost",
        ] {
            assert!(!is_local_host(bad), "{bad}");
        }
    }

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let check = |host: &'static str, origin: Option<&'static str>, allowed: &[String]| {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            check_local(&Uri::from_static("/v1/topics"), &headers, allowed).err().map(|error| error.code())
        };
        assert_eq!(check("localhost:7070", None, &[]), None);
        assert_eq!(check("rebound.example", None, &[]), Some(ErrorCode::MisdirectedRequest));
        assert_eq!(check("localhost", Some("http://localhost:3000"), &[]), None);
        assert_eq!(check("localhost", Some("https://evil.example"), &[]), Some(ErrorCode::ForbiddenOrigin));
        assert_eq!(check("localhost", Some("null"), &[]), Some(ErrorCode::ForbiddenOrigin));
        assert_eq!(check("localhost", Some("https://a.example"), &["https://a.example".to_owned()]), None);
    }

    #[test]
    fn heads_are_bounded() {
        let large = HeaderMap::from_iter(
            [(header::COOKIE, HeaderValue::from_bytes(&[b'a'; MAX_HEAD_BYTES]).ok())]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let error = check_head(&Uri::from_static("/"), &large).err();
        assert_eq!(error.map(|error| error.code()), Some(ErrorCode::HeadersTooLarge));
        assert!(check_head(&Uri::from_static("/"), &HeaderMap::new()).is_ok());
    }
}
