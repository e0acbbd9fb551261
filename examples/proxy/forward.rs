//! One request of a client: whose it is, where it goes, and what is kept from either side.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
    uri::Scheme,
};
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::{
    cookie::CookieJar,
    retry::ReplayBodyLayer,
    routing::{NoMount, UriError},
};

use crate::{
    Proxy,
    table::Table,
    upload::{Client, Upload},
    upstream::Failed,
};

pub(crate) async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    // CONNECT wants a tunnel, and TRACE would show the client the cookies that went along.
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return refuse(StatusCode::NOT_IMPLEMENTED, "this proxy knows neither CONNECT nor TRACE");
    }
    if is_coded(request.headers()) {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "this proxy knows no transfer coding but chunked",
        );
    }
    // RFC 9110 section 7.4.
    if request.uri().scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "clients speak http to this proxy, and no TLS",
        );
    }
    let Some(uri) = asked(&request) else {
        proxy.metrics.unrouted.add();
        return refuse(StatusCode::BAD_REQUEST, "a request needs one host and a path");
    };
    let table = proxy.table();
    let jar = tenant(request.headers(), &table).map(|tenant| proxy.jars.get(tenant));
    let outbound = ReplayBodyLayer::new().layer(proxy.routes.clone());
    if request.headers().get_all(VIA).iter().any(|via| names(via, &proxy.name)) {
        return refuse(StatusCode::LOOP_DETECTED, "this request has been here before");
    }
    let (mut request, client) = prepared(request, uri, jar, &table.tenant_header, proxy.idle);
    request.headers_mut().append(VIA, proxy.via.clone());
    match outbound.oneshot(request).await {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            if is_coded(&head.headers) {
                return refuse(
                    StatusCode::BAD_GATEWAY,
                    "the upstream answered in a transfer coding that is not chunked",
                );
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return refuse(StatusCode::BAD_GATEWAY, "the upstream switched protocols unasked");
            }
            // RFC 9112 section 6.3: beside a transfer coding a length counts for nothing.
            if head.headers.contains_key(TRANSFER_ENCODING) {
                head.headers.remove(CONTENT_LENGTH);
            }
            one_length(&mut head.headers);
            remove_hop_by_hop(&mut head.headers);
            head.headers.remove(SET_COOKIE);
            head.headers.remove(SET_COOKIE2);
            let mut response = Response::new(Body::new(body));
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            response
        }
        Err(error) => {
            if !error.is::<Failed>() {
                proxy.metrics.unrouted.add();
            }
            failed(&error, &client)
        }
    }
}

/// What a client asks for, as the mounts' prefixes have it.
fn asked(request: &Request) -> Option<Uri> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => only(request.headers(), &HOST)?,
    };
    if host.contains('@') {
        return None;
    }
    let target = match request.uri().path_and_query()?.as_str() {
        target if target.starts_with('/') => target.to_owned(),
        // `GET http://host?query`: the path is empty.
        query if query.starts_with('?') => format!("/{query}"),
        _ => return None,
    };
    Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(target).build().ok()
}

/// Whose request it is: the tenant's that the header names, and no one's if it is not exactly one
/// that the table knows.
fn tenant<'a>(headers: &HeaderMap, table: &'a Table) -> Option<&'a str> {
    table.tenants.get(only(headers, &table.tenant_header)?).map(String::as_str)
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok();
    value.filter(|_| values.next().is_none())
}

/// The request to the upstream. Nothing of the client's own cookies, of its hop or of its key goes
/// there.
fn prepared(
    request: Request,
    uri: Uri,
    jar: Option<CookieJar>,
    tenant_header: &HeaderName,
    idle: Duration,
) -> (Request<Upload>, Client) {
    let (mut head, body) = request.into_parts();
    remove_hop_by_hop(&mut head.headers);
    for name in [&HOST, &COOKIE, &COOKIE2, &SET_COOKIE, &SET_COOKIE2, &EXPECT, tenant_header] {
        head.headers.remove(name);
    }
    let (upload, client) = Upload::new(body, idle);
    let mut outbound = Request::new(upload);
    *outbound.method_mut() = head.method;
    *outbound.uri_mut() = uri;
    *outbound.headers_mut() = head.headers;
    outbound.extensions_mut().insert(client.clone());
    if let Some(jar) = jar {
        outbound.extensions_mut().insert(jar);
    }
    (outbound, client)
}

const COOKIE2: HeaderName = HeaderName::from_static("cookie2");
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// RFC 9110 section 7.6.1: these are between two neighbours, and so is what `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let names = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    let named: Vec<HeaderName> =
        names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    let always = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}

/// RFC 9110 section 8.6: a length that is said more than once goes on as one; hyper has seen that
/// they agree.
fn one_length(headers: &mut HeaderMap) {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.split(',').next()?.trim().parse().ok());
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Whether a `Via` names that proxy among those that it lists.
fn names(via: &HeaderValue, name: &str) -> bool {
    via.to_str().is_ok_and(|via| via.split([',', ' ']).any(|word| word == name))
}

/// Whether a body has a transfer coding beside `chunked`, which is all that hyper takes off, and
/// puts on.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings
        .next()
        .is_some_and(|first| !first.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
}

fn failed(error: &BoxError, client: &Client) -> Response {
    let is_late = error.downcast_ref().is_some_and(Failed::is_late);
    // RFC 9112 section 9.6: nothing that comes on this connection now is a request.
    if client.broke_off() {
        let broken =
            refuse(StatusCode::BAD_REQUEST, "the body of the request broke off, or was not one");
        return ([(CONNECTION, "close")], broken).into_response();
    }
    if client.is_too_late() || is_late && client.stalls() {
        let late =
            refuse(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time");
        return ([(CONNECTION, "close")], late).into_response();
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
        // Not its `Display`, which names another mount: clients learn of none that they do not
        // know.
        Some(error) => refuse(status, &format!("no mount for {}", error.uri())),
        None => refuse(status, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{}: {why}\n", status.as_u16())).into_response()
}
