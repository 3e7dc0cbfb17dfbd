//! Sharing between streams, which cannot be seen from outside without depending on who runs first.

use futures::FutureExt as _;

use super::*;

fn queue() -> Queue {
    let config = Config {
        name: "s".into(),
        ack_deadline: Duration::from_secs(10),
        retention: Duration::from_secs(600),
        ordering: false,
        exactly_once: false,
        max_attempts: None,
        backoff: None,
    };
    Queue::new(config, 1, History::new(false))
}

fn open(queue: &mut Queue, messages: i64) -> (u64, Arc<Notify>) {
    let notify = Arc::new(Notify::new());
    let limits = Limits { messages, bytes: 0, ack_deadline: None };
    (queue.open(limits, notify.clone()), notify)
}

fn push(queue: &mut Queue, count: usize) {
    let stored = || Stored { message: PubsubMessage::default(), size: 1, published: Instant::now() };
    queue.push((0..count).map(|_| Arc::new(stored())));
}

fn told(notify: &Notify) -> bool {
    notify.notified().now_or_never().is_some()
}

#[test]
fn streams_share_a_backlog_evenly() {
    let mut queue = queue();
    let streams: Vec<u64> = (0..4).map(|_| open(&mut queue, 0).0).collect();
    push(&mut queue, 1000);
    let now = Instant::now();
    let taken: Vec<usize> = streams.iter().map(|stream| queue.take(*stream, usize::MAX, now).len()).collect();
    assert_eq!(taken, [250; 4]);
}

#[test]
fn single_messages_go_around_the_waiting_streams() {
    let mut queue = queue();
    let (a, tell_a) = open(&mut queue, 0);
    let (b, tell_b) = open(&mut queue, 0);
    let now = Instant::now();
    assert!(queue.take(a, usize::MAX, now).is_empty() && queue.take(b, usize::MAX, now).is_empty());
    for _ in 0..3 {
        push(&mut queue, 1);
        assert_eq!((told(&tell_a), told(&tell_b)), (true, false));
        assert_eq!((queue.take(a, usize::MAX, now).len(), queue.take(a, usize::MAX, now).len()), (1, 0));
        push(&mut queue, 1);
        assert_eq!((told(&tell_a), told(&tell_b)), (false, true));
        assert_eq!((queue.take(b, usize::MAX, now).len(), queue.take(b, usize::MAX, now).len()), (1, 0));
    }
}

#[test]
fn a_stream_without_credit_is_told_when_an_ack_gives_it_some() {
    let mut queue = queue();
    let (stream, notify) = open(&mut queue, 2);
    push(&mut queue, 3);
    let now = Instant::now();
    let batch = queue.take(stream, usize::MAX, now);
    assert_eq!((batch.len(), queue.take(stream, usize::MAX, now).len()), (2, 0));
    assert!(!told(&notify));
    queue.ack(&[batch[0].ack_id]);
    assert!(told(&notify));
    assert_eq!(queue.take(stream, usize::MAX, now).len(), 1);
}

#[test]
fn a_stream_that_leaves_hands_its_turn_on() {
    let mut queue = queue();
    let (a, tell_a) = open(&mut queue, 0);
    let (b, tell_b) = open(&mut queue, 0);
    let now = Instant::now();
    assert!(queue.take(a, usize::MAX, now).is_empty() && queue.take(b, usize::MAX, now).is_empty());
    push(&mut queue, 1);
    assert!(told(&tell_a) && !told(&tell_b));
    queue.close(a, false);
    assert!(told(&tell_b));
}
