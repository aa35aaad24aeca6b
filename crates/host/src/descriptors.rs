//! How many descriptors this process may have.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit (often 1024, for select's sake) to the hard one, for this process and those it starts.
///
/// # Errors
/// When the system refuses; the limit is then as it was.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// How many descriptors this process may have now; [`u64::MAX`] for no limit.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_descriptor_limit().unwrap();
        assert_eq!(descriptor_limit(), getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    }
}
