//! Files in the place of the API server: what `render` and `explain` read, and what `render` writes.
//!
//! ```text
//! input --text--> document --value--> schema, policy --LoadedPolicy--> session --NetworkPolicy--> output, diff
//! hosts, --resolve --answers--> session <--Resolution-- resolver (the controller's own)
//! ```

pub mod diff;
pub mod document;
pub mod finding;
pub mod hosts;
pub mod input;
pub mod load;
pub mod names;
pub mod output;
pub mod policy;
pub mod schema;
pub mod session;
pub mod watch;
