//! One black-box battery that every echo server must pass.

