//! The machine that a run ran on, as proc(5) tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::format;

/// What a number has to be read against.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Processors.
    pub cores: usize,
    /// Memory, to a tenth.
    pub memory_gib: f64,
    /// Model of the processor; empty where the kernel does not tell.
    pub cpu: String,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// This machine; what cannot be read stays zero or empty.
    pub fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/cpuinfo"), &read("/proc/meminfo"), &read("/proc/sys/kernel/osrelease"))
    }

    fn of(cpuinfo: &str, meminfo: &str, osrelease: &str) -> Self {
        let fields = |name| cpuinfo.lines().filter_map(move |line| field(line, name));
        let kib = meminfo.lines().find_map(|line| field(line, "MemTotal"));
        let kib: f64 = kib.and_then(|kib| kib.trim_end_matches("kB").trim().parse().ok()).unwrap_or_default();
        Self {
            cores: fields("processor").count(),
            memory_gib: (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            cpu: fields("model name").next().unwrap_or_default().to_owned(),
            kernel: osrelease.trim().to_owned(),
        }
    }
}

/// `name : value`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == name).then(|| value.trim())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cores > 0 {
            parts.push(format!("{} core{}", self.cores, if self.cores == 1 { "" } else { "s" }));
        }
        if self.memory_gib > 0.0 {
            parts.push(format::plain_with_unit(self.memory_gib, "GiB"));
        }
        if !self.cpu.is_empty() {
            parts.push(self.cpu.clone());
        }
        if !self.kernel.is_empty() {
            parts.push(format!("Linux {}", self.kernel));
        }
        f.write_str(if parts.is_empty() { "unknown" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_what_the_kernel_tells() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n";
        let machine = Machine::of(cpuinfo, "MemTotal:       24684084 kB\nMemFree: 1 kB\n", "6.18.44\n");
        let expected = Machine { cores: 2, memory_gib: 23.5, cpu: "AMD EPYC".into(), kernel: "6.18.44".into() };
        assert_eq!(machine, expected);
        assert_eq!(machine.to_string(), "2 cores, 23.5 GiB, AMD EPYC, Linux 6.18.44");
    }

    #[test]
    fn a_machine_that_tells_nothing_is_unknown() {
        assert_eq!(Machine::of("", "", ""), Machine::default());
        assert_eq!(Machine::default().to_string(), "unknown");
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
