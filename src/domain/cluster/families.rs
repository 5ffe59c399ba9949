//! `--ip-families`: which families are looked up and written.

use std::fmt;
use std::str::FromStr;

use crate::answer::Families;

/// What the administrator says of families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpFamilies {
    /// Those of the cluster, as its Service CIDRs, Pod CIDRs and Nodes tell; both while nothing tells.
    #[default]
    Auto,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both, whatever the cluster tells.
    Dual,
}

/// Not one of the words of [`IpFamilies`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: families are auto, ipv4, ipv6 or dual")]
pub struct UnknownFamilies(String);

impl IpFamilies {
    /// The families that are on, in a cluster of these ones.
    pub fn choose(self, of_cluster: Families) -> Families {
        match self {
            // A cluster of no family is one that nobody has told us of: too many families cost lookups, too few cost traffic.
            Self::Auto if of_cluster.v4 || of_cluster.v6 => of_cluster,
            Self::Auto | Self::Dual => Families::BOTH,
            Self::Ipv4 => Families { v4: true, v6: false },
            Self::Ipv6 => Families { v4: false, v6: true },
        }
    }
}

impl FromStr for IpFamilies {
    type Err = UnknownFamilies;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            "dual" => Ok(Self::Dual),
            other => Err(UnknownFamilies(other.to_owned())),
        }
    }
}

impl fmt::Display for IpFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(flag: &str, cluster: (bool, bool), expected: (bool, bool)) {
        let flag: IpFamilies = flag.parse().unwrap();
        let chosen = flag.choose(Families { v4: cluster.0, v6: cluster.1 });
        assert_eq!((chosen.v4, chosen.v6), expected, "{flag} in {cluster:?}");
    }

    #[test]
    fn auto_follows_the_cluster_and_is_dual_while_nothing_is_known() {
        check("auto", (true, false), (true, false));
        check("auto", (false, true), (false, true));
        check("auto", (true, true), (true, true));
        check("auto", (false, false), (true, true));
    }

    #[test]
    fn a_word_overrides_the_cluster() {
        check("ipv4", (false, true), (true, false));
        check("ipv6", (true, false), (false, true));
        check("dual", (true, false), (true, true));
    }

    #[test]
    fn every_word_prints_as_it_is_read_and_others_are_refused() {
        for word in ["auto", "ipv4", "ipv6", "dual"] {
            assert_eq!(word.parse::<IpFamilies>().unwrap().to_string(), word);
        }
        assert!("v4".parse::<IpFamilies>().is_err());
    }
}
