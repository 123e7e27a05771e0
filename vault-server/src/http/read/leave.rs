//! Whether who follows still may. A caller is let in once, and an answer without an end outlives what let them in: a
//! user, a token or a grant is taken out of the access file, a signed token expires.

use std::sync::Arc;

use axum::http::request::Parts;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::http::app::App;
use crate::http::authorize::refuse;
use crate::http::problem::Problem;
use crate::limits::{FOLLOW_UNJUDGED, PING_EVERY};

/// The leave of one who follows. Where nobody is asked it costs nothing.
pub(crate) struct Leave {
    /// Asks again and again, until the caller is refused. `None` where nobody is asked.
    asking: Option<BoxFuture<'static, Problem>>,
    refused: Option<Problem>,
}

impl Leave {
    /// The leave that the request was given when it came.
    pub(crate) fn new(app: &Arc<App>, request: Parts) -> Self {
        let asking = app.settings.access.asks().then(|| until_refused(Arc::clone(app), request).boxed());
        Self { asking, refused: None }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.until_over().now_or_never().is_some()
    }

    /// Ends when the leave does.
    pub(crate) async fn until_over(&mut self) {
        if self.refused.is_some() {
            return;
        }
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        self.refused = Some(asking.await);
        self.asking = None;
    }

    /// Why it has ended, if it has.
    pub(crate) fn refused(&mut self) -> Option<Problem> {
        if self.is_over() { self.refused.take() } else { None }
    }
}

async fn until_refused(app: Arc<App>, mut request: Parts) -> Problem {
    let mut unjudged = 0;
    loop {
        app.env.clock.sleep(PING_EVERY).await;
        match refuse(&app, &mut request).await {
            None => unjudged = 0,
            // Nobody knows, which is so for a while when many passwords have to be verified anew at once.
            Some(problem) if problem.code().row().2 && unjudged < FOLLOW_UNJUDGED => unjudged += 1,
            Some(problem) => return problem,
        }
    }
}
