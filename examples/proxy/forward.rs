//! One request of a client: its tenant, its upstream, and what is removed in both directions.

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING, VIA},
    request::Parts,
    uri::{Authority, Scheme},
};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::{BoxError, Service};
use tower_outbound::{
    retry::ReplayBody,
    routing::{NoMount, UriError},
};

use crate::{
    Proxy,
    body::{Answer, Client, Passed, Upload},
    forwarded::Peer,
    headers::{self, Said},
    sessions,
    upstream::Failed,
};

/// How many bytes of an upload are kept, so that it can be sent again.
const MOST_KEPT: usize = 64 * 1024;

pub(crate) async fn forward(
    proxy: &Proxy,
    peer: &Peer,
    request: Request<Incoming>,
) -> Response<Answer> {
    let (mut head, body) = request.into_parts();
    // CONNECT asks for a tunnel, and TRACE would show the client the cookies that were sent.
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "this proxy supports neither CONNECT nor TRACE",
        );
    }
    let table = proxy.table();
    let said = headers::take_from_request(
        &mut head.headers,
        &table.tenant_header,
        table.trusts(peer.address),
    );
    if said.is_coded() {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "this proxy supports no transfer coding except chunked",
        );
    }
    // RFC 9110 section 7.4.
    if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this proxy accepts http from clients, not https",
        );
    }
    let Some((uri, host)) = asked(&mut head, &said) else {
        proxy.metrics.unrouted.add();
        return refuse(StatusCode::BAD_REQUEST, "a request needs one host and a path");
    };
    if said.via && head.headers.get_all(VIA).iter().any(|via| names(via, &proxy.name)) {
        return refuse(StatusCode::LOOP_DETECTED, "this request has passed this proxy before");
    }

    head.uri = uri;
    head.version = Version::HTTP_11;
    head.extensions.clear();
    // For `Via` and the four headers of `tell`.
    head.headers.reserve(5);
    head.headers.append(VIA, proxy.via.clone());
    peer.tell(&mut head.headers, &host);
    // The request belongs to the tenant in the header. It belongs to no tenant if the header does
    // not name exactly one that is in the table.
    let tenant = said.tenant.get().and_then(|name| table.tenants.get(name.to_str().ok()?));
    if let Some(tenant) = tenant {
        match &proxy.sessions {
            Some(sessions) => sessions.name(tenant, &mut head.extensions),
            None => {
                head.extensions.insert(proxy.jars.get(tenant.clone()));
            }
        }
    }
    if said.is_chunked() {
        // Otherwise hyper takes a GET without a length for one without a body.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (upload, client) = Upload::new(body, proxy.idle);
    if let Some(client) = &client {
        head.extensions.insert(client.clone());
    }
    let outbound = Request::from_parts(head, ReplayBody::new(upload, MOST_KEPT));
    // The mounts are always ready. Each call waits for the service that it needs.
    match proxy.routes.clone().call(outbound).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            Response::from_parts(head, Answer::Passed(Passed::new(body, proxy.stall)))
        }
        Err(error) => {
            if !error.is::<Failed>() && sessions::refusal(&*error).is_none() {
                proxy.metrics.unrouted.add();
            }
            failed(&error, client.as_ref())
        }
    }
}

/// The URI that a client asks for, in the form of the mounts' prefixes, and its host.
fn asked(head: &mut Parts, said: &Said) -> Option<(Uri, HeaderValue)> {
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    // RFC 9112 section 3.2: there must be one valid `Host`, even if the target names a host. Then
    // the target's counts.
    let line = said.host.get();
    if line.is_none() && (said.host.is_there() || head.version == Version::HTTP_11) {
        return None;
    }
    let named = line.filter(|line| !line.is_empty());
    let named = named.map(|line| Authority::try_from(line.as_bytes())).transpose().ok()?;
    let (authority, host) = match parts.authority.take() {
        Some(authority) => {
            let host = HeaderValue::from_str(authority.as_str()).ok()?;
            (authority, host)
        }
        None => (named?, line?.clone()),
    };
    // What is before an at sign is userinfo.
    if authority.as_str().contains('@') {
        return None;
    }
    let target = parts.path_and_query?;
    parts.path_and_query = Some(match target.as_str() {
        text if text.starts_with('/') => target,
        // `GET http://host?query`: the path is empty.
        text if text.starts_with('?') => format!("/{text}").parse().ok()?,
        _ => return None,
    });
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    Some((Uri::from_parts(parts).ok()?, host))
}

/// Whether a `Via` lists that proxy.
fn names(via: &HeaderValue, name: &str) -> bool {
    via.to_str().is_ok_and(|via| via.split([',', ' ']).any(|word| word == name))
}

fn failed(error: &BoxError, client: Option<&Client>) -> Response<Answer> {
    let is_late = error.downcast_ref().is_some_and(Failed::is_late);
    // RFC 9112 section 9.6: nothing that arrives on this connection now may be read as a request.
    if client.is_some_and(Client::broke_off) {
        return close(StatusCode::BAD_REQUEST, "the body of the request is incomplete or invalid");
    }
    if client.is_some_and(|client| client.is_too_late() || is_late && client.stalls()) {
        return close(
            StatusCode::REQUEST_TIMEOUT,
            "the rest of the request did not arrive in time",
        );
    }
    if let Some(status) = sessions::refusal(&**error) {
        let why = format!("no request is sent without its tenant's cookies: {error}");
        return refuse(status, &why);
    }
    let status = if error.is::<NoMount>() {
        StatusCode::NOT_FOUND
    } else if error.is::<UriError>() {
        StatusCode::BAD_REQUEST
    } else if is_late {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_GATEWAY
    };
    match error.downcast_ref::<NoMount>() {
        // Its `Display` would name another mount, which the client must not learn.
        Some(error) => refuse(status, &format!("no mount for {}", error.uri())),
        None => refuse(status, &error.to_string()),
    }
}

fn close(status: StatusCode, why: &str) -> Response<Answer> {
    let mut answer = refuse(status, why);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn refuse(status: StatusCode, why: &str) -> Response<Answer> {
    let text = format!("{}: {why}\n", status.as_u16());
    let mut answer = Response::new(Answer::Own(Full::from(text)));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}
