//! `egress-controller render`, the program itself on files.

mod diff;
mod dns;
mod folder;
mod input;
mod output;
mod watch;
