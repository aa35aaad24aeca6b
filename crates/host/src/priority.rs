//! How the scheduler weighs this process against others.

use rustix::{io::Result, process::setpriority_process};

/// The highest priority, as nice(2) counts it.
const HIGHEST: i32 = -20;

/// Gives the calling thread the highest priority it may have, and so the threads and processes that it starts from now on: programs
/// beside them then take little of their processors.
///
/// # Errors
/// When it may not: most users may not (RLIMIT_NICE), root may.
pub fn raise_priority() -> Result<()> {
    setpriority_process(None, HIGHEST)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn it_is_as_high_as_allowed_for_threads_that_are_started_later() {
        thread::spawn(|| {
            let before = getpriority_process(None).unwrap();
            let expected = if raise_priority().is_ok() { HIGHEST } else { before };
            let now = getpriority_process(None).unwrap();
            assert_eq!(now, expected);
            assert_eq!(thread::spawn(|| getpriority_process(None).unwrap()).join().unwrap(), now);
        })
        .join()
        .unwrap();
    }
}
