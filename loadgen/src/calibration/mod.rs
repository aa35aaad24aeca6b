//! What this machine and this generator can resolve: servers whose answer is known in advance, and meters of the machine.
//!
//! A measurement is believed as far as its instrument has been tried on known things.

pub mod behaviour;
pub mod sink;
