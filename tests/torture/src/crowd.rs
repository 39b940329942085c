//! The executions under way, the people who deal with them, and the answers that these people got.

use std::collections::BTreeMap;
use std::time::Instant;

use cerebelum_server::proto;
use futures::future::join_all;
use serde_json::json;

use super::client::{Client, Told};
use super::mix::{Expect, PlannedExecution, What, plan};
use test_engine::Cloud;
use test_programs::DeterministicRng;

/// The number of starts and deeds at once, in one round.
const AT_ONCE: usize = 64;
/// The number of histories that are read in one look.
const READINGS: usize = 4;
/// The number of executions that a look sees.
const LIST_MAX: u32 = 400;

/// An execution under way.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) plan: PlannedExecution,
    /// The time of the first attempt to start it.
    asked: Instant,
    /// Whether its start was acknowledged.
    pub(crate) started: bool,
    /// The number of its deeds that are done, and those that were acknowledged.
    done: usize,
    pub(crate) acknowledged: Vec<What>,
    /// The status of its end, if a client saw it.
    pub(crate) ended: Option<String>,
    /// The longest history of its first run that a client saw.
    pub(crate) shown: Vec<proto::Event>,
}

impl Member {
    /// Whether an approval was acknowledged.
    pub(crate) fn told_yes(&self) -> bool {
        self.acknowledged.iter().any(|what| matches!(what, What::Approve { .. }))
    }

    fn next_deed(&self) -> Option<&What> {
        let deed = self.plan.deeds.get(self.done).filter(|_| self.started)?;
        let is_due = match deed.what {
            What::Mend => self.ended.as_deref() == Some("failed"),
            _ => self.asked.elapsed() >= deed.after && self.ended.is_none(),
        };
        is_due.then_some(&deed.what)
    }
}

/// The number of all acknowledgements.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) starts: u64,
    pub(crate) deeds: u64,
    pub(crate) unanswered: u64,
    pub(crate) readings: u64,
    pub(crate) resumed_after_crashes: u64,
}

/// All executions under way.
#[derive(Debug)]
pub(crate) struct Crowd {
    seed: u64,
    next: u64,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) counts: Counts,
    pub(crate) complaints: Vec<String>,
}

impl Crowd {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 1, members: BTreeMap::new(), counts: Counts::default(), complaints: Vec::new() }
    }

    /// The number of executions that were begun.
    pub(crate) const fn begun(&self) -> u64 {
        self.next - 1
    }

    /// The number of executions that have not ended, as far as clients know.
    pub(crate) fn busy(&self) -> usize {
        self.members.values().filter(|member| member.ended.is_none()).count()
    }

    /// The number of acknowledged starts.
    pub(crate) fn acknowledged(&self) -> usize {
        self.members.values().filter(|member| member.started).count()
    }

    /// Begins new executions up to this many, and repeats the starts that were not answered.
    pub(crate) async fn start(&mut self, client: &Client, cloud: &Cloud, busy: usize) {
        let mut ids: Vec<String> = self.members.values().filter(|m| !m.started).map(|m| m.plan.id.clone()).collect();
        ids.truncate(AT_ONCE);
        for _ in self.busy()..busy.min(self.busy() + AT_ONCE - ids.len()) {
            let plan = plan(self.seed, self.next, cloud.url());
            self.next += 1;
            ids.push(plan.id.clone());
            let member = Member {
                asked: Instant::now(),
                started: false,
                done: 0,
                acknowledged: Vec::new(),
                ended: None,
                shown: Vec::new(),
                plan,
            };
            self.members.insert(member.plan.id.clone(), member);
        }
        let wishes = ids.iter().map(|id| {
            let plan = &self.members[id].plan;
            client.start(plan.workflow, plan.input.to_string(), id)
        });
        let answers = join_all(wishes).await;
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                Told::Yes(_) => {
                    self.counts.starts += 1;
                    self.members.entry(id.clone()).and_modify(|member| member.started = true);
                }
                Told::No(why) => self.complaints.push(format!("the start of {id} was refused: {why}")),
                Told::Nothing => self.counts.unanswered += 1,
            }
        }
    }

    /// Does the deeds that are due now.
    pub(crate) async fn act(&mut self, client: &Client, cloud: &Cloud) {
        let due =
            self.members.values().filter_map(|member| Some((member.plan.id.clone(), member.next_deed()?.clone())));
        let due: Vec<(String, What)> = due.take(AT_ONCE).collect();
        let answers = join_all(due.iter().map(|(id, what)| act(client, cloud, (id, what)))).await;
        for ((id, what), answer) in due.into_iter().zip(answers) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            match answer {
                Told::Yes(()) => {
                    self.counts.deeds += 1;
                    if what == What::Mend {
                        member.ended = None;
                    }
                    member.done += 1;
                    member.acknowledged.push(what);
                }
                // Too late, or too early: a later attempt will show.
                Told::No(why) if why.contains("changes nothing") => member.done += 1,
                Told::No(_) => {}
                Told::Nothing => self.counts.unanswered += 1,
            }
        }
    }

    /// Looks at the list, and reads some histories.
    pub(crate) async fn look(&mut self, client: &Client, chance: &mut DeterministicRng) {
        let Told::Yes(page) = client.list(None, LIST_MAX).await else { return };
        let listed: BTreeMap<&str, &proto::Summary> =
            page.executions.iter().map(|summary| (summary.execution_id.as_str(), summary)).collect();
        for member in self.members.values_mut().filter(|member| member.started) {
            match listed.get(member.plan.id.as_str()) {
                Some(summary) => see(member, summary),
                // The execution is too old for this page.
                None => match client.summary(&member.plan.id).await {
                    Told::Yes(summary) => see(member, &summary),
                    Told::No(why) => self.complaints.push(format!("I1: {} was acknowledged: {why}", member.plan.id)),
                    Told::Nothing => {}
                },
            }
        }
        self.read(client, chance).await;
    }

    /// Reads some histories. Executions that continue as a new run are not read, since either run might be shown.
    async fn read(&mut self, client: &Client, chance: &mut DeterministicRng) {
        let is_one_run = |member: &&Member| member.started && !member.plan.workflow.ends_with("/countdown");
        let ids: Vec<String> = self.members.values().filter(is_one_run).map(|member| member.plan.id.clone()).collect();
        for _ in 0..READINGS.min(ids.len()) {
            let id = &ids[chance.index(ids.len())];
            let events = client.history(id).await;
            self.counts.readings += 1;
            if let Some(member) = self.members.get_mut(id)
                && member.shown.len() <= events.len()
            {
                member.shown = events;
            }
        }
    }

    /// Resumes executions that were parked because engines died while they ran: parking them was right.
    pub(crate) async fn resume(&mut self, client: &Client, ids: &[String]) {
        for id in ids {
            if let Told::Yes(_) = client.resume(id).await {
                self.counts.resumed_after_crashes += 1;
            }
        }
    }

    /// Checks that each log line was written once.
    pub(crate) async fn check_lines(&mut self, client: &Client, ids: &[String]) {
        for id in ids {
            let lines = client.logs(id).await;
            if lines != ["first line", "second line"] {
                self.complaints.push(format!("{id} has said {lines:?}"));
            }
        }
    }
}

impl Expect {
    /// Whether its log lines are known.
    pub(crate) const fn says_two_lines(&self) -> bool {
        matches!(self, Self::TwoLines)
    }
}

fn see(member: &mut Member, summary: &proto::Summary) {
    let has_ended = matches!(summary.status.as_str(), "completed" | "failed" | "cancelled");
    // The execution was repaired, but has not gone on yet.
    let is_old = summary.status == "failed" && member.acknowledged.contains(&What::Mend);
    if has_ended && !is_old {
        member.ended = Some(summary.status.clone());
    }
}

async fn act(client: &Client, cloud: &Cloud, (id, what): (&str, &What)) -> Told<()> {
    fn done<T>(told: Told<T>) -> Told<()> {
        match told {
            Told::Yes(_) => Told::Yes(()),
            Told::No(why) => Told::No(why),
            Told::Nothing => Told::Nothing,
        }
    }
    match what {
        What::Approve { percent } => done(client.approve(id, json!({ "percent": percent }).to_string()).await),
        What::Reject { reason } => done(client.reject(id, reason).await),
        What::Signal { name, number } => done(client.signal(id, name, number.to_string()).await),
        What::Cancel => done(client.cancel(id).await),
        What::Pause => done(client.pause(id).await),
        What::GoOn => done(client.resume(id).await),
        What::Mend => {
            cloud.put(&format!("/of/{id}/switch/one/on"));
            match client.resume(id).await {
                // The execution goes on already: an answer was lost.
                Told::No(why) if why.contains("nothing to resume") || why.contains("stays so") => Told::Yes(()),
                other => done(other),
            }
        }
    }
}
