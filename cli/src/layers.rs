//! Which sources each command's configuration is made of.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use shef_agent::config::AgentConfig;
use shef_common::config::{Effective, Entry, Layers, Origin, Preset, Program};
use shef_master::config::MasterConfig;

use crate::Failure;

/// Every program whose `SHEF_` variables are known.
pub const PROGRAMS: [&Program; 3] =
    [&shef_master::config::PROGRAM, &shef_agent::config::PROGRAM, &shef_bootstrap::config::PROGRAM];

/// The default path of a program's file.
fn usual_file(name: &str) -> PathBuf {
    Path::new("/etc/shef").join(name).with_extension("toml")
}

/// The layers of `shef master` and `shef agent`.
pub(crate) fn for_program(name: &str, file: Option<&Path>, flags: Vec<Preset>) -> Result<Layers, Failure> {
    let mut layers = Layers { flags, ..Layers::from_process_env() };
    layers.read_file(file, &usual_file(name), "")?;
    Ok(layers)
}

/// What `shef up` is told on its command line, as far as it is configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UpFlags {
    /// Where state, pid file and log lie [default: /var/lib/shef for root, else ~/.local/state/shef]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the API listens [default: 127.0.0.1:8044]
    #[arg(long, value_name = "ADDR:PORT")]
    pub api: Option<String>,
    /// Where the agent listens [default: 127.0.0.1:11044]
    #[arg(long, value_name = "ADDR:PORT")]
    pub agent: Option<String>,
    /// The Docker engine, as in `DOCKER_HOST` [default: the first that answers]
    #[arg(long, value_name = "URL")]
    pub docker_host: Option<String>,
    /// Keep the state in this Redis instead of a file
    #[arg(long, value_name = "URL", value_parser = without_password)]
    pub redis: Option<String>,
    /// A file with the tables [master] and [agent] [default: /etc/shef/up.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Both configurations of `shef up`, each with where its values came from.
#[derive(Debug)]
pub struct UpConfig {
    /// Where state, pid file and log lie.
    pub data_dir: PathBuf,
    /// The master's.
    pub master: (MasterConfig, Effective),
    /// The agent's.
    pub agent: (AgentConfig, Effective),
}

/// A URL with a password stands among the arguments.
#[derive(Debug, thiserror::Error)]
#[error(
    "must hold no password, as everybody on this host can read the arguments of a process: give the URL \
     without it, and the password by SHEF_REDIS_PASSWORD or in a file by SHEF_REDIS_PASSWORD_FILE"
)]
pub struct PasswordInUrl;

/// Takes the URL of a Redis as an argument, if it holds no password.
pub(crate) fn without_password(url: &str) -> Result<String, PasswordInUrl> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    // A password may hold a slash; a user, an address and a path hold no @.
    let login = rest.rsplit_once('@').map_or("", |(login, _)| login);
    let has_password = login.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    if has_password { Err(PasswordInUrl) } else { Ok(url.to_owned()) }
}

impl UpConfig {
    /// Merges defaults, file, environment and flags for master and agent on one host.
    ///
    /// # Errors
    /// [`Failure`] names the key, the value and where it came from.
    pub fn load(flags: &UpFlags) -> Result<Self, Failure> {
        let mut base = Layers::from_process_env();
        base.read_file(flags.config.as_deref(), &usual_file("up"), "master")?;
        Self::from_layers(flags, &base)
    }

    /// Every setting as it is shown, by program and key.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        self.entries().map(|(name, entry)| (name, entry.value.shown())).collect()
    }

    /// The settings that its user asks for and that a process with `running` has otherwise, a text each.
    pub(crate) fn changed(&self, running: &BTreeMap<String, String>) -> Vec<String> {
        let asked = self.entries().filter(|(name, entry)| match entry.origin {
            Origin::Default | Origin::Preset(_) => false,
            // The agent's master is that of its own process, wherever that listens.
            Origin::File(..) | Origin::Env(_) | Origin::Flag(_) => name != "agent.masters",
        });
        let changed = asked.filter_map(|(name, entry)| {
            let (was, is) = (running.get(&name)?, entry.value.shown());
            (*was != is).then(|| format!("{name} is {was}, and {} says {is}", entry.origin))
        });
        changed.collect()
    }

    fn entries(&self) -> impl Iterator<Item = (String, &Entry)> {
        [&self.master.1, &self.agent.1].into_iter().flat_map(|effective| {
            let program = effective.program();
            effective.entries().iter().map(move |entry| (format!("{program}.{}", entry.key.name), entry))
        })
    }

    /// Where the master of `shef up` keeps its own files.
    pub(crate) fn masters_dir(data_dir: &Path) -> PathBuf {
        data_dir.join("master")
    }

    /// As [`UpConfig::load`], with environment and file handed in.
    ///
    /// # Errors
    /// As [`UpConfig::load`].
    pub fn from_layers(flags: &UpFlags, base: &Layers) -> Result<Self, Failure> {
        let data_dir = match &flags.data_dir {
            Some(dir) => std::path::absolute(dir).map_err(|error| Failure::because("--data-dir", &error))?,
            None => default_data_dir(rustix::process::geteuid().is_root(), &base.env)?,
        };
        let one_host = "default of shef up";
        // If the agent has an address of its own, masters reach it there.
        let own_ip = flags.agent.as_deref().and_then(|agent| agent.rsplit_once(':')).map(|(ip, _)| ip);
        let own_ip = own_ip
            .filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| !ip.is_unspecified()))
            .unwrap_or("127.0.0.1");
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let flag = |key, value: &Option<String>, name: &str| {
            value.as_ref().map(|value| Preset::new(key, value, name))
        };
        let with = |table, presets, flags: Vec<Option<Preset>>| {
            let file = base.file.as_ref().map(|(path, text, _)| (path.clone(), text.clone(), table));
            Layers { presets, file, env: base.env.clone(), flags: flags.into_iter().flatten().collect() }
        };
        let own_dir = Self::masters_dir(&data_dir);
        let dir_flag = |dir: &Path| {
            flags.data_dir.is_some().then(|| Preset::new("data_dir", text(dir.to_owned()), "--data-dir"))
        };

        let presets = vec![
            Preset::new("host_ip", own_ip, one_host),
            Preset::new("data_dir", text(own_dir.clone()), one_host),
        ];
        let own_flags = vec![
            flag("listen", &flags.api, "--api"),
            flag("redis.url", &flags.redis, "--redis"),
            dir_flag(&own_dir),
        ];
        let mut master = MasterConfig::load(&with("master", presets, own_flags), &PROGRAMS)?;
        master.0.up_dir = Some(data_dir.clone());

        // A port that the system chooses is known once the master listens, and set then.
        let mut api = master.0.listen;
        if api.port() == 0 {
            api.set_port(shef_master::config::DEFAULT_PORT);
        }
        let api = reachable(api, master.0.host_ip);
        let presets = vec![
            Preset::new("host_ip", own_ip, one_host),
            Preset::new("data_dir", text(data_dir.join("agent")), one_host),
        ];
        let own_flags = vec![
            flag("listen", &flags.agent, "--agent"),
            flag("docker_host", &flags.docker_host, "--docker-host"),
            dir_flag(&data_dir.join("agent")),
            Some(Preset::new("masters", api, "master of the same process")),
        ];
        let agent = AgentConfig::load(&with("agent", presets, own_flags), &PROGRAMS)?;
        Ok(Self { data_dir, master, agent })
    }
}

/// A listening address as others reach it: no client can connect to 0.0.0.0.
pub(crate) fn reachable(listen: std::net::SocketAddr, host_ip: std::net::Ipv4Addr) -> String {
    if listen.ip().is_unspecified() { format!("{host_ip}:{}", listen.port()) } else { listen.to_string() }
}

/// `/var/lib/shef` for root, else the user's own state directory.
///
/// # Errors
/// [`Failure`] where a user has no home.
pub fn default_data_dir(
    is_root: bool,
    env: &std::collections::BTreeMap<String, String>,
) -> Result<PathBuf, Failure> {
    if is_root {
        return Ok("/var/lib/shef".into());
    }
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("shef"))
        .ok_or_else(|| Failure::new("there is no home directory for the state: say --data-dir DIR"))
}

/// ` --data-dir DIR` as a shell takes it, to be typed after a command; empty for the default directory.
pub(crate) fn data_dir_flag(data_dir: &Path) -> String {
    let usual = default_data_dir(rustix::process::geteuid().is_root(), &Layers::from_process_env().env);
    if usual.is_ok_and(|usual| usual == data_dir) {
        return String::new();
    }
    let dir = data_dir.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    let dir = if dir.chars().all(is_plain) { dir } else { quoted(&dir) };
    format!(" --data-dir {dir}")
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_unless_it_is_the_default() {
        let env = Layers::from_process_env().env;
        let usual = default_data_dir(rustix::process::geteuid().is_root(), &env).unwrap();
        for (dir, flag) in [
            (usual.as_path(), ""),
            (Path::new("/srv/x"), " --data-dir /srv/x"),
            (Path::new("/srv/my x"), " --data-dir '/srv/my x'"),
        ] {
            assert_eq!(data_dir_flag(dir), flag);
        }
    }

    fn up(flags: &UpFlags, env: &[(&str, &str)]) -> UpConfig {
        let mut base = Layers::default();
        base.env.insert("HOME".into(), "/home/someone".into());
        base.env.extend(env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        UpConfig::from_layers(flags, &base).unwrap()
    }

    #[test]
    fn one_host_stays_on_loopback_unless_it_is_told_its_address() {
        let config = up(&UpFlags::default(), &[]);
        assert_eq!(config.master.0.listen.to_string(), "127.0.0.1:8044");
        assert_eq!(config.agent.0.listen.to_string(), "127.0.0.1:11044");
        assert_eq!(config.agent.0.masters, ["http://127.0.0.1:8044"]);
        let config = up(&UpFlags::default(), &[("HOST_IP", "10.0.0.5"), ("PORT", "9000")]);
        assert_eq!(config.master.0.listen.to_string(), "10.0.0.5:9000");
        assert_eq!(config.agent.0.masters, ["http://10.0.0.5:9000"]);
    }

    #[test]
    fn the_agent_of_one_host_finds_its_master_wherever_that_listens() {
        let flags = UpFlags {
            api: Some("0.0.0.0:81".into()),
            agent: Some("10.1.1.1:82".into()),
            ..UpFlags::default()
        };
        let config = up(&flags, &[("MASTER_HOST", "elsewhere")]);
        assert_eq!(config.agent.0.masters, ["http://10.1.1.1:81"]);
        assert_eq!(
            (config.agent.0.host_ip, config.master.0.host_ip),
            ([10, 1, 1, 1].into(), [10, 1, 1, 1].into())
        );
    }

    #[test]
    fn what_is_asked_of_a_process_that_runs_otherwise_is_named() {
        let first = up(&UpFlags { api: Some("127.0.0.1:1".into()), ..UpFlags::default() }, &[]).settings();
        let again = |flags: &UpFlags, env: &[(&str, &str)]| up(flags, env).changed(&first);
        assert_eq!(again(&UpFlags::default(), &[]), Vec::<String>::new(), "it asks for nothing");
        let other = UpFlags { api: Some("127.0.0.1:2".into()), ..UpFlags::default() };
        let said = "master.listen is \"127.0.0.1:1\", and flag --api says \"127.0.0.1:2\"";
        assert_eq!(again(&other, &[]), [said]);
        let said = "master.http_workers is 2, and env SHEF_MASTER_HTTP_WORKERS says 3";
        assert_eq!(again(&UpFlags::default(), &[("SHEF_MASTER_HTTP_WORKERS", "3")]), [said]);
        assert_eq!(up(&other, &[]).changed(&BTreeMap::new()), Vec::<String>::new(), "of an earlier version");
    }

    #[test]
    fn the_data_directory_follows_its_flag() {
        let config = up(
            &UpFlags { data_dir: Some("/srv/x".into()), ..UpFlags::default() },
            &[("SHEF_AGENT_DATA_DIR", "/else")],
        );
        assert_eq!(
            (config.master.0.data_dir, config.agent.0.data_dir),
            ("/srv/x/master".into(), "/srv/x/agent".into())
        );
        assert_eq!(config.master.0.up_dir.as_deref(), Some(Path::new("/srv/x")));
        let env =
            |name: &str, value: &str| std::collections::BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(default_data_dir(true, &env("HOME", "/h")).unwrap(), Path::new("/var/lib/shef"));
        assert_eq!(default_data_dir(false, &env("HOME", "/h")).unwrap(), Path::new("/h/.local/state/shef"));
        assert_eq!(default_data_dir(false, &env("XDG_STATE_HOME", "/s")).unwrap(), Path::new("/s/shef"));
        let refused = default_data_dir(false, &env("HOME", "")).unwrap_err().to_string();
        assert!(refused.starts_with("there is no home directory for the state"), "{refused}");
    }
}
