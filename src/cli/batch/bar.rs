//! Progress of a job: a bar on a terminal, else a line every ten seconds.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output;
use crate::files::counts::Progress;

const TEMPLATE: &str = "{msg} [{bar:30}] {human_pos} of {human_len} rows, {per_sec}, {eta} left";
const EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows the progress until it ends.
pub(super) struct Bar {
    end: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// For a job of so many rows.
    pub(super) fn start(rows: u64, progress: Arc<Progress>) -> Self {
        let (end, ended) = mpsc::channel();
        let show = move || match std::io::stderr().is_terminal() {
            true => draw(rows, &progress, &ended),
            false => print(rows, &progress, &ended),
        };
        Self { end, thread: std::thread::Builder::new().name("progress".to_owned()).spawn(show).ok() }
    }

    pub(super) fn end(self) {
        let Self { end, thread } = self;
        drop(end);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn counts(progress: &Progress) -> (u64, u64) {
    let failed = progress.failed();
    (progress.successful() + failed, failed)
}

fn draw(rows: u64, progress: &Progress, ended: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(rows);
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    // Rows of an earlier run are no part of the speed.
    bar.set_position(counts(progress).0);
    bar.reset_eta();
    while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let (done, failed) = counts(progress);
        bar.set_message(format!("{failed} failed"));
        bar.set_position(done);
    }
    bar.finish_and_clear();
}

fn print(rows: u64, progress: &Progress, ended: &mpsc::Receiver<()>) {
    let (begun, before) = (Instant::now(), counts(progress).0);
    while ended.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (done, failed) = counts(progress);
        let speed = done.saturating_sub(before) as f64 / begun.elapsed().as_secs_f64();
        let left = rows.saturating_sub(done) as f64 / speed.max(1e-9);
        output::print_error(&format!(
            "{done} of {rows} rows, {failed} failed, {speed:.0} rows a second, {left:.0} s left\n"
        ));
    }
}
