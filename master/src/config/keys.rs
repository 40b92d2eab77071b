//! The keys, each with its bounds, its default and what is said of it.

use shef_common::{
    browser_guard,
    config::{Key, Kind},
    logging,
    spec::MAX_HISTORY,
};

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "ms" }
}

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "host_ip",
        kind: Kind::Ipv4,
        default: "",
        env: &["SHEF_HOST_IP", "HOST_IP"],
        doc: "The IPv4 address by which other hosts reach this one. `shef master` does not start without it.",
    },
    Key {
        name: "listen",
        kind: Kind::Listen,
        default: ":8044",
        env: &[],
        doc: "Where the API listens; without an address, on host_ip. The variable PORT changes the port \
              alone.",
    },
    Key {
        name: "data_dir",
        kind: Kind::Path,
        default: super::DEFAULT_DATA_DIR,
        env: &[],
        doc: "Where the embedded store keeps its file.",
    },
    Key {
        name: "secret_key_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "The file with the key (32 bytes) that encrypts registry credentials and the CA's key. The \
              master makes it if it is\nmissing.\nEmpty: secret.key in data_dir. Keep a copy: backups do not \
              contain it.",
    },
    Key {
        name: "report_interval_ms",
        kind: milliseconds(100, 10_000),
        default: "500",
        env: &[],
        doc: "How often an agent reports when nothing changes; changes are reported at once.",
    },
    Key {
        name: "suspect_after_ms",
        kind: milliseconds(200, 600_000),
        default: "1200",
        env: &[],
        doc: "How long a host may be silent before it is suspect: nothing new is placed there, and it is \
              probed, by the master and\n\
              through other agents. At least twice report_interval_ms; grows with the interval when many \
              hosts make that longer.",
    },
    Key {
        name: "probe_window_ms",
        kind: milliseconds(200, 600_000),
        default: "850",
        env: &[],
        doc: "How long all probes of a suspect host must fail before it is down and its replicas are placed \
              anew; four times the\nround trip that the host has reported is added.",
    },
    Key {
        name: "brake_share_percent",
        kind: Kind::Integer { min: 1, max: 100, unit: "percent" },
        default: "33",
        env: &[],
        doc: "When more than this share of the hosts, and at least three, go down together, their replicas \
              are not replaced:\n\
              the fault is probably in the network or in the master. 100 turns the brake off.",
    },
    Key {
        name: "brake_release_after_ms",
        kind: milliseconds(1_000, 86_400_000),
        default: "300000",
        env: &[],
        doc: "After how long they are replaced all the same; hosts that return or POST /v1/cluster/resume \
              end it earlier.",
    },
    Key {
        name: "unanswered_down_after_ms",
        kind: milliseconds(0, 86_400_000),
        default: "60000",
        env: &[],
        doc: "How long a host without an agent is kept while none of its replicas' ports takes a connection \
              from the master or\nfrom other hosts; then it is down. Published ports count, and ports of \
              HTTP and TCP checks in the host's own\nnetwork.\n0: for ever. Where the master has never \
              reached such a port, or with 0, the host keeps its replicas until an\noperator drains or \
              forgets it.",
    },
    Key {
        name: "flap_hold_ms",
        kind: milliseconds(1_000, 86_400_000),
        default: "300000",
        env: &[],
        doc: "How long a host that went down three times within ten minutes has to be up before it takes \
              new replicas.",
    },
    Key {
        name: "history_limit",
        kind: Kind::Integer { min: 0, max: MAX_HISTORY as u64, unit: "generations" },
        default: "10",
        env: &[],
        doc: "How many earlier generations of a service are kept to go back to.",
    },
    Key {
        name: "max_replicas_per_host",
        kind: Kind::Integer { min: 1, max: 10_000, unit: "replicas" },
        default: "1000",
        env: &[],
        doc: "How many replicas one host may have, of all services. Further ones go to other hosts or wait; \
              existing ones stay.\nA network of Docker holds 1,023 containers of a host.",
    },
    Key {
        name: "push_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "5000",
        env: &[],
        doc: "How long one push of assignments to an agent may take.",
    },
    Key {
        name: "store_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "5000",
        env: &[],
        doc: "How long a request that writes waits for the store before it is answered 503.",
    },
    Key {
        name: "max_waiting_requests",
        kind: Kind::Integer { min: 1, max: 100_000, unit: "requests" },
        default: "1024",
        env: &[],
        doc: "How many requests may wait for their outcome at once; more are answered 503.",
    },
    Key {
        name: "max_streams",
        kind: Kind::Integer { min: 1, max: 10_000, unit: "streams" },
        default: "256",
        env: &[],
        doc: "How many logs, event streams and commands may be followed at once; more are answered 503.",
    },
    Key {
        name: "token_requests_per_second",
        kind: Kind::Integer { min: 1, max: 1_000_000, unit: "requests" },
        default: "1000",
        env: &[],
        doc: "How many requests a second the holder of one token may make, five times as many at once; more \
              are answered 429.\nAgents, and callers by the master's socket, have no such bound.",
    },
    Key {
        name: "token_changes_per_minute",
        kind: Kind::Integer { min: 1, max: 1_000_000, unit: "changes" },
        default: "60",
        env: &[],
        doc: "How many changes a minute the holder of one token may make for long, a hundred times as many \
              at once; more are\nanswered 429. So no token fills the audit log within audit_days. Counts \
              what has a line in it; without audit there is\nno such bound.",
    },
    Key {
        name: "max_body_bytes",
        kind: Kind::Integer { min: 1_024, max: 16_777_216, unit: "bytes" },
        default: "262144",
        env: &[],
        doc: "The largest body of a request; larger ones are answered 413.",
    },
    Key {
        name: browser_guard::KEY,
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "Host names by which requests may name this master, separated by commas; *.example.com stands \
              for all names below it.\nIts addresses, localhost and names without a dot always count. \
              Requests that read, and those of web pages, get 421\nif they use another name.",
    },
    Key {
        name: "api_certificate",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "A certificate for host names of yours, with those that lead to its authority (PEM). Browsers and \
              programs that\nask for one of these names are shown it; hosts and commands of shef go by the \
              cluster's CA. Its names count as\napi_names. Read again within 30 s when the file changes.",
    },
    Key {
        name: "api_certificate_key",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "The key of api_certificate (PEM).",
    },
    Key {
        name: "audit",
        kind: Kind::Switch,
        default: "true",
        env: &[],
        doc: "Whether the file audit.log in data_dir tells who has changed what, who was refused, and who \
              ran commands in replicas.\n`shef audit verify` shows whether its lines are all there and \
              unchanged.",
    },
    Key {
        name: "audit_file_bytes",
        kind: Kind::Integer { min: 65_536, max: 268_435_456, unit: "bytes" },
        default: "16777216",
        env: &[],
        doc: "The largest size of audit.log. Then it is put aside, under the number of its first line, and \
              another one is begun.",
    },
    Key {
        name: "audit_files",
        kind: Kind::Integer { min: 1, max: 10_000, unit: "files" },
        default: "15",
        env: &[],
        doc: "How many files that were put aside are kept in any case. Older ones go after audit_days, the \
              oldest first.\nCopy them elsewhere to keep them for longer.",
    },
    Key {
        name: "audit_days",
        kind: Kind::Integer { min: 0, max: 3_650, unit: "days" },
        default: "7",
        env: &[],
        doc: "For how many days lines are kept, also if they fill more files than audit_files.",
    },
    Key {
        name: "audit_max_bytes",
        kind: Kind::Integer { min: 1_048_576, max: 1_099_511_627_776, unit: "bytes" },
        default: "2147483648",
        env: &[],
        doc: "The most that all files have together. Beyond it the oldest go earlier, and the log tells how \
              many lines are gone.\nThe files of audit_files are kept in any case.",
    },
    Key {
        name: "insecure",
        kind: Kind::Switch,
        default: "false",
        env: &["SHEF_INSECURE"],
        doc: "Whether the API serves everybody who reaches it, as docker-shef's did: for a closed network \
              alone. false:\n\
              callers need a token (`shef token create`; the first one is in the file admin-token in \
              data_dir) or the\n\
              socket, and from other machines TLS. Agents have certificates in both cases.",
    },
    Key {
        name: "tls",
        kind: Kind::Choice(&["auto", "off", "optional", "required"]),
        default: "auto",
        env: &["SHEF_TLS"],
        doc: "How masters and agents speak with each other. required: only with TLS and certificates of the \
              cluster's own CA,\nwhich hosts get with a token (`shef token join`). optional: also without \
              TLS, during an upgrade. off: without TLS.\nauto: required if the cluster has a CA or is new, \
              else off. The store keeps the CA's key, encrypted with the key in\nsecret_key_file.",
    },
    Key {
        name: "api_socket",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "The API's socket. Its users are administrators: its owner, and the group docker. Empty: \
              shef.sock in data_dir; none:\nno socket.",
    },
    Key {
        name: "http_workers",
        kind: Kind::Integer { min: 1, max: 64, unit: "threads" },
        default: "2",
        env: &[],
        doc: "Threads that serve HTTP.",
    },
    logging::KEYS[0],
    logging::KEYS[1],
    logging::KEYS[2],
    Key {
        name: "redis.url",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The Redis that keeps the state, as redis://HOST:PORT/DATABASE, or rediss:// for TLS. Empty: \
              the embedded store.\n\
              The variables REDIS_HOST and REDIS_PORT (6379) make such a URL too. Credentials in it are \
              taken out and never printed.",
    },
    Key {
        name: "redis.username",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The user, for a Redis with access lists.",
    },
    Key { name: "redis.password", kind: Kind::Secret, default: "", env: &[], doc: "The password." },
    Key {
        name: "redis.password_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "A file that holds the password, such as /run/secrets/redis; instead of redis.password.",
    },
    Key {
        name: "redis.allow_open",
        kind: Kind::Switch,
        default: "false",
        env: &[],
        doc: "Whether a Redis of another machine may be used without a password. Whoever reaches such a one \
              may change what runs on\nevery host: for a network that nobody else is in.",
    },
    Key {
        name: "redis.database",
        kind: Kind::Text,
        default: "",
        env: &[],
        doc: "The number of the database, 0 to 65535. Empty: the URL's, else 0.",
    },
    Key {
        name: "redis.tls_ca_file",
        kind: Kind::Path,
        default: "",
        env: &[],
        doc: "With rediss://: a PEM file of the authorities to trust instead of the system's.",
    },
    Key {
        name: "redis.prefix",
        kind: Kind::Text,
        default: "shef",
        env: &[],
        doc: "What every key in Redis starts with.",
    },
    Key {
        name: "redis.connect_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "2000",
        env: &[],
        doc: "How long connecting to Redis may take.",
    },
    Key {
        name: "redis.command_timeout_ms",
        kind: milliseconds(100, 60_000),
        default: "3000",
        env: &[],
        doc: "How long one command to Redis may take.",
    },
];
