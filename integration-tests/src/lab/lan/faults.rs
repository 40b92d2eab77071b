//! What goes wrong between hosts: cut cables, lost packets, delays.

use std::{net::SocketAddr, time::Duration};

use super::{
    LanLab,
    delay::DelayProxy,
    filters::{CHAINS, Cut, diversion, divert, rule},
    host::AGENT_PORT,
};

impl LanLab {
    /// Cuts a host off, on top of what has been cut already.
    ///
    /// # Errors
    /// There is no such host, or what the system refused.
    pub fn cut(&self, host: &str, cut: Cut) -> Result<(), String> {
        let space = &self.host(host)?.namespace;
        let master = self.master.address.ip().to_string();
        let (api, agent) = (self.master.address.port().to_string(), AGENT_PORT.to_string());
        let from =
            |rest: &[&str]| rule(space, "filter", &[&["-A", "LAB-IN"], rest, &["-j", "DROP"]].concat());
        let to = |rest: &[&str]| rule(space, "filter", &[&["-A", "LAB-OUT"], rest, &["-j", "DROP"]].concat());
        match cut {
            Cut::Both => space.cable(false),
            Cut::Incoming => from(&["-i", "eth0"]),
            Cut::Outgoing => to(&["-o", "eth0"]),
            Cut::Master => from(&["-s", &master]).and_then(|()| to(&["-d", &master])),
            Cut::Pushes => from(&["-s", &master, "-p", "tcp", "--dport", &agent]),
            Cut::Reports => to(&["-d", &master, "-p", "tcp", "--dport", &api]),
        }
    }

    /// Has a host lose a share of the packets that it sends and of those that it is sent.
    ///
    /// # Errors
    /// There is no such host, the share is not one, or what the system refused.
    pub fn lose_packets(&self, host: &str, percent: f64) -> Result<(), String> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("{percent} is no share of packets in percent: 0 to 100"));
        }
        let space = &self.host(host)?.namespace;
        let share = format!("{:.4}", percent / 100.0);
        for (chain, way) in [("LAB-IN", "-i"), ("LAB-OUT", "-o")] {
            let at_random = ["-m", "statistic", "--mode", "random", "--probability", &share];
            rule(
                space,
                "filter",
                &[&["-A", chain, way, "eth0"], at_random.as_slice(), &["-j", "DROP"]].concat(),
            )?;
        }
        Ok(())
    }

    /// Delays what a host and the master, and a host and other hosts, say to each
    /// other, each way. Connections are made without delay, and end when it begins.
    ///
    /// # Errors
    /// There is no such host, or what the system refused.
    pub async fn delay(&mut self, host: &str, delay: Duration) -> Result<(), String> {
        let agent = SocketAddr::from((self.host(host)?.namespace.address, AGENT_PORT));
        let here = self.net.address();
        let to_agent = DelayProxy::start(here, agent, delay).await?;
        let to_master = DelayProxy::start(here, self.master.address, delay).await?;
        let others = self.hosts.iter().filter(|other| other.name != host).map(|other| &other.namespace);
        for space in others.chain(self.master_namespace.as_ref()) {
            divert(space, agent, to_agent.address)?;
        }
        divert(&self.host(host)?.namespace, self.master.address, to_master.address)?;
        self.delays.push((host.to_owned(), [to_agent, to_master]));
        Ok(())
    }

    /// Mends all that the network does to a host. A host that was lost still is.
    ///
    /// # Errors
    /// There is no such host, or what the system refused.
    pub fn heal(&mut self, host: &str) -> Result<(), String> {
        let space = self.host(host)?.namespace.clone();
        for (table, _, chain) in CHAINS {
            rule(&space, table, &["-F", chain])?;
        }
        if let Some(at) = self.delays.iter().position(|(delayed, _)| delayed == host) {
            let [to_agent, _] = self.delays.remove(at).1;
            let agent = SocketAddr::from((space.address, AGENT_PORT));
            let others = self.hosts.iter().filter(|other| other.name != host).map(|other| &other.namespace);
            for other in others.chain(self.master_namespace.as_ref()) {
                for (table, chain, words) in diversion(agent, to_agent.address) {
                    // Another host's healing may have taken it away already.
                    let _ = rule(
                        other,
                        table,
                        &[&["-D", chain], words.iter().map(String::as_str).collect::<Vec<_>>().as_slice()]
                            .concat(),
                    );
                }
            }
        }
        space.cable(true)
    }
}
