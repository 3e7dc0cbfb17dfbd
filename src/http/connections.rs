//! The connections of the HTTP server: their number, and the time limits of slow clients.
//!
//! A client may send a request slowly, read its answer slowly, or send no request: each has a time limit. At
//! the limit of connections, the one that has waited longest for its client is closed for a new one, so that
//! a probe is always answered.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::front::Front;
use crate::lock::lock;
use hyper::Version;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::task::TaskTracker;

/// Most connections. Each buffers up to [`BUFFER`] in each direction, 128 MiB in total.
const MOST: u64 = 2048;
/// Longest head of a request; bytes that hyper buffers in each direction, beside the body of an answer.
const BUFFER: usize = 32 << 10;
/// Requests at a time on a connection of HTTP/2.
const MOST_STREAMS: u32 = 100;
/// Bytes that a client of HTTP/2 may send ahead, on a stream.
const WINDOW: u32 = 1 << 20;
const SWEEP: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted: the process is out of files, or the system out of memory.
const RETRY: Duration = Duration::from_millis(100);

/// Activity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client sends the head of a request. Begins with the connection, or with the first byte of a later
    /// request.
    Head,
    /// The worker computes the answer.
    Answering,
    /// The client receives the answer.
    Sending,
    /// No request has begun since the last answer.
    Idle,
}

impl Phase {
    /// Time limit of a phase in which the worker waits for the client; `None` where the client waits for the
    /// worker.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Head => Some(Duration::from_secs(10)),
            Self::Answering => None,
            Self::Sending => Some(Duration::from_secs(30)),
            // Google's load balancers reuse a connection that was idle for up to 600 s: closing it earlier
            // would fail a request.
            Self::Idle => Some(Duration::from_secs(620)),
        }
    }
}

/// Activity of one connection.
#[derive(Debug)]
struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Start of the phase.
    since: Instant,
    /// Requests that are being answered.
    answering: usize,
    /// The client sends more than requests, such as pings.
    is_http2: bool,
}

impl Progress {
    fn new(phase: Phase, since: Instant) -> Self {
        Self(Mutex::new(State { phase, since, answering: 0, is_http2: false }))
    }

    fn begins_to_answer(&self, is_http2: bool) {
        let mut state = lock(&self.0);
        *state = State {
            phase: Phase::Answering,
            since: Instant::now(),
            answering: state.answering + 1,
            is_http2,
        };
    }

    /// The answer to one request is complete; others of the same connection may be computed still.
    fn sends(&self) {
        let mut state = lock(&self.0);
        state.answering -= 1;
        if state.answering == 0 {
            (state.phase, state.since) = (Phase::Sending, Instant::now());
        }
    }

    /// Bytes came from the client: a request begins, unless they may be something else.
    fn reads(&self) {
        let mut state = lock(&self.0);
        if state.phase == Phase::Idle && !state.is_http2 {
            (state.phase, state.since) = (Phase::Head, Instant::now());
        }
    }

    /// Everything is written.
    fn flushed(&self) {
        let mut state = lock(&self.0);
        if state.phase == Phase::Sending {
            (state.phase, state.since) = (Phase::Idle, Instant::now());
        }
    }

    /// The time since which the worker waits for the client; `None` where it does not.
    fn waits_since(&self) -> Option<Instant> {
        let state = lock(&self.0);
        state.phase.limit().map(|_| state.since)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let state = lock(&self.0);
        state.phase.limit().is_some_and(|limit| now.saturating_duration_since(state.since) >= limit)
    }
}

/// A stream that records the progress of its connection.
#[derive(Debug)]
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.reads();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A flush that ends means that the answer is sent: hyper flushes once everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.progress.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[derive(Debug)]
pub(super) struct Connections {
    open: HashMap<Id, (Arc<Progress>, AbortHandle)>,
    tasks: JoinSet<()>,
    /// Connections that were opened before the worker stopped.
    pub(super) before_stop: TaskTracker,
    pub(super) most: usize,
}

impl Connections {
    /// Allows half as many connections as the process may open files, since the worker needs files too.
    pub(super) fn new() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from((files / 2).clamp(1, MOST)).unwrap_or(usize::MAX);
        Self { open: HashMap::new(), tasks: JoinSet::new(), before_stop: TaskTracker::new(), most }
    }

    /// Serves until it is dropped, which closes its connections.
    pub(super) async fn serve(mut self, listener: std::net::TcpListener, front: Front) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        self.open(stream, &front);
                        // Many connections that arrive at once must not close one that was never polled.
                        tokio::task::yield_now().await;
                    }
                    Err(error) if is_of_client(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, open = self.open.len(), "cannot accept an HTTP connection");
                        self.make_room();
                        tokio::time::sleep(RETRY).await;
                    }
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    self.open.remove(&id);
                }
                _ = sweep.tick() => self.end_overdue(Instant::now()),
            }
        }
    }

    /// Refuses the connection where no other can be closed for it.
    fn open(&mut self, stream: TcpStream, front: &Front) {
        if self.open.len() >= self.most && !self.make_room() {
            return;
        }
        let progress = Arc::new(Progress::new(Phase::Head, Instant::now()));
        let serve = serve_one(stream, front.clone(), Arc::clone(&progress));
        let task = match front.stop().is_cancelled() {
            true => self.tasks.spawn(serve),
            false => self.tasks.spawn(self.before_stop.track_future(serve)),
        };
        self.open.insert(task.id(), (progress, task));
    }

    /// Closes the connection that has waited longest for its client. False where none waits.
    fn make_room(&mut self) -> bool {
        let waiting = self.open.iter().filter_map(|(id, (progress, _))| Some((progress.waits_since()?, *id)));
        let Some((_, id)) = waiting.min_by_key(|(since, _)| *since) else { return false };
        self.close(id);
        true
    }

    fn end_overdue(&mut self, now: Instant) {
        let overdue = self.open.iter().filter(|(_, (progress, _))| progress.is_overdue(now));
        for id in overdue.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id);
        }
    }

    fn close(&mut self, id: Id) {
        if let Some((_, task)) = self.open.remove(&id) {
            task.abort();
        }
    }
}

/// True when the client closed its connection before it was accepted.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_one(stream: TcpStream, front: Front, progress: Arc<Progress>) {
    // Small responses must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Watched { stream, progress: Arc::clone(&progress) });
    let service = service_fn(|request: hyper::Request<Incoming>| {
        progress.begins_to_answer(request.version() == Version::HTTP_2);
        let (answer, progress) = (front.answer(request), Arc::clone(&progress));
        async move {
            let answered = Answered(progress);
            // One request a turn, so that a client that sends many at once does not delay the others.
            tokio::task::yield_now().await;
            let response = answer.await;
            drop(answered);
            response
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(BUFFER);
    builder.http2().max_concurrent_streams(MOST_STREAMS).initial_stream_window_size(WINDOW);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    // Probes still come after the stop.
    if !front.stop().is_cancelled() {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = front.stop().cancelled() => connection.as_mut().graceful_shutdown(),
        }
    }
    // An error is the client's, such as bytes that are no HTTP: it ends this connection only.
    let _ = connection.await;
}

/// Notes that a request is no longer being answered, also when its client of HTTP/2 gave it up.
struct Answered(Arc<Progress>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.sends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_phase(phase: Phase, since: Instant) -> Arc<Progress> {
        Arc::new(Progress::new(phase, since))
    }

    #[test]
    fn every_wait_for_a_client_is_limited() {
        let start = Instant::now();
        for (phase, limit) in [(Phase::Head, 10), (Phase::Sending, 30), (Phase::Idle, 620)] {
            let progress = in_phase(phase, start);
            let limit = Duration::from_secs(limit);
            assert!(!progress.is_overdue(start + limit - Duration::from_millis(1)), "{phase:?}");
            assert!(progress.is_overdue(start + limit), "{phase:?}");
        }
        assert!(!in_phase(Phase::Answering, start).is_overdue(start + Duration::from_secs(9999)));
    }

    /// One that answers two requests at a time waits for its client once both are answered. Pings begin no
    /// request.
    #[test]
    fn a_connection_of_http_2_is_idle_between_its_requests() {
        let progress = Progress::new(Phase::Head, Instant::now());
        let phase = || lock(&progress.0).phase;
        progress.begins_to_answer(true);
        progress.begins_to_answer(true);
        progress.sends();
        progress.flushed();
        assert_eq!(phase(), Phase::Answering);
        progress.sends();
        progress.flushed();
        progress.reads();
        assert_eq!(phase(), Phase::Idle);
        progress.begins_to_answer(false);
        progress.sends();
        progress.flushed();
        progress.reads();
        assert_eq!(phase(), Phase::Head);
    }

    #[tokio::test]
    async fn the_longest_wait_for_a_client_is_closed_first_and_no_request_that_is_answered() {
        let start = Instant::now();
        let mut connections = Connections { most: 3, ..Connections::new() };
        let mut ids = Vec::new();
        for (phase, after) in [(Phase::Answering, 0), (Phase::Idle, 2), (Phase::Head, 1)] {
            let task = connections.tasks.spawn(std::future::pending());
            ids.push(task.id());
            let progress = in_phase(phase, start + Duration::from_secs(after));
            connections.open.insert(task.id(), (progress, task));
        }
        assert!(connections.make_room());
        assert!(!connections.open.contains_key(&ids[2]));
        assert!(connections.make_room());
        assert!(!connections.open.contains_key(&ids[1]));
        assert!(!connections.make_room());
        assert!(connections.open.contains_key(&ids[0]));
    }
}
