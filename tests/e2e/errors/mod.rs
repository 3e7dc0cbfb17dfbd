//! A bad request gets an error that names what to correct, and a bad set-up ends the start with one. Commands
//! are included.

mod bad_requests;
mod startup;
