//! One HTTP client for all servers that are asked: Elasticsearch, S3.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::ClientOptions;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer, or for more of it.
const ANSWER: Duration = Duration::from_secs(60);

pub type Client<B> = Pool<HttpsConnector<Tcp>, B>;

/// TLS by the system's certificates. Without any, whoever needs one is refused when it is met.
pub fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// A pool of connections, HTTP/1.1.
pub fn client<B>() -> Client<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = Tcp::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls()).https_or_http().enable_http1().wrap_connector(tcp);
    Pool::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(https)
}

/// An answer whole. The error is a sentence without its end.
pub async fn ask<B>(client: &Client<B>, request: Request<B>) -> Result<Response<Bytes>, String>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let late = |_| format!("no answer within {} s", ANSWER.as_secs());
    let (head, body) =
        tokio::time::timeout(ANSWER, client.request(request)).await.map_err(late)?.map_err(|error| words(&error))?.into_parts();
    let body = tokio::time::timeout(ANSWER, body.collect()).await.map_err(late)?.map_err(|error| words(&error))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// An error with its causes, once each.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// The same client for `object_store`.
#[derive(Debug)]
pub struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service { client: client() }))
    }
}

#[derive(Debug)]
struct Service {
    client: Client<HttpRequestBody>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = tokio::time::timeout(ANSWER, self.client.request(request)).await;
        let response = asked
            .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?
            .map_err(|error| HttpError::new(if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request }, error))?;
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
