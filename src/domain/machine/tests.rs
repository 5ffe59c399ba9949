//! The machine against a small model of the API server, in virtual time.

mod adoption;
mod drift;
mod first_sight;
mod forbidden;
mod frozen;
mod guard;
mod model;
mod properties;
mod restart;
mod retention;
mod sim;
mod status;
mod trouble;
mod wanted;
mod world;
