//! Random programs: their parts, how they are drawn, and what the ones without chance must return.

use cerebelum_history::{Failure, RetryPolicy, kind};
use proptest::prelude::*;

/// A piece of a program. Its path, such as `0.2.1`, names everything that the piece requests.
#[derive(Debug, Clone)]
pub enum Node {
    /// Pieces that run one after the other.
    Seq(Vec<Self>),
    /// Pieces that run at the same time.
    Join(Vec<Self>),
    /// Pieces that run until the first one ends. The others are dropped.
    Race(Vec<Self>),
    /// Turns a failure inside into a value outside.
    Catch(Box<Self>),
    /// A sleep, in milliseconds.
    Sleep(u64),
    /// A step with a program of its own.
    Step(Box<StepNode>),
    /// A host-driven poll.
    Poll(Box<PollNode>),
    /// An HTTP request.
    Fetch,
    /// A question to a person.
    Approval {
        /// Whether the person will approve.
        yes: bool,
        /// When the question times out.
        timeout_ms: Option<u64>,
    },
    /// A wait for a signal.
    Signal {
        /// The signal's name.
        name: u8,
        /// When the wait times out.
        timeout_ms: Option<u64>,
    },
    /// Another execution.
    Child {
        /// Whether the piece waits for the end of the execution.
        awaited: bool,
    },
    /// Sets an attribute.
    Attribute,
    /// Logs a line.
    Log,
}

/// A step with a program of its own.
#[derive(Debug, Clone)]
pub struct StepNode {
    /// The step's program.
    pub body: Node,
    /// The number of attempts that fail.
    pub fails: u32,
    /// The attempts in all.
    pub attempts_max: u32,
    /// Whether all attempts fail until the step is mended and the execution reopened.
    pub broken: bool,
    /// The step's deadline.
    pub deadline_ms: Option<u64>,
}

/// A host-driven poll with a program for its check.
#[derive(Debug, Clone)]
pub struct PollNode {
    /// The check's program.
    pub body: Node,
    /// The number of checks that are not ready.
    pub not_yets: u32,
    /// The checks in all.
    pub checks_max: u32,
    /// The interval between two checks.
    pub interval_ms: u64,
    /// The number of attempts of every check that fail.
    pub fails: u32,
    /// The poll's timeout.
    pub timeout_ms: Option<u64>,
}

/// The retry policy that every check declares.
pub const CHECK_RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 2, delay_ms: 7, backoff: 1.0, delay_ms_max: 10, jitter: 0.0 };

impl StepNode {
    /// The step's retry policy.
    #[must_use]
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy { max_attempts: self.attempts_max, delay_ms: 10, backoff: 2.0, delay_ms_max: 60, jitter: 0.2 }
    }
}

impl Node {
    /// The pieces inside, in the order of their paths.
    fn inside(&self) -> Vec<&Self> {
        match self {
            Self::Seq(nodes) | Self::Join(nodes) | Self::Race(nodes) => nodes.iter().collect(),
            Self::Catch(node) => vec![node],
            Self::Step(step) => vec![&step.body],
            Self::Poll(poll) => vec![&poll.body],
            Self::Sleep(_)
            | Self::Fetch
            | Self::Approval { .. }
            | Self::Signal { .. }
            | Self::Child { .. }
            | Self::Attribute
            | Self::Log => Vec::new(),
        }
    }

    /// The piece at this path.
    ///
    /// # Panics
    /// If there is no such piece.
    #[must_use]
    pub fn at(&self, path: &str) -> &Self {
        path.split('.').skip(1).fold(self, |node, index| node.inside()[index.parse::<usize>().unwrap()])
    }

    fn has_broken(&self) -> bool {
        matches!(self, Self::Step(step) if step.broken) || self.inside().into_iter().any(Self::has_broken)
    }

    /// Whether the result depends on neither order nor time.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        let timeless = match self {
            Self::Race(nodes) => nodes.len() == 1,
            Self::Approval { timeout_ms, .. } | Self::Signal { timeout_ms, .. } => timeout_ms.is_none(),
            Self::Step(step) => step.deadline_ms.is_none(),
            Self::Poll(poll) => poll.timeout_ms.is_none(),
            // A failure that was caught before the step was mended stays caught.
            Self::Catch(node) => !node.has_broken(),
            _ => true,
        };
        timeless && self.inside().into_iter().all(Self::is_fixed)
    }
}

/// The state that a guest knows besides its path.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// The attempt of the step, from 1.
    pub attempt: u32,
    /// The round of the poll, from 1.
    pub round: u32,
    /// Whether broken steps have been mended.
    pub mended: bool,
}

impl StepNode {
    /// The result of an attempt, given the result of its body.
    pub fn conclude(&self, body: Result<String, Failure>, stay: Stay) -> Result<String, Failure> {
        let value = body?;
        let fails = stay.attempt <= self.fails || (self.broken && !stay.mended);
        if fails { Err(Failure::retryable(kind::FAILURE, "not this time")) } else { Ok(value) }
    }
}

impl PollNode {
    /// The answer of a check, given the result of its body.
    pub fn conclude(&self, body: Result<String, Failure>, stay: Stay) -> Result<String, Failure> {
        let value = body?;
        if stay.attempt <= self.fails {
            return Err(Failure::retryable(kind::FAILURE, "no check this time"));
        }
        let word = if stay.round <= self.not_yets { "not_yet" } else { "ready" };
        Ok(serde_json::json!({ word: value }).to_string())
    }
}

/// The result of a piece without chance, whatever the order is and however often the engine dies.
pub fn expected(node: &Node, path: &str, mended: bool) -> Result<String, Failure> {
    let inside = || node.inside().into_iter().zip(0..).map(|(inner, index)| (inner, format!("{path}.{index}")));
    match node {
        Node::Seq(_) => inside().map(|(inner, path)| expected(inner, &path, mended)).collect(),
        Node::Join(_) => {
            let all: Vec<_> = inside().map(|(inner, path)| expected(inner, &path, mended)).collect();
            Ok(format!("[{}]", all.into_iter().collect::<Result<String, _>>()?))
        }
        Node::Race(nodes) => Ok(format!("first {}", expected(&nodes[0], &format!("{path}.0"), mended)?)),
        Node::Catch(inner) => Ok(caught(expected(inner, &format!("{path}.0"), mended))),
        Node::Step(step) => attempts(step.attempts_max, |attempt| {
            let body = expected(&step.body, &format!("{path}.0"), mended);
            step.conclude(body, Stay { attempt, round: 0, mended })
        })
        .map(|value| format!("step({value})")),
        Node::Poll(poll) => expected_poll(poll, path, mended),
        Node::Sleep(_) => Ok("slept ".to_owned()),
        Node::Fetch => Ok(format!("got {path} ")),
        Node::Approval { yes: true, .. } => Ok(format!("yes {path} ")),
        Node::Approval { yes: false, .. } => Err(Failure::new(kind::REJECTED, format!("rejected by ann: no {path}"))),
        Node::Signal { name, .. } => Ok(format!("signal {name} ")),
        Node::Child { awaited: true } => Ok(format!("child {path} ")),
        Node::Child { awaited: false } => Ok("started ".to_owned()),
        Node::Attribute | Node::Log => Ok(String::new()),
    }
}

fn expected_poll(poll: &PollNode, path: &str, mended: bool) -> Result<String, Failure> {
    for round in 1.. {
        let answer = attempts(CHECK_RETRY.max_attempts, |attempt| {
            let body = expected(&poll.body, &format!("{path}.0"), mended);
            poll.conclude(body, Stay { attempt, round, mended }).map(|_| String::new())
        });
        answer?;
        if round > poll.not_yets {
            break;
        }
        if round >= poll.checks_max {
            let text = format!("Polling failed after {round} attempts (interval: {}ms)", poll.interval_ms);
            return Err(Failure::new(kind::POLL_EXHAUSTED, text));
        }
    }
    Ok(format!("poll({})", expected(&poll.body, &format!("{path}.0"), mended)?))
}

fn attempts(max: u32, attempt: impl Fn(u32) -> Result<String, Failure>) -> Result<String, Failure> {
    (1..)
        .map(|number| (number, attempt(number)))
        .find(|(n, r)| !matches!(r, Err(e) if *n < max && e.retryable))
        .unwrap()
        .1
}

/// A failure as a value.
pub(crate) fn caught(result: Result<String, Failure>) -> String {
    result.unwrap_or_else(|failure| format!("caught {} ", failure.kind))
}

/// Programs, small ones first. With `chance` they may race and time out.
pub fn programs(chance: bool) -> impl Strategy<Value = Node> {
    let timeout = move || if chance { prop::option::of(0_u64..60).boxed() } else { Just(None).boxed() };
    let leaf = prop_oneof![
        3 => (0_u64..100).prop_map(Node::Sleep),
        2 => Just(Node::Fetch),
        2 => (any::<bool>(), timeout()).prop_map(|(yes, timeout_ms)| Node::Approval { yes, timeout_ms }),
        2 => (0_u8..2, timeout()).prop_map(|(name, timeout_ms)| Node::Signal { name, timeout_ms }),
        1 => any::<bool>().prop_map(|awaited| Node::Child { awaited }),
        1 => Just(Node::Attribute),
        1 => Just(Node::Log),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        let step = (inner.clone(), 0_u32..3, 1_u32..4, prop::bool::weighted(0.1), timeout());
        let step = step.prop_map(|(body, fails, attempts_max, broken, deadline_ms)| {
            Node::Step(Box::new(StepNode { body, fails, attempts_max, broken, deadline_ms }))
        });
        let poll = (inner.clone(), 0_u32..4, 1_u32..5, 0_u64..20, 0_u32..2, timeout());
        let poll = poll.prop_map(|(body, not_yets, checks_max, interval_ms, fails, timeout_ms)| {
            Node::Poll(Box::new(PollNode { body, not_yets, checks_max, interval_ms, fails, timeout_ms }))
        });
        prop_oneof![
            3 => several.clone().prop_map(Node::Seq),
            3 => several.clone().prop_map(Node::Join),
            if chance { 3 } else { 0 } => several.prop_map(Node::Race),
            1 => inner.prop_map(|node| Node::Catch(Box::new(node))),
            3 => step,
            2 => poll,
        ]
    })
}
