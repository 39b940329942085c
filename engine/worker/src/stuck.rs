//! Why an activation cannot go on, and which mistakes a person must look at.

use cerebelum_history::NonDeterminism;
use cerebelum_sandbox::Trouble as GuestTrouble;
use cerebelum_store::StoreError;

use crate::activation::Over;
use crate::directory::NoProgram;
use crate::trouble::Trouble;

/// Why an activation cannot go on.
pub(crate) enum Stuck {
    /// A person must look at it.
    Parked(String),
    /// The engine's own trouble; another activation tries again later.
    Trouble(Trouble),
    /// It ended in this way.
    Over(Over),
}

impl From<NonDeterminism> for Stuck {
    fn from(diverged: NonDeterminism) -> Self {
        Self::Parked(format!("diverged: {diverged}"))
    }
}

impl From<StoreError> for Stuck {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(cause) => Self::Parked(format!("corrupt-history: {cause}")),
            other => Self::Trouble(Trouble::Passing(other.to_string())),
        }
    }
}

impl From<NoProgram> for Stuck {
    fn from(error: NoProgram) -> Self {
        match error {
            NoProgram::Missing => Self::Parked(
                "component-missing: the component is not in the store: upload it again, then resume".to_owned(),
            ),
            NoProgram::Damaged(cause) => {
                Self::Parked(format!("component-damaged: {cause}: restore it from a backup, then resume"))
            }
            NoProgram::Refused(cause) => Self::Parked(format!(
                "component-refused: this engine does not accept the component: {cause}: resume it on one that does"
            )),
            NoProgram::Trouble(cause) => Self::Trouble(Trouble::Passing(cause)),
        }
    }
}

impl From<GuestTrouble> for Stuck {
    fn from(trouble: GuestTrouble) -> Self {
        match trouble {
            // The history belongs to other code: to rerun the guest over it would come to the same.
            GuestTrouble::Unasked(_) | GuestTrouble::Unfitting(_) => {
                Self::Parked(format!("diverged: the history has {trouble}"))
            }
            GuestTrouble::MemoryUsedUp | GuestTrouble::Displaced | GuestTrouble::NoRoom(_) | GuestTrouble::Ended => {
                Self::Trouble(Trouble::Passing(trouble.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_other_code_parks_and_a_lack_of_room_does_not() {
        for (trouble, reason) in [(GuestTrouble::Unasked(7), "call 7"), (GuestTrouble::Unfitting(3), "call 3")] {
            let Stuck::Parked(line) = Stuck::from(trouble) else { panic!("it would come to the same again") };
            assert!(line.starts_with("diverged: the history has an outcome for ") && line.contains(reason), "{line}");
        }
        for trouble in [GuestTrouble::MemoryUsedUp, GuestTrouble::NoRoom(String::new()), GuestTrouble::Ended] {
            assert!(matches!(Stuck::from(trouble), Stuck::Trouble(_)));
        }
    }
}
