//! One black-box battery that every echo server must pass.
//!
//! A server's `tests/conformance.rs` names its model and its program:
//!
//! ```text
//! conformance::battery!(Epoll, env!("CARGO_BIN_EXE_echo-epoll"));
//! ```
//!
//! Every check starts the real program on a free port, speaks to it over TCP, watches it through /proc, and stops it. Where the
//! models rightly differ, the check says so with a `match` on the [`Model`]. All else must be the same in all of them.
#![forbid(unsafe_code)]

pub mod client;
pub mod counters;
pub mod endings;
pub mod event_driven;
pub mod model_truth;
pub mod options;
pub mod overload;
pub mod patience;
pub mod shutdown;
pub mod target;
pub mod thread_per_conn;
pub mod wire;

pub use target::{Model, Target};

/// Expands to one test for each check that a server of this model must pass.
#[macro_export]
macro_rules! battery {
    ($model:ident, $program:expr) => {
        $crate::tests! { $model, $program =>
            wire {
                frames_come_back
                frames_come_back_in_upper_case
                raw_bytes_come_back
                raw_bytes_come_back_in_upper_case
                one_byte_at_a_time
                one_raw_byte_at_a_time
                a_thousand_frames_in_one_write
                empty_frames
                the_largest_frame_allowed
                the_largest_frame_of_a_small_limit
                much_raw_data
                work_is_done_for_every_frame
            }
            endings {
                half_close_with_replies_owed
                half_close_with_much_owed
                end_inside_a_header
                end_inside_a_payload
                a_frame_too_long
                a_frame_too_long_that_is_sent_all_the_same
                a_frame_longer_than_memory
                garbage
                reset_in_mid_frame
                reset_with_replies_under_way
                an_urgent_byte_is_a_byte
                idle_connections_time_out_and_busy_ones_do_not
            }
            overload {
                a_peer_that_does_not_read
                a_peer_that_never_pauses
                five_hundred_clients
                one_connection_too_many
                out_of_descriptors
            }
            shutdown {
                sigterm_when_idle
                sigint_when_idle
                sigterm_in_mid_frame
                sigterm_under_load
                sigint_under_load
                sigterm_with_a_slow_reader
                a_second_sigterm_ends_it_now
                a_second_sigint_ends_it_now
                the_drain_is_bounded
            }
            options {
                the_first_line_tells_the_address
                help_tells_every_option
                a_bad_value_is_one_line
                an_unknown_option_is_one_line
                a_port_that_is_taken
                an_address_that_cannot_be
                a_processor_that_does_not_exist
                processors_are_obeyed
                stats_go_to_a_file
                stats_that_cannot_be_written
            }
            counters {
                every_counter_is_there
                what_a_conversation_counts
                a_model_waits_in_its_own_way
            }
            model_truth {
                sleeps_where_it_says_when_nobody_is_there
                sleeps_where_it_says_among_silent_clients
                has_the_threads_of_its_model
                idles_at_the_price_of_its_model
            }
        }
        $crate::tests_of_model! { $model, $program }
    };
}

/// The checks that only some of the models have to pass.
#[doc(hidden)]
#[macro_export]
macro_rules! tests_of_model {
    (Blocking, $program:expr) => {};
    (ThreadPerConn, $program:expr) => {
        $crate::tests! { ThreadPerConn, $program => thread_per_conn { out_of_threads } }
    };
    ($event_driven:ident, $program:expr) => {
        $crate::tests! { $event_driven, $program => event_driven { an_idle_connection_holds_next_to_no_memory } }
    };
}

/// One module for each theme, one test in it for each check.
#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($model:ident, $program:expr => $($theme:ident { $($check:ident)* })*) => {
        $(mod $theme {
            $(#[test]
            fn $check() {
                $crate::$theme::$check($crate::Target { model: $crate::Model::$model, program: $program });
            })*
        })*
    };
}

#[cfg(test)]
mod tests {
    /// A check that nobody runs would pass in silence.
    #[test]
    fn every_check_is_in_the_battery() {
        let battery: Vec<&str> = include_str!("lib.rs").split_whitespace().collect();
        for theme in [
            include_str!("counters.rs"),
            include_str!("endings.rs"),
            include_str!("event_driven.rs"),
            include_str!("model_truth.rs"),
            include_str!("options.rs"),
            include_str!("overload.rs"),
            include_str!("shutdown.rs"),
            include_str!("thread_per_conn.rs"),
            include_str!("wire.rs"),
        ] {
            let functions = theme.lines().filter_map(|line| line.strip_prefix("pub fn "));
            for check in functions.filter_map(|function| function.strip_suffix("(target: Target) {")) {
                assert!(battery.contains(&check), "the battery does not run the check {check}");
            }
        }
    }
}
