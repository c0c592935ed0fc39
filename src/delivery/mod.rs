//! What leaves after the commit, read from the log: e-mail and webhooks.
//!
//! Nothing is sent inside the transaction of a change. Each reader of the log notes how far it has come in the very transaction in
//! which it notes what is to be sent, so that of every event exactly that is noted; and it is sent at least once.

pub mod consumer;
pub mod mail;
mod rpc;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::Error;
use crate::worker::until_done;

pub use rpc::Service;
use webhook::queue::Tellers;

/// How often it looks for what nobody told, and for what is to be tried again.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often what happened is passed over where there is no e-mail.
const PASSED_OVER_EVERY: Duration = Duration::from_mins(1);

/// Delivers until told to stop.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    tokio::join!(send_mail(&app, &stop), tell_endpoints(&app, &stop));
}

async fn send_mail(app: &App, stop: &CancellationToken) {
    if app.mail.is_none() {
        return pass_over(app, stop).await;
    }
    // A server of e-mail that is slow or away does not hold up the reading.
    let queued = Notify::new();
    tokio::join!(read(app, &queued, stop, || queue_mail(app, stop)), send(app, &queued, stop));
}

/// Reads the log whenever there is more, and says so.
async fn read<F: Future<Output = ()>>(app: &App, read: &Notify, stop: &CancellationToken, all: impl Fn() -> F) {
    let mut more = app.feed.follow();
    while !stop.is_cancelled() {
        more.catch_up();
        all().await;
        read.notify_one();
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
        until_done(&app.metrics, "passing over e-mail", &CancellationToken::new(), || mail::queue::pass_over(app))
            .await;
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

async fn tell_endpoints(app: &Arc<App>, stop: &CancellationToken) {
    let woken = Notify::new();
    until_prepared(app, stop).await;
    tokio::join!(read(app, &woken, stop, || wake_endpoints(app, stop)), tell(app, &woken, stop));
}

async fn until_prepared(app: &App, stop: &CancellationToken) {
    while let Err(error) = webhook::queue::prepare(app).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the webhook endpoints of the configuration could not be prepared: tried again until they are"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn tell(app: &Arc<App>, woken: &Notify, stop: &CancellationToken) {
    let mut tellers = Tellers::default();
    while !stop.is_cancelled() {
        match tellers.begin_some(app, stop).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "webhook endpoints could not be told now");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tellers.one_ended() => {}
            () = woken.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.clock.moved() => {}
        }
    }
    tellers.all_ended().await;
}

/// Delivers all that is due, once.
///
/// # Errors
///
/// When the database does not answer.
pub async fn sweep(app: &Arc<App>, stop: &CancellationToken) -> Result<(), Error> {
    queue_mail(app, stop).await;
    send_all(app, stop).await;
    webhook::queue::prepare(app).await?;
    wake_endpoints(app, stop).await;
    let mut tellers = Tellers::default();
    while tellers.begin_some(app, stop).await? {
        tellers.all_ended().await;
    }
    Ok(())
}

async fn queue_mail(app: &App, stop: &CancellationToken) {
    until_done(&app.metrics, "queueing e-mail", stop, || mail::queue::queue_some(app)).await;
}

async fn send_all(app: &App, stop: &CancellationToken) {
    until_done(&app.metrics, "sending e-mail", stop, || mail::queue::send_some(app, stop)).await;
}

async fn wake_endpoints(app: &App, stop: &CancellationToken) {
    until_done(&app.metrics, "waking webhook endpoints", stop, || webhook::queue::wake_some(app)).await;
}
