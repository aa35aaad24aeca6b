//! The table of checks: what a server must pass, by the facts of its model.

use models::{Model, NotifiedBy, RunsAs, Serves};

use crate::{
    counters, descriptor_limit, endings, event_driven, failure::Failure, faults, full_load, idle_timeout, model_truth,
    networks, one_per_connection, options, overload, processes, refusal, short_transfers, shutdown, signals, subject::Subject,
    torture, wire, work, workers,
};

/// One thing that must be true of a server.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What it is about.
    pub theme: &'static str,
    /// Its name within the theme.
    pub name: &'static str,
    /// What it checks, in one sentence.
    pub about: &'static str,
    /// Whether it applies to a model with these facts.
    pub applies: fn(&Model) -> bool,
    function: fn(&Subject) -> Result<(), Failure>,
}

impl Check {
    /// Puts a server through the check.
    ///
    /// # Errors
    /// What was sent, what was expected and what came back, if that was something else.
    pub fn run(&self, subject: &Subject) -> Result<(), Failure> {
        subject.run(self.function)
    }
}

/// A row of the table: `theme::function`, the models it applies to, what it checks.
macro_rules! check {
    ($theme:ident::$name:ident, $applies:expr, $about:literal) => {
        Check { theme: stringify!($theme), name: stringify!($name), about: $about, applies: $applies, function: $theme::$name }
    };
}

const ALL: fn(&Model) -> bool = |_| true;
const EVENT_DRIVEN: fn(&Model) -> bool = Model::is_event_driven;
const WATCHES: fn(&Model) -> bool = |model| model.is_event_driven() && !model.busy_polls();
const LOOP_WITH_WORKERS: fn(&Model) -> bool = |model| model.runs_as == RunsAs::ThreadPool && model.is_event_driven();
const LOOP_PER_CORE: fn(&Model) -> bool = |model| model.runs_as == RunsAs::LoopPerCore;
const CHILD_PROCESSES: fn(&Model) -> bool = Model::has_child_processes;
const ONE_PER_CONNECTION: fn(&Model) -> bool = Model::runs_one_per_connection;
const THREAD_PER_CONNECTION: fn(&Model) -> bool = |model| model.runs_as == RunsAs::ThreadPerConnection;
const PROCESS_PER_CONNECTION: fn(&Model) -> bool = |model| model.runs_as == RunsAs::ProcessPerConnection;
const PROCESS_POOL: fn(&Model) -> bool = |model| model.runs_as == RunsAs::ProcessPool;
const SEVERAL_AT_ONCE: fn(&Model) -> bool = |model| model.serves != Serves::One;
const AS_MANY_AS_WORKERS: fn(&Model) -> bool = |model| model.serves == Serves::Workers;
const QUEUE: fn(&Model) -> bool = |model| model.serves == Serves::Workers && model.runs_as == RunsAs::ThreadPool;
const SIGNALLED: fn(&Model) -> bool = |model| model.notified_by == NotifiedBy::Signal;
const LIMITED: fn(&Model) -> bool = |model| model.limit.is_some();

/// All checks. Those of a theme stand together.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check!(wire::frames_come_back, ALL, "Frames come back unchanged, in order."),
    check!(wire::frames_come_back_in_upper_case, ALL, "With --reply upper, only ASCII letters of the payload change."),
    check!(wire::raw_bytes_come_back, ALL, "With --wire raw, every byte comes back, as RFC 862 says."),
    check!(wire::raw_bytes_come_back_in_upper_case, ALL, "With --wire raw --reply upper, every byte is payload."),
    check!(wire::one_byte_at_a_time, ALL, "Frames that arrive byte by byte, each read before the next is sent, are answered."),
    check!(wire::one_raw_byte_at_a_time, ALL, "On the raw wire, each byte comes back without waiting for another."),
    check!(wire::a_thousand_frames_in_one_write, ALL, "Frames that arrive together are each answered, in order."),
    check!(wire::empty_frames, ALL, "A frame may be empty, and so is its reply."),
    check!(wire::the_largest_frame_allowed, ALL, "By default a payload of 1 MiB is answered."),
    check!(wire::the_largest_frame_of_a_small_limit, ALL, "A payload as long as --max-frame is answered."),
    check!(wire::much_raw_data, ALL, "More raw bytes than all buffers hold come back, sent while the replies are read."),

    check!(endings::half_close_with_replies_owed, ALL, "A client that has ended its side gets every reply it is owed."),
    check!(endings::half_close_with_much_owed, ALL, "So does one that is owed more than the buffers hold."),
    check!(endings::half_close_while_replies_are_not_read, ALL, "So does one that ends its side while the server has stopped reading."),
    check!(endings::end_inside_a_header, ALL, "After an end of input inside a header, the replies owed are sent, then the server ends too."),
    check!(endings::end_inside_a_payload, ALL, "After an end of input inside a payload, the replies owed are sent, then the server ends too."),
    check!(endings::a_frame_too_long, ALL, "After a frame longer than --max-frame, the replies owed arrive, then an end without a reset."),
    check!(endings::a_frame_too_long_that_is_sent_all_the_same, ALL, "A client that sends all of a frame that is too long, and reads only then, gets the replies owed."),
    check!(endings::a_frame_longer_than_memory, ALL, "A header that announces 4 GiB costs no memory."),
    check!(endings::garbage, ALL, "A client that speaks another protocol is disconnected."),
    check!(endings::reset_in_mid_frame, ALL, "A reset inside a frame ends that connection and affects no other."),
    check!(endings::reset_with_replies_under_way, ALL, "A reset while the server has much to write ends that connection and affects no other."),
    check!(endings::an_urgent_byte_is_a_byte, ALL, "TCP's urgent data is data like any other, and does not keep the server awake."),
    check!(endings::idle_connections_time_out_and_busy_ones_do_not, ALL, "--idle-timeout ends connections on which nothing moves, inside a frame too, and no others."),

    check!(refusal::every_refused_peer_gets_its_replies_and_an_end, ALL, "After a frame that is too long, a client that waits gets the replies owed and the end, wherever a read ended."),
    check!(refusal::a_refused_peer_that_is_gone_is_closed, ALL, "The connection of a refused client that is reset is closed at once."),
    check!(refusal::refused_peers_that_keep_sending_lose_no_reply_at_sigterm, ALL, "A refused client that keeps sending gets the replies owed at SIGTERM."),

    check!(idle_timeout::the_first_client_after_a_quiet_time_is_served, ALL, "A client that comes after a long quiet time is not closed as idle."),
    check!(idle_timeout::a_client_that_is_nearly_idle_is_not_closed, ALL, "A client with a request every 0.9 of --idle-timeout is not closed."),
    check!(idle_timeout::busy_clients_beside_slow_work_are_not_closed, ALL, "A client is not idle while its request waits behind the work of others."),
    check!(idle_timeout::a_client_whose_request_takes_longer_is_not_closed, ALL, "A client is not idle while the server works on its request."),

    check!(work::work_is_done_for_every_frame, ALL, "The cost of --work is paid for each frame, as processor time or as waiting."),
    check!(work::waiting_work_of_many_clients_overlaps, SEVERAL_AT_ONCE, "With --work wait, the requests of 20 clients, or of as many as are served at once, wait at the same time."),
    check!(work::sleeping_work_is_done_by_all_workers, LOOP_WITH_WORKERS, "With --work sleep, as many requests as there are workers sleep at the same time; further ones wait, and each client's are answered in order."),
    check!(work::a_full_queue_holds_up_the_clients, LOOP_WITH_WORKERS, "Clients that send more than the workers can do are not read: memory stays bounded, and others get their turn."),
    check!(work::waiting_work_keeps_replies_in_order, ALL, "With --work wait, each frame of a connection is answered, in order."),
    check!(work::waiting_work_uses_no_processor, ALL, "A request that waits uses no processor, unless the model busy-polls."),
    check!(work::a_large_reply_after_the_end_of_input, ALL, "With --work wait, a client that has ended its side gets a reply that is larger than all buffers."),
    check!(work::a_reset_while_its_work_waits, ALL, "A reset while a request waits ends that connection and affects no other."),
    check!(work::a_reset_while_a_worker_sleeps, ALL, "A reset while a request is worked on ends that connection and affects no other."),

    check!(overload::a_peer_that_does_not_read, ALL, "A client that does not read its replies is not read either: memory stays bounded, others are served, no reply is lost."),
    check!(overload::a_peer_that_never_pauses, ALL, "A client that sends without a pause does not keep others from being served."),
    check!(overload::five_hundred_clients, ALL, "Each of 500 clients gets its own replies, all of them."),
    check!(overload::one_connection_too_many, ALL, "With --max-connections, one client more is turned away and counted, until another leaves."),
    check!(overload::out_of_descriptors, ALL, "Without descriptors, new clients are turned away and counted, without spinning; one is served as soon as a descriptor is free."),
    check!(overload::a_limit_below_the_descriptors_in_use, ALL, "When the limit of descriptors drops below those in use, it goes on serving, and new clients come once it is raised."),
    check!(one_per_connection::out_of_threads, ONE_PER_CONNECTION, "Without threads or processes, new clients are turned away and counted; one is served as soon as one can start."),
    check!(one_per_connection::out_of_memory_for_stacks, THREAD_PER_CONNECTION, "Without memory for a thread's stack, new clients are turned away and counted, and those being served go on."),
    check!(processes::none_is_left_by_clients, CHILD_PROCESSES, "Once its clients have gone, however many at once, it has the processes it began with and no zombie."),
    check!(processes::none_outlives_a_killed_server, CHILD_PROCESSES, "Killed, it leaves no process behind."),
    check!(processes::a_killed_child_costs_one_connection, CHILD_PROCESSES, "A killed child ends one connection; what it has counted is reported, and its place is free again."),
    check!(processes::a_signal_to_all_processes_drains, CHILD_PROCESSES, "A signal to all processes at once, as by Ctrl-C, drains like one to the first."),
    check!(processes::a_child_that_does_not_react_is_killed, CHILD_PROCESSES, "A child that has not ended when the drain timeout passes is killed, and its connection is counted as abandoned."),
    check!(processes::dead_workers_are_replaced, PROCESS_POOL, "Workers that are killed are replaced, not all at once, and counted; meanwhile the others serve."),
    check!(processes::every_worker_accepts, PROCESS_POOL, "The connections that each worker has accepted are in the report, and every worker gets some."),
    check!(processes::a_signal_to_one_worker_costs_it_alone, PROCESS_POOL, "A worker that alone is asked to stop answers what has arrived and is replaced; no other stops waiting in accept."),
    check!(processes::costs_of_children_are_reported, PROCESS_PER_CONNECTION, "Processor time and memory of children are in the report, those of killed ones too."),
    check!(descriptor_limit::clients_beyond_the_limit_are_turned_away, LIMITED, "Clients whose descriptors the mechanism cannot watch are turned away and counted, and affect no other."),
    check!(descriptor_limit::without_the_limit_all_are_served, LIMITED, "With the option that lifts its limit of descriptors, it serves thousands of clients."),
    check!(signals::sockets_send_signals, SIGNALLED, "Its sockets have O_ASYNC."),
    check!(signals::a_full_queue_loses_no_request, SIGNALLED, "When the queue of signals is full, it looks at every socket, and counts it."),
    check!(signals::signals_of_a_closed_socket_reach_no_other, SIGNALLED, "Signals of a closed socket do not wake the client that gets its number."),
    check!(event_driven::an_idle_connection_holds_next_to_no_memory, EVENT_DRIVEN, "A connection that has been served and is idle holds no buffer."),
    check!(event_driven::silent_clients_cost_no_reads, WATCHES, "Beside a busy client, silent ones are not read from."),
    check!(event_driven::memory_of_unfinished_frames_returns, EVENT_DRIVEN, "After 300 resets of unfinished frames of 900 KB, their memory is returned without further traffic."),

    check!(workers::the_next_client_waits_until_one_ends, AS_MANY_AS_WORKERS, "With a client at every worker, the next ones wait, and are served in turn as others end."),
    check!(workers::the_number_of_workers_is_an_option, AS_MANY_AS_WORKERS, "It serves as many clients at once as --workers says."),
    check!(workers::a_client_that_gives_up_waiting, AS_MANY_AS_WORKERS, "A client that is reset while it waits affects no other, and one that ends its side is answered."),
    check!(workers::sigterm_while_clients_wait_in_the_queue, QUEUE, "The queue is bounded, and clients in it at SIGTERM are answered and counted even if every worker has a client that does not read."),

    check!(networks::small_packets, ALL, "In a network of small packets, every byte of every reply arrives, those owed at SIGTERM too."),
    check!(networks::ipv6, ALL, "So it does over IPv6, in the smallest packets that it allows."),
    check!(networks::limited_rate, ALL, "So it does through a limited rate, behind a queue."),
    check!(networks::loss, ALL, "So it does when packets are lost."),
    check!(networks::delay, ALL, "So it does when packets are late, and overtake one another."),

    check!(short_transfers::every_reply_is_whole, ALL, "When every read and write moves a few bytes only, every reply is whole."),

    check!(torture::a_short_ordeal, ALL, "Beside peers that misbehave in every way, honest clients lose nothing, and afterwards all is as before."),

    check!(faults::a_call_that_fails_costs_one_connection, ALL, "System calls that fail, once or for a while, cost the connections that they hit and no other."),
    check!(faults::a_failed_set_up_is_one_line, ALL, "A system call that fails while the server is set up is one line, exit code 1."),

    check!(shutdown::sigterm_when_idle, ALL, "SIGTERM ends a server that owes nothing, silent clients or not."),
    check!(shutdown::sigint_when_idle, ALL, "SIGINT ends a server that owes nothing, silent clients or not."),
    check!(shutdown::sigterm_in_mid_frame, ALL, "At SIGTERM inside a frame, the frames before it are answered; the rest of it is not waited for."),
    check!(shutdown::sigterm_while_requests_wait, ALL, "With --work wait, requests in the sockets or in progress at SIGTERM are answered and counted."),
    check!(shutdown::sigterm_under_load, ALL, "Requests that lie in the sockets at SIGTERM are answered and counted."),
    check!(shutdown::sigint_under_load, ALL, "Requests that lie in the sockets at SIGINT are answered and counted."),
    check!(shutdown::sigterm_with_a_slow_reader, ALL, "A client that is owed more than the buffers hold at SIGTERM gets a reply to each frame that had arrived."),
    check!(shutdown::sigterm_after_resets, ALL, "Clients that were reset just before SIGTERM count as reset."),
    check!(shutdown::sigterm_with_clients_in_the_backlogs, LOOP_PER_CORE, "Clients in the backlog of any loop at SIGTERM are accepted, answered and counted."),
    check!(shutdown::a_second_sigterm_ends_it_now, ALL, "A second SIGTERM ends a server that waits for a slow client."),
    check!(shutdown::a_second_sigint_ends_it_now, ALL, "A second SIGINT ends a server that waits for a slow client."),
    check!(shutdown::the_drain_is_bounded, ALL, "A client that does not read is abandoned after --drain-timeout, and counted."),
    check!(shutdown::each_abandoned_client_is_counted_once, ALL, "Clients that do not read are each counted once as abandoned when the drain timeout passes."),
    check!(shutdown::the_longest_drain_timeout, ALL, "The longest --drain-timeout is accepted, and the server stops as with any other."),

    check!(full_load::sigterm_under_full_load_loses_no_reply, ALL, "At SIGTERM under full load, every request that had arrived is answered."),

    check!(options::the_first_line_is_the_address, ALL, "The first line on standard output is the address with the actual port; nothing follows."),
    check!(options::help_lists_every_option, ALL, "--help lists every option on standard output."),
    check!(options::help_opens_with_the_model, ALL, "--help opens with the description of the model."),
    check!(options::a_bad_value_is_one_line, ALL, "A bad value is one line that names option and value, exit code 2."),
    check!(options::an_unknown_option_is_one_line, ALL, "An unknown option is one line that names it, exit code 2."),
    check!(options::a_port_that_is_taken, ALL, "A port that is in use is one line that names it, exit code 1."),
    check!(options::an_address_that_cannot_be_used, ALL, "An address that is none, or not this machine's, is one line that names it, exit code 1."),
    check!(options::a_processor_that_does_not_exist, ALL, "A processor that does not exist is one line that names it, exit code 1."),
    check!(options::every_thread_stays_on_its_processors, ALL, "--cpus keeps every thread on the processors listed."),
    check!(options::stats_go_to_a_file, ALL, "--stats FILE holds the counters as JSON once the server has stopped."),
    check!(options::stats_that_cannot_be_written, ALL, "A --stats file that cannot be written is one line at the start that names it, exit code 1."),

    check!(counters::the_costs_of_the_process, ALL, "The counters name the model and report plausible costs of the process."),
    check!(counters::what_a_conversation_counts, ALL, "The counters of a known conversation are right."),
    check!(counters::a_model_waits_in_its_own_way, ALL, "The counters show how the model waits."),

    check!(model_truth::sleeps_where_it_says_without_clients, ALL, "Without clients, it sleeps in the system call of its model, or busy-polls."),
    check!(model_truth::sleeps_where_it_says_among_silent_clients, ALL, "With silent clients, each of its threads sleeps in the system call of its model."),
    check!(model_truth::has_the_threads_of_its_model, ALL, "It has a thread for each connection if its model says so, and a constant number otherwise."),
    check!(model_truth::has_the_descriptors_of_its_model, ALL, "It holds the kinds of descriptor that prove its model, and no other."),
    check!(model_truth::works_in_the_threads_of_its_pool, LOOP_WITH_WORKERS, "While requests are worked on, the loop waits, a thread sleeps for each, and the others are idle."),
    check!(model_truth::has_a_loop_and_a_listener_per_core, LOOP_PER_CORE, "Each loop is a thread with an epoll instance and a listener of its own, and gets some of the clients."),
    check!(model_truth::each_loop_stays_on_a_processor_of_its_own, LOOP_PER_CORE, "With --cpus, each loop keeps to one of the processors."),
    check!(model_truth::idles_at_the_price_of_its_model, ALL, "Idle, it uses no processor, or a whole one if its model busy-polls."),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_check_applies_to_a_model() {
        let names: HashSet<_> = CHECKS.iter().map(|check| (check.theme, check.name)).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            assert!(models::CATALOGUE.iter().any(|model| (check.applies)(model)), "{} applies to no model", check.name);
        }
    }
}
