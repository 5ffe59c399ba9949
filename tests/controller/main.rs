//! The controller's process against a real API server and scripted DNS. One program, so that its tests share control planes: see `world`.

mod faults;
mod lifecycle;
mod outages;
mod ownership;
mod world;
