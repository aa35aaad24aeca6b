//! A result's file: written beside its place and then renamed, so that a failure leaves the earlier result as it was.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// Space reserved for a file: more than most results take.
const RESERVED_BYTES: u64 = 1 << 20;

/// An output that is ready to be written: a file, or a stream such as stdout, a pipe or a device.
///
/// The file `FILE` grows as `FILE.partial`, and gets its name when it is complete. What is dropped before that is removed; after a
/// `kill -9` the partial file has all that was flushed.
#[derive(Debug)]
pub struct OutputFile {
    /// As the user named it.
    path: PathBuf,
    out: Out,
}

#[derive(Debug)]
enum Out {
    Stdout(BufWriter<io::Stdout>),
    Stream(BufWriter<File>),
    File {
        out: BufWriter<File>,
        partial: PathBuf,
        /// Where links of that name lead to.
        place: PathBuf,
        is_complete: bool,
    },
}

impl OutputFile {
    /// Prepares the output; `-` and `/dev/stdout` are stdout.
    ///
    /// # Errors
    /// When the file cannot be created or, if there is one already, not be written.
    pub fn create(path: &Path) -> io::Result<OutputFile> {
        let out = match path == Path::new("-") || path == Path::new("/dev/stdout") {
            true => Out::Stdout(BufWriter::new(io::stdout())),
            false => Out::open(path)?,
        };
        Ok(OutputFile { path: path.into(), out })
    }

    /// Reserves 1 MiB on the disk, where its file system supports that, so that a disk that is full costs no measurement.
    ///
    /// # Errors
    /// When the disk has no room for it.
    pub fn reserve(&self) -> io::Result<()> {
        let Out::File { out, .. } = &self.out else { return Ok(()) };
        match fallocate(out.get_ref(), FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES) {
            Err(errno) if [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].contains(&errno) => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// The name that the user gave.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is stdout.
    pub fn is_stdout(&self) -> bool {
        matches!(self.out, Out::Stdout(_))
    }

    /// Fills the output with what `write` writes, and completes it.
    ///
    /// # Errors
    /// When `write` fails, or the disk is full.
    pub fn fill(mut self, write: impl FnOnce(&mut OutputFile) -> io::Result<()>) -> io::Result<()> {
        write(&mut self)?;
        self.complete()
    }

    /// Writes what is left, and gives the file its name.
    ///
    /// # Errors
    /// When the disk is full, or the folder is gone.
    pub fn complete(mut self) -> io::Result<()> {
        self.flush()?;
        if let Out::File { out, partial, place, is_complete } = &mut self.out {
            let file = out.get_mut();
            // Gives back the reserved space that is not needed.
            let end = file.stream_position()?;
            file.set_len(end)?;
            fs::rename(partial, place)?;
            *is_complete = true;
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Stdout(out) => out.write(bytes),
            Out::Stream(out) | Out::File { out, .. } => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Stdout(out) => out.flush(),
            Out::Stream(out) | Out::File { out, .. } => out.flush(),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Out::File { partial, is_complete: false, .. } = &self.out {
            // It may never have been; nobody is left to tell.
            let _ = fs::remove_file(partial);
        }
    }
}

impl Out {
    fn open(path: &Path) -> io::Result<Out> {
        // An earlier result shows whether it may be written, and where a link leads; its content stays.
        let place = match OpenOptions::new().write(true).open(path) {
            Ok(file) if !file.metadata()?.is_file() => return Ok(Out::Stream(BufWriter::new(file))),
            Ok(_) => fs::canonicalize(path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => path.into(),
            Err(error) => return Err(error),
        };
        let name = place.file_name().ok_or(ErrorKind::IsADirectory)?;
        let mut partial = name.to_os_string();
        partial.push(".partial");
        let partial = place.with_file_name(partial);
        // One that was left behind may be a link by now, and is not followed.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::create_new(&partial)?;
        Ok(Out::File { out: BufWriter::new(file), partial, place, is_complete: false })
    }
}

/// Two of the outputs that are the same file, also by different names, or are both stdout.
pub fn same_output<'a>(outputs: impl IntoIterator<Item = &'a OutputFile>) -> Option<(&'a Path, &'a Path)> {
    let outputs: Vec<_> = outputs.into_iter().collect();
    let pairs = outputs.iter().enumerate().flat_map(|(index, one)| outputs[..index].iter().map(move |other| (*other, *one)));
    pairs.filter(|(one, other)| are_same(&one.out, &other.out)).map(|(one, other)| (one.path(), other.path())).next()
}

fn are_same(one: &Out, other: &Out) -> bool {
    match (one, other) {
        (Out::Stdout(_), Out::Stdout(_)) => true,
        // The partial files exist, whatever their folders are called.
        (Out::File { partial: one, .. }, Out::File { partial: other, .. }) => {
            fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn files(folder: &TempDir) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_earlier_result_stays_until_the_new_one_is_complete() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("result");
        fs::write(&path, "earlier").unwrap();

        let mut output = OutputFile::create(&path).unwrap();
        output.write_all(b"half").unwrap();
        output.flush().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("result.partial")).unwrap(), "half");
        drop(output);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(&folder).len()), ("earlier", 1));

        OutputFile::create(&path).unwrap().fill(|out| out.write_all(b"new")).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(&folder).len()), ("new", 1));
    }

    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = TempDir::new().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "earlier").unwrap();
        symlink("target", &link).unwrap();
        OutputFile::create(&link).unwrap().fill(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        OutputFile::create(Path::new("/dev/null")).unwrap().fill(|out| out.write_all(b"new")).unwrap();
        assert!(!Path::new("/dev/null.partial").exists());
    }

    #[test]
    fn a_folder_and_a_missing_folder_are_errors_before_anything_is_written() {
        let folder = TempDir::new().unwrap();
        assert!(OutputFile::create(folder.path()).is_err());
        assert!(OutputFile::create(&folder.path().join("missing/result")).is_err());
        assert!(files(&folder).is_empty());
    }

    #[test]
    fn one_file_by_two_names_is_recognized() {
        let folder = TempDir::new().unwrap();
        symlink(folder.path(), folder.path().join("here")).unwrap();
        let create = |name: &str| OutputFile::create(&folder.path().join(name)).unwrap();
        let (one, other) = (create("result"), create("here/result"));
        assert!(same_output([&one, &other]).is_some());
        assert!(same_output([&one, &create("another")]).is_none());
        let stdout = |name: &str| OutputFile::create(Path::new(name)).unwrap();
        assert!(same_output([&stdout("-"), &one, &stdout("/dev/stdout")]).is_some());
        drop((one, other));
    }
}
