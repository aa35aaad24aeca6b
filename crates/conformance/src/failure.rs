//! Why a server did not pass a check: what was sent, what was expected, what came back.

use std::fmt;

/// How many bytes a failure shows.
const SHOWN_BYTES: usize = 32;

/// What a check returns.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a server did not pass a check.
#[derive(Debug)]
pub struct Failure {
    server: String,
    sent: String,
    expected: String,
    got: String,
}

impl Failure {
    /// Something other than what was expected.
    pub fn new(expected: impl Into<String>, got: impl Into<String>) -> Failure {
        Failure { server: String::new(), sent: String::new(), expected: expected.into(), got: got.into() }
    }

    /// Other bytes than those expected, of the same number.
    fn of_bytes(expected: &[u8], got: &[u8], at: usize) -> Failure {
        let from_there = |bytes: &[u8]| format!("at byte {at} of {}: {}", bytes.len(), excerpt(&bytes[at..]));
        Failure::new(from_there(expected), from_there(got))
    }

    /// Adds what the client had sent before.
    pub fn after_sending(self, sent: impl Into<String>) -> Failure {
        Failure { sent: sent.into(), ..self }
    }

    /// Adds what became of the server.
    pub fn seen(self, then: String) -> Failure {
        Failure { got: format!("{}; {then}", self.got), ..self }
    }

    /// Adds the command line that started the server.
    pub fn of_server(self, server: String) -> Failure {
        if self.server.is_empty() { Failure { server, ..self } } else { self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [("server", &self.server), ("sent", &self.sent), ("expected", &self.expected), ("got", &self.got)];
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(label, text)| format!("{:<10}{text}", format!("{label}:")))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

/// An error of the check itself, such as a socket that cannot be opened.
impl<E> From<E> for Failure
where
    anyhow::Error: From<E>,
{
    fn from(error: E) -> Failure {
        Failure::new("the check to be possible on this machine", format!("{:#}", anyhow::Error::from(error)))
    }
}

/// Fails unless a condition holds: what was expected, a semicolon, what was found instead.
macro_rules! ensure {
    ($condition:expr, $expected:literal $(, $expected_value:expr)*; $got:literal $(, $got_value:expr)* $(,)?) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::failure::Failure::new(
                format!($expected $(, $expected_value)*),
                format!($got $(, $got_value)*),
            ));
        }
    };
}
pub(crate) use ensure;

/// Fails unless counters have these values.
macro_rules! expect_counters {
    ($counters:expr, $($name:ident: $value:expr),+) => {
        let counters = &$counters;
        $($crate::failure::expect_eq(concat!("the counter ", stringify!($name)), counters.$name, $value)?;)+
    };
}
pub(crate) use expect_counters;

/// Fails unless `got` is what was expected.
pub fn expect_eq<T: fmt::Debug + PartialEq>(what: &str, got: T, expected: T) -> Result {
    ensure!(got == expected, "{what}: {expected:?}"; "{got:?}");
    Ok(())
}

/// Fails unless `got` is, byte for byte, the beginning of what was expected or all of it.
pub fn expect_bytes(got: &[u8], expected: &[u8]) -> Result {
    match got.iter().zip(expected).position(|(got, expected)| got != expected) {
        Some(at) => Err(Failure::of_bytes(expected, got, at)),
        None => Ok(()),
    }
}

/// The number of bytes, and the first of them in hexadecimal and as text.
pub fn shown(bytes: &[u8]) -> String {
    let unit = if bytes.len() == 1 { "byte" } else { "bytes" };
    format!("{} {unit}: {}", bytes.len(), excerpt(bytes))
}

/// The first bytes in hexadecimal and as text.
fn excerpt(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let hex: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > SHOWN_BYTES { " …" } else { "" };
    format!("{}{more} \"{}\"{more}", hex.join(" "), first.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_first_byte_that_differs_in_hexadecimal_and_as_text() {
        let failure = expect_bytes(b"\0\0\0\x05heLlo", b"\0\0\0\x05hello").unwrap_err();
        let failure = failure.after_sending(shown(b"\0\0\0\x05hello")).of_server("echo-test --wire frames".into());
        assert_eq!(
            failure.to_string(),
            "server:   echo-test --wire frames\n\
             sent:     9 bytes: 00 00 00 05 68 65 6c 6c 6f \"\\x00\\x00\\x00\\x05hello\"\n\
             expected: at byte 6 of 9: 6c 6c 6f \"llo\"\n\
             got:      at byte 6 of 9: 4c 6c 6f \"Llo\""
        );
    }

    #[test]
    fn many_bytes_are_cut() {
        let text = shown(&[b'x'; 1000]);
        assert!(text.starts_with("1000 bytes: 78 78") && text.ends_with("x\" …") && text.len() < 200, "{text}");
    }
}
