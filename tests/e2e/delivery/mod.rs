//! Every request is answered at least once and acknowledged after that, under load, restarts and redelivery.
//! A single fault with a number belongs to `faults`.

mod flow;
mod google_emulator;
mod ordering;
mod traffic;
