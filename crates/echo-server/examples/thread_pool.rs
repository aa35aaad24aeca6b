//! One thread accepts; three serve the connections that it hands over, each to the end.

use std::{
    io,
    process::ExitCode,
    sync::{
        Mutex,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use echo_server::{Accept, Connection, Server, Turn, Worker, drain, run};

const WORKERS: usize = 3;

fn main() -> ExitCode {
    run(&models::THREAD_PER_CONN, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    let (queue, connections) = sync_channel(16);
    let connections = Mutex::new(connections);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let worker = server.another_worker();
            scope.spawn(|| serve_in_turn(&connections, worker));
        }
        while !server.stopping() {
            if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
                queue.send(client).expect("workers outlive the queue");
            }
        }
        // Workers that wait for a connection wake up, and those that wait for data.
        drop(queue);
        server.wait_for_other_workers();
        Ok(())
    })
}

fn serve_in_turn(connections: &Mutex<Receiver<Connection>>, mut worker: Worker) {
    loop {
        let next = connections.lock().expect("a worker does not panic").recv();
        let Ok(mut client) = next else { return };
        let is_over = loop {
            if worker.stopping() {
                break false;
            }
            if let Turn::Over = client.turn(&mut worker) {
                break true;
            }
        };
        if !is_over {
            drain([client], &mut worker);
        }
    }
}
