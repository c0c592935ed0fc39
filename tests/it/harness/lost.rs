//! Calls that never left their client.

use std::error::Error;

use tonic::Status;

/// Whether the client itself gave a call up before anything of it was sent: there was no connection to be had, or the one that it had was
/// closing (hyper says then that the call was canceled). Whoever uses such a client may try again whatever the call was.
pub(crate) fn was_never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        let is_canceled = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if is_canceled || error.to_string().contains("tcp connect error") {
            return true;
        }
        source = error.source();
    }
    false
}
