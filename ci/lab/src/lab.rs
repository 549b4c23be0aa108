//! The lab that most tests are in: the program on one side of a wire, a host on
//! the other.

use crate::config::{HOST, WIRE};
use crate::program;
use crate::{
    Carried, Config, Host, Namespace, Outcome, Program, Result, Test, mtu, namespace, veth,
};

/// Two namespaces and the wire between them.
#[derive(Debug)]
pub struct Lab {
    test: Test,
    /// Where the program runs.
    pub target: Namespace,
    /// Who connects to it.
    pub host: Host,
    carried: Option<Carried>,
}

impl Lab {
    /// Two namespaces joined by a veth, the host's end of which has [`HOST`].
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn new(test: &Test) -> Result<Self> {
        let lab = Self {
            test: test.clone(),
            target: Namespace::new(test, "target")?,
            host: Host::new(test, Namespace::new(test, "host")?),
            carried: None,
        };
        veth((&lab.target, WIRE), (&lab.host.namespace, WIRE))?;
        lab.address_host()?;
        Ok(lab)
    }

    /// Starts the program on the target's side.
    ///
    /// # Errors
    ///
    /// It does not come up.
    #[track_caller]
    pub fn start(&self, config: &Config) -> Result<Program<'_>> {
        Program::start(&self.test, &self.target, config)
    }

    /// What the program says on the target's side when it does not come up.
    ///
    /// # Errors
    ///
    /// It does.
    #[track_caller]
    pub fn refusal(&self, config: &Config) -> Result<String> {
        program::refusal(&self.test, &self.target, config)
    }

    #[track_caller]
    fn address_host(&self) -> Outcome {
        let host = &self.host.namespace;
        host.run(&format!("ip address add {HOST}/24 dev {WIRE}"))
    }

    /// Has the wire carry packets of so many bytes.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn mtu(&self, bytes: u32) -> Outcome {
        mtu([(&self.target, WIRE), (&self.host.namespace, WIRE)], bytes)
    }

    /// A wire of ours in the place of the veth: what is done to what the target
    /// sends, and to what the host sends. No program may be on it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn carry(&mut self, how: [&str; 2]) -> Outcome {
        // The wire before this one goes first: the names are the same.
        self.carried = None;
        let ends = [(&self.target, WIRE), (&self.host.namespace, WIRE)];
        self.carried = Some(Carried::between(ends, how)?);
        self.address_host()
    }

    /// Impairs the wire, in netem's words, what the target sends and what the host
    /// sends: by the kernel's netem, or where there is none by a wire of ours that
    /// does what netem would. No program may be on it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    #[track_caller]
    pub fn impair(&mut self, how: [&str; 2]) -> Outcome {
        if !namespace::has_netem(&self.host.namespace)? {
            self.test
                .note("this kernel has no netem: a wire of ours stands in for it");
            return self.carry(how);
        }
        for (namespace, netem) in [&self.target, &self.host.namespace].into_iter().zip(how) {
            namespace.run(&format!("tc qdisc replace dev {WIRE} root netem {netem}"))?;
        }
        Ok(())
    }
}
