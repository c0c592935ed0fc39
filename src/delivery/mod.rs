//! What leaves after the commit, read from the log: e-mail.
//!
//! Nothing is sent inside the transaction of a change. Each reader of the log notes how far it has come in the very transaction in
//! which it queues what is to be sent, so that of every event exactly that is queued; what is queued is sent at least once.

pub mod consumer;
pub mod mail;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::worker::until_done;

pub use rpc::Service;

/// How often it looks for what nobody told: what is to be tried again.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many rows one transaction deletes.
const ROWS_AT_ONCE: u64 = 2000;

/// Delivers until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut more = app.feed.follow();
    while !stop.is_cancelled() {
        more.catch_up();
        sweep(&app, &stop).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = more.told() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.clock.moved() => {}
        }
    }
}

/// Queues and sends all that is due. What fails is tried again the next time.
pub async fn sweep(app: &App, stop: &CancellationToken) {
    until_done("queueing e-mail", stop, || mail::queue::queue_some(app)).await;
    until_done("sending e-mail", stop, || mail::queue::send_some(app)).await;
    until_done("forgetting old e-mail", stop, || mail::queue::forget_some(app, ROWS_AT_ONCE)).await;
}
