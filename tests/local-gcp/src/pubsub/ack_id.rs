//! Ack ids: which lease of which message of which subscription. Clients must treat them as opaque.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AckId {
    pub(crate) subscription: u64,
    pub(crate) seq: u64,
    /// 1 for a message's first lease.
    pub(crate) lease: u32,
}

impl AckId {
    /// None for a text that this server never gave out.
    pub(crate) fn parse(text: &str) -> Option<AckId> {
        let mut parts = text.split('-');
        let subscription = u64::from_str_radix(parts.next()?, 16).ok()?;
        let seq = u64::from_str_radix(parts.next()?, 16).ok()?;
        let lease = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(AckId { subscription, seq, lease })
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.subscription, self.seq, self.lease)
    }
}
