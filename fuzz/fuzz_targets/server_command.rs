//! `--server NAME=COMMAND`: a name that is a file's, and the words of the command, or an error of one line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use testbed::ExternalServer;

fuzz_target!(|text: &str| {
    match text.parse::<ExternalServer>() {
        Ok(server) => {
            assert_eq!(Path::new(&server.name).file_name(), Some(server.name.as_ref()));
            assert!(server.command.iter().any(|word| word.contains("{port}") || word.contains("{addr}")));
            assert!(text.starts_with(&format!("{}=", server.name)));
        }
        Err(error) => assert_eq!(error.lines().count(), 1, "{error}"),
    }
});
