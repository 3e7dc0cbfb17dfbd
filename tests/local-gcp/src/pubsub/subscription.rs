//! One subscription: what waits, what is leased, and when it comes again.
//!
//! All state is under one lock, held briefly once a call, never across an await. One task sees leases expire.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::Broker;
use super::filter::Filter;
use crate::history::Event;
use crate::proto::pubsub::{PubsubMessage, ReceivedMessage, Subscription as Config};

/// How often leases and delays are looked at: deadlines are whole seconds, so a tenth of one is near enough.
const SWEEP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Subscription {
    config: RwLock<Config>,
    filter: Option<Filter>,
    state: Mutex<State>,
    /// Rung when something may have become deliverable.
    changed: Notify,
    broker: Weak<Broker>,
    ended: CancellationToken,
    _sweeper: DropGuard,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Queued>,
    /// Waits for its retry policy's backoff.
    delayed: Vec<(Instant, Queued)>,
    leased: HashMap<u64, Lease>,
    next_lease: u64,
    next_sequence: u64,
    /// Ordering keys with leased messages: what comes later waits until all of them are acked.
    busy_keys: HashMap<String, usize>,
    streams: HashMap<u64, Flow>,
    next_stream: u64,
    delivered: u64,
    acked: u64,
}

#[derive(Debug, Clone)]
struct Queued {
    message: Arc<PubsubMessage>,
    /// The order of publishing.
    sequence: u64,
    /// Deliveries so far.
    attempts: u32,
}

#[derive(Debug)]
struct Lease {
    queued: Queued,
    until: Instant,
    stream: Option<u64>,
}

/// One stream's flow control. Zero or less: no limit, as Pub/Sub has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    max_messages: i64,
    max_bytes: i64,
    messages: i64,
    bytes: i64,
}

impl Flow {
    pub(super) fn new(max_messages: i64, max_bytes: i64) -> Self {
        Self { max_messages, max_bytes, messages: 0, bytes: 0 }
    }

    fn has_room(&self) -> bool {
        (self.max_messages <= 0 || self.messages < self.max_messages)
            && (self.max_bytes <= 0 || self.bytes < self.max_bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub undelivered: usize,
    pub outstanding: usize,
    pub delivered: u64,
    pub acked: u64,
}

impl Subscription {
    pub(super) fn start(config: Config, broker: Weak<Broker>) -> Result<Arc<Self>, Status> {
        let filter = Filter::parse(&config.filter)?;
        let ended = CancellationToken::new();
        let subscription = Arc::new(Self {
            config: RwLock::new(config),
            filter,
            state: Mutex::default(),
            changed: Notify::new(),
            broker,
            _sweeper: ended.clone().drop_guard(),
            ended: ended.clone(),
        });
        let weak = Arc::downgrade(&subscription);
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => {}
                }
                match weak.upgrade() {
                    Some(subscription) => subscription.sweep(),
                    None => return,
                }
            }
        });
        Ok(subscription)
    }

    pub fn config(&self) -> Config {
        super::read(&self.config).clone()
    }

    pub(super) fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut super::write(&self.config));
    }

    /// The subscription was deleted: its streams end.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            undelivered: state.ready.len() + state.delayed.len(),
            outstanding: state.leased.len(),
            delivered: state.delivered,
            acked: state.acked,
        }
    }

    pub(super) fn enqueue(&self, messages: &[Arc<PubsubMessage>]) {
        let mut state = self.lock();
        for message in messages {
            if self.filter.as_ref().is_none_or(|filter| filter.matches(&message.attributes)) {
                let sequence = state.next_sequence;
                state.next_sequence += 1;
                state.ready.push_back(Queued { message: Arc::clone(message), sequence, attempts: 0 });
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Resolves when something may have become deliverable after this call.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn open_stream(&self, flow: Flow) -> u64 {
        let mut state = self.lock();
        state.next_stream += 1;
        let stream = state.next_stream;
        state.streams.insert(stream, flow);
        stream
    }

    /// Leases of a closed stream live on until their deadlines.
    pub(super) fn close_stream(&self, stream: u64) {
        self.lock().streams.remove(&stream);
    }

    /// Leases up to `most` deliverable messages for `deadline`, to a stream's flow control or to a pull.
    pub(super) fn take(&self, most: usize, deadline: Duration, stream: Option<u64>) -> Vec<ReceivedMessage> {
        let config = super::read(&self.config);
        let is_ordered = config.enable_message_ordering;
        let has_dead_letters = config.dead_letter_policy.is_some();
        let name = config.name.clone();
        drop(config);
        let mut taken = Vec::new();
        let mut state = self.lock();
        let state = &mut *state;
        // Streams share a backlog evenly.
        let share = state.ready.len().div_ceil(state.streams.len().max(1));
        let most = if stream.is_some() { most.min(share) } else { most };
        let until = Instant::now() + deadline;
        let mut kept_back = VecDeque::new();
        // A key whose messages are leased, or of which something was kept back, waits.
        let mut blocked: HashSet<String> = HashSet::new();
        if is_ordered {
            blocked.extend(state.busy_keys.keys().cloned());
        }
        while taken.len() < most {
            let flow = stream.and_then(|stream| state.streams.get_mut(&stream));
            if flow.as_ref().is_some_and(|flow| !flow.has_room()) {
                break;
            }
            let Some(mut queued) = state.ready.pop_front() else { break };
            let key = &queued.message.ordering_key;
            if is_ordered && !key.is_empty() {
                if blocked.contains(key) {
                    kept_back.push_back(queued);
                    continue;
                }
                *state.busy_keys.entry(key.clone()).or_default() += 1;
            }
            if let Some(flow) = flow {
                flow.messages += 1;
                flow.bytes += size(&queued.message);
            }
            queued.attempts += 1;
            let id = state.next_lease;
            state.next_lease += 1;
            state.delivered += 1;
            let ack_id = id.to_string();
            if let Some(broker) = self.broker.upgrade() {
                broker.history.record(|| Event::Delivered {
                    subscription: name.clone(),
                    message_id: queued.message.message_id.clone(),
                    ack_id: ack_id.clone(),
                    attempt: queued.attempts,
                });
            }
            taken.push(ReceivedMessage {
                ack_id,
                message: Some(PubsubMessage::clone(&queued.message)),
                delivery_attempt: if has_dead_letters {
                    i32::try_from(queued.attempts).unwrap_or(i32::MAX)
                } else {
                    0
                },
            });
            state.leased.insert(id, Lease { queued, until, stream });
        }
        while let Some(queued) = kept_back.pop_back() {
            state.ready.push_front(queued);
        }
        taken
    }

    /// The ids that were not leased any more.
    pub(super) fn acknowledge(&self, ack_ids: &[String]) -> Vec<String> {
        let mut stale = Vec::new();
        let mut state = self.lock();
        for ack_id in ack_ids {
            match parse(ack_id).and_then(|id| state.release(id)) {
                Some(lease) => {
                    state.acked += 1;
                    let message_id = &lease.queued.message.message_id;
                    self.record(|subscription| Event::Acked {
                        subscription,
                        message_id: message_id.clone(),
                        ack_id: ack_id.clone(),
                    });
                }
                None => stale.push(ack_id.clone()),
            }
        }
        drop(state);
        self.changed.notify_waiters();
        stale
    }

    /// Zero seconds is a nack. The ids that were not leased any more.
    pub(super) fn modify(&self, ack_ids: &[String], seconds: u64) -> Vec<String> {
        let mut stale = Vec::new();
        let mut again = Vec::new();
        let mut state = self.lock();
        let until = Instant::now() + Duration::from_secs(seconds);
        for ack_id in ack_ids {
            let Some(id) = parse(ack_id) else {
                stale.push(ack_id.clone());
                continue;
            };
            if seconds > 0 {
                match state.leased.get_mut(&id) {
                    Some(lease) => lease.until = until,
                    None => stale.push(ack_id.clone()),
                }
                continue;
            }
            match state.release(id) {
                Some(lease) => {
                    let message_id = lease.queued.message.message_id.clone();
                    self.record(|subscription| Event::Nacked {
                        subscription,
                        message_id,
                        ack_id: ack_id.clone(),
                    });
                    again.push(lease.queued);
                }
                None => stale.push(ack_id.clone()),
            }
        }
        let dead = self.redeliver(&mut state, again);
        drop(state);
        self.bury(dead);
        self.changed.notify_waiters();
        stale
    }

    fn sweep(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let expired: Vec<u64> =
            state.leased.iter().filter(|(_, lease)| lease.until <= now).map(|(id, _)| *id).collect();
        let mut again = Vec::new();
        for id in expired {
            if let Some(lease) = state.release(id) {
                let message_id = lease.queued.message.message_id.clone();
                self.record(|subscription| Event::Expired {
                    subscription,
                    message_id,
                    ack_id: id.to_string(),
                });
                again.push(lease.queued);
            }
        }
        let due =
            state.delayed.extract_if(.., |(at, _)| *at <= now).map(|(_, queued)| queued).collect::<Vec<_>>();
        if again.is_empty() && due.is_empty() {
            return;
        }
        state.requeue(due);
        let dead = self.redeliver(&mut state, again);
        drop(state);
        self.bury(dead);
        self.changed.notify_waiters();
    }

    /// Puts messages back in line, with their keys' later ones, after the retry policy's backoff. What has been delivered
    /// often enough is returned for the dead-letter topic.
    fn redeliver(&self, state: &mut State, again: Vec<Queued>) -> Vec<Queued> {
        if again.is_empty() {
            return again;
        }
        let config = super::read(&self.config);
        let most =
            config.dead_letter_policy.as_ref().map(|policy| policy.max_delivery_attempts.unsigned_abs());
        let (dead, mut again): (Vec<_>, Vec<_>) =
            again.into_iter().partition(|queued| most.is_some_and(|most| queued.attempts >= most));
        if config.enable_message_ordering {
            // Redelivery of one message redelivers all later ones of its key.
            let mut first: BTreeMap<String, u64> = BTreeMap::new();
            for queued in again.iter().filter(|queued| !queued.message.ordering_key.is_empty()) {
                let sequence = first.entry(queued.message.ordering_key.clone()).or_insert(queued.sequence);
                *sequence = queued.sequence.min(*sequence);
            }
            let later: Vec<u64> = state
                .leased
                .iter()
                .filter(|(_, lease)| {
                    first.get(&lease.queued.message.ordering_key).is_some_and(|s| lease.queued.sequence > *s)
                })
                .map(|(id, _)| *id)
                .collect();
            again.extend(later.into_iter().filter_map(|id| state.release(id)).map(|lease| lease.queued));
        }
        let Some(policy) = config.retry_policy else {
            state.requeue(again);
            return dead;
        };
        let duration = |given: Option<prost_types::Duration>, default: u64| {
            given.and_then(|d| Duration::try_from(d).ok()).unwrap_or(Duration::from_secs(default))
        };
        let (shortest, longest) =
            (duration(policy.minimum_backoff, 10), duration(policy.maximum_backoff, 600));
        let now = Instant::now();
        for queued in again {
            let backoff = shortest * 2u32.saturating_pow(queued.attempts.saturating_sub(1).min(16));
            state.delayed.push((now + backoff.min(longest), queued));
        }
        dead
    }

    fn bury(&self, dead: Vec<Queued>) {
        let Some(broker) = self.broker.upgrade() else { return };
        let config = self.config();
        let Some(policy) = config.dead_letter_policy else { return };
        for Queued { message, attempts, .. } in dead {
            let mut attributes = message.attributes.clone();
            let (project, short) = config.name.split_once("/subscriptions/").unwrap_or_default();
            let project = project.trim_start_matches("projects/");
            for (key, value) in [
                ("CloudPubSubDeadLetterSourceDeliveryCount", attempts.to_string()),
                ("CloudPubSubDeadLetterSourceSubscription", short.to_owned()),
                ("CloudPubSubDeadLetterSourceSubscriptionProject", project.to_owned()),
                ("CloudPubSubDeadLetterSourceTopicPublishTime", publish_time(&message)),
            ] {
                attributes.insert(key.to_owned(), value);
            }
            let copy = PubsubMessage {
                attributes,
                data: message.data.clone(),
                ordering_key: message.ordering_key.clone(),
                ..Default::default()
            };
            match broker.publish(&policy.dead_letter_topic, vec![copy]) {
                Ok(_) => self.record(|subscription| Event::DeadLettered {
                    subscription,
                    message_id: message.message_id.clone(),
                }),
                // The real service keeps trying too.
                Err(_) => self.lock().requeue(vec![Queued { message, sequence: 0, attempts }]),
            }
        }
    }

    fn record(&self, event: impl FnOnce(String) -> Event) {
        if let Some(broker) = self.broker.upgrade() {
            broker.history.record(|| event(super::read(&self.config).name.clone()));
        }
    }
}

impl State {
    /// Ends a lease, and gives its room and its key back.
    fn release(&mut self, id: u64) -> Option<Lease> {
        let lease = self.leased.remove(&id)?;
        let message = &lease.queued.message;
        if let Some(flow) = lease.stream.and_then(|stream| self.streams.get_mut(&stream)) {
            flow.messages -= 1;
            flow.bytes -= size(message);
        }
        if let Some(busy) = self.busy_keys.get_mut(&message.ordering_key) {
            *busy -= 1;
            if *busy == 0 {
                self.busy_keys.remove(&message.ordering_key);
            }
        }
        Some(lease)
    }

    /// Back in line, in the order of publishing.
    fn requeue(&mut self, mut again: Vec<Queued>) {
        again.sort_by_key(|queued| queued.sequence);
        for queued in again.into_iter().rev() {
            let is_before = |waiting: &Queued| waiting.sequence < queued.sequence;
            let place = self.ready.iter().position(|waiting| !is_before(waiting)).unwrap_or(self.ready.len());
            self.ready.insert(place, queued);
        }
    }
}

fn parse(ack_id: &str) -> Option<u64> {
    ack_id.parse().ok()
}

fn size(message: &PubsubMessage) -> i64 {
    i64::try_from(message.data.len()).unwrap_or(i64::MAX)
}

/// RFC 3339.
fn publish_time(message: &PubsubMessage) -> String {
    message.publish_time.as_ref().map(ToString::to_string).unwrap_or_default()
}

impl Subscription {
    /// Takes and acknowledges everything that is deliverable now.
    pub fn drain(&self) -> Vec<ReceivedMessage> {
        let taken = self.take(usize::MAX, Duration::from_secs(600), None);
        let ack_ids: Vec<String> = taken.iter().map(|received| received.ack_id.clone()).collect();
        self.acknowledge(&ack_ids);
        taken
    }
}
