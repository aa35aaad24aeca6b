//! The program; all of it is in the library, so that other programs can read runs as it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    compare::main()
}
