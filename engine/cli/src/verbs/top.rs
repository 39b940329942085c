//! A live overview: what needs a person, what failed, and what is new.

use std::time::{Duration, Instant};

use cerebelum_history::Status;
use cerebelum_server::wording::{COUNTED, counted, counting};
use cerebelum_server::{json, proto};

use super::ApiCommand;
use super::list::table;
use crate::args::Top;
use crate::client::Client;
use crate::exit::{Code, Outcome};
use crate::out::size;
use crate::render::{Line, Live, Now, Style, Table, ago, roughly};

/// The time between two looks at the engine.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long the engine may take for one look.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// The rows of each list.
const ROWS: u32 = 5;
/// The rows of the list of the newest executions.
const NEWEST_ROWS: u32 = 12;
/// The same on a terminal that is too low.
const NEWEST_ROWS_MIN: usize = 2;

/// What the engine told.
struct Overview {
    numbers: Vec<(Status, proto::CountResponse)>,
    questions: proto::ApprovalsResponse,
    parked: Vec<proto::Summary>,
    failed: Vec<proto::Summary>,
    newest: Vec<proto::Summary>,
}

impl ApiCommand {
    /// Shows what goes on, until it is interrupted.
    pub(crate) async fn top(&self, args: Top) -> Outcome {
        let mut client = self.client().await?;
        let overview = look(&mut client).await.map_err(|e| client.stop(&e))?;
        if self.global.json {
            return self.out.json(&overview.json());
        }
        if args.once || !self.out.is_terminal {
            return self.out.show(&overview.lines(None, None));
        }
        let mut live = Live::new(std::io::stdout(), self.out.colours);
        let (mut shown, mut away): (Overview, Option<Instant>) = (overview, None);
        loop {
            let size = size();
            live.draw(&shown.lines(away.map(|since| since.elapsed()), Some(size.rows)), size)?;
            tokio::time::sleep(INTERVAL).await;
            let slow = || Err(tonic::Status::unavailable("the engine does not answer in time"));
            match tokio::time::timeout(LOOK_MAX, look(&mut client)).await.unwrap_or_else(|_| slow()) {
                Ok(overview) => (shown, away) = (overview, None),
                Err(why) if is_for_now(&client, &why) => away = away.or_else(|| Some(Instant::now())),
                Err(why) => return Err(client.stop(&why)),
            }
        }
    }
}

/// Whether the engine may answer again soon: it is away, or has too much to do.
fn is_for_now(client: &Client, why: &tonic::Status) -> bool {
    client.stop(why).code == Some(Code::Unreachable) || why.code() == tonic::Code::ResourceExhausted
}

async fn look(client: &mut Client) -> Result<Overview, tonic::Status> {
    let mut numbers = Vec::new();
    for status in COUNTED {
        numbers.push((status, client.engine.count(counting(status)).await?.into_inner()));
    }
    let request = proto::ApprovalsRequest { limit: ROWS, ..Default::default() };
    let questions = client.engine.approvals(request).await?.into_inner();
    Ok(Overview {
        numbers,
        questions,
        parked: newest(client, Some(Status::Parked), ROWS).await?,
        failed: newest(client, Some(Status::Failed), ROWS).await?,
        newest: newest(client, None, NEWEST_ROWS).await?,
    })
}

async fn newest(client: &mut Client, status: Option<Status>, limit: u32) -> Result<Vec<proto::Summary>, tonic::Status> {
    let status = status.map(|status| status.word().to_owned());
    let request = proto::ListRequest { status, limit, ..Default::default() };
    Ok(client.engine.list(request).await?.into_inner().executions)
}

impl Overview {
    /// On a terminal of so many rows the newest executions leave the room to what needs a person.
    fn lines(&self, away: Option<Duration>, rows_max: Option<usize>) -> Vec<Line> {
        let mut lines = vec![self.head(away), Line::default()];
        if !self.questions.approvals.is_empty() || !self.parked.is_empty() {
            lines.push(Line::new(Style::ActionNeeded, "NEEDS A PERSON"));
            lines.extend(self.questions());
            lines.extend(rows(&self.parked));
            lines.push(Line::default());
        }
        if !self.failed.is_empty() {
            lines.push(Line::new(Style::Bad, "FAILED LATELY"));
            lines.extend(rows(&self.failed));
            lines.push(Line::default());
        }
        match self.newest.is_empty() {
            true => lines.push(Line::new(Style::Plain, "no execution has been started yet")),
            false => {
                lines.push(Line::new(Style::Bold, "NEWEST"));
                let left =
                    rows_max.map_or(usize::MAX, |rows| rows.saturating_sub(lines.len() + 2).max(NEWEST_ROWS_MIN));
                lines.extend(rows(&self.newest[..left.min(self.newest.len())]));
            }
        }
        lines
    }

    /// The numbers on one line.
    fn head(&self, away: Option<Duration>) -> Line {
        if let Some(away) = away {
            let ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
            let words =
                format!("the engine does not answer since {}, trying again; this is what it said last", roughly(ms));
            return Line::new(Style::Bad, &words);
        }
        let mut line = Line::default();
        for (status, count) in &self.numbers {
            let style = if count.executions == 0 { Style::Dim } else { Style::of_status(status.word()) };
            line = line.and(style, &format!("{} {}", status.word(), counted(count))).and(Style::Dim, " · ");
        }
        let questions = self.questions.approvals.len();
        let style = if questions == 0 { Style::Dim } else { Style::ActionNeeded };
        let more = if self.questions.next.is_some() { "+" } else { "" };
        line.and(style, &format!("open questions {questions}{more}"))
    }

    fn questions(&self) -> Vec<Line> {
        let now = Now::measured();
        let row = |approval: &proto::Approval| {
            [
                Line::new(Style::ActionNeeded, &approval.title),
                approval.execution_id.as_str().into(),
                ago(approval.requested_at.as_ref(), now).into(),
                ago(approval.deadline.as_ref(), now).into(),
            ]
        };
        let rows = self.questions.approvals.iter().map(row);
        let table = Table::new(["QUESTION", "EXECUTION", "ASKED", "UNTIL"], rows);
        if table.is_empty() { Vec::new() } else { table.lines() }
    }

    fn json(&self) -> String {
        let all = |executions: &[proto::Summary]| executions.iter().map(json::of).collect::<Vec<_>>().join(",");
        let numbers: Vec<_> =
            self.numbers.iter().map(|(status, count)| format!("\"{status}\":{}", json::of(count))).collect();
        let questions: Vec<_> = self.questions.approvals.iter().map(json::of).collect();
        format!(
            r#"{{"counts":{{{}}},"approvals":[{}],"parked":[{}],"failed":[{}],"newest":[{}]}}"#,
            numbers.join(","),
            questions.join(","),
            all(&self.parked),
            all(&self.failed),
            all(&self.newest)
        )
    }
}

fn rows(executions: &[proto::Summary]) -> Vec<Line> {
    if executions.is_empty() { Vec::new() } else { table(executions).lines() }
}
