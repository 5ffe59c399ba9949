//! Counts what was compared.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

use crate::case::{Case, Outcome};
use crate::reading::{self, Reading};

/// What came out so far.
#[derive(Default)]
pub struct Summary {
    unrestricted: usize,
    denied: usize,
    allowed: usize,
    to_pods: usize,
    to_ipv6: usize,
    unexplained: usize,
    /// Cases by the readings that explain them; those that agree have none.
    explained: BTreeMap<Vec<Reading>, usize>,
}

impl Summary {
    pub fn add(&mut self, case: &Case, ours: Outcome, explanation: Option<&[Reading]>) {
        *match ours {
            Outcome::Unrestricted => &mut self.unrestricted,
            Outcome::Denied => &mut self.denied,
            Outcome::Allowed => &mut self.allowed,
        } += 1;
        self.to_pods += usize::from(case.pod.is_some());
        self.to_ipv6 += usize::from(case.ip.is_ipv6());
        match explanation {
            Some(readings) => *self.explained.entry(readings.to_vec()).or_default() += 1,
            None => self.unexplained += 1,
        }
    }

    pub fn cases(&self) -> usize {
        self.unrestricted + self.denied + self.allowed
    }

    pub fn unexplained(&self) -> usize {
        self.unexplained
    }

    /// Agreement says little when nearly all cases have one outcome, or when a known difference does not show: then the
    /// evaluator here may have the same fault.
    ///
    /// # Errors
    ///
    /// When an outcome is rarer than one case in ten, or a reading explains no case.
    pub fn ensure_varied(&self) -> Result<()> {
        let rarest = self.unrestricted.min(self.denied).min(self.allowed);
        ensure!(rarest * 10 >= self.cases(), "the cases are too much alike: an outcome is rarer than one in ten");
        for reading in Reading::ALL {
            let shows = self.explained.keys().any(|readings| readings.contains(&reading));
            ensure!(shows, "no case shows {reading:?}: too few cases, another cyclonus, or the same fault here");
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agree = self.explained.get(&[][..]).copied().unwrap_or_default();
        let explained = self.explained.values().sum::<usize>() - agree;
        writeln!(f, "cases        {:5}  ({} to pods, {} to IPv6)", self.cases(), self.to_pods, self.to_ipv6)?;
        writeln!(f, "  unrestricted {:5}, denied {:5}, allowed {:5}", self.unrestricted, self.denied, self.allowed)?;
        writeln!(f, "agree        {agree:5}")?;
        writeln!(f, "explained    {explained:5}")?;
        for (readings, cases) in self.explained.iter().filter(|(readings, _)| !readings.is_empty()) {
            writeln!(f, "  {cases:5}  {}", reading::names(readings))?;
        }
        write!(f, "unexplained  {:5}", self.unexplained)
    }
}
