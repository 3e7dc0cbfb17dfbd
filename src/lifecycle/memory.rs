//! Checks before a load that the version fits into the available memory: a worker that is killed for its
//! memory serves nothing at all.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Mutex;

use tokio::sync::Notify;

use super::listing::ListedVersion;

use crate::lock::lock;

/// The memory that running loads have reserved.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    /// Bytes.
    reserved: Mutex<u64>,
    freed: Notify,
}

/// The memory that one load has reserved.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *lock(&self.budget.reserved) -= self.bytes;
        self.budget.freed.notify_waiters();
    }
}

impl MemoryBudget {
    /// Reserves memory for `listed`, loaded for this number of inference threads. Waits while running loads
    /// have reserved it. `downloads`: the folder that gets its files first, if there is one.
    ///
    /// # Errors
    /// The version would exhaust the memory.
    pub(crate) async fn reserve(
        &self,
        listed: &ListedVersion,
        threads: usize,
        downloads: Option<&Path>,
    ) -> Result<Reservation<'_>, String> {
        let root = Path::new("/");
        let files = listed.size();
        let copies = usize::from(downloads.is_some_and(|folder| is_in_memory(root, folder)));
        let needed = needed(files, threads + copies);
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            // Without limit on systems that do not report the available memory.
            let left = available(root).unwrap_or(u64::MAX);
            if let Some(reservation) =
                self.try_reserve(needed, left).map_err(|()| shortage(files, needed, left, threads))?
            {
                return Ok(reservation);
            }
            freed.await;
        }
    }

    /// `Ok(None)` if the memory may suffice once the running loads have ended.
    fn try_reserve(&self, needed: u64, left: u64) -> Result<Option<Reservation<'_>>, ()> {
        let mut reserved = lock(&self.reserved);
        // The running loads may already use a part of their reservations, which `left` no longer contains.
        if reserved.saturating_add(needed) > left {
            let never_fits = *reserved == 0 || needed > left.saturating_add(*reserved);
            return if never_fits { Err(()) } else { Ok(None) };
        }
        *reserved += needed;
        Ok(Some(Reservation { budget: self, bytes: needed }))
    }
}

fn shortage(files: u64, needed: u64, left: u64, threads: usize) -> String {
    format!(
        "it is too large for the memory left: its files of {} take about {} with {threads} inference \
         threads, {} are left; give the worker more memory or lower `inference.threads`",
        mebibytes(files),
        mebibytes(needed),
        mebibytes(left)
    )
}

/// Estimates the memory of a load: each thread's session holds the weights, and loading one also holds the
/// parsed file.
fn needed(files: u64, threads: usize) -> u64 {
    files.saturating_mul(threads as u64 + 1)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// True when files in `folder` take memory: the innermost mount that contains it is a tmpfs.
fn is_in_memory(root: &Path, folder: &Path) -> bool {
    let mounts = fs::read_to_string(root.join("proc/self/mounts")).unwrap_or_default();
    let innermost = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((Path::new(words.next()?), words.next()?))
        })
        .filter(|(mount, _)| folder.starts_with(mount))
        // The later one of two mounts at one place hides the earlier one.
        .max_by_key(|(mount, _)| mount.components().count());
    innermost.is_some_and(|(_, kind)| kind == "tmpfs")
}

/// Bytes that this process may still allocate, by the machine and by each of its control groups.
fn available(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| {
        let kibibytes: u64 = field(&text, "MemAvailable:")?;
        kibibytes.checked_mul(1024)
    });
    machine.into_iter().chain(groups(root).into_iter().map(|group| group.left)).min()
}

/// Bytes that the control groups of this process allow, such as a container's limit; `None` without a limit.
pub(crate) fn limit() -> Option<u64> {
    groups(Path::new("/")).into_iter().map(|group| group.limit).min()
}

/// A control group that limits memory, in bytes.
struct Group {
    limit: u64,
    left: u64,
}

/// The control groups of this process that limit memory.
fn groups(root: &Path) -> Vec<Group> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups.lines().flat_map(|line| group_limits(root, line)).collect()
}

/// The limits of one control group and of those above it. In a container the path is often the host's and
/// does not exist; then the root of the mount is the group.
fn group_limits(root: &Path, line: &str) -> Vec<Group> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (mount, [limit, usage, reclaimable]) = if controllers.is_empty() {
        ("sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file"])
    } else if controllers.split(',').any(|name| name == "memory") {
        let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
        ("sys/fs/cgroup/memory", names)
    } else {
        return Vec::new();
    };
    let left = |group: &Path| {
        let group = root.join(mount).join(group);
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        // The kernel reclaims inactive pages of files before it kills a process.
        let used = number(usage)?.saturating_sub(field(&statistics, reclaimable).unwrap_or(0));
        let limit = number(limit)?;
        Some(Group { limit, left: limit.saturating_sub(used) })
    };
    Path::new(path.trim_start_matches('/')).ancestors().filter_map(left).collect()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        available(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  9 kB\nMemAvailable:       8 kB\n");

    #[test]
    fn the_lowest_limit_counts() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[MEMINFO]), Some(8192));
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let v2 = [
            MEMINFO,
            group,
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/a/memory.current", "3000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 1000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
        ];
        assert_eq!(machine(&v2), Some(3000));
        let v1 = [
            MEMINFO,
            ("proc/self/cgroup", "5:cpu:/\n4:memory:/docker/of-the-host\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3900\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 50\n"),
        ];
        assert_eq!(machine(&v1), Some(150));
    }

    #[test]
    fn a_folder_in_memory_is_one_on_a_tmpfs() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::create_dir(root.path().join("proc/self")).unwrap();
        let mounts = "/dev/sda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/sdb /tmp/disk xfs rw 0 0\n";
        fs::write(root.path().join("proc/self/mounts"), mounts).unwrap();
        let is_in_memory = |folder: &str| is_in_memory(root.path(), Path::new(folder));
        assert!(is_in_memory("/tmp/models") && is_in_memory("/tmp"));
        assert!(!is_in_memory("/var/models") && !is_in_memory("/tmp/disk/models") && !is_in_memory("/tmpfs"));
    }

    #[test]
    fn running_loads_count_and_are_waited_for() {
        let budget = MemoryBudget::default();
        assert!(budget.try_reserve(11, 10).is_err(), "too large by itself");
        let first = budget.try_reserve(6, 10).unwrap().unwrap();
        assert!(budget.try_reserve(4, 10).unwrap().is_some());
        assert!(budget.try_reserve(5, 10).unwrap().is_none(), "must wait for the first one");
        assert!(budget.try_reserve(17, 10).is_err(), "too large even without the first one");
        drop(first);
        assert!(budget.try_reserve(5, 10).unwrap().is_some());
    }

    #[test]
    fn every_thread_needs_the_weights() {
        assert_eq!((needed(100, 1), needed(100, 4), needed(u64::MAX, 2)), (200, 500, u64::MAX));
    }
}
