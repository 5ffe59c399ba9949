//! A folder of policies, and the program run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// First lines of every policy.
const HEAD: &str = "apiVersion: platform.example.com/v1alpha1\nkind: EgressPolicy\n";

/// A folder that is removed when the test ends.
pub struct Folder(TempDir);

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    pub fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }

    /// The command, not started; it works in this folder and knows nothing of the machine's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        command(self.0.path(), args)
    }

    pub fn render(&self, args: &[&str]) -> Ended {
        run(self.command(&[&["render"], args].concat()))
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-controller"));
    command.current_dir(folder).env_clear().args(args).stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Ended {
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The repository's own examples.
pub fn render_examples(args: &[&str]) -> Ended {
    run(command(Path::new(env!("CARGO_MANIFEST_DIR")), &[&["render"], args].concat()))
}

/// The YAML of a policy in namespace `team`.
pub fn policy(name: &str, spec: &str) -> String {
    format!("{HEAD}metadata: {{name: {name}, namespace: team}}\nspec: {spec}\n")
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32, stderr: &[&str]) -> String {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!((self.code, lines.as_slice()), (Some(code), stderr), "{}", self.stdout);
        self.stdout
    }
}
