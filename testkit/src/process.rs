//! A child process that does not outlive its test.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use crate::timeline::Timeline;

/// A running program, killed when dropped; what it prints is kept.
pub struct Process {
    child: Child,
    /// Its name in the timeline.
    name: String,
    timeline: Arc<Timeline>,
    output: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts it without an input.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_reading(command, Stdio::null())
    }

    /// Starts it with that as its input.
    pub fn spawn_reading(command: &mut Command, input: Stdio) -> Self {
        let program = command.get_program().to_owned();
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let file = Path::new(&program).file_name().unwrap_or(&program);
        let name = format!("{} {}", file.display(), child.id());
        let timeline = Timeline::of_this_test();
        timeline.note(format!("{name} starts"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let read = |stream| {
            let (output, timeline) = (Arc::clone(&output), Arc::clone(&timeline));
            collect(stream, output, timeline, name.clone())
        };
        let readers = [
            read(Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>),
            read(Box::new(child.stderr.take().unwrap())),
        ];
        Self {
            child,
            name,
            timeline,
            output,
            readers,
        }
    }

    /// Its output so far, line by line, from both streams.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// Whether everything that an ended process has printed is in [`lines`](Self::lines).
    pub fn is_read(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        self.timeline.note(format!("{} gets SIG{name}", self.name));
        signal(self.pid(), name);
    }

    /// The exit code, once there is one; 128 + n for a process that signal n ended.
    pub fn try_exit(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.try_wait().unwrap()?;
        Some(
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        )
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.timeline.note(format!("{} is killed", self.name));
        self.end();
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.timeline.print_if_failing();
        self.end();
    }
}

/// Kills a process that the test started, at once: from a thread that must not wait for another program.
pub fn kill_now(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// Sends a signal by name, such as `STOP`, to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Runs `program` as another user than root: PostgreSQL refuses to be.
pub fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program)
        .current_dir("/");
    command
}

/// Makes `path` theirs, with all that is in it.
pub fn give_away(path: &Path) {
    if is_root() {
        let owner = ["-R", "postgres:postgres"];
        let given = Command::new("chown").args(owner).arg(path).status();
        assert!(given.unwrap().success(), "chown {}", path.display());
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn collect(
    stream: Box<dyn Read + Send>,
    output: Arc<Mutex<Vec<String>>>,
    timeline: Arc<Timeline>,
    name: String,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            timeline.note(format!("{name} | {line}"));
            output.lock().unwrap().push(line);
        }
    })
}
