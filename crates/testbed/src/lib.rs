//! Start a server process, pin it, watch what it costs, stop it.

