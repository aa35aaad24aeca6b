//! The command line: the same options, with the same meaning, for all servers.

use std::{ffi::OsString, io::Write, path::PathBuf, process, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use echo_protocol::{Reply, Rules, Wire};
use host::Cpus;
use models::Model;

use crate::work::Work;

/// How a server is to run.
#[derive(Clone, Debug, Parser)]
#[command(max_term_width = 100, args_override_self = true)]
pub struct Options {
    /// Address and port to listen on; port 0 is any free one (the first line printed names it)
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7000")]
    pub listen: String,

    /// How bytes are cut into messages: frames (4-byte big-endian length, then the payload) or raw (not at all; RFC 862)
    #[arg(long, value_enum, default_value = "frames")]
    wire: WireOption,

    /// What a reply is: the payload, unchanged or in ASCII upper case
    #[arg(long, value_enum, default_value = "echo")]
    reply: ReplyOption,

    /// Longest payload of a frame, in bytes, e.g. 64KiB; a longer one ends its connection
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = frame_bytes)]
    max_frame: u32,

    /// Maximum concurrent connections; further ones are closed. Default: as many as descriptors allow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: Option<u32>,

    /// Cost of serving a frame: none, spin:TIME (computes), sleep:TIME (blocks the thread) or wait:TIME (waits, without blocking the thread where the I/O model can), e.g. spin:50us
    #[arg(long, default_value = "none")]
    pub work: Work,

    /// Close a connection after this time without a byte in either direction, e.g. 30s. Default: never
    #[arg(long, value_name = "TIME", value_parser = positive_time)]
    pub idle_timeout: Option<Duration>,

    /// Time for owed replies to arrive after SIGINT or SIGTERM; a second signal ends the server at once
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// Processors to run on, e.g. 0 or 0-3,6. Default: any
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<Cpus>,

    /// File for the counters as JSON, written on stop (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WireOption {
    Frames,
    Raw,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReplyOption {
    Echo,
    Upper,
}

impl Options {
    /// Reads the command line, with the options that are the server's `Own`. Help is printed, and a bad value reported in one
    /// line, here; neither returns.
    pub fn from_command_line<Own: Args>(model: &Model) -> (Options, Own) {
        Options::parse_from_args(model, std::env::args_os()).unwrap_or_else(|error| {
            if error.use_stderr() {
                let _ = writeln!(std::io::stderr(), "{}: {}", model.program(), one_line(&error));
            } else {
                let _ = error.print();
            }
            process::exit(error.exit_code())
        })
    }

    fn parse_from_args<Own: Args>(
        model: &Model,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<(Options, Own), clap::Error> {
        // Last, what the help opens with: the options bring descriptions of their own.
        let command = Own::augment_args(Options::command()).name(model.program()).about(model.about).long_about(None);
        let matches = command.version(env!("CARGO_PKG_VERSION")).try_get_matches_from(args)?;
        Ok((Options::from_arg_matches(&matches)?, Own::from_arg_matches(&matches)?))
    }

    /// What the client and the server have agreed on.
    pub fn rules(&self) -> Rules {
        Rules {
            wire: match self.wire {
                WireOption::Frames => Wire::Frames,
                WireOption::Raw => Wire::Raw,
            },
            reply: match self.reply {
                ReplyOption::Echo => Reply::Echo,
                ReplyOption::Upper => Reply::Upper,
            },
            max_frame_bytes: self.max_frame,
        }
    }
}

/// A usage error as one line: what is wrong and what is expected, without the usage text around it.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    format!("{} (--help lists the options)", lines.join(" ").trim_start_matches("error: "))
}

fn frame_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_size::parse_size(text).map_err(|error| error.to_string())?;
    u32::try_from(bytes).map_err(|_| format!("a frame's length has 32 bits: at most {} bytes", u32::MAX))
}

fn positive_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0".into()),
        other => other.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Options {
        /// The options of a usable command line.
        pub(crate) fn from_args(args: &[&str]) -> Options {
            parse(args).unwrap()
        }
    }

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        parse_with::<()>(args).map(|(options, ())| options)
    }

    fn parse_with<Own: Args>(args: &[&str]) -> Result<(Options, Own), clap::Error> {
        let args = ["echo-test"].iter().chain(args).map(OsString::from);
        Options::parse_from_args(&models::BLOCKING, args)
    }

    /// A description that must not replace the server's.
    #[derive(Debug, Args)]
    struct Own {
        /// What no other server has
        #[arg(long)]
        workers: Option<u32>,
    }

    #[test]
    fn help_opens_with_what_the_server_is_and_lists_its_own_options() {
        for help in [parse(&["--help"]).unwrap_err(), parse_with::<Own>(&["--help"]).unwrap_err()] {
            assert!(help.to_string().starts_with(models::BLOCKING.about), "{help}");
        }
        let help = parse_with::<Own>(&["--help"]).unwrap_err().to_string();
        assert!(help.contains("What no other server has") && help.contains("--listen"), "{help}");
        assert_eq!(parse_with::<Own>(&["--workers", "7"]).unwrap().1.workers, Some(7));
        assert!(parse(&["--workers", "7"]).is_err());
    }

    #[test]
    fn defaults_are_those_documented() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.listen, "127.0.0.1:7000");
        let rules = Rules { wire: Wire::Frames, reply: Reply::Echo, max_frame_bytes: 1 << 20 };
        assert_eq!(options.rules(), rules);
        assert_eq!((options.max_connections, options.work, options.idle_timeout), (None, Work::None, None));
        assert_eq!(options.drain_timeout, Duration::from_secs(5));
    }

    #[test]
    fn every_bad_value_is_reported_in_one_line_that_names_the_option() {
        for (option, value) in [
            ("--wire", "carrier-pigeon"),
            ("--reply", "shout"),
            ("--max-frame", "5GiB"),
            ("--max-frame", "big"),
            ("--max-connections", "0"),
            ("--work", "spin"),
            ("--work", "nap:1ms"),
            ("--idle-timeout", "0s"),
            ("--drain-timeout", "soon"),
            ("--cpus", "x"),
        ] {
            let error = parse(&[option, value]).unwrap_err();
            let line = one_line(&error);
            assert_eq!(error.exit_code(), 2, "{option} {value}");
            assert!(line.contains(option) && line.contains(value) && !line.contains('\n'), "{line}");
        }
        assert!(one_line(&parse(&["--colour"]).unwrap_err()).contains("--colour"));
    }
}
