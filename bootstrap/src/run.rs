//! The loop: look, plan, carry out, until all is as wanted; again whenever the engine
//! tells of a change, and every so often all the same.

use std::{cell::RefCell, time::Duration};

use futures_util::StreamExt as _;
use serde_json::json;
use shef_common::{backoff::Backoff, client::HostClient};

use crate::{
    BootstrapError,
    config::{BootstrapConfig, Role},
    docker::{Engine, HELPER},
    host,
    plan::{Plan, Step, plan},
    preflight::{Findings, Question, evaluate},
    prepare::{GIVEN_PASSWORD, GIVEN_TOKEN, QUESTION_ENV},
    ready,
    system::{
        self, AGENT_DIR, AGENT_VOLUME, HostFacts, MASTER_DIR, MASTER_VOLUME, PART_LABEL, Part, SECRETS_DIR,
        SECRETS_VOLUME, SOCKET, Wanted,
    },
};

/// How long the helper in the host's network may take.
const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// How long a part may take from its start until it answers.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a host may take until its master counts on it.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How long one announcement may take.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(5);

/// Keeps the host's system containers running until `stop` comes.
///
/// # Errors
/// [`BootstrapError`] for what has to be set right before anything can be started;
/// a failure later is printed, and the step is tried again.
pub async fn run(config: BootstrapConfig, stop: impl Future<Output = ()>) -> Result<(), BootstrapError> {
    let mut bootstrap = Bootstrap::start(config).await?;
    tokio::select! {
        () = bootstrap.keep() => {}
        () = stop => {}
    }
    say("stopping; the cluster runs on without its bootstrap");
    Ok(())
}

struct Bootstrap {
    config: BootstrapConfig,
    engine: Engine,
    facts: HostFacts,
    wanted: Vec<Wanted>,
    client: HostClient,
    said: RefCell<Vec<String>>,
    was_ready: bool,
    /// Whether this run has made the master, and has not told yet how a further host joins: each time makes a
    /// token.
    tells_how_to_join: bool,
    in_container: bool,
}

impl Bootstrap {
    /// Finds out everything that must be right before the first container is touched.
    async fn start(config: BootstrapConfig) -> Result<Self, BootstrapError> {
        let role = match &config.role {
            Role::Master => "a master host: store, master and agent".to_owned(),
            Role::Agent { masters } => {
                format!("a further host: the agent alone, for the master at {masters}")
            }
        };
        say(&format!("shef {} on {}, {role}", env!("CARGO_PKG_VERSION"), config.host_ip));
        let engine = Engine::connect(&config.docker_host).await?;
        let own = host::own(&engine).await?;
        host::refuse_another(&engine, own.as_ref()).await?;
        let facts = host::facts(&config, &engine, own.as_ref(), &|line| say(&line)).await?;
        let wanted = system::wanted(&config, &facts);
        let client = HostClient::new(None);
        let this = Self {
            config,
            engine,
            facts,
            wanted,
            client,
            said: RefCell::default(),
            was_ready: false,
            tells_how_to_join: false,
            in_container: own.is_some(),
        };
        let seen = this.engine.look().await?;
        let plan = plan(&this.wanted, &seen);
        if !plan.refused.is_empty() {
            return Err(BootstrapError::Refused(plan.refused));
        }
        let created = plan
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Create(_)))
            .map(Step::part)
            .collect::<Vec<_>>();
        this.check(&created, is_up(&plan, Part::Redis), Noting::Nothing).await?;
        Ok(this)
    }

    async fn keep(&mut self) {
        let mut failures = 0;
        let interval = Duration::from_millis(self.config.reconcile_interval_ms);
        let mut events = self.engine.events(PART_LABEL);
        // An earlier run in this container may have left its word.
        self.mark(false);
        loop {
            let succeeded = self.pass().await;
            self.mark(succeeded);
            failures = if succeeded { 0 } else { failures + 1 };
            let retry = Duration::from_millis(Backoff::CALL.after(failures).0);
            let wait = if failures == 0 { interval } else { retry.max(Duration::from_secs(1)) };
            tokio::select! {
                event = events.next() => if !matches!(event, Some(Ok(_))) {
                    // The engine went away, and we with it or soon back.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    events = self.engine.events(PART_LABEL);
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells the health check of its own container; there is none outside of a container.
    fn mark(&self, ready: bool) {
        if self.in_container {
            ready::mark(ready);
        }
    }

    /// One look and what follows from it; whether all is as wanted in the end.
    async fn pass(&mut self) -> bool {
        let seen = match self.engine.look().await {
            Ok(seen) => seen,
            Err(error) => {
                self.say_once(&format!("the engine does not answer: {error}"));
                return false;
            }
        };
        let plan = plan(&self.wanted, &seen);
        self.tells_how_to_join |= plan.makes(Part::Master);
        plan.refused.iter().for_each(|refusal| self.say_once(&refusal.to_string()));
        plan.noticed.iter().for_each(|line| self.say_once(line));
        let mut well = plan.refused.is_empty();
        for step in &plan.steps {
            if step.is_change() && !well {
                self.say_once("nothing that runs is replaced before the rest is well");
                return false;
            }
            if let Err(why) = self.carry_out(step).await {
                self.say_once(&format!("{}: {why}; trying again", step.part().container()));
                well = false;
            }
        }
        if well {
            well = self.all_ready(!plan.steps.is_empty() || !self.was_ready).await;
        }
        self.announce().await;
        well
    }

    async fn carry_out(&self, step: &Step) -> Result<(), BootstrapError> {
        let part = step.part();
        let Some(wanted) = self.wanted.iter().find(|wanted| wanted.part == part) else { return Ok(()) };
        let name = part.container();
        let create = matches!(step, Step::Create(_));
        let is_made = matches!(step, Step::Create(_) | Step::Replace(..));
        let created = if create { std::slice::from_ref(&part) } else { &[] };
        match part {
            Part::Redis if create => self.check(created, true, Noting::Nothing).await?,
            Part::Master => self.check(created, true, Noting::Nothing).await?,
            // It has been found out already that the host may belong to these masters.
            Part::Agent if is_made => self.check(created, true, Noting::Masters).await?,
            Part::Redis | Part::Agent | Part::Guard => {}
        }
        match step {
            Step::Create(_) => {
                say(&format!("starting {name}"));
                self.engine.create(wanted).await?;
            }
            Step::Start(_, id) => {
                say(&format!("{name} had stopped: starting it again"));
                self.engine.start(id).await?;
            }
            Step::Unpause(_, id) => {
                say(&format!("{name} was paused: letting it go on"));
                self.engine.unpause(id).await?;
            }
            Step::Replace(_, id) => {
                say(&format!("replacing {name}: its image or settings have changed"));
                self.engine.remove(id).await?;
                self.engine.create(wanted).await?;
            }
            Step::Discard(_, id) => {
                say(&format!("removing a second {name}"));
                return Ok(self.engine.remove(id).await?);
            }
        }
        self.until_ready(wanted).await
    }

    async fn until_ready(&self, wanted: &Wanted) -> Result<(), BootstrapError> {
        let name = wanted.part.container();
        match tokio::time::timeout(READY_LIMIT, ready::wait(&self.engine, wanted)).await {
            Ok(()) => {
                say(&format!("{name} is ready"));
                Ok(())
            }
            Err(_) => {
                let last_line = self.engine.last_line(name).await;
                Err(BootstrapError::NotReady { after_s: READY_LIMIT.as_secs(), last_line })
            }
        }
    }

    /// Whether every part answers; says so when that is news.
    async fn all_ready(&mut self, is_news: bool) -> bool {
        for wanted in &self.wanted {
            if !ready::look(&self.engine, wanted).await {
                self.say_once(&format!("{} runs but does not answer yet", wanted.part.container()));
                self.was_ready = false;
                return false;
            }
        }
        if is_news {
            if !self.until_joined().await {
                self.was_ready = false;
                return false;
            }
            self.said.borrow_mut().clear();
            let api = self.config.master_urls().join(", ").replace("http://", "");
            match self.config.role {
                Role::Master => {
                    say(&format!(
                        "the cluster is ready: its API is at {api} (try: docker exec shef-master shef node \
                         ls)"
                    ));
                    say("a token for the API, from other machines too: docker exec shef-master shef token \
                         create NAME --role admin");
                    if std::mem::take(&mut self.tells_how_to_join) {
                        self.tell_how_to_join().await;
                    }
                    say("a token for a further host: docker exec shef-master shef token join");
                }
                Role::Agent { .. } => say(&format!("this host is ready; the cluster's API is at {api}")),
            }
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
                log::debug!(why:% = error; "no systemd waits for a notification");
            }
        }
        self.was_ready = true;
        true
    }

    /// The line for a further host, with a token that counts for an hour and for one host.
    async fn tell_how_to_join(&self) {
        let Some(token) = self.join_token().await else { return };
        let image = self.facts.image_name.as_str();
        let masters = self.config.masters().join(",");
        say("a further host joins within an hour by this line, with its own address for ADDRESS:");
        say(&format!(
            "  docker run -d --restart unless-stopped --name shef-bootstrap -l shef-bouter=true -e \
             HOST_IP=ADDRESS -e SLAVE=true -e MASTER_HOST={masters} -e JOIN_TOKEN={token} -v \
             {SOCKET}:{SOCKET} {image} bootstrap"
        ));
    }

    /// Waits until the master counts on this host; says what its agent says where that does not come about.
    async fn until_joined(&self) -> bool {
        let urls = self.config.master_urls();
        let joined = tokio::time::timeout(JOIN_LIMIT, async {
            let mut looks = 0;
            while !ready::joined(self.config.host_ip).await {
                looks += 1;
                tokio::time::sleep(ready::JOIN_PAUSE.after(looks).into()).await;
            }
        });
        if joined.await.is_ok() {
            return true;
        }
        let last = self.engine.last_line(Part::Agent.container()).await;
        self.say_once(&format!(
            "the master at {} has not accepted this host yet; the last line of its agent's log: {last}",
            urls.join(", ")
        ));
        false
    }

    /// Asks the helper in the host's network, and lays down what it has to lay down.
    async fn check(
        &self,
        created: &[Part],
        own_redis_runs: bool,
        noting: Noting,
    ) -> Result<(), BootstrapError> {
        let is_master = self.config.role == Role::Master;
        let of = |part: &Part| self.wanted.iter().find(|wanted| wanted.part == *part);
        let question = Question {
            host_ip: self.config.host_ip,
            ports: created
                .iter()
                .filter_map(of)
                .filter(|want| want.listens.1 > 0)
                .map(|want| (want.part.word().to_owned(), want.listens.0, want.listens.1))
                .collect(),
            makes_secrets: is_master,
            redis: self.config.redis.clone().filter(|_| is_master),
            own_redis_runs: is_master
                && self.config.redis.is_none()
                && own_redis_runs
                && !created.contains(&Part::Redis),
            engine_networks: self.engine.bridges().await?,
            take_over: self.config.take_over,
            belongs: host::belongs(&self.engine).await?,
            masters_to_note: match noting {
                Noting::Masters => self.config.masters(),
                Noting::Nothing => Vec::new(),
            },
        };
        let given = if question.redis.is_some() { self.given_password()? } else { None };
        let token = match noting {
            Noting::Masters => self.join_token().await,
            Noting::Nothing => None,
        };
        let given = given.iter().map(|password| (GIVEN_PASSWORD, password.as_str()));
        let files: Vec<(&str, &str)> =
            given.chain(token.iter().map(|token| (GIVEN_TOKEN, token.as_str()))).collect();
        let answer = self.engine.run_to_end(HELPER, &self.helper(&question), &files, PREPARE_LIMIT).await;
        let answer = answer.map_err(BootstrapError::Helper)?;
        let findings: Findings =
            answer.lines().find_map(|line| serde_json::from_str(line).ok()).ok_or_else(|| {
                BootstrapError::NoFindings(answer.chars().take(200).collect::<String>().trim().to_owned())
            })?;
        let verdict = evaluate(&question, &findings);
        verdict.warnings.iter().for_each(|line| self.say_once(&format!("warning: {line}")));
        if verdict.refused.is_empty() { Ok(()) } else { Err(BootstrapError::Refused(verdict.refused)) }
    }

    fn helper(&self, question: &Question) -> Wanted {
        let mut env = self
            .wanted
            .iter()
            .find(|wanted| wanted.part == Part::Master)
            .map(|wanted| wanted.env.clone())
            .unwrap_or_default();
        env.insert(QUESTION_ENV.to_owned(), json!(question).to_string());
        let of_master = [(SECRETS_VOLUME, SECRETS_DIR), (MASTER_VOLUME, MASTER_DIR)];
        let mounts =
            of_master.into_iter().filter(|_| question.makes_secrets).chain([(AGENT_VOLUME, AGENT_DIR)]);
        Wanted {
            part: Part::Master,
            image: self.facts.image.clone(),
            image_name: String::new(),
            user: "0:0".to_owned(),
            command: vec!["bootstrap".to_owned(), "--prepare".to_owned()],
            env,
            mounts: mounts.map(|(source, target)| (source.to_owned(), target.to_owned(), false)).collect(),
            made_dir: None,
            health: Vec::new(),
            listens: (self.config.host_ip, 0),
        }
    }

    fn given_password(&self) -> Result<Option<String>, BootstrapError> {
        if let Some(password) = &self.config.redis_password {
            return Ok(Some(password.expose().to_owned()));
        }
        let Some(file) = &self.config.redis_password_file else { return Ok(None) };
        let read = std::fs::read_to_string(file)
            .map_err(|source| BootstrapError::PasswordFile { path: file.clone(), source })?;
        Ok(Some(read.trim().to_owned()))
    }

    /// What lets a host join: the token that was given, or a new one of this host's own master.
    async fn join_token(&self) -> Option<String> {
        if let Some(token) = &self.config.join_token {
            return Some(token.expose().to_owned());
        }
        if self.config.role != Role::Master {
            return None;
        }
        let socket = format!("unix://{MASTER_DIR}/shef.sock");
        let command = ["/usr/local/bin/shef", "token", "join", "--api", &socket];
        match self.engine.exec(Part::Master.container(), &command).await {
            Ok(token) => token,
            Err(error) => {
                self.say_once(&format!("the master makes no join token: {error}"));
                None
            }
        }
    }

    /// Tells the masters that this host's bootstrap is alive, as docker-shef's does.
    async fn announce(&self) {
        let body = json!({ "node": self.config.host_ip, "master": self.config.role == Role::Master });
        for url in self.config.master_urls() {
            let sent =
                self.client.post::<_, serde_json::Value>(&format!("{url}/node"), &body, ANNOUNCE_LIMIT).await;
            if let Err(error) = sent {
                self.say_once(&format!("the master at {url} does not hear of this host: {error}"));
            }
        }
    }

    /// Prints a line, unless it was printed before.
    fn say_once(&self, line: &str) {
        let mut said = self.said.borrow_mut();
        if !said.iter().any(|known| known == line) {
            say(line);
            // A bound, for a line that differs each time.
            said.truncate(63);
            said.insert(0, line.to_owned());
        }
    }
}

/// The helper's instructions, without secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noting {
    Nothing,
    /// The masters that the agent is started for.
    Masters,
}

/// Whether `plan` finds `part` running as it should be.
fn is_up(plan: &Plan, part: Part) -> bool {
    !plan.steps.iter().any(|step| step.part() == part)
}

/// One line for readers of `docker logs`.
fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // The output may be closed.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
