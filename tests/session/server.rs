//! Real servers of Redis or Valkey. Each test has its own.

// The path from this file, for binaries that include this file by its path.
#[path = "server/proxy.rs"]
pub(crate) mod proxy;

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The server's program. `None` if there is none here.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = ["redis-server", "valkey-server"];
    let mut candidates =
        env::split_paths(&path).flat_map(|path| programs.map(|program| path.join(program)));
    candidates.find(|candidate| candidate.is_file())
});

/// Whether a server can be started. If not, says that the test is skipped. With `CI` set it fails.
pub(crate) fn can_start(test: &str) -> bool {
    if PROGRAM.is_some() {
        return true;
    }
    let why = "neither redis-server nor valkey-server is in PATH";
    assert!(env::var_os("CI").is_none(), "{test}: {why}");
    // Not `eprintln`, which the harness captures if a test passes.
    let _ = writeln!(std::io::stderr(), "{test} is skipped: {why}");
    false
}

/// A server with its own directory. It is killed when this is dropped.
pub(crate) struct Server {
    directory: TempDir,
    arguments: Vec<String>,
    /// On TCP, where its neighbours must find it. Else on a Unix socket alone.
    port: Option<u16>,
    child: Child,
}

impl Server {
    /// On a Unix socket, with more arguments, as `--appendonly yes`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(None, |_| arguments.iter().map(ToString::to_string).collect())
            .unwrap_or_else(|log| panic!("the server does not start:\n{log}"))
    }

    /// On a TCP port that is free, too. What its arguments are may depend on the directory and
    /// the port.
    pub(crate) fn start_on_tcp(arguments: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        // Another program may take the port before the server does.
        for _ in 0..20 {
            let port = free_port();
            match Self::start_with(Some(port), |directory| arguments(directory, port)) {
                Ok(server) => return server,
                Err(log) => assert!(log.contains("Address already in use"), "{log}"),
            }
        }
        panic!("no port is free");
    }

    fn start_with(
        port: Option<u16>,
        arguments: impl FnOnce(&Path) -> Vec<String>,
    ) -> Result<Self, String> {
        let directory = TempDir::with_prefix("redis-").unwrap();
        let arguments = arguments(directory.path());
        let child = spawn(directory.path(), &arguments, port);
        let mut server = Self { directory, arguments, port, child };
        server.wait_until_it_answers().map(|()| server)
    }

    /// Waits until the server answers or has ended.
    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.try_ask("PING").unwrap_or_default();
            // A server that asks for a password has also started.
            if answer == "+PONG" || answer.starts_with("-NOAUTH") {
                return Ok(());
            }
            let has_ended = self.child.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > patience {
                return Err(fs::read_to_string(self.path("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.expect("it listens on TCP")
    }

    /// One command, as a person types it. The answer is a line for each line of the protocol.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap_or_else(|| panic!("no answer to {command}"))
    }

    fn try_ask(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        writeln!(stream, "{command}").ok()?;
        answer(&mut BufReader::new(stream))
    }

    /// The value of a line of `INFO`, such as `cmdstat_evalsha`.
    pub(crate) fn info(&self, section: &str, field: &str) -> Option<String> {
        let info = self.ask(&format!("INFO {section}"));
        let field = format!("{field}:");
        info.lines().find_map(|line| line.strip_prefix(&field)).map(ToOwned::to_owned)
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// After [`kill`](Self::kill): with the same arguments, directory and addresses.
    pub(crate) fn start_again(&mut self) {
        let _ = fs::remove_file(self.socket());
        self.child = spawn(self.directory.path(), &self.arguments, self.port);
        self.wait_until_it_answers().unwrap_or_else(|log| panic!("it does not start:\n{log}"));
    }

    /// Stops it until what is returned is dropped.
    pub(crate) fn pause(&self) -> Paused<'_> {
        signal(&self.child, "STOP");
        Paused(self)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that is stopped.
pub(crate) struct Paused<'a>(&'a Server);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        signal(&self.0.child, "CONT");
    }
}

/// By the shell, since std has no call for it. The child is ours and not yet waited for.
fn signal(child: &Child, signal: &str) {
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

fn spawn(directory: &Path, arguments: &[String], port: Option<u16>) -> Child {
    let log = File::create(directory.join("log")).unwrap();
    let mut command = Command::new(PROGRAM.as_ref().expect("can_start was asked"));
    // What it is: a file of its own is needed by a Sentinel, which rewrites it.
    let mut config = String::new();
    let _ = writeln!(config, "unixsocket {}", directory.join("socket").display());
    let _ = writeln!(config, "port {}", port.unwrap_or(0));
    let _ = writeln!(config, "bind 127.0.0.1");
    let _ = writeln!(config, "dir {}", directory.display());
    let _ = writeln!(config, "save \"\"");
    let file = directory.join("config");
    // A Sentinel that starts again has written what it knows there.
    if !file.exists() {
        fs::write(&file, config).unwrap();
    }
    command.arg(&file).args(arguments);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    // A server's cluster bus has a port 10,000 higher.
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Some(bus) = port.checked_add(10_000)
            && TcpStream::connect((Ipv4Addr::LOCALHOST, bus)).is_err()
        {
            return port;
        }
        // Ports that the system chooses are high, and mostly too high.
        let low = 20_000 + port % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, low)).is_ok() {
            return low;
        }
    }
}

/// One answer of the protocol: its lines, without lengths.
fn answer(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let line = line.trim_end();
    match line.split_at_checked(1)? {
        ("$", "-1") => Some("nil".to_owned()),
        ("$", length) => {
            let mut bytes = vec![0; length.parse::<usize>().ok()? + 2];
            reader.read_exact(&mut bytes).ok()?;
            bytes.truncate(bytes.len() - 2);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        ("*", count) => {
            let parts = (0..count.parse().unwrap_or(0)).map(|_: u32| answer(reader));
            Some(parts.collect::<Option<Vec<_>>>()?.join("\n"))
        }
        _ => Some(line.to_owned()),
    }
}
