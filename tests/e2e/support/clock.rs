//! The monotonic clock of one worker, put forward by the test.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::harness::{Worker, World, repository};

/// Two whole numbers in a file, which `clock.c` gives to one worker.
pub(crate) struct Clock {
    folder: tempfile::TempDir,
    file: std::fs::File,
    pub(crate) ahead: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The C compiler links Rust's programs, so it is installed.
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(folder.path().join("clock.so"))
            .arg(repository().join("tests/e2e/support/clock.c"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let file = std::fs::File::create(folder.path().join("ahead")).unwrap();
        let clock = Self { folder, file, ahead: 0 };
        clock.tell(0, 0);
        clock.tell(1, 0);
        clock
    }

    pub(crate) fn put_forward(&mut self, by: Duration) {
        self.ahead += i64::try_from(by.as_secs()).unwrap();
        self.tell(0, self.ahead);
    }

    /// The next time that an inference thread asks what time it is.
    pub(crate) fn fail_inference(&self) {
        self.tell(1, 1);
    }

    fn tell(&self, place: u64, number: i64) {
        self.file.write_all_at(&number.to_ne_bytes(), place * 8).unwrap();
    }

    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| Path::to_str(&self.folder.path().join(name)).unwrap().to_owned();
        [("LD_PRELOAD", path("clock.so")), ("TEST_CLOCK", path("ahead"))]
    }

    pub(crate) async fn worker(&self, world: &World, variables: &[(&str, &str)]) -> Worker {
        let own = self.variables();
        let own: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.ready_worker(&[variables, &own].concat()).await
    }
}
