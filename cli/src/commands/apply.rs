//! `shef apply`: services as files say, and what becomes of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use awc::http::Method;
use serde_json::{Map, Value};
use shef_common::ids::ServiceName;

use super::{
    goals::{self, How},
    on_system, plan,
};
use crate::{
    Failure,
    client::{CALL_LIMIT, CallError, Client, read},
    env_file,
    progress::{Progress, ServiceGoal, Written},
    spec_file::{Extra, Format, Wanted, fields, wanted},
};

/// The most bytes of one file; the master takes fewer.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How often a plan is asked for again, where the master makes as many as it does at once.
const PLAN_TRIES: usize = 30;
/// The time between two of them.
const PLAN_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `shef apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Service specs, one a file: .json, .toml, or - for JSON from standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The service's name, if the file has none; without a file, --image is needed too
    #[arg(long, value_name = "NAME")]
    name: Option<ServiceName>,
    /// The image, instead of the file's; without a file, --name is needed too
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The number of replicas, instead of the file's
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Environment variables, over those of the file; KEY alone takes this shell's value
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Files of environment variables, KEY=VALUE a line; the spec's own win over them
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Only if the service has this version; --plan shows it
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    how: How,
}

impl Args {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let services = self.read()?;
        on_system(self.apply(&self.how.api.client()?, &services))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Everything that is to be sent, sound as far as can be seen from here.
    fn read(&self) -> Result<Vec<Wanted>, Failure> {
        let of_one = [
            ("--name", self.name.is_some()),
            ("--image", self.image.is_some()),
            ("--replicas", self.replicas.is_some()),
            ("--if-version", self.if_version.is_some()),
        ];
        if let Some((flag, _)) = of_one.iter().find(|(_, given)| *given && self.files.len() > 1) {
            return Err(Failure::new(format!("{flag} is for one file, but there are {}", self.files.len())));
        }
        let extra = self.extra()?;
        if self.files.is_empty() {
            return Ok(vec![of_command_line(&extra)?]);
        }
        let mut services: Vec<Wanted> = Vec::new();
        for file in &self.files {
            let format = Format::of(file)?;
            let origin =
                if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
            let service = wanted(&origin, fields(&origin, format, &text(file, &origin)?)?, &extra)?;
            if services.iter().any(|other| other.name == service.name) {
                return Err(Failure::new(format!(
                    "{origin}: name: {} is another file's service already",
                    service.name
                )));
            }
            services.push(service);
        }
        Ok(services)
    }

    fn extra(&self) -> Result<Extra, Failure> {
        let mut env_files = BTreeMap::new();
        for file in &self.env_file {
            let origin = file.display().to_string();
            let found = env_file::parse(&text(file, &origin)?, own);
            env_files.extend(found.map_err(|error| Failure::new(format!("{origin}: {error}")))?);
        }
        let mut env = BTreeMap::new();
        for given in &self.env {
            let (key, value) = match given.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (given.as_str(), own(given)),
            };
            env_file::check_key(key).map_err(|why| Failure::new(format!("--env {why}")))?;
            env.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(Extra {
            name: self.name.clone(),
            image: self.image.clone(),
            replicas: self.replicas,
            env_files,
            env,
        })
    }

    async fn apply(&self, client: &Client, services: &[Wanted]) -> Result<(), Failure> {
        if self.plan {
            for service in services {
                let answer = self.plan(client, service).await?;
                plan::print(answer, self.how.json)?;
            }
            return Ok(());
        }
        let mut taken = Vec::new();
        for service in services {
            let answer = self.send(client, Method::PUT, "", service).await?;
            let written: Written = read(answer.clone())?;
            let message = written.words(&format!(" is to run generation {}", written.generation));
            Progress { json: self.how.json }.step(message);
            taken.push((ServiceGoal::Done(written), answer));
        }
        goals::settle(client, taken, &self.how.wait, self.how.json).await
    }

    /// Asks again for a while where the master makes as many plans as it does at once.
    async fn plan(&self, client: &Client, service: &Wanted) -> Result<Value, Failure> {
        for _ in 0..PLAN_TRIES {
            match self.call(client, Method::POST, "/plan", service).await {
                Err(error) if error.is_overloaded() => tokio::time::sleep(PLAN_PAUSE).await,
                Err(error) => return Err(named(service, &error)),
                Ok(answer) => return Ok(answer),
            }
        }
        self.send(client, Method::POST, "/plan", service).await
    }

    async fn send(
        &self,
        client: &Client,
        method: Method,
        call: &str,
        service: &Wanted,
    ) -> Result<Value, Failure> {
        self.call(client, method, call, service).await.map_err(|error| named(service, &error))
    }

    async fn call(
        &self,
        client: &Client,
        method: Method,
        call: &str,
        service: &Wanted,
    ) -> Result<Value, CallError> {
        let path = format!("/v1/services/{}{call}", service.name);
        let headers: Vec<_> =
            self.if_version.iter().map(|version| ("if-match", format!("\"{version}\""))).collect();
        client.call(method, &path, Some(&service.spec), &headers, CALL_LIMIT).await
    }
}

/// The service that the flags make without a file.
fn of_command_line(extra: &Extra) -> Result<Wanted, Failure> {
    const USE: &str = "give a FILE (.json, .toml, or - for JSON from standard input), or --name NAME and \
                       --image IMAGE";
    let missing = match (&extra.name, &extra.image) {
        (Some(_), Some(_)) => return wanted("the command line", Map::new(), extra),
        (Some(_), None) => "--image is missing: ",
        (None, Some(_)) => "--name is missing: ",
        (None, None) => "",
    };
    Err(Failure::new(format!("there is no file to apply: {missing}{USE}")))
}

fn named(service: &Wanted, error: &CallError) -> Failure {
    Failure::new(format!("{}: {error}", service.name))
}

/// This process's own variable, if it has it and it is text.
fn own(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The contents of a file or of standard input.
fn text(file: &Path, origin: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = match file {
        _ if file == Path::new("-") => stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes),
        _ => File::open(file).and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)),
    };
    let length = read.map_err(|error| Failure::because(format!("cannot read {origin}"), &error))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(format!("{origin} is larger than {MAX_FILE_BYTES} bytes")));
    }
    in_utf8(bytes, origin)
}

/// The text that these bytes are.
fn in_utf8(bytes: Vec<u8>, origin: &str) -> Result<String, Failure> {
    let is_utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    String::from_utf8(bytes).map_err(|error| {
        let is = if is_utf16 {
            "UTF-16".to_owned()
        } else {
            format!("no text (byte {} is none of UTF-8)", error.utf8_error().valid_up_to() + 1)
        };
        Failure::new(format!("{origin} is {is}: save it as UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_flag_that_is_missing_is_named() {
        let name = || Some(ServiceName::parse("web").unwrap());
        let image = || Some("nginx:1".to_owned());
        let refused =
            |name, image| of_command_line(&Extra { name, image, ..Extra::default() }).err().unwrap().0;
        let choices =
            "give a FILE (.json, .toml, or - for JSON from standard input), or --name NAME and --image IMAGE";
        let none = "there is no file to apply: ";
        assert_eq!(refused(name(), None), format!("{none}--image is missing: {choices}"));
        assert_eq!(refused(None, image()), format!("{none}--name is missing: {choices}"));
        assert_eq!(refused(None, None), format!("{none}{choices}"));
        assert!(of_command_line(&Extra { name: name(), image: image(), ..Extra::default() }).is_ok());
    }

    #[test]
    fn a_file_that_is_no_utf8_is_named_with_what_it_is() {
        let read = |bytes: &[u8]| in_utf8(bytes.to_vec(), "web.toml").map_err(|failure| failure.0);
        assert_eq!(read("é".as_bytes()), Ok("é".to_owned()));
        assert_eq!(read(&[0xFF, 0xFE, b'a', 0]), Err("web.toml is UTF-16: save it as UTF-8".to_owned()));
        let byte = "web.toml is no text (byte 3 is none of UTF-8): save it as UTF-8";
        assert_eq!(read(&[b'a', b'b', 0xE9]), Err(byte.to_owned()));
    }
}
