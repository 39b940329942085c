//! Random programs: what they are made of, how they are drawn, and what those without chance must return.

use cerebelum_history::{Failure, RetryPolicy, kind};
use proptest::prelude::*;

/// A piece of a program. Where it stands is its path, `0.2.1`: it names everything that the piece asks for.
#[derive(Debug, Clone)]
pub enum Node {
    /// One after the other.
    Seq(Vec<Self>),
    /// All at once.
    Join(Vec<Self>),
    /// The first to come wins, the others are dropped.
    Race(Vec<Self>),
    /// A failure inside is a value outside.
    Catch(Box<Self>),
    /// Milliseconds.
    Sleep(u64),
    /// A step with a program of its own.
    Step(Box<StepNode>),
    /// A host-driven poll.
    Poll(Box<PollNode>),
    /// A request to the world.
    Fetch,
    /// A question to a person.
    Approval {
        /// What the person will say.
        yes: bool,
        /// How long it stands.
        timeout_ms: Option<u64>,
    },
    /// A wait for a signal.
    Signal {
        /// Its name.
        name: u8,
        /// How long it is waited for.
        timeout_ms: Option<u64>,
    },
    /// Another execution.
    Child {
        /// Whether its end is waited for.
        awaited: bool,
    },
    /// An attribute is set.
    Attribute,
    /// A line is logged.
    Log,
}

/// A step with a program of its own.
#[derive(Debug, Clone)]
pub struct StepNode {
    /// Its program.
    pub body: Node,
    /// That many attempts fail.
    pub fails: u32,
    /// Attempts in all.
    pub attempts_max: u32,
    /// All attempts fail until somebody mends it and reopens the execution.
    pub broken: bool,
    /// How long it may take.
    pub deadline_ms: Option<u64>,
}

/// A host-driven poll with a program for its check.
#[derive(Debug, Clone)]
pub struct PollNode {
    /// Its check's program.
    pub body: Node,
    /// That many checks are not ready.
    pub not_yets: u32,
    /// Checks in all.
    pub checks_max: u32,
    /// From check to check.
    pub interval_ms: u64,
    /// That many attempts of every check fail.
    pub fails: u32,
    /// How long it may take.
    pub timeout_ms: Option<u64>,
}

/// What every check is declared with.
pub const CHECK_RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 2, delay_ms: 7, backoff: 1.0, delay_ms_max: 10, jitter: 0.0 };

impl StepNode {
    /// How it is tried again.
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
    /// When there is none.
    #[must_use]
    pub fn at(&self, path: &str) -> &Self {
        path.split('.').skip(1).fold(self, |node, index| node.inside()[index.parse::<usize>().unwrap()])
    }

    fn has_broken(&self) -> bool {
        matches!(self, Self::Step(step) if step.broken) || self.inside().into_iter().any(Self::has_broken)
    }

    /// Whether what it returns depends on no order and no time.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        let timeless = match self {
            Self::Race(nodes) => nodes.len() == 1,
            Self::Approval { timeout_ms, .. } | Self::Signal { timeout_ms, .. } => timeout_ms.is_none(),
            Self::Step(step) => step.deadline_ms.is_none(),
            Self::Poll(poll) => poll.timeout_ms.is_none(),
            // What was caught before somebody mended it stays caught.
            Self::Catch(node) => !node.has_broken(),
            _ => true,
        };
        timeless && self.inside().into_iter().all(Self::is_fixed)
    }
}

/// What one stay in a guest knows besides its path.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// Of the step, from 1.
    pub attempt: u32,
    /// Of the poll, from 1.
    pub round: u32,
    /// Whether somebody has mended what was broken.
    pub mended: bool,
}

impl StepNode {
    /// What an attempt makes of its body's result.
    pub fn conclude(&self, body: Result<String, Failure>, stay: Stay) -> Result<String, Failure> {
        let value = body?;
        let fails = stay.attempt <= self.fails || (self.broken && !stay.mended);
        if fails { Err(Failure::retryable(kind::FAILURE, "not this time")) } else { Ok(value) }
    }
}

impl PollNode {
    /// What a check answers.
    pub fn conclude(&self, body: Result<String, Failure>, stay: Stay) -> Result<String, Failure> {
        let value = body?;
        if stay.attempt <= self.fails {
            return Err(Failure::retryable(kind::FAILURE, "no check this time"));
        }
        let word = if stay.round <= self.not_yets { "not_yet" } else { "ready" };
        Ok(serde_json::json!({ word: value }).to_string())
    }
}

/// What a piece that is fixed comes to, whatever the order and however often the engine dies.
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

/// Programs, small ones first. With `chance` they may race and run out of time.
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
