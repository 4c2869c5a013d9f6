//! `/health/live`, `/health/ready` and `/metrics`, on a port of their own.

use crate::log;
use crate::state::State;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Serve in the background. The error is a sentence.
pub async fn serve(address: &str, state: Arc<State>) -> Result<(), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("Health cannot be told at {address:?}: {error}."))?;
    let at = listener.local_addr().map_err(|error| format!("Health cannot be told at {address:?}: {error}."))?;
    log::info("Health and metrics are told.", json!({"address": at.to_string()}));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let state = state.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answered(&request, &state);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
                // Whoever asked may hang up.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

fn answered(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let (status, form, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/health/live") => (StatusCode::OK, "application/json", json!({"status": "ok"}).to_string()),
        (&Method::GET | &Method::HEAD, "/health/ready") => {
            let troubles = state.troubles();
            let fine = troubles.is_empty();
            let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let word = if fine { "ok" } else { "waiting" };
            (status, "application/json", json!({"status": word, "troubles": troubles}).to_string())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, "text/plain; version=0.0.4", state.prometheus()),
        _ => (StatusCode::NOT_FOUND, "application/json", json!({"error": "There is nothing here."}).to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(form));
    response
}
