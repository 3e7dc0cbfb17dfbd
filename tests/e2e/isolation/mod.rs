//! No request changes the answer of another one, and none holds up another one or another model.

mod fairness;
mod rows;
mod sharing;
