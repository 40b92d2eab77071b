//! What is true of a container: everything that is checked here would else be
//! refused by an engine, later and for every replica.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    super::{
        DeviceRequest, HealthCheck, HealthTest, HttpCheck, MAX_MOUNTS, MAX_PORTS, MAX_STOP_GRACE_S,
        MAX_TEMPLATE_BYTES, Mount, Network, OnUnhealthy, Port, Resources, Restart, RestartCondition,
        Template, addresses_overlap,
        grammar::{
            CAPABILITY, HOST, MAX_LABEL, NAME, SIGNAL, SYSCTL, TMPFS, ULIMITS, is_absolute, is_account,
            is_capability, is_driver, is_header, is_host, is_name, is_signal, is_sysctl, is_tmpfs_option,
            is_user, plain,
        },
    },
    Rules,
};
use crate::problem::FieldError;

/// The most entries of a list or map that has no bound of its own.
const MAX_ENTRIES: usize = 64;
/// The most bytes and thousandths of processors that can be asked for: far above any host, and safe to reckon
/// with.
const MAX_BYTES: u64 = 1 << 50;
const MAX_CPU_MILLIS: u64 = 10_000_000;
/// The most headers of a check, and the most statuses that it takes.
const MAX_CHECK_HEADERS: usize = 16;
/// The least memory that the engine takes as a limit.
const MIN_MEMORY: u64 = 6 * 1024 * 1024;
/// The most processes that Linux counts.
const MAX_PIDS: u64 = 4_194_304;
const HOUR_MS: u64 = 3_600_000;
const PATH: &str = "must be an absolute path without .. or control characters";

impl Template {
    /// Every rule that the field types do not carry and this template breaks, each with its path.
    #[must_use]
    pub fn violations(&self) -> Vec<FieldError> {
        let mut rules = Rules::default();
        self.process(&mut rules);
        self.host_settings(&mut rules);
        ports(&self.ports, &mut rules);
        mounts(&self.mounts, &mut rules);
        networks(self, &mut rules);
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
            rules.wrong("image", format!("and what else the container is made of must hold at most {MAX_TEMPLATE_BYTES} bytes as JSON, but hold {bytes}"));
        }
        rules.found
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
            let names = "names must not be empty or contain '=' or a zero byte";
            rules.check(!key.is_empty() && !key.contains(['=', '\0']), "env", names, format!("{key:?}"));
            rules.check(!value.contains('\0'), format!("env.{key}"), "must not contain a zero byte", value);
        }
        let directory = &self.working_dir;
        rules.check(directory.is_empty() || is_absolute(directory), "working_dir", PATH, directory);
        let user = "must be user or user:group by name or number, without spaces";
        rules.check(self.user.is_empty() || is_user(&self.user), "user", user, &self.user);
        rules.check(self.hostname.is_empty() || is_host(&self.hostname), "hostname", HOST, &self.hostname);
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
            rules.check(
                fits,
                "labels",
                "keys must not be empty or contain spaces or control characters",
                format!("{key:?}"),
            );
            rules.check(
                !key.starts_with("shef"),
                "labels",
                "keys that begin with shef are the control plane's own: choose another",
                key,
            );
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
            rules.count(field, capabilities.len(), MAX_ENTRIES);
            for (at, capability) in capabilities.iter().enumerate() {
                rules.check(is_capability(capability), format!("{field}[{at}]"), CAPABILITY, capability);
            }
        }
        rules.count("group_add", self.group_add.len(), MAX_ENTRIES);
        for (at, group) in self.group_add.iter().enumerate() {
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
        for name in self.extra_hosts.keys() {
            rules.check(is_host(name), "extra_hosts", HOST, name);
        }
        rules.count("host_gateway", self.host_gateway.len(), MAX_ENTRIES);
        for (at, name) in self.host_gateway.iter().enumerate() {
            rules.check(is_host(name), format!("host_gateway[{at}]"), HOST, name);
            let is_twice = self.extra_hosts.contains_key(name) || self.host_gateway[..at].contains(name);
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
        rules.count("devices", self.devices.len(), MAX_ENTRIES);
        for (at, device) in self.devices.iter().enumerate() {
            let path = format!("devices[{at}]");
            rules.check(is_absolute(&device.source), format!("{path}.source"), PATH, &device.source);
            let target = &device.target;
            rules.check(target.is_empty() || is_absolute(target), format!("{path}.target"), PATH, target);
            let letters: BTreeSet<char> = device.permissions.chars().collect();
            let known = letters.len() == device.permissions.len()
                && letters.iter().all(|letter| "rwm".contains(*letter));
            rules.check(
                known,
                format!("{path}.permissions"),
                "must be some of r, w and m, each once",
                &device.permissions,
            );
        }
        rules.count("device_requests", self.device_requests.len(), MAX_ENTRIES);
        for (at, request) in self.device_requests.iter().enumerate() {
            request.rules(&format!("device_requests[{at}]"), rules);
        }
    }
}

impl DeviceRequest {
    fn rules(&self, path: &str, rules: &mut Rules) {
        if let Some(count) = self.count {
            rules.check(count >= -1, format!("{path}.count"), "must be -1 (all) or more", count);
            let both = count != 0 && !self.device_ids.is_empty();
            rules.check(!both, format!("{path}.count"), "must not be given beside device_ids", count);
        }
        if self.driver.is_empty() && self.capabilities.is_empty() {
            rules.wrong(path, "must name a driver, or capabilities such as [[\"gpu\"]], but names neither");
        }
    }
}

fn ports(ports: &[Port], rules: &mut Rules) {
    rules.count("ports", ports.len(), MAX_PORTS);
    for (at, port) in ports.iter().enumerate() {
        let path = format!("ports[{at}]");
        rules.check(port.target != 0, format!("{path}.target"), "must be 1 to 65535", port.target);
        if let Some(published) = port.published {
            rules.check(
                published != 0,
                format!("{path}.published"),
                "must be 1 to 65535, or absent to have the engine choose",
                published,
            );
        }
        let clash = ports[..at].iter().position(|other| clashes(other, port));
        if let Some(other) = clash {
            let what = port
                .published
                .map_or_else(|| format!("container port {}", port.target), |port| format!("port {port}"));
            rules.wrong(
                &path,
                format!(
                    "must differ from ports[{other}], but both publish {what} ({})",
                    port.protocol.as_str()
                ),
            );
        }
    }
}

/// Whether two ports of one container cannot both be had.
fn clashes(a: &Port, b: &Port) -> bool {
    a.protocol == b.protocol
        && addresses_overlap(a.host_ip, b.host_ip)
        && if a.published.is_some() {
            a.published == b.published
        } else {
            b.published.is_none() && a.target == b.target
        }
}

fn mounts(mounts: &[Mount], rules: &mut Rules) {
    rules.count("mounts", mounts.len(), MAX_MOUNTS);
    let mut targets = BTreeSet::new();
    for (at, mount) in mounts.iter().enumerate() {
        let path = format!("mounts[{at}]");
        let target = mount.target();
        rules.check(
            is_absolute(target) && !plain(target).is_empty(),
            format!("{path}.target"),
            "must be an absolute path below / without .. or control characters",
            target,
        );
        if !targets.insert(plain(target)) {
            rules.wrong(
                format!("{path}.target"),
                format!("must be mounted once, but {target} is mounted twice"),
            );
        }
        match mount {
            Mount::Volume { source, driver, .. } => {
                rules.check(is_name(source), format!("{path}.source"), NAME, source);
                let rule = "must be a volume driver such as local";
                rules.check(driver.is_empty() || is_driver(driver), format!("{path}.driver"), rule, driver);
            }
            Mount::Bind { source, .. } => {
                rules.check(is_absolute(source), format!("{path}.source"), PATH, source);
            }
            Mount::Tmpfs { size_bytes, mode, mount_options, .. } => {
                rules.count(&format!("{path}.mount_options"), mount_options.len(), MAX_ENTRIES);
                for (nth, option) in mount_options.iter().enumerate() {
                    let path = format!("{path}.mount_options[{nth}]");
                    rules.check(is_tmpfs_option(option), path, TMPFS, option);
                }
                if let Some(bytes) = size_bytes {
                    rules.range(format!("{path}.size_bytes"), *bytes, 4_096, MAX_BYTES, "bytes");
                }
                if let Some(mode) = mode {
                    rules.range(
                        format!("{path}.mode"),
                        (*mode).into(),
                        0,
                        0o7777,
                        "(octal 7777; octal is given as a string)",
                    );
                }
            }
        }
    }
}

fn networks(template: &Template, rules: &mut Rules) {
    let networks = &template.networks;
    rules.count("networks", networks.len(), MAX_ENTRIES);
    for (at, network) in networks.iter().enumerate() {
        let Network { name, aliases, ipv4_address, ipv6_address } = network;
        let path = format!("networks[{at}]");
        rules.check(is_name(name), format!("{path}.name"), NAME, name);
        rules.check(
            name != "default",
            format!("{path}.name"),
            "must be another name (the engine's own is bridge)",
            name,
        );
        if networks[..at].iter().any(|other| other.name == *name) {
            rules.wrong(format!("{path}.name"), format!("must be joined once, but {name} is named twice"));
        }
        rules.count(&format!("{path}.aliases"), aliases.len(), MAX_ENTRIES);
        for (nth, alias) in aliases.iter().enumerate() {
            rules.check(is_host(alias), format!("{path}.aliases[{nth}]"), HOST, alias);
        }
        if matches!(name.as_str(), "bridge" | "host" | "none") && !aliases.is_empty() {
            rules.wrong(
                format!("{path}.aliases"),
                format!("must be empty on the engine's own network {name}"),
            );
        }
        let addresses =
            [("ipv4_address", ipv4_address.map(IpAddr::V4)), ("ipv6_address", ipv6_address.map(IpAddr::V6))];
        for (field, address) in addresses.into_iter().filter_map(|(field, address)| Some((field, address?))) {
            let path = format!("{path}.{field}");
            let is_of_a_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
            rules.check(is_of_a_host, &path, "must be the address of one container", address);
            if matches!(name.as_str(), "bridge" | "host" | "none") {
                let rule = "must be absent on the engine's own network";
                rules.wrong(&path, format!("{rule} {name}: only networks of a known subnet take one"));
            }
        }
        let alone = matches!(name.as_str(), "host" | "none");
        if alone && networks.len() > 1 {
            rules.wrong(format!("{path}.name"), format!("must be the only network if it is {name}"));
        }
        if alone && !template.ports.is_empty() {
            rules.wrong("ports", format!("must be empty on network {name}: nothing is published there"));
        }
        if alone && name == "host" && !template.hostname.is_empty() {
            rules.wrong("hostname", "must be absent on network host: the container has the host's");
        }
    }
}

impl Resources {
    fn rules(&self, rules: &mut Rules) {
        let (reserve, limit) = (self.reserve, self.limit);
        for (path, reserved, limited, most) in [
            ("cpu_millis", reserve.cpu_millis, limit.cpu_millis, MAX_CPU_MILLIS),
            ("memory_bytes", reserve.memory_bytes, limit.memory_bytes, MAX_BYTES),
        ] {
            rules.range(format!("resources.reserve.{path}"), reserved, 0, most, "");
            rules.range(format!("resources.limit.{path}"), limited, 0, most, "");
            if limited != 0 {
                let rule = format!("must not be above the limit of {limited}");
                rules.check(reserved <= limited, format!("resources.reserve.{path}"), &rule, reserved);
            }
        }
        let rule = format!("must be 0 (no limit) or at least {MIN_MEMORY} bytes (6 MiB)");
        let memory = limit.memory_bytes;
        rules.check(memory == 0 || memory >= MIN_MEMORY, "resources.limit.memory_bytes", &rule, memory);
        // The engine takes no less than a hundredth.
        let cpu = limit.cpu_millis;
        rules.check(
            cpu == 0 || cpu >= 10,
            "resources.limit.cpu_millis",
            "must be 0 (no limit) or at least 10",
            cpu,
        );
        if let Some(swap) = limit.swap_bytes {
            rules.range("resources.limit.swap_bytes", swap, 0, MAX_BYTES, "");
            let rule = "must come with a limit of memory_bytes";
            rules.check(memory != 0, "resources.limit.swap_bytes", rule, swap);
        }
        rules.range("resources.limit.pids", limit.pids, 0, MAX_PIDS, "");
    }
}

impl HealthCheck {
    fn rules(&self, rules: &mut Rules) {
        rules.range("health.interval_ms", self.interval_ms.into(), 100, HOUR_MS, "milliseconds");
        rules.range("health.timeout_ms", self.timeout_ms.into(), 100, 600_000, "milliseconds");
        rules.range("health.retries", self.retries.into(), 1, 100, "");
        rules.range("health.start_period_ms", self.start_period_ms.into(), 0, HOUR_MS, "milliseconds");
        match &self.test {
            HealthTest::Cmd(arguments) => {
                let empty = arguments.first().is_none_or(String::is_empty);
                rules.check(!empty, "health.test.cmd", "must hold a program and its arguments", "empty");
            }
            HealthTest::Shell(line) => {
                rules.check(!line.trim().is_empty(), "health.test.shell", "must be a command line", "empty");
            }
            HealthTest::Http(check) => check.rules(rules),
            HealthTest::Tcp { port } => {
                rules.check(*port != 0, "health.test.tcp.port", "must be 1 to 65535", port);
            }
            HealthTest::None => {
                let rule = "must be report without a check (test none)";
                rules.check(
                    self.on_unhealthy.is_report(),
                    "health.on_unhealthy",
                    rule,
                    self.on_unhealthy.as_str(),
                );
            }
        }
    }
}

impl Restart {
    fn rules(&self, rules: &mut Rules) {
        rules.range("restart.delay_ms", self.delay_ms.into(), 0, HOUR_MS, "milliseconds");
        rules.range("restart.window_ms", self.window_ms.into(), 0, 24 * HOUR_MS, "milliseconds");
        rules.range("restart.max_attempts", self.max_attempts.into(), 0, 10_000, "");
    }
}

impl HttpCheck {
    fn rules(&self, rules: &mut Rules) {
        let Self { port, path, https: _, headers, status } = self;
        rules.check(*port != 0, "health.test.http.port", "must be 1 to 65535", port);
        let fits = path.starts_with('/')
            && path.len() <= 1_024
            && path.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
        let rule = "must begin with / and hold at most 1024 visible ASCII characters without #";
        rules.check(fits, "health.test.http.path", rule, path);
        rules.count("health.test.http.headers", headers.len(), MAX_CHECK_HEADERS);
        for (name, value) in headers {
            let rule = "must be a header that a check may set: letters, digits and hyphens, and none of the connection's own";
            rules.check(is_header(name), "health.test.http.headers", rule, name);
            let namesakes = headers.keys().filter(|other| other.eq_ignore_ascii_case(name)).count();
            let rule = "must be there once, whatever the case of its letters";
            rules.check(namesakes == 1, format!("health.test.http.headers.{name}"), rule, name);
            let fits = value.len() <= 1_024 && value.bytes().all(|c| c == b' ' || c.is_ascii_graphic());
            let rule = "must hold at most 1024 visible ASCII characters and spaces";
            rules.check(fits, format!("health.test.http.headers.{name}"), rule, value);
        }
        rules.count("health.test.http.status", status.len(), MAX_CHECK_HEADERS);
        for status in status {
            let rule = "must be statuses from 100 to 599";
            rules.check((100..600).contains(status), "health.test.http.status", rule, status);
        }
    }
}
