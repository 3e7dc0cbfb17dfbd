//! Responses with an ordering key, in the order of their requests, whichever inference thread is done first.
//!
//! A response waits until no older request of its key is in hand. Other keys never wait.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::Reply;

#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<Arc<str>, Vec<Reply>>);

impl Keys {
    pub(super) fn holds_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes in a response whose request has a turn.
    pub(super) fn hold(&mut self, mut reply: Reply) {
        let Some(turn) = &reply.origin.turn else { return };
        let key = Arc::clone(&turn.key);
        // What it waits for may not have run yet.
        reply.origin.ticket.publishing(0);
        self.0.entry(key).or_default().push(reply);
    }

    /// Everything that nothing older of its key stands before and `next` lets go, each key's in order.
    pub(super) fn due(&mut self, mut next: impl FnMut(&Reply) -> Next) -> Vec<Reply> {
        let mut due = Vec::new();
        self.0.retain(|_, replies| {
            let is_first = |reply: &Reply| reply.origin.turn.as_ref().is_none_or(|turn| turn.is_first());
            while let Some(index) = replies.iter().position(is_first) {
                let next = next(&replies[index]);
                if let Next::Wait = next {
                    break;
                }
                let mut reply = replies.swap_remove(index);
                reply.origin.ticket.publishing(reply.body.len());
                match next {
                    Next::Leave => due.push(reply),
                    Next::Go => {
                        reply.origin.turn = None;
                        due.push(reply);
                    }
                    Next::Drop | Next::Wait => {}
                }
            }
            !replies.is_empty()
        });
        due
    }
}

/// What becomes of the oldest response of a key.
pub(super) enum Next {
    /// It is published, and its turn ends.
    Go,
    /// It goes and comes back; what follows it waits on.
    Leave,
    Wait,
    /// Its request comes again.
    Drop,
}
