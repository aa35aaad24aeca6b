//! Which processors: reads lists such as `0-3,6` and keeps a thread on them.

use std::{fmt, io, str::FromStr, thread};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of processors, never empty, ascending. Written as the kernel writes it: `0-3,6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// The processors the calling thread may run on now.
    pub fn allowed() -> io::Result<Cpus> {
        let set = sched_getaffinity(None)?;
        Ok(Cpus((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()))
    }

    /// The given processors, or `None` when there are none.
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Option<Cpus> {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        (!cpus.is_empty()).then_some(Cpus(cpus))
    }

    /// Keeps the calling thread, and every thread it starts from now on, on these processors.
    pub fn run_here(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        for &cpu in &self.0 {
            if cpu >= CpuSet::MAX_CPU {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            set.set(cpu);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Whether a thread of this program may be put on this processor. The kernel is asked: more may be allowed than the thread has
    /// inherited, as with taskset(1) and isolated processors.
    pub fn may_run_on(cpu: usize) -> bool {
        let tried = thread::scope(|scope| scope.spawn(|| Cpus(vec![cpu]).run_here().is_ok()).join());
        tried.unwrap_or(false)
    }

    /// The processors, ascending.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let wrong = || format!("'{text}' is not a list of processors such as 0 or 0-3,6");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Cpus::new(cpus).ok_or_else(wrong)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_write_as_the_kernel_writes_them() {
        for (text, cpus) in [("0", vec![0]), ("0-3,6", vec![0, 1, 2, 3, 6]), ("4-5", vec![4, 5])] {
            assert_eq!(text.parse::<Cpus>().unwrap().as_slice(), cpus);
            assert_eq!(text.parse::<Cpus>().unwrap().to_string(), text);
        }
        assert_eq!("6,0-1,1".parse::<Cpus>().unwrap().to_string(), "0-1,6");
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        for text in ["", "a", "1-", "-1", "3-1", "0,,1", "99999999"] {
            let error = text.parse::<Cpus>().unwrap_err();
            assert!(error.contains(text) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn more_may_be_allowed_than_was_inherited() {
        let allowed = Cpus::allowed().unwrap();
        let (first, last) = (allowed.as_slice()[0], *allowed.as_slice().last().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                Cpus(vec![first]).run_here().unwrap();
                assert!(Cpus::may_run_on(last) && !Cpus::may_run_on(CpuSet::MAX_CPU));
                assert_eq!(Cpus::allowed().unwrap().as_slice(), [first], "asking moves no thread");
            });
        });
    }

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let one = Cpus::new([Cpus::allowed().unwrap().as_slice()[0]]).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                one.run_here().unwrap();
                assert_eq!(Cpus::allowed().unwrap(), one);
            });
        });
    }
}
