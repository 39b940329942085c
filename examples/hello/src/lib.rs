//! The smallest workflow: one step, called like a function. Start it with `{"name": "Ada"}`.

use cerebelum::prelude::*;

/// Whom to greet.
#[data]
pub struct Guest {
    /// Their name.
    pub name: String,
}

/// What was said.
#[data]
#[derive(PartialEq, Eq)]
pub struct Greeting {
    /// In full.
    pub text: String,
}

/// Makes up a greeting.
#[step]
pub async fn greet(ctx: Context, guest: Guest) -> Result<Greeting> {
    ctx.info(format!("greeting {}", guest.name));
    Ok(Greeting { text: format!("Hello, {}!", guest.name) })
}

/// Greets somebody.
#[workflow]
pub async fn hello(ctx: Context, guest: Guest) -> Result<Greeting> {
    greet(&ctx, guest).await
}

cerebelum::component!();

#[cfg(test)]
mod tests {
    use super::*;
    use cerebelum::testing::Local;

    #[test]
    fn hello_greets_by_name() {
        let run = Local::new().run(hello, Guest { name: "Ada".to_owned() });
        assert_eq!(run.output().unwrap().text, "Hello, Ada!");
        assert_eq!(run.kinds(), ["ExecutionStarted", "StepStarted", "StepCompleted", "ExecutionCompleted"]);
    }
}
