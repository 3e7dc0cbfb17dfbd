//! The transport Pub/Sub: requests received from a subscription, responses published to a topic,
//! acknowledgements.

pub mod delivery;
pub mod flow;
pub mod model_updates;
pub mod ordering;
pub mod publish;
pub mod receive;
pub mod ticket;
pub mod watchdog;
