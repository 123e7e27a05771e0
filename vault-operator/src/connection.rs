//! The API server as the operator reaches it: no request waits for ever.
//!
//! A watch may be silent for minutes, and so a connection's own time limit cannot be short. Each request has one
//! instead, for the whole of the answer; of a watch, for its beginning.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use thiserror::Error;
use tower::{BoxError, Layer, Service};
use vault_server::env::Env;

use crate::limits::{API_ANSWER, API_CONNECT};

/// Connects as pods do, or as a kubeconfig says; answers also where the API server is. Nothing is sent yet.
pub async fn connect(env: &Env) -> Result<(Client, Uri), BoxError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(API_CONNECT);
    let url = config.cluster_url.clone();
    let limit = Limit { env: env.clone() };
    Ok((ClientBuilder::try_from(config)?.with_layer(&limit).build(), url))
}

/// An error with what is behind it: what the client says by itself is little more than that something went wrong.
#[must_use]
pub fn explained(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    for source in std::iter::successors(error.source(), |source| source.source()) {
        let source = source.to_string();
        if !said.ends_with(&source) {
            said = format!("{said}: {source}");
        }
    }
    said
}

/// The API server has not answered in time.
#[derive(Debug, Error)]
#[error("no answer within {} s", API_ANSWER.as_secs())]
struct NoAnswer;

/// Gives each request a time limit.
struct Limit {
    env: Env,
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, env: self.env.clone() }
    }
}

/// Requests with a time limit.
struct Limited<S> {
    inner: S,
    env: Env,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: BodyExt<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watches = is_watch(request.uri());
        let (answering, env) = (self.inner.call(request), self.env.clone());
        let whole = async move {
            let (head, body) = answering.await.map_err(Into::into)?.into_parts();
            let body = if watches {
                body.map_err(Into::into).boxed_unsync()
            } else {
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
            };
            Ok(Response::from_parts(head, body))
        };
        Box::pin(async move { env.timeout(API_ANSWER, whole).await.unwrap_or_else(|_| Err(NoAnswer.into())) })
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().unwrap_or_default().split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};

    use super::*;

    /// Begins to answer at once, and never ends.
    fn endless(env: &Env) -> Client {
        let service = tower::service_fn(|_: Request<Body>| async {
            let nothing = futures::stream::pending::<Result<Bytes, BoxError>>();
            Ok::<_, BoxError>(Response::new(axum::body::Body::from_stream(nothing)))
        });
        Client::new(Limit { env: env.clone() }.layer(service), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_answer_is_given_up_and_a_silent_watch_is_not() {
        let env = Env::controlled(1);
        let maps: Api<ConfigMap> = Api::default_namespaced(endless(&env));
        let begun = env.clock.monotonic();
        let listed = env.timeout(10 * API_ANSWER, maps.list(&ListParams::default())).await;
        let error = listed.expect("it is given up").unwrap_err().to_string();
        assert!(error.contains("no answer within 30 s"), "{error}");
        assert_eq!((env.clock.monotonic() - begun).as_secs(), API_ANSWER.as_secs());
        let mut watch = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        assert!(env.timeout(10 * API_ANSWER, watch.next()).await.is_err(), "it goes on");
    }
}
