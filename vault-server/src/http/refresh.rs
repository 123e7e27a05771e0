//! `/refresh`: somebody has changed containers beside the server and wants it to look now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;

use crate::http::app::App;
use crate::http::problem::{Code, Problem};
use crate::log::error::Unusable;
use crate::log::vault::Role;

/// What this server has found.
#[derive(Serialize)]
pub(crate) struct Refreshed {
    role: Role,
    /// How many streams there are.
    streams: usize,
}

/// `POST`: answers when a listing has ended that began after the request came. It changes nothing that the server would
/// not do by itself a minute later.
pub(crate) async fn refresh(State(app): State<Arc<App>>) -> Result<Json<Refreshed>, Problem> {
    let looked = tokio::select! {
        looked = app.vault.look_again() => looked,
        () = app.stopping.cancelled() => {
            return Err(Problem::new(Code::NotReady, "the server is ending"));
        }
    };
    match looked {
        Ok(()) => Ok(Json(Refreshed { role: app.vault.role(), streams: app.vault.stream_count() })),
        Err(Unusable::TimedOut) => {
            let trouble = app.standing.borrow().trouble.clone();
            let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
            Err(Problem::new(Code::TimedOut, format!("the containers could not be listed in time{why}")))
        }
        Err(error) => Err(error.into()),
    }
}
