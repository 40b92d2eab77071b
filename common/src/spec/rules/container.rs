//! What is true of a container: everything that is checked here would else be
//! refused by an engine, later and for every replica.

use super::{
    super::{
        MAX_STOP_GRACE_S, MAX_TEMPLATE_BYTES, Mount, Network, OnUnhealthy, Port, RestartCondition, Template,
        grammar::{
            CAPABILITY, HOST, MAX_LABEL, PATH, SECURITY_OPTION, SIGNAL, SYSCTL, ULIMITS, is_absolute,
            is_account, is_capability, is_driver, is_host, is_security_option, is_signal, is_sysctl, is_user,
        },
    },
    MAX_BYTES, MAX_ENTRIES, Rules,
};
use crate::problem::FieldError;

/// The most characters that are shown of a broken rule.
const MAX_VIOLATION: usize = 500;

impl Template {
    /// Every rule that the field types do not carry and this template breaks, each with its path.
    #[must_use]
    pub fn violations(&self) -> Vec<FieldError> {
        let mut rules = Rules::default();
        self.process(&mut rules);
        self.host_settings(&mut rules);
        Port::rules(&self.ports, &mut rules);
        Mount::rules(&self.mounts, &mut rules);
        self.content_rules(&mut rules);
        Network::rules(&self.networks, &mut rules);
        if let Some(Network { name, .. }) = self.networks.iter().find(|network| network.is_alone()) {
            if !self.ports.is_empty() {
                rules.wrong("ports", format!("must be empty on network {name}: nothing is published there"));
            }
            if name == "host" && !self.hostname.is_empty() {
                rules.wrong("hostname", "must be absent on network host: the container has the host's");
            }
        }
        self.resources.rules(&mut rules);
        if let Some(health) = &self.health {
            health.rules(&mut rules);
            let stays_down = self.restart.condition == RestartCondition::Never;
            if stays_down && health.on_unhealthy == OnUnhealthy::Restart {
                let rule = "must be report or replace while restart.condition is never";
                rules.check(false, "health.on_unhealthy", rule, "restart");
            }
        }
        self.restart.rules(&mut rules);
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_TEMPLATE_BYTES {
            rules.wrong(
                "image",
                format!(
                    "and what else the container is made of must hold at most \
                                          {MAX_TEMPLATE_BYTES} bytes as JSON, but hold {bytes}"
                ),
            );
        }
        rules.found
    }

    /// The first rule that it breaks, for people, and how many more there are.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        let found = self.violations();
        let FieldError { field, message } = found.first()?;
        let more = found.len() - 1;
        let first: String = format!("{field} {message}").chars().take(MAX_VIOLATION).collect();
        Some(if more == 0 { first } else { format!("{first} (and {more} more)") })
    }

    fn process(&self, rules: &mut Rules) {
        rules.range("stop_grace_s", self.stop_grace_s.into(), 0, MAX_STOP_GRACE_S.into(), "seconds");
        for (field, arguments) in [("command", &self.command), ("entrypoint", &self.entrypoint)] {
            for (at, argument) in arguments.iter().enumerate() {
                rules.check(
                    !argument.contains('\0'),
                    format!("{field}[{at}]"),
                    "must not contain a zero byte",
                    argument,
                );
            }
        }
        for (key, value) in &self.env {
            let names = "must have no name that is empty or contains '=' or a zero byte";
            rules.name(!key.is_empty() && !key.contains(['=', '\0']), "env", names, key);
            rules.check(!value.contains('\0'), format!("env.{key}"), "must not contain a zero byte", value);
        }
        let directory = &self.working_dir;
        rules.check(directory.is_empty() || is_absolute(directory), "working_dir", PATH, directory);
        let user = "must be user or user:group by name or number, without spaces";
        rules.check(self.user.is_empty() || is_user(&self.user), "user", user, &self.user);
        for (field, name) in [("hostname", &self.hostname), ("domainname", &self.domainname)] {
            rules.check(name.is_empty() || is_host(name), field, HOST, name);
        }
        rules.check(
            self.stop_signal.is_empty() || is_signal(&self.stop_signal),
            "stop_signal",
            SIGNAL,
            &self.stop_signal,
        );
        for (key, value) in &self.labels {
            let fits = !key.is_empty()
                && key.len() <= MAX_LABEL
                && !key.chars().any(|c| c.is_control() || c.is_whitespace());
            let keys = "must have no key that is empty, longer than 4096 bytes, or contains spaces or \
                        control characters";
            rules.name(fits, "labels", keys, key);
            let own = "must have no key that begins with shef, as those are the control plane's own";
            rules.name(!key.starts_with("shef"), "labels", own, key);
            rules.check(
                !value.contains('\0'),
                format!("labels.{key}"),
                "must not contain a zero byte",
                value,
            );
        }
        for (name, limit) in &self.ulimits {
            let path = format!("ulimits.{name}");
            rules.check(
                ULIMITS.contains(&name.as_str()),
                "ulimits",
                &format!("must be one of {}", ULIMITS.join(", ")),
                name,
            );
            rules.check(
                limit.soft >= -1,
                format!("{path}.soft"),
                "must be -1 (no limit) or more",
                limit.soft,
            );
            rules.check(
                limit.hard >= -1,
                format!("{path}.hard"),
                "must be -1 (no limit) or more",
                limit.hard,
            );
            let ordered = limit.hard == -1 || (limit.soft != -1 && limit.soft <= limit.hard);
            rules.check(
                ordered,
                format!("{path}.soft"),
                &format!("must not be above hard ({})", limit.hard),
                limit.soft,
            );
        }
    }

    fn host_settings(&self, rules: &mut Rules) {
        for (key, value) in &self.sysctls {
            rules.check(is_sysctl(key), "sysctls", SYSCTL, key);
            let is_net = key.starts_with("net.") || key.starts_with("net/");
            let shared = is_net && self.networks.iter().any(|network| network.name == "host");
            rules.check(
                !shared,
                "sysctls",
                "must not be below net. on network host, where they are the host's",
                key,
            );
            rules.check(
                !value.chars().any(char::is_control),
                format!("sysctls.{key}"),
                "must not contain control characters",
                value,
            );
        }
        for (field, capabilities) in [("cap_add", &self.cap_add), ("cap_drop", &self.cap_drop)] {
            let capabilities = rules.entries(field, capabilities, MAX_ENTRIES);
            for (at, capability) in capabilities.iter().enumerate() {
                rules.check(is_capability(capability), format!("{field}[{at}]"), CAPABILITY, capability);
            }
        }
        let options = rules.entries("security_opt", &self.security_opt, MAX_ENTRIES);
        for (at, option) in options.iter().enumerate() {
            rules.check(is_security_option(option), format!("security_opt[{at}]"), SECURITY_OPTION, option);
        }
        let parent = &self.cgroup_parent;
        let is_parent = parent.len() <= 255
            && parent.bytes().all(|c| c.is_ascii_alphanumeric() || b"/_.-".contains(&c))
            && !parent.split('/').any(|part| part == "..");
        let parents = "must be the name of a control group such as /batch or batch.slice";
        rules.check(is_parent, "cgroup_parent", parents, parent);
        let groups = rules.entries("group_add", &self.group_add, MAX_ENTRIES);
        for (at, group) in groups.iter().enumerate() {
            let group_rule = "must be a group by name or number, without spaces";
            rules.check(is_account(group), format!("group_add[{at}]"), group_rule, group);
        }
        if let Some(score) = self.oom_score_adj {
            rules.check((-1_000..=1_000).contains(&score), "oom_score_adj", "must be -1000 to 1000", score);
        }
        if let Some(bytes) = self.shm_bytes {
            rules.range("shm_bytes", bytes, 4_096, MAX_BYTES, "bytes");
        }
        rules.count("extra_hosts", self.extra_hosts.len(), MAX_ENTRIES);
        for name in self.extra_hosts.keys().take(MAX_ENTRIES) {
            rules.check(is_host(name), "extra_hosts", HOST, name);
        }
        let gateways = rules.entries("host_gateway", &self.host_gateway, MAX_ENTRIES);
        for (at, name) in gateways.iter().enumerate() {
            rules.check(is_host(name), format!("host_gateway[{at}]"), HOST, name);
            let is_twice = self.extra_hosts.contains_key(name) || gateways[..at].contains(name);
            rules.check(
                !is_twice,
                format!("host_gateway[{at}]"),
                "must be no name that leads elsewhere too",
                name,
            );
        }
        rules.count("dns", self.dns.len(), MAX_ENTRIES);
        if let Some(logging) = &self.logging {
            let rule = "must be a logging driver such as json-file, local, journald or syslog";
            rules.check(is_driver(&logging.driver), "logging.driver", rule, &logging.driver);
        }
        let devices = rules.entries("devices", &self.devices, MAX_ENTRIES);
        for (at, device) in devices.iter().enumerate() {
            device.rules(&format!("devices[{at}]"), rules);
        }
        let requests = rules.entries("device_requests", &self.device_requests, MAX_ENTRIES);
        for (at, request) in requests.iter().enumerate() {
            request.rules(&format!("device_requests[{at}]"), rules);
        }
    }
}
