//! What only a process in the host's own network can find out, and what has to lie in
//! our volumes before anything starts: done by a short-lived container
//! (`shef bootstrap --prepare`), which prints its findings as one line of JSON.
//!
//! What the findings mean is decided here too, by [`evaluate`], which is pure.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use shef_common::store::{FORMAT, RedisFacts};

use crate::{
    address::{EngineNetwork, offered, unreachable_because},
    belongs::{Belongs, refused_as_first},
    refusal::{OLDEST_REDIS, Refusal},
};

/// What is to be found out and made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The address that should be this host's.
    pub host_ip: Ipv4Addr,
    /// Addresses that should be free: of which part, where.
    pub ports: Vec<(String, Ipv4Addr, u16)>,
    /// Whether passwords and directories of a master are to be made.
    pub makes_secrets: bool,
    /// A Redis that is not ours, to look at: host and port. How it is reached, the master's variables say.
    pub redis: Option<(String, u16)>,
    /// Whether our own Redis runs, so that what it stores can be looked at.
    pub own_redis_runs: bool,
    /// The engine's networks that no other host reaches.
    #[serde(default)]
    pub engine_networks: Vec<EngineNetwork>,
    /// Whether the host is to become a first host although it may belong to a cluster.
    #[serde(default)]
    pub take_over: bool,
    /// What the engine shows of the cluster that the host belongs to.
    #[serde(default)]
    pub belongs: Belongs,
    /// The masters that the agent is about to be started for: noted in its volume.
    #[serde(default)]
    pub masters_to_note: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Whether the address is this host's.
    pub is_own_address: bool,
    /// Addresses of this host, for people.
    pub own_addresses: Vec<Ipv4Addr>,
    /// The parts whose addresses are taken, and where.
    pub taken: Vec<(String, Ipv4Addr, u16)>,
    /// The Redis that was looked at, or why it could not be.
    pub redis: Option<Result<RedisFacts, String>>,
    /// The format of what it stores; `None`: nothing is stored.
    pub stored_format: Option<u32>,
    /// The address from which the host speaks to others.
    #[serde(default)]
    pub outward: Option<Ipv4Addr>,
    /// What the agent's volume says of the cluster that the host belongs to.
    #[serde(default)]
    pub belongs: Belongs,
}

/// What the findings mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why nothing may be started.
    pub refused: Vec<Refusal>,
    /// The consequences, a line each.
    pub warnings: Vec<String>,
}

/// What `findings` mean for `question`.
#[must_use]
pub fn evaluate(question: &Question, findings: &Findings) -> Verdict {
    let mut verdict = Verdict::default();
    let mut refuse = |refusal| verdict.refused.push(refusal);
    let (ip, networks) = (question.host_ip, &question.engine_networks);
    let offer = || offered(&findings.own_addresses, networks, findings.outward);
    if !findings.is_own_address {
        refuse(Refusal::NotOwnAddress { ip, offer: offer() });
    } else if let Some(why) = unreachable_because(ip, networks, findings.outward) {
        refuse(Refusal::Unreachable { ip, why, offer: offer() });
    }
    if question.makes_secrets && !question.take_over {
        let belongs = findings.belongs.clone().or(question.belongs.clone());
        let stored = findings.redis.as_ref().and_then(|redis| redis.as_ref().ok()?.cluster.clone());
        if let Some(other) = refused_as_first(&belongs, ip, stored.as_deref()) {
            refuse(other.into());
        }
    }
    for (part, ip, port) in &findings.taken {
        refuse(Refusal::PortTaken { part: part.clone(), ip: *ip, port: *port });
    }
    if let Some(stored) = findings.stored_format.filter(|stored| *stored > FORMAT) {
        refuse(Refusal::NewerStore(stored));
    }
    match (&findings.redis, &question.redis) {
        (Some(Err(why)), Some((host, port))) => {
            refuse(Refusal::Redis { redis: format!("{host}:{port}"), why: why.clone() });
        }
        (Some(Ok(facts)), Some((host, port))) => {
            let (refused, warnings) = evaluate_redis(facts, &format!("{host}:{port}"));
            verdict.refused.extend(refused);
            verdict.warnings.extend(warnings);
        }
        (None, _) | (_, None) => {}
    }
    verdict
}

fn evaluate_redis(facts: &RedisFacts, redis: &str) -> (Vec<Refusal>, Vec<String>) {
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    if let Some(version) = &facts.version {
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST_REDIS {
            refused.push(Refusal::OldRedis { redis: redis.to_owned(), version: version.clone() });
        }
    }
    if let Some(role) = facts.role.as_ref().filter(|role| *role != "master") {
        refused.push(Refusal::RedisRole { redis: redis.to_owned(), role: role.clone() });
    }
    if let Some(policy) = facts.maxmemory_policy.as_ref().filter(|policy| *policy != "noeviction") {
        warnings.push(format!(
            "the Redis at {redis} may drop keys when its memory is full (maxmemory-policy {policy}), and \
             services with them: set noeviction"
        ));
    }
    match (facts.appendonly, facts.appendfsync.as_deref()) {
        (Some(false), _) => warnings.push(format!(
            "the Redis at {redis} keeps no append-only file: all services are lost when it restarts; set \
             appendonly yes"
        )),
        (Some(true), Some(fsync)) if fsync != "always" => warnings.push(format!(
            "the Redis at {redis} syncs its file once a second at best (appendfsync {fsync}): the last \
             changes are lost when it dies; set always"
        )),
        (Some(true) | None, _) => {}
    }
    (refused, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::lines;

    fn question() -> Question {
        Question {
            host_ip: Ipv4Addr::new(10, 0, 0, 1),
            ports: vec![],
            makes_secrets: false,
            redis: Some(("r".into(), 6379)),
            own_redis_runs: false,
            engine_networks: vec![EngineNetwork { name: "bridge".into(), subnet: "172.17.0.0/16".into() }],
            take_over: false,
            belongs: Belongs::default(),
            masters_to_note: vec![],
        }
    }
    fn findings() -> Findings {
        Findings {
            is_own_address: true,
            own_addresses: vec![Ipv4Addr::new(10, 0, 0, 1)],
            taken: vec![],
            redis: Some(Ok(facts())),
            stored_format: Some(FORMAT),
            outward: None,
            belongs: Belongs::default(),
        }
    }
    fn facts() -> RedisFacts {
        RedisFacts {
            version: Some("7.0.15".into()),
            maxmemory_policy: Some("noeviction".into()),
            appendonly: Some(true),
            appendfsync: Some("always".into()),
            role: Some("master".into()),
            empty: true,
            cluster: None,
        }
    }
    fn refused(findings: &Findings) -> String {
        lines(&evaluate(&question(), findings).refused)
    }

    #[test]
    fn a_host_as_it_should_be_is_taken_without_a_word() {
        assert_eq!(evaluate(&question(), &findings()), Verdict::default());
    }

    #[test]
    fn each_refusal_names_the_value_and_what_to_do() {
        let foreign =
            Findings { is_own_address: false, own_addresses: vec![Ipv4Addr::new(10, 0, 0, 7)], ..findings() };
        assert!(refused(&foreign).contains("HOST_IP is 10.0.0.1") && refused(&foreign).contains("10.0.0.7"));
        let taken =
            Findings { taken: vec![("master".into(), Ipv4Addr::new(10, 0, 0, 1), 8044)], ..findings() };
        assert!(refused(&taken).contains("port 8044") && refused(&taken).contains("PORT"));
        let newer = Findings { stored_format: Some(FORMAT + 1), ..findings() };
        assert!(refused(&newer).contains("downgrade is refused"));
        let away = Findings { redis: Some(Err("connection refused".into())), ..findings() };
        assert!(refused(&away).contains("r:6379") && refused(&away).contains("connection refused"));
        let old = Findings {
            redis: Some(Ok(RedisFacts { version: Some("4.0.9".into()), ..facts() })),
            ..findings()
        };
        assert!(refused(&old).contains("4.0.9"));
        let replica =
            Findings { redis: Some(Ok(RedisFacts { role: Some("slave".into()), ..facts() })), ..findings() };
        assert!(refused(&replica).contains("primary"));
    }

    #[test]
    fn an_address_of_this_host_alone_is_refused_and_never_offered() {
        let own = ["10.0.0.1", "172.17.0.1"].map(|text| text.parse().unwrap()).to_vec();
        for (ip, why) in [("172.17.0.1", "the Docker network bridge"), ("127.0.0.1", "loopback")] {
            let question = Question { host_ip: ip.parse().unwrap(), ..question() };
            let findings = Findings { own_addresses: own.clone(), ..findings() };
            let said = lines(&evaluate(&question, &findings).refused);
            assert!(said.contains(why) && said.ends_with("start again with HOST_IP=10.0.0.1"), "{said}");
        }
        let foreign = Findings { is_own_address: false, own_addresses: own, ..findings() };
        assert!(
            refused(&foreign).ends_with("not an address of this host; start again with HOST_IP=10.0.0.1")
        );
    }

    #[test]
    fn a_host_of_another_cluster_becomes_no_first_host_unless_that_is_said() {
        let belongs =
            Belongs { cluster: Some("00000000000000aa".into()), masters: vec!["10.0.0.9:8044".into()] };
        let first = Question { makes_secrets: true, ..question() };
        let by_ledger = Findings { belongs: belongs.clone(), ..findings() };
        let said = lines(&evaluate(&first, &by_ledger).refused);
        assert!(said.contains("00000000000000aa") && said.contains("10.0.0.9:8044"), "{said}");
        let by_labels = Question { belongs: Belongs { masters: vec![], ..belongs }, ..first.clone() };
        let said = lines(&evaluate(&by_labels, &findings()).refused);
        assert!(said.contains("which has its master elsewhere"), "{said}");
        assert_eq!(evaluate(&question(), &by_ledger), Verdict::default(), "a further host");
        assert_eq!(evaluate(&Question { take_over: true, ..first }, &by_ledger), Verdict::default());
    }

    #[test]
    fn a_redis_that_may_lose_what_is_stored_is_used_with_a_warning() {
        let warned = |facts: RedisFacts| {
            let verdict = evaluate(&question(), &Findings { redis: Some(Ok(facts)), ..findings() });
            assert_eq!(verdict.refused, []);
            verdict.warnings.join("\n")
        };
        assert!(
            warned(RedisFacts { maxmemory_policy: Some("allkeys-lru".into()), ..facts() })
                .contains("allkeys-lru")
        );
        assert!(warned(RedisFacts { appendonly: Some(false), ..facts() }).contains("appendonly yes"));
        assert!(warned(RedisFacts { appendfsync: Some("everysec".into()), ..facts() }).contains("everysec"));
    }
}
