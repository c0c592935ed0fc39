//! What leaves after the commit, read from the log: e-mail.
//!
//! Nothing is sent inside the transaction of a change. Each reader of the log notes how far it has come in the very transaction in
//! which it queues what is to be sent, so that of every event exactly that is queued; what is queued is sent at least once.

pub mod consumer;
pub mod mail;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::worker::until_done;

pub use rpc::Service;

/// How often it looks for what nobody told, and for what is to be tried again.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often what happened is passed over where there is no e-mail.
const PASSED_OVER_EVERY: Duration = Duration::from_mins(1);

/// Delivers until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    if app.mail.is_none() {
        return pass_over(&app, &stop).await;
    }
    // A server of e-mail that is slow or away does not hold up the reading.
    let queued = Notify::new();
    tokio::join!(queue(&app, &queued, &stop), send(&app, &queued, &stop));
}

async fn queue(app: &App, queued: &Notify, stop: &CancellationToken) {
    let mut more = app.feed.follow();
    while !stop.is_cancelled() {
        more.catch_up();
        queue_all(app, stop).await;
        queued.notify_one();
        tokio::select! {
            () = stop.cancelled() => return,
            () = more.told() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn send(app: &App, queued: &Notify, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        send_all(app, stop).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = queued.notified() => {}
            // However long the queueing goes on.
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.clock.moved() => {}
        }
    }
}

/// Where there is no e-mail, what happens is not told later.
async fn pass_over(app: &App, stop: &CancellationToken) {
    loop {
        until_done("passing over e-mail", &CancellationToken::new(), || mail::queue::pass_over(app)).await;
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            // Once more then.
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PASSED_OVER_EVERY) => {}
        }
    }
}

/// Queues and sends all that is due, once.
pub async fn sweep(app: &App, stop: &CancellationToken) {
    queue_all(app, stop).await;
    send_all(app, stop).await;
}

async fn queue_all(app: &App, stop: &CancellationToken) {
    until_done("queueing e-mail", stop, || mail::queue::queue_some(app)).await;
}

async fn send_all(app: &App, stop: &CancellationToken) {
    until_done("sending e-mail", stop, || mail::queue::send_some(app, stop)).await;
}
