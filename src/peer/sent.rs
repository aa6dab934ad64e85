//! Whether any byte of a request's body was handed to the connection: what separates "nothing happened" from "unknown".
//!
//! The body asks before its first frame, the caller when it gives up, and only one of them gets its way. A peer cannot
//! handle a request without its head, which is the first frame of the body.

use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const SENDING: u8 = 1;
const ABANDONED: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sent(AtomicU8);

impl Sent {
    /// Called before a frame is handed out: whether it may be.
    pub(super) fn begin(&self) -> bool {
        self.0.compare_exchange(WAITING, SENDING, Ordering::AcqRel, Ordering::Acquire) != Err(ABANDONED)
    }

    /// Called by who gives up: whether nothing was sent, and nothing will be.
    pub(super) fn abandon(&self) -> bool {
        self.0.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire) != Err(SENDING)
    }
}

#[cfg(test)]
mod tests {
    use super::Sent;

    #[test]
    fn either_it_was_sent_or_it_never_will_be() {
        let sent = Sent::default();
        assert!(sent.begin() && sent.begin() && !sent.abandon());
        let abandoned = Sent::default();
        assert!(abandoned.abandon() && abandoned.abandon() && !abandoned.begin());
    }
}
