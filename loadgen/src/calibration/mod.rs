//! What this machine and this generator can resolve: servers whose answer is known in advance, and meters of the machine.
//!
//! A measurement is believed as far as its instrument has been tried on known things. [`behaviour`] says what a known
//! server does, [`sink`] is such a server in this process, and on the [`bench`](mod@bench) the generator drives it; [`cases`]
//! says which experiments are made there and what must come out, [`truth`] sets what was expected beside what was measured.
//! [`hiccups`] and [`resolution`] meter what the machine itself adds, and [`meters`] what generator and machine together can
//! resolve.

pub mod behaviour;
pub mod bench;
pub mod cases;
pub mod hiccups;
pub mod meters;
pub mod resolution;
pub mod sink;
pub mod truth;
