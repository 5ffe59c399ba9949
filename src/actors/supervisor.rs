//! The root: parent of resolver, writer and router. When one of them dies the process ends: a replica without it would
//! look alive and do nothing.

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;

/// Address of the supervisor.
pub type SupervisorRef = ActorRef<SupervisorMsg>;

/// The actor.
pub struct Supervisor;

/// What the supervisor takes.
pub enum SupervisorMsg {
    /// The end is wanted: deaths of children are no failures any more.
    Stopping,
}

/// Why the process must end, once it must.
pub type Fatal = watch::Sender<Option<String>>;

/// State of the supervisor.
pub struct SupervisorState {
    fatal: Fatal,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = Fatal;

    async fn pre_start(&self, _: SupervisorRef, fatal: Fatal) -> Result<SupervisorState, ActorProcessingErr> {
        Ok(SupervisorState { fatal, stopping: false })
    }

    async fn handle(
        &self,
        _: SupervisorRef,
        msg: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            SupervisorMsg::Stopping => state.stopping = true,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: SupervisorRef,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let died = match event {
            SupervisionEvent::ActorFailed(cell, error) => Some((cell, error.to_string())),
            SupervisionEvent::ActorTerminated(cell, _, reason) => Some((cell, reason.unwrap_or_default())),
            _ => None,
        };
        if let Some((cell, error)) = died.filter(|_| !state.stopping) {
            let name = cell.get_name().unwrap_or_else(|| cell.get_id().to_string());
            tracing::error!(actor = name, error, "an actor that everything needs has died: the process ends");
            state.fatal.send_replace(Some(format!("actor {name} died: {error}")));
        }
        Ok(())
    }
}
