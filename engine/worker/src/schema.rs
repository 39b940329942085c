//! Checks values against the JSON Schemas of inputs and answers: small ones inline, all others on threads of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use cerebelum_history::Json;
use cerebelum_sandbox::schema::{Effort, Mismatch, Schema, Validator};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};

/// Threads that compile schemas and check values.
const THREADS: usize = 2;
/// Compilations and checks that may run or wait for a thread. Further ones wait for a permit.
const PLACES: usize = 64;
/// Values with more text than this are not even parsed on an async thread, in bytes.
const INLINE_BYTES_MAX: usize = 4 << 10;

/// Why a value was not accepted, or could not be checked.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// The value does not satisfy the schema.
    Value(String),
    /// The schema exceeds this engine's limits, or checking takes more work than allowed.
    Schema(String),
    /// The engine's own fault.
    EngineError(String),
}

/// A schema in use, compiled on first use.
pub(crate) struct Input {
    text: Json,
    compiled: OnceCell<Result<Option<Arc<Validator>>, String>>,
}

impl Input {
    pub(crate) fn new(text: Json) -> Self {
        Self { text, compiled: OnceCell::new() }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Compiles schemas and checks values.
pub(crate) struct Checker {
    jobs: OnceCell<mpsc::Sender<Job>>,
    places: Arc<Semaphore>,
}

impl Checker {
    /// Threads start with the first job.
    pub(crate) fn new() -> Self {
        Self { jobs: OnceCell::new(), places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// Checks a value.
    pub(crate) async fn check(&self, schema: &Input, value: &Json) -> Result<(), Unfit> {
        let text = schema.text.clone();
        let compiled = schema.compiled.get_or_try_init(|| self.away(move || compile(&text))).await?;
        let Some(validator) = compiled.as_ref().map_err(|why| Unfit::Schema(why.clone()))? else { return Ok(()) };
        if value.as_str().len() <= INLINE_BYTES_MAX {
            match judge(validator, value, Effort::SMALL) {
                Err(Mismatch::TooMuchWork) => {}
                Err(Mismatch::Value(line)) => return Err(Unfit::Value(line)),
                Ok(()) => return Ok(()),
            }
        }
        let (validator, value) = (validator.clone(), value.clone());
        match self.away(move || judge(&validator, &value, Effort::FULL)).await? {
            Ok(()) => Ok(()),
            Err(Mismatch::Value(line)) => Err(Unfit::Value(line)),
            Err(Mismatch::TooMuchWork) => {
                Err(Unfit::Schema("checking it takes more work than is allowed: simplify the schema".to_owned()))
            }
        }
    }

    /// Runs `work` on one of the checker's threads. The permit is held until the work is done, even if the caller is
    /// gone.
    async fn away<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfit> {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes the places");
        let jobs = self.jobs.get_or_try_init(|| async { start_threads() }).await;
        let jobs = jobs.map_err(|error| Unfit::EngineError(format!("cannot start a thread: {error}")))?;
        let (done, result) = oneshot::channel();
        let broke_off = || Unfit::EngineError("checking a value broke off".to_owned());
        jobs.send(Box::new(move || finish(place, done, work))).map_err(|_| broke_off())?;
        result.await.map_err(|_| broke_off())
    }
}

fn finish<T>(place: OwnedSemaphorePermit, done: oneshot::Sender<T>, work: impl FnOnce() -> T) {
    // A panic is a bug in the engine. The caller gets an error, and the thread goes on.
    if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
        // The caller may be gone.
        let _ = done.send(result);
    }
    drop(place);
}

fn start_threads() -> std::io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..THREADS {
        let queue = queue.clone();
        let thread = std::thread::Builder::new().name("schema".to_owned()).stack_size(Effort::THREAD_STACK_BYTES);
        thread.spawn(move || {
            cerebelum_sandbox::compute_in_background();
            loop {
                let job = queue.lock().recv();
                match job {
                    Ok(job) => job(),
                    Err(mpsc::RecvError) => return,
                }
            }
        })?;
    }
    Ok(jobs)
}

fn compile(text: &Json) -> Result<Option<Arc<Validator>>, String> {
    let schema = Schema::parse(text.as_str())?;
    Ok(if schema.refuses_nothing() { None } else { schema.compile().map(Arc::new) })
}

fn judge(validator: &Validator, value: &Json, effort: Effort) -> Result<(), Mismatch> {
    // Valid JSON all the same: a number outside the range of machine numbers, half of a surrogate pair, 128 levels. What a
    // schema cannot see is refused: next to it nothing else would be checked.
    let value = serde_json::from_str::<serde_json::Value>(value.as_str())
        .map_err(|error| Mismatch::Value(format!("it has what no schema can check: {error}")))?;
    validator.check(&value, effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_schema_refuses_is_refused_beside_anything() {
        let checker = Checker::new();
        let schema = r#"{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}"#;
        let schema = Input::new(Json::parse(schema).unwrap());
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let odd = ["1", "1e400", "-1e999", r#""\ud800""#, r#"{"\udc00":1}"#, deep.as_str()];
        for beside in odd {
            for name in ["5", "null", "[]", "1e400"] {
                let value = Json::parse(format!(r#"{{"name":{name},"other":{beside}}}"#)).unwrap();
                assert!(checker.check(&schema, &value).await.is_err(), "{value:?}");
            }
        }
        let any = Input::new(Json::parse(r#"{"title":"AnyValue","description":"Whatever it is"}"#).unwrap());
        assert!(checker.check(&any, &Json::parse("[1e400]").unwrap()).await.is_ok(), "that schema refuses nothing");
        let good = Json::parse(r#"{"name":"x","other":1}"#).unwrap();
        assert!(checker.check(&schema, &good).await.is_ok());
    }
}
